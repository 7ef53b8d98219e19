"""Which texts next by what they look like: functions of arrays that pick rows so that they cover what there is.

Everywhere `vectors` is (N, D), `n` is how many rows are wanted at most, and what comes back is (M,) distinct row
numbers, M = min(n, N), in the order they were picked. Choosing by probabilities alone is in `choose.py`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
BLOCK_ROWS = 4096  # rows whose distances to those taken are in memory at once


def coreset_sampling(vectors: ArrayLike, n: int, selected: ArrayLike = ()) -> Ints:
    """Each time the row farthest from all that are taken (k-center greedy; Sener and Savarese 2018, "coreset").

    Args:
        taken: rows that count as picked already, and are not picked again; without any, the first pick is the row
            nearest to the mean.
    """
    rows = np.asarray(vectors, dtype=np.float64)
    gone = np.asarray(selected, dtype=np.int64)
    squares = (rows * rows).sum(axis=1)
    picked: list[int] = []
    if len(gone):
        nearest = np.full(len(rows), np.inf)
        for at in range(0, len(gone), BLOCK_ROWS):
            some = gone[at : at + BLOCK_ROWS]
            between = squares[:, None] + squares[some] - 2 * rows @ rows[some].T
            nearest = np.minimum(nearest, between.min(axis=1))
    else:
        if not len(rows) or n < 1:
            return np.zeros(0, dtype=np.int64)
        middle = rows.mean(axis=0)
        picked.append(int((squares - 2 * rows @ middle).argmin()))
        nearest = squares + squares[picked[0]] - 2 * rows @ rows[picked[0]]
    nearest[gone] = -np.inf
    nearest[picked] = -np.inf
    while len(picked) < min(n, len(rows) - len(gone)):
        row = int(nearest.argmax())
        picked.append(row)
        nearest = np.minimum(nearest, squares + squares[row] - 2 * rows @ rows[row])
        nearest[row] = -np.inf
    return np.array(picked, dtype=np.int64)


def badge_sampling(probs: ArrayLike, vectors: ArrayLike, n: int, rng: np.random.Generator) -> Ints:
    """Rows whose gradient of the last layer is long and unlike the others' (BADGE: Ash et al. 2020).

    The gradient of row i for its likeliest label is (probs_i - one_hot_i) x vectors_i. Rows are drawn one by one with a
    probability that grows with the squared distance to the nearest one drawn (k-means++). The D x K numbers of a
    gradient are never made: distances follow from the two factors.

    Args:
        probs: (N, K) rows that sum to one.
        draw: draws the rows.
    """
    left = np.asarray(probs, dtype=np.float64).copy()
    left[np.arange(len(left)), left.argmax(axis=1)] -= 1
    right = np.asarray(vectors, dtype=np.float64)
    length = (left * left).sum(axis=1) * (right * right).sum(axis=1)
    picked: list[int] = []
    nearest = length.copy()  # the first is drawn by its own length: as if nought were taken
    while len(picked) < min(n, len(left)):
        if nearest.sum() > 0:
            row = int(rng.choice(len(left), p=nearest / nearest.sum()))
        else:  # those left equal those taken
            row = int(rng.choice(np.setdiff1d(np.arange(len(left)), picked)))
        picked.append(row)
        apart = length + length[row] - 2 * (left @ left[row]) * (right @ right[row])
        nearest = np.minimum(nearest, np.maximum(apart, 0.0))
        nearest[picked] = 0.0
    return np.array(picked, dtype=np.int64)


def typiclust_sampling(vectors: ArrayLike, n: int, seed: int) -> Ints:
    """The rows nearest to the centres of n clusters, for a start without any label (TypiClust: Hacohen et al. 2022)."""
    from sklearn.cluster import MiniBatchKMeans

    rows = np.asarray(vectors, dtype=np.float32)
    if n >= len(rows):
        return np.arange(len(rows), dtype=np.int64)
    if n < 1:
        return np.zeros(0, dtype=np.int64)
    found = MiniBatchKMeans(n, n_init=1, random_state=seed, batch_size=max(1024, 4 * n)).fit(rows)
    apart = found.transform(rows)  # (N, n)
    picked: dict[int, None] = {}
    for centre in range(n):
        for row in np.argsort(apart[:, centre], kind="stable"):
            if int(row) not in picked:
                picked[int(row)] = None
                break
    return np.array(list(picked), dtype=np.int64)
