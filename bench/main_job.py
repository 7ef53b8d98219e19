"""The main job on public data: `distill` beside the same student without a teacher, as a user would run it.

    python bench/main_job.py [--data ../shared/data] [--out bench/results/main_job.json] [--only ag_news] [--runs DIR]

Every row is one run of the ordinary command; the figures come from its report.json. Needs the weights smollm2,
qwen-1.5b, minilm, bge-small and potion-8m (`potstill fetch`). The rows with qwen-1.5b take 5 to 20 minutes each. Pool
texts have labels in the files; no run reads them.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

AG = {"train": "ag_news/train.parquet", "test": "ag_news/test.parquet", "gold": 32, "limit": 2000}
BANK = {
    "train": "banking77/few_shot_10.parquet",
    "pool": "banking77/train.parquet",
    "test": "banking77/test.parquet",
}
LOCAL: dict[str, Any] = {
    "name": "local:smollm2",
    "n_prompts": 3,
    "shots": 1,
    "label_words": {"Business": "Business", "Sci/Tech": "Technology", "Sports": "Sports", "World": "World"},
    "max_text_tokens": 64,
}
QWEN: dict[str, Any] = {"name": "local:qwen-1.5b", "max_text_tokens": 64, "batch_size": 32}
SST2 = {"train": "sst2/train.parquet", "test": "sst2/test.parquet", "gold": 32, "limit": 1000}
KD: dict[str, Any] = {"name": "kd"}
KD3: dict[str, Any] = {"name": "kd", "shots": 3}
STUDIES: dict[str, dict[str, Any]] = {
    "ag_news, 8 a class, LLM -> minilm": {
        "data": AG,
        "teacher": LOCAL,
        "student": "encoder:minilm",
        "procedure": KD3,
    },
    "ag_news, 8 a class, LLM -> bge-small": {
        "data": AG,
        "teacher": LOCAL,
        "student": "encoder:bge-small",
        "procedure": KD3,
    },
    "ag_news, 8 a class, qwen-1.5b -> minilm": {
        "data": {**AG, "limit": 1000},
        "teacher": {**QWEN, "label_words": {"Sci/Tech": "Technology"}},
        "student": "encoder:minilm",
        "procedure": KD,
    },
    "sst2, 16 a class, qwen-1.5b -> bge-small": {
        "data": SST2,
        "teacher": QWEN,
        "student": "encoder:bge-small",
        "procedure": KD,
    },
    "banking77, 10 a class, qwen-1.5b -> minilm": {
        "data": {**BANK, "limit": 400},
        "teacher": QWEN,
        "student": "encoder:minilm",
        "procedure": KD,
    },
    "banking77, 10 a class, LLM (too weak?) -> minilm": {
        "data": {**BANK, "limit": 800},
        "teacher": {"name": "local:smollm2"},
        "student": "encoder:minilm",
        "procedure": KD,
    },
    "banking77, 10 a class, finetune minilm": {
        "data": BANK,
        "student": "encoder:minilm",
        "procedure": {"name": "finetune"},
    },
    "banking77, 10 a class, trained:minilm -> static": {
        "data": BANK,
        "teacher": {"name": "trained:minilm"},
        "student": "static:minilm",
        "procedure": KD,
    },
    "banking77, 10 a class, trained:bge-small -> minilm": {
        "data": BANK,
        "teacher": {"name": "trained:bge-small"},
        "student": "encoder:minilm",
        "procedure": KD,
    },
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, default=Path("bench/results/main_job.json"))
    parser.add_argument("--only", default="", help="run only the rows whose name contains this")
    parser.add_argument("--runs", type=Path, help="keep the runs here, and go on with those that are there")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.runs or Path(scratch)
        rows = [
            summary(name, distill(name, study, options.data, folder))
            for name, study in STUDIES.items()
            if options.only in name
        ]
    print(
        f"{'run':52} {'teacher':>7} {'student':>20} {'no teacher':>10} {'TF-IDF':>7} {'texts/s':>8} {'$':>8} {'s':>5}"
    )
    for row in rows:
        low, high = row["interval"]
        print(
            f"{row['run']:52} {percent(row['teacher']):>7} {percent(row['student']):>6} [{low:.1%}-{high:.1%}]"
            f" {percent(row['no_teacher']):>10} {percent(row['tfidf']):>7} {row['texts_per_s']:8,.0f}"
            f" {row['charged_usd']:8.4f} {row['seconds']:5.0f}"
        )
    options.out.parent.mkdir(parents=True, exist_ok=True)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    options.out.write_text(json.dumps({"commit": commit, "rows": rows}, indent=2) + "\n", encoding="utf-8")


def distill(name: str, study: dict[str, Any], data: Path, folder: Path) -> dict[str, Any]:
    """The report of one run of the command."""
    from potstill import distill as run
    from potstill.reports.console import ConsoleReporter
    from potstill.run.spec import Spec

    files = {
        key: str(data.absolute() / value) if isinstance(value, str) else value for key, value in study["data"].items()
    }
    task = {"name": name}
    record = {**study, "data": {**files, "validation_share": 0}, "task": task, "budget": 0.2}
    Spec.from_dict(record)  # says what is wrong before anything runs
    toml = folder / f"{name.replace(' ', '-').replace(',', '').replace('>', '').replace('?', '')}.toml"
    toml.parent.mkdir(parents=True, exist_ok=True)
    toml.write_text(as_toml(record), encoding="utf-8")
    print(f"\n== {name}", file=sys.stderr)
    return run(toml, out=toml.with_suffix(""), reporter=ConsoleReporter()).to_json()


def as_toml(record: dict[str, Any], table: str = "") -> str:
    """A nested dictionary as TOML; JSON's scalars and strings are TOML's."""
    plain = {key: value for key, value in record.items() if not isinstance(value, dict)}
    lines = [f"[{table}]"] if table else []
    lines += [f"{json.dumps(key)} = {json.dumps(value)}" for key, value in plain.items()]
    for key, value in record.items():
        if isinstance(value, dict):
            lines.append(as_toml(value, f"{table}.{json.dumps(key)}" if table else json.dumps(key)))
    return "\n".join(lines)


def summary(name: str, report: dict[str, Any]) -> dict[str, Any]:
    """What the table shows of a report."""
    baselines = {each["name"]: each["accuracy"]["value"] for each in report["baselines"]}
    student = report["student"]
    alone = [value for key, value in baselines.items() if key.startswith(student["name"])]
    return {
        "run": name,
        "teacher": (report["teacher"] or {}).get("accuracy"),
        "student": student["accuracy"]["value"],
        "interval": [student["accuracy"]["low"], student["accuracy"]["high"]],
        "macro_f1": student["macro_f1"],
        "no_teacher": alone[0] if alone else None,
        "tfidf": next((value for key, value in baselines.items() if key.startswith("linear")), None),
        "texts_per_s": student["texts_per_s"],
        "p50_ms": student["p50_ms"],
        "size_mb": student["size_mb"],
        "charged_usd": report["money"]["charged_usd"],
        "seconds": report["seconds"],
    }


def percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


if __name__ == "__main__":
    main()
