"""Recall of the label shortlist of a teacher with many labels, on three public sets; no teacher is asked.

    python bench/shortlist.py [--data ../shared/data] [--texts 500] [--out bench/results/shortlist.json]

Columns: the share of test texts whose label is among the first 20, 40 and 60 (one, two and three rounds), the estimate
of the first from the gold alone, and milliseconds per text. With no gold, labels are known by their
names only. `potion-8m` needs `potstill fetch potion-8m`. Prints a table, writes JSON with the commit. Asserts nothing.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from potstill.data.task import LabelledText, Task
from potstill.teachers.shortlist import ShortlistIndex

SETS = ("banking77", "hwu64", "dbpedia219")
SIZES = (20, 40, 60)


def rows(file: Path, seed: int = 0) -> list[LabelledText]:
    """All rows of a file, shuffled."""
    table = pq.read_table(file).to_pydict()
    pairs = [LabelledText(text, label) for text, label in zip(table["text"], table["label"], strict=True)]
    return [pairs[i] for i in np.random.default_rng(seed).permutation(len(pairs))]


def main() -> None:
    """Measure all sets, with and without gold, in both spaces."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--texts", type=int, default=500)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    found = []
    print(
        f"{'set':11} {'labels':>6} {'gold':>5} {'embedding':10} {'@20':>6} {'@40':>6} {'@60':>6} {'gold':>6} {'ms':>6}"
    )
    for name in SETS:
        train, test = rows(options.data / name / "train.parquet"), rows(options.data / name / "test.parquet")
        task = Task(tuple(sorted({row.label for row in train})))
        by_label = {label: [row for row in train if row.label == label] for label in task.labels}
        for shots in (0, 5):
            gold = [row for each in by_label.values() for row in each[:shots]]
            for embedding in ("tfidf", "potion-8m"):
                near = ShortlistIndex(task, gold, embedding)
                began = time.perf_counter()
                orders = [near.similarities(row.text).ranked_labels() for row in test[: options.texts]]
                ms = 1e3 * (time.perf_counter() - began) / len(orders)
                places = [order.index(task.index(row.label)) for order, row in zip(orders, test, strict=False)]
                recall = {size: float(np.mean([place < size for place in places])) for size in SIZES}
                estimate = near.recall(20)
                shares = " ".join(f"{recall[size]:6.1%}" for size in SIZES)
                shown = f"{estimate.share:.1%}" if estimate else "-"
                print(f"{name:11} {task.n_labels:6} {shots:5} {embedding:10} {shares} {shown:>6} {ms:6.2f}", flush=True)
                row = {"set": name, "gold_per_label": shots, "embedding": embedding, "recall": recall, "ms": ms}
                found.append(row | {"told": estimate.share if estimate else None, "n": len(places)})
    if options.out:
        commit = subprocess.run(
            ["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False
        ).stdout.strip()
        options.out.write_text(json.dumps({"commit": commit, "rows": found}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
