"""How many of the labels that `potstill suspects` lists are wrong, on data whose true labels are known.

    python bench/suspects.py [--data ../shared/data] [-n 9000] [--students linear frozen] [--vectors FILE]

`frozen` is a regression on frozen MiniLM vectors, each computed once for all folds. AG News with a fifth of its labels
wrong as people get them wrong (`ag_news_noisy`, column `true_label`). Writes the
section `suspects` of bench/RESULTS.md. One seed. Asserts nothing.
"""

from __future__ import annotations

import argparse
import sys
import time
from datetime import date
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from papers.frozen import use
from sections import commit, table, write_section

from potstill.annotation import agreement
from potstill.annotation.cross_validation import cross_val_probs
from potstill.data.tables import read_table
from potstill.data.task import Task


def main() -> None:
    """Measure and write."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--data", type=Path, default=Path("../shared/data"))
    words.add_argument("-n", type=int, default=9000)
    words.add_argument("--students", nargs="+", default=["linear", "frozen"])
    words.add_argument("--vectors", type=Path, help="a file that keeps the frozen vectors for the next time")
    given = words.parse_args()
    read = read_table(given.data / "ag_news_noisy" / "train.parquet")
    columns = [[str(cell) for cell in read.column(name)] for name in ("text", "label", "true_label")]
    chosen = np.random.default_rng(0).permutation(len(read))[: given.n]
    texts = [columns[0][i] for i in chosen]
    labels = tuple(sorted(set(columns[1])))
    gold, true = (np.array([labels.index(column[i]) for i in chosen]) for column in columns[1:])
    wrong = gold != true
    rows = []
    vectors = use("minilm", given.vectors)
    for student in given.students:
        began = time.process_time()
        probs = cross_val_probs(texts, gold, Task(labels), student=student)
        assert probs is not None
        found = agreement.doubtful(gold, probs)
        hit = wrong[found.rows]
        figures = [hit.mean(), hit[: max(1, len(hit) // 10)].mean(), hit.sum() / wrong.sum()]
        figures.append((found.suggested_label == true[found.rows]).mean())
        rows.append([student, str(len(hit)), *(f"{figure:.1%}" for figure in figures)])
        rows[-1].append(f"{time.process_time() - began:.0f}")
        print(*rows[-1], flush=True)
    vectors.save()
    head = ["student", "listed", "of them wrong", "of the surest tenth", "of all wrong found", "likelier label right"]
    text = (
        f"## Labels that are probably wrong\n\n`python bench/suspects.py -n {len(texts)}`, commit {commit()}, "
        f"{date.today().isoformat()}, one seed: {len(texts):,} rows of AG News, "
        f"{wrong.mean():.1%} of their labels wrong.\n\n"
    )
    write_section("suspects", text + table([*head, "CPU s"], rows))


if __name__ == "__main__":
    main()
