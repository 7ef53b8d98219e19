"""The main job on public data: `distill` beside the same student without a teacher, as a user would run it.

    python bench/main_job.py [--data ../shared/data] [--only qwen] [--runs DIR] [--page]

Every row is one run of the ordinary command; the figures come from its report.json. A row that is run again replaces
the stored one, the others stay. Needs the weights smollm2, qwen-1.5b, minilm, bge-small and potion-8m (`potstill
fetch`). The rows with qwen-1.5b take 5 to 20 minutes each. Pool texts have labels in the files; no run reads them.
`--page` alone writes the section of RESULTS.md from what is stored.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sections import commit, table, write_section

RESULTS = Path(__file__).parent / "results" / "main_job.json"
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


@dataclass(frozen=True)
class JobRow:
    """What the table shows of one run; None where there is no such figure, or an earlier version did not store it."""

    run: str
    teacher: float | None
    student: float
    interval: tuple[float, float]
    macro_f1: float
    no_teacher: float | None
    tfidf: float | None
    texts_per_s: float
    p50_ms: float
    size_mb: float
    charged_usd: float
    seconds: float
    commit: str
    teacher_n: int | None = None
    teacher_texts_per_s: float | None = None
    p_student_teacher: float | None = None
    n_test: int | None = None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--only", default="", help="run only the rows whose name contains this")
    parser.add_argument("--runs", type=Path, help="keep the runs here, and go on with those that are there")
    parser.add_argument("--page", action="store_true", help="run nothing, write the section from what is stored")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        for name, study in STUDIES.items():
            if options.only in name and not options.page:
                store(row_of(name, distill(name, study, options.data, options.runs or Path(scratch))))
    write_section("main-job", page(load()))


def load() -> list[JobRow]:
    """The stored rows."""
    return [JobRow(**row) for row in json.loads(RESULTS.read_text())["rows"]] if RESULTS.exists() else []


def store(row: JobRow) -> None:
    """Replace or add one row, in the order of the table."""
    rows = {each.run: each for each in [*load(), row]}
    order = [*(name for name in STUDIES if name in rows), *(name for name in rows if name not in STUDIES)]
    found = {"rows": [asdict(rows[name]) for name in order]}
    RESULTS.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


def page(rows: list[JobRow]) -> str:
    """The section."""
    head = [
        "run",
        "test texts",
        "teacher, %",
        "student, % (95 %)",
        "p",
        "labels alone, %",
        "TF-IDF, %",
        "teacher texts/s",
    ]
    head += ["student texts/s", "times", "$", "s"]
    lines = [
        "## The main job: `distill` on public data",
        "",
        f"`python bench/main_job.py`, commits {', '.join(sorted({row.commit for row in rows}))}.",
        "One seed. A row is a run of the ordinary command on two cores that did other work too: texts/s are those",
        "of the run, so compare them within a row. *p*: exact McNemar test of student and teacher on the test",
        "texts that both answered; the teacher is asked about as many as a tenth of the budget pays for. *labels",
        "alone*: the same student without a teacher.",
        "",
        table(head, [cells(row) for row in rows]),
    ]
    return "\n".join(lines)


def cells(row: JobRow) -> list[str]:
    """One line of the table."""
    low, high = row.interval
    speed = row.teacher_texts_per_s
    teacher = percent(row.teacher) + (f" of {row.teacher_n:,}" if row.teacher_n else "")
    return [
        row.run,
        "" if row.n_test is None else f"{row.n_test:,}",
        teacher,
        f"{percent(row.student)} ({100 * low:.1f}-{100 * high:.1f})",
        "" if row.p_student_teacher is None else f"{row.p_student_teacher:.2g}",
        percent(row.no_teacher),
        percent(row.tfidf),
        "" if speed is None else f"{speed:,.1f}",
        f"{row.texts_per_s:,.0f}",
        "" if speed is None else f"{row.texts_per_s / speed:,.0f}",
        f"{row.charged_usd:.4f}",
        f"{row.seconds:,.0f}",
    ]


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
    report: dict[str, Any] = run(toml, out=toml.with_suffix(""), reporter=ConsoleReporter()).to_json()
    return report


def as_toml(record: dict[str, Any], table: str = "") -> str:
    """A nested dictionary as TOML; JSON's scalars and strings are TOML's."""
    plain = {key: value for key, value in record.items() if not isinstance(value, dict)}
    lines = [f"[{table}]"] if table else []
    lines += [f"{json.dumps(key)} = {json.dumps(value)}" for key, value in plain.items()]
    for key, value in record.items():
        if isinstance(value, dict):
            lines.append(as_toml(value, f"{table}.{json.dumps(key)}" if table else json.dumps(key)))
    return "\n".join(lines)


def row_of(name: str, report: dict[str, Any]) -> JobRow:
    """What the table shows of a report."""
    baselines = {each["name"]: each["accuracy"]["value"] for each in report["baselines"]}
    student, teacher = report["student"], report["teacher"] or {}
    alone = [value for key, value in baselines.items() if key.startswith(student["name"])]
    return JobRow(
        run=name,
        teacher=teacher.get("accuracy"),
        student=student["accuracy"]["value"],
        interval=(student["accuracy"]["low"], student["accuracy"]["high"]),
        macro_f1=student["macro_f1"],
        no_teacher=alone[0] if alone else None,
        tfidf=next((value for key, value in baselines.items() if key.startswith("linear")), None),
        texts_per_s=student["texts_per_s"],
        p50_ms=student["p50_ms"],
        size_mb=student["size_mb"],
        charged_usd=report["money"]["charged_usd"],
        seconds=report["duration_s"],
        commit=commit(),
        teacher_n=(teacher.get("evaluation") or {}).get("n"),
        teacher_texts_per_s=teacher.get("texts_per_s"),
        p_student_teacher=(report["mcnemar"] or {}).get("p_exact"),
        n_test=student["evaluation"]["n"],
    )


def percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f}"


if __name__ == "__main__":
    main()
