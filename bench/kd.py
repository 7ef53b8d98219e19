"""Distilling an encoder into a static student: fitted and given temperatures, a gold term, a hint.

    python bench/kd.py [--data ../shared/data] [--only "banking77 10/class"] [--arms 0 1] [--seeds 0] [--full]

Each data set: some gold texts per class, the rest of its train part as the unlabelled transfer set. The teacher
(MiniLM-L6, a regression on its frozen embeddings, or with `--full` fine-tuned) is trained on the gold; every student
(static embeddings distilled from the same MiniLM) on its predictions of the transfer set. "share" is the student's
accuracy over the teacher's, the aim is 95 %. Runs are real runs of the recipe `kd`, which share one teacher and its
answers. Results are added to bench/results/kd.json row by row. Covers one pair of models.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent / "papers"))
import frozen
from folds import Fold, Setting, fold
from sections import commit, write_section

from potstill.data.pool import Pool, PoolOptions, build_pool
from potstill.data.tables import Table
from potstill.data.task import Task
from potstill.procedures.finetune import finetune
from potstill.procedures.kd import kd
from potstill.run.run import Run
from potstill.run.spec import ComponentSpec, Spec

RESULTS = Path(__file__).with_name("results") / "kd.json"
SETTINGS = (
    Setting("banking77", 10, tested=2000),
    Setting("ag_news", 10, tested=2000, pooled=4000),
    Setting("ag_news", 100, tested=2000, pooled=4000),
)
STUDENT = "static:minilm"
TEACHERS = {"frozen": "MiniLM-L6, frozen", "encoder:minilm": "MiniLM-L6, fine-tuned"}
# Arm -> options of [procedure]; None is the student on the gold alone, without a teacher.
ARMS: dict[str, dict[str, Any] | None] = {
    "gold alone, no teacher": None,
    "fitted T, gold a fifth (default)": {},
    "fitted T, no gold": {"gold_weight": 0.0},
    "T = 1, no gold": {"temperature": 1.0, "gold_weight": 0.0},
    "T = 2, no gold (as Kang et al.)": {"temperature": 2.0, "gold_weight": 0.0},
    "T = 2, gold 1": {"temperature": 2.0, "gold_weight": 1.0},
    "T = 4, no gold": {"temperature": 4.0, "gold_weight": 0.0},
    "fitted T, match 0.5": {"hint_weight": 0.5},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--only", nargs="*", default=[each.name for each in SETTINGS])
    parser.add_argument("--seeds", type=int, nargs="*", default=[0])
    parser.add_argument("--keep", type=Path, help="folder of the runs, so that a cut run goes on; else a temporary one")
    parser.add_argument("--arms", type=int, nargs="*", default=list(range(len(ARMS))), help="numbers, from 0")
    parser.add_argument("--full", action="store_true", help="the teacher is fine-tuned")
    options = parser.parse_args()
    teacher = "encoder:minilm" if options.full else "frozen"
    arms = {arm: ARMS[arm] for i, arm in enumerate(ARMS) if i in options.arms}
    rows: list[dict[str, Any]] = json.loads(RESULTS.read_text())["rows"] if RESULTS.exists() else []
    with tempfile.TemporaryDirectory() as spare:
        for setting in SETTINGS:
            for seed in options.seeds if setting.name in options.only else []:
                folder = options.keep or Path(spare)
                vectors = frozen.use("minilm", folder / f"{setting.data}.npz")
                given = fold(options.data, setting, seed)
                if teacher == "frozen":
                    vectors.of([*given.texts, *given.pool, *given.test_texts])
                    vectors.save()
                for row in measured(given, folder, teacher, arms):
                    print(row, flush=True)
                    rows = [old for old in rows if key_of(old) != key_of(row)] + [row]
                    record = {"format": 1, "bench": "kd", "student": STUDENT, "rows": rows}
                    RESULTS.write_text(json.dumps(record, indent=1) + "\n")
    section = page(rows)
    write_section("kd", section)
    print(section)


def key_of(row: dict[str, Any]) -> tuple[Any, ...]:
    """What a row measures."""
    return tuple(row[key] for key in ("data", "seed", "teacher_is", "arm"))


def measured(given: Fold, folder: Path, large: str, arms: dict[str, dict[str, Any] | None]) -> Any:
    """One row per student, with the teacher's accuracy."""
    pool = pool_of(given)
    named = f"trained:{large}"
    spec = Spec.from_dict({"budget": 50, "seed": given.seed, "teacher": named, "student": STUDENT, "cache": False})
    place = folder / f"{given.setting.data}-{given.setting.per_class}-{given.seed}-{large.partition(':')[0]}"
    with Run.open(place, spec, Task(pool.labels), pool) as run:
        teacher = accuracy(finetune(run.variant(student=ComponentSpec(name=large))), given)
        for arm, chosen in arms.items():
            own = run.variant(procedure=ComponentSpec(name="kd", **(chosen or {})))
            began = time.perf_counter()
            found = accuracy(kd(own) if chosen is not None else finetune(own), given)
            yield {
                "data": given.setting.name,
                "seed": given.seed,
                "arm": arm,
                "teacher_is": TEACHERS[large],
                "teacher": teacher,
                "student": found,
                "student_s": time.perf_counter() - began,
                "texts": len(pool.subset("pool").texts),
                "temperature": own.teacher_record.calibration.temperature if own.teacher_record else None,
                "commit": commit(),
            }


def pool_of(given: Fold) -> Pool:
    """The fold as a pool of a run."""
    gold = [given.labels[column] for column in given.gold]
    tested = [given.labels[column] for column in given.test_gold]
    sources = {
        "train": Table.from_columns({"text": given.texts, "label": gold}),
        "pool": Table.from_columns({"text": given.pool}),
        "test": Table.from_columns({"text": given.test_texts, "label": tested}),
    }
    return build_pool(sources, labels=given.labels, options=PoolOptions(validation_share=0.0)).pool


def accuracy(student: Any, given: Fold) -> float:
    """Accuracy on the test texts, in [0, 1]."""
    return float((student.predict_logits(given.test_texts).argmax(1) == given.test_gold).mean())


def page(rows: list[dict[str, Any]]) -> str:
    """The section of RESULTS.md."""
    lines = [
        "## Distilling an encoder into a static student",
        "",
        f"`python bench/kd.py`, {', '.join(sorted({row['commit'] for row in rows}))}. Student `{STUDENT}`; so many "
        "gold texts a class, the rest of the train part unlabelled. Accuracy on up to 2,000 test texts, mean of seeds "
        "(with one seed a difference of a point is noise); share = student / teacher, the aim is 95 %. T is "
        "what the teacher's scores were divided by.",
        "",
        "| data | teacher | arm | seeds | texts | T | teacher | student | share |",
        "|---|---|---|--:|--:|--:|--:|--:|--:|",
    ]
    for data, large in dict.fromkeys((row["data"], row["teacher_is"]) for row in rows):
        for arm in ARMS:
            own = [row for row in rows if (row["data"], row["teacher_is"], row["arm"]) == (data, large, arm)]
            if not own:
                continue
            mean = {key: float(np.mean([row[key] for row in own])) for key in ("teacher", "student")}
            temperatures = [row["temperature"] for row in own if row["temperature"] is not None]
            temperature = f"{np.mean(temperatures):.2f}" if temperatures else ""
            share = mean["student"] / mean["teacher"]
            lines.append(
                f"| {data} | {large} | {arm} | {len(own)} | {own[0]['texts'] if temperatures else 0:,} | {temperature} "
                f"| {mean['teacher']:.1%} | {mean['student']:.1%} | {share:.1%} |"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
