"""What texts believe, lent to their neighbours: probabilities smoothed over the nearest texts. Functions of arrays.

Texts that lie together in a good space mostly share a label, so the errors of a student on unlabelled texts partly
cancel among neighbours (label spreading: Zhou et al. 2004). Exact search in blocks of rows: N x N products, never an
N x N array. Does not learn, and does not know texts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
BLOCK = 1024  # rows compared at once
WIDTH = 0.1  # of the kernel: a neighbour whose cosine is this much lower counts 1/e


@dataclass(frozen=True)
class Neighbours:
    """Of each of N texts the k nearest others.

    Attributes:
        rows: (N, k) which texts.
        shares: (N, k) float32, how much each counts; rows sum to one.
    """

    rows: NDArray[np.int64]
    shares: Floats

    def mean(self, values: Floats) -> Floats:
        """(N, K) values -> (N, K) what the neighbours have in the mean."""
        found = np.zeros_like(values)
        for place in range(self.rows.shape[1]):  # one neighbour at a time: (N, k, K) may not fit
            found += self.shares[:, place, None] * values[self.rows[:, place]]
        return found


def nearest(vectors: Floats, k: int) -> Neighbours:
    """The k nearest others of each of N texts, by the cosine.

    Args:
        vectors: (N, D) of length one.
        k: how many; fewer where there are fewer others.
    """
    n = len(vectors)
    k = min(k, n - 1)
    rows, near = np.zeros((n, k), dtype=np.int64), np.zeros((n, k), dtype=np.float32)
    for start in range(0, n if k else 0, BLOCK):
        cosines = vectors[start : start + BLOCK] @ vectors.T
        own = np.arange(len(cosines))
        cosines[own, start + own] = -np.inf
        found = np.argpartition(-cosines, k - 1, axis=1)[:, :k]
        rows[start : start + BLOCK], near[start : start + BLOCK] = found, np.take_along_axis(cosines, found, axis=1)
    weights = np.exp((near - near.max(axis=1, keepdims=True, initial=-1.0)) / WIDTH)
    return Neighbours(rows, (weights / np.maximum(weights.sum(axis=1, keepdims=True), 1e-12)).astype(np.float32))


def spread(beliefs: Floats, neighbours: Neighbours, *, own: float = 0.5, rounds: int = 3) -> Floats:
    """(N, K) probabilities after each text has listened to its neighbours; rows sum to one.

    Args:
        beliefs: (N, K) probabilities, rows sum to one.
        neighbours: of the same N texts.
        own: how much of a text's first belief it keeps in each round, in [0, 1].
        rounds: how far a belief travels.
    """
    if not neighbours.rows.shape[1]:
        return beliefs
    found = beliefs
    for _ in range(rounds):
        found = (own * beliefs + (1 - own) * neighbours.mean(found)).astype(np.float32)
    return np.asarray(found / found.sum(axis=1, keepdims=True), dtype=np.float32)
