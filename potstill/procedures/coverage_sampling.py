"""Query strategies that cover the pool by its vectors: functions of arrays.

Everywhere `vectors` is (N, D), `n` is how many rows are selected at most, and the result is (M,) distinct row numbers,
M = min(n, N), in the order they were selected. Strategies on probabilities alone are in `query_strategies.py`.
"""

from __future__ import annotations

import heapq

import numpy as np
from numpy.typing import ArrayLike, NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
BLOCK_ROWS = 4096  # selected rows whose distances are in memory at once
KERNEL_GAMMA = 5.0  # of `max_herding`


def coreset_sampling(vectors: ArrayLike, n: int, selected: ArrayLike = ()) -> Ints:
    """Select the row farthest from all selected ones, n times (k-center greedy; Sener and Savarese 2018, "coreset").

    Args:
        vectors: (N, D).
        n: how many rows.
        selected: rows that count as selected already; without any, the first is the row nearest to the mean.
    """
    rows = np.asarray(vectors, dtype=np.float64)
    before = np.asarray(selected, dtype=np.int64)
    squares = (rows * rows).sum(axis=1)
    picked: list[int] = []
    if len(before):
        nearest = np.full(len(rows), np.inf)
        for at in range(0, len(before), BLOCK_ROWS):
            block = before[at : at + BLOCK_ROWS]
            distances = squares[:, None] + squares[block] - 2 * rows @ rows[block].T
            nearest = np.minimum(nearest, distances.min(axis=1))
    else:
        if not len(rows) or n < 1:
            return np.zeros(0, dtype=np.int64)
        mean = rows.mean(axis=0)
        picked.append(int((squares - 2 * rows @ mean).argmin()))
        nearest = squares + squares[picked[0]] - 2 * rows @ rows[picked[0]]
    nearest[before] = -np.inf
    nearest[picked] = -np.inf
    while len(picked) < min(n, len(rows) - len(before)):
        row = int(nearest.argmax())
        picked.append(row)
        nearest = np.minimum(nearest, squares + squares[row] - 2 * rows @ rows[row])
        nearest[row] = -np.inf
    return np.array(picked, dtype=np.int64)


def badge_sampling(probs: ArrayLike, vectors: ArrayLike, n: int, rng: np.random.Generator) -> Ints:
    """Select rows whose last-layer gradients are long and diverse (BADGE: Ash et al. 2020).

    The gradient of row i for its most probable label is (probs_i - one_hot_i) x vectors_i. Rows are drawn one by one,
    with a probability that grows with the squared distance to the nearest selected one (k-means++). The D x K numbers
    of a gradient are never computed: distances follow from the two factors.

    Args:
        probs: (N, K), rows sum to one.
        vectors: (N, D).
        n: how many rows.
        rng: draws the rows.
    """
    left = np.asarray(probs, dtype=np.float64).copy()
    left[np.arange(len(left)), left.argmax(axis=1)] -= 1
    right = np.asarray(vectors, dtype=np.float64)
    length = (left * left).sum(axis=1) * (right * right).sum(axis=1)
    picked: list[int] = []
    nearest = length.copy()  # the first is drawn by its own length
    while len(picked) < min(n, len(left)):
        if nearest.sum() > 0:
            row = int(rng.choice(len(left), p=nearest / nearest.sum()))
        else:  # the others equal the selected ones
            row = int(rng.choice(np.setdiff1d(np.arange(len(left)), picked)))
        picked.append(row)
        distances = length + length[row] - 2 * (left @ left[row]) * (right @ right[row])
        nearest = np.minimum(nearest, np.maximum(distances, 0.0))
        nearest[picked] = 0.0
    return np.array(picked, dtype=np.int64)


def typiclust_sampling(vectors: ArrayLike, n: int, seed: int) -> Ints:
    """Select the rows nearest to the centres of n clusters, before any label (TypiClust: Hacohen et al. 2022)."""
    from sklearn.cluster import MiniBatchKMeans

    rows = np.asarray(vectors, dtype=np.float32)
    if n >= len(rows):
        return np.arange(len(rows), dtype=np.int64)
    if n < 1:
        return np.zeros(0, dtype=np.int64)
    clusters = MiniBatchKMeans(n, n_init=1, random_state=seed, batch_size=max(1024, 4 * n)).fit(rows)
    distances = clusters.transform(rows)  # (N, n)
    picked: dict[int, None] = {}
    for centre in range(n):
        for row in np.argsort(distances[:, centre], kind="stable"):
            if int(row) not in picked:
                picked[int(row)] = None
                break
    return np.array(list(picked), dtype=np.int64)


def max_herding(
    vectors: ArrayLike,
    n: int,
    *,
    weights: ArrayLike | None = None,
    covered_by: ArrayLike | None = None,
    gamma: float = KERNEL_GAMMA,
) -> Ints:
    """Select the row that covers most of what is not covered yet, n times; the first rows are the best few.

    Row j covers row i by exp(gamma (cos_ij - 1)), and the covering of a set is the sum over i of its best row's.
    Greedy selection reaches 63 % of the best set at least, and is exact under lazy evaluation (Minoux 1978). Source:
    MaxHerding (Bae et al. 2024); with `weights`, uncertainty herding (Bae et al. 2025).

    Args:
        vectors: (N, D); rows of length zero are covered by none and cover none.
        n: how many rows.
        weights: (N,) how much covering each row counts, at least 0; None counts all alike.
        covered_by: (M, D) vectors that count as selected already.
        gamma: how fast covering falls with the distance.
    """
    rows = _unit(vectors)
    n = min(n, len(rows))
    if n < 1:
        return np.zeros(0, dtype=np.int64)
    kernel = np.exp(np.float32(gamma) * (rows @ rows.T - 1))  # (N, N)
    weight = np.ones(len(rows), dtype=np.float32) if weights is None else np.asarray(weights, dtype=np.float32)
    covered = np.zeros(len(rows), dtype=np.float32)
    if covered_by is not None and len(others := _unit(covered_by)):
        covered = np.exp(np.float32(gamma) * (rows @ others.T - 1)).max(axis=1)
    # Gains only fall as rows are selected, so the gain of an earlier step is an upper bound.
    bounds = [(-float(np.maximum(own - covered, 0) @ weight), row) for row, own in enumerate(kernel)]
    heapq.heapify(bounds)
    picked: list[int] = []
    while len(picked) < n:
        _, row = heapq.heappop(bounds)
        bound = (-float(np.maximum(kernel[row] - covered, 0) @ weight), row)
        if bounds and bound > bounds[0]:
            heapq.heappush(bounds, bound)
            continue
        picked.append(row)
        covered = np.maximum(covered, kernel[row])
    return np.array(picked, dtype=np.int64)


def _unit(vectors: ArrayLike) -> NDArray[np.float32]:
    rows = np.asarray(vectors, dtype=np.float32)
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12), dtype=np.float32)
