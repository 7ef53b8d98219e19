"""How many of the labels that `potstill label-errors` lists are wrong, on data with known true labels.

    python bench/label_errors.py [--data ../shared/data] [-n 9000] [--students linear frozen] [--vectors FILE]

`frozen` is a regression on frozen MiniLM vectors, which are computed once for all folds. The data is AG News with a
fifth of its labels wrong through human errors (`ag_news_noisy`, column `true_label`). Writes the section `label-errors`
of bench/RESULTS.md. One seed.
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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("-n", type=int, default=9000)
    parser.add_argument("--students", nargs="+", default=["linear", "frozen"])
    parser.add_argument("--vectors", type=Path, help="a file to store the frozen vectors in")
    options = parser.parse_args()
    table_ = read_table(options.data / "ag_news_noisy" / "train.parquet")
    columns = [[str(cell) for cell in table_.column(name)] for name in ("text", "label", "true_label")]
    sample = np.random.default_rng(0).permutation(len(table_))[: options.n]
    texts = [columns[0][i] for i in sample]
    labels = tuple(sorted(set(columns[1])))
    gold, true = (np.array([labels.index(column[i]) for i in sample]) for column in columns[1:])
    wrong = gold != true
    rows = []
    vectors = use("minilm", options.vectors)
    for student in options.students:
        start = time.process_time()
        probs = cross_val_probs(texts, gold, Task(labels), student=student)
        assert probs is not None
        found = agreement.label_issues(gold, probs)
        truly_wrong = wrong[found.rows]
        scores = [
            truly_wrong.mean(),
            truly_wrong[: max(1, len(truly_wrong) // 10)].mean(),
            truly_wrong.sum() / wrong.sum(),
        ]
        scores.append((found.suggested_label == true[found.rows]).mean())
        rows.append([student, str(len(truly_wrong)), *(f"{score:.1%}" for score in scores)])
        rows[-1].append(f"{time.process_time() - start:.0f}")
        print(*rows[-1], flush=True)
    vectors.save()
    head = ["student", "listed", "of them wrong", "of the first tenth", "of all wrong found", "suggestion right"]
    text = (
        f"## Labels that are probably wrong\n\n`python bench/label_errors.py -n {len(texts)}`, commit {commit()}, "
        f"{date.today().isoformat()}, one seed: {len(texts):,} rows of AG News, "
        f"{wrong.mean():.1%} of their labels wrong.\n\n"
    )
    write_section("label-errors", text + table([*head, "CPU s"], rows))


if __name__ == "__main__":
    main()
