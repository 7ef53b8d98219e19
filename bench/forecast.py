"""The error of the training time that `potstill plan` estimates.

    python bench/forecast.py [--data ../shared/data] [--cases encoder:minilm=200 encoder:minilm=600 linear=3000]

AG News; each case is a student and a number of rows. Writes the section `forecast` of bench/RESULTS.md. Asserts
nothing.
"""

from __future__ import annotations

import argparse
import sys
import time
from datetime import date
from decimal import Decimal
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from sections import commit, table, write_section

from potstill.data.tables import read_table
from potstill.data.task import Task
from potstill.ledger.prices import Rates
from potstill.run.spec import ComponentSpec
from potstill.run.training_time import estimate_training_time
from potstill.students.base import StudentConfig, TrainingData
from potstill.students.kinds import student_kind

CASES = ["encoder:minilm=200", "encoder:minilm=600", "static:potion-8m=2000", "linear=3000"]


def main() -> None:
    """Estimate, train, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--cases", nargs="+", default=CASES)
    options = parser.parse_args()
    read = read_table(options.data / "ag_news" / "train.parquet")
    texts, named = ([str(cell) for cell in read.column(name)] for name in ("text", "label"))
    labels = tuple(sorted(set(named)))
    rows = []
    for case in options.cases:
        name, _, n = case.partition("=")
        chosen = np.random.default_rng(0).permutation(len(read))[: int(n)]
        some = [texts[i] for i in chosen]
        targets = np.eye(len(labels), dtype=np.float32)[[labels.index(named[i]) for i in chosen]]
        student = ComponentSpec(name=name)
        estimate = estimate_training_time(
            student, Task(labels), some, targets, Rates("bench", usd_per_hour=Decimal("0.1"))
        )
        made = student_kind(student.kind)(StudentConfig(labels, student.model))
        began = time.perf_counter()
        made.fit(TrainingData(some, targets))
        took = time.perf_counter() - began
        rows.append(
            [name, n, f"{estimate.low_s:.1f} to {estimate.high_s:.1f}", f"{took:.1f}", f"{estimate.probe_s:.1f}"]
        )
        rows[-1].append("-" if estimate.flops is None else f"{estimate.flops:.1e}")
        print(*rows[-1], flush=True)
    text = (
        f"## Estimated training time\n\n`python bench/forecast.py`, commit {commit()}, "
        f"{date.today().isoformat()}, one core that other work may have shared: seconds estimated, taken, and spent on "
        "the probe.\n\n"
    )
    write_section("forecast", text + table(["student", "rows", "estimated s", "took s", "probe s", "FLOPs"], rows))


if __name__ == "__main__":
    main()
