"""What texts believe, lent to their neighbours: probabilities smoothed over the nearest texts. Functions of arrays.

Texts that lie together in a good space mostly share a label, so the errors of a student on unlabelled texts partly
cancel among neighbours (label spreading: Zhou et al. 2004; with what is known kept as it is, label propagation: Zhu
and Ghahramani 2002). Exact search in blocks of rows: N x N products, never an N x N array. Does not learn, and does
not know texts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
BLOCK_ROWS = 1024  # rows compared at once
# How much of its first belief a text keeps each time it listens, and how often it does: chosen on train texts of
# BANKING77, HWU64 and AG News that no fold had seen (docs/log.md).
SELF_WEIGHT, N_ITER = 0.1, 10
KERNEL_WIDTH = 0.1  # of the kernel: a neighbour whose cosine is this much lower counts 1/e


@dataclass(frozen=True)
class NeighborGraph:
    """Of each of N texts the k nearest others.

    Attributes:
        rows: (N, k) which texts.
        weights: (N, k) float32, how near each is, in (0, 1].
    """

    indices: NDArray[np.int64]
    weights: Floats

    def affinity_matrix(self) -> Any:
        """(N, N) CSR float32: who is near whom, both ways, over the root of both texts' sums.

        So a text that is near to very many does not talk to all of them as loudly as a near one does.
        """
        from scipy.sparse import csr_matrix, diags

        n, k = self.indices.shape
        one_way = csr_matrix((self.weights.ravel(), self.indices.ravel(), np.arange(n + 1) * k), shape=(n, n))
        both = one_way + one_way.T
        scale = diags(1 / np.sqrt(np.maximum(np.asarray(both.sum(axis=1)).ravel(), 1e-30)))
        return (scale @ both @ scale).tocsr().astype(np.float32)


def nearest_neighbors(vectors: Floats, k: int) -> NeighborGraph:
    """The k nearest others of each of N texts, by the cosine.

    Args:
        vectors: (N, D) of length one.
        k: how many; fewer where there are fewer others.
    """
    n = len(vectors)
    k = min(k, n - 1)
    rows, near = np.zeros((n, k), dtype=np.int64), np.zeros((n, k), dtype=np.float32)
    for start in range(0, n if k else 0, BLOCK_ROWS):
        cosines = vectors[start : start + BLOCK_ROWS] @ vectors.T
        own = np.arange(len(cosines))
        cosines[own, start + own] = -np.inf
        found = np.argpartition(-cosines, k - 1, axis=1)[:, :k]
        rows[start : start + BLOCK_ROWS], near[start : start + BLOCK_ROWS] = (
            found,
            np.take_along_axis(cosines, found, axis=1),
        )
    return NeighborGraph(rows, np.exp((np.minimum(near, 1) - 1) / np.float32(KERNEL_WIDTH)).astype(np.float32))


def spread_labels(
    probs: Floats,
    neighbours: NeighborGraph,
    fixed: NDArray[np.bool_] | None = None,
    *,
    self_weight: float = SELF_WEIGHT,
    n_iter: int = N_ITER,
) -> Floats:
    """(N, K) probabilities after each text has listened to its neighbours; rows sum to one.

    Args:
        beliefs: (N, K) probabilities, rows sum to one.
        neighbours: of the same N texts.
        known: (N,) texts whose belief is certain and stays as it is; None means no text.
        own: how much of a text's first belief it keeps in each round, in [0, 1].
        rounds: how far a belief travels.
    """
    if not neighbours.indices.shape[1]:
        return probs
    graph, found = neighbours.affinity_matrix(), probs
    for _ in range(n_iter):
        found = (self_weight * probs + (1 - self_weight) * (graph @ found)).astype(np.float32)
        if fixed is not None:
            found[fixed] = probs[fixed]
    return np.asarray(found / found.sum(axis=1, keepdims=True), dtype=np.float32)


def propagate_labels(
    probs: Floats, vectors: Floats, n: int, n_neighbors: int, *, self_weight: float = SELF_WEIGHT
) -> Floats:
    """(n, K) what is left of the first n rows' beliefs among their neighbours; the other rows are known and stay.

    Args:
        beliefs: (N, K) of n texts that are guessed, then of those that are known.
        vectors: (N, D) of length one.
        n: how many are guessed.
        neighbours: to how many texts each listens.
        own: see `spread`.
    """
    known = np.arange(len(probs)) >= n
    return spread_labels(probs, nearest_neighbors(vectors, n_neighbors), known, self_weight=self_weight)[:n]
