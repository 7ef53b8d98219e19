"""scikit-activeml's choice of texts, in a process and a virtual environment of its own: .npz in, JSON out on stdout.

    SKACTIVEML_PYTHON bench/rivals/skactiveml_choice.py draw.npz TypiClust 50 0

In: the file has `pool` (N, D) vectors, `gold` (N,), and the label names' vectors `names` (M, D) with their `columns`
(M,). Then: the strategy, how many rows, the seed. Out: `rows` in the order bought, `seconds` (process time of the
queries and fits), `version`. Strategies with a classifier buy 10 labels at a time; theirs is scikit-learn's logistic
regression with C = 10 on the names and the labels bought, as ours. Imports nothing of potstill.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from typing import Any

import numpy as np

BATCH, C = 10, 10.0


def main() -> None:
    if "--help" in sys.argv:
        print(__doc__)
        return
    import skactiveml

    path, name, n, seed = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    with np.load(path) as stored:
        given = {key: stored[key] for key in stored.files}
    began = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rows = choose(given, name, n, seed)
    seconds = time.process_time() - began
    print(json.dumps({"rows": rows, "seconds": seconds, "version": skactiveml.__version__}))


def choose(given: dict[str, Any], name: str, n: int, seed: int) -> list[int]:
    """The rows of the pool, in the order they are bought."""
    from skactiveml import pool
    from skactiveml.classifier import SklearnClassifier
    from sklearn.linear_model import LogisticRegression

    vectors, gold, k = given["pool"], given["gold"], int(given["columns"].max()) + 1
    if name in ("TypiClust", "ProbCover", "CoreSet", "MaxHerding"):
        options = {"n_classes": k} if name == "ProbCover" else {}
        strategy = getattr(pool, name)(random_state=seed, **options)
        return [int(row) for row in strategy.query(vectors, np.full(len(vectors), np.nan), batch_size=n)]
    kind, _, method = name.partition(":")
    strategy = getattr(pool, kind)(random_state=seed, **({"method": method} if method else {}))
    x = np.concatenate([vectors, given["names"]])
    y = np.concatenate([np.full(len(vectors), np.nan), given["columns"]])
    head = SklearnClassifier(LogisticRegression(C=C, max_iter=200), classes=list(range(k)), random_state=seed)
    which = "estimator" if kind == "Clue" else "clf"
    rows: list[int] = []
    while len(rows) < n:
        new = strategy.query(x, y, **{which: head}, batch_size=min(BATCH, n - len(rows)))
        rows += [int(row) for row in new]
        y[rows] = gold[rows]
    return rows


if __name__ == "__main__":
    main()
