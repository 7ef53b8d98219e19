"""Label propagation: probabilities smoothed over nearest neighbours. Functions of arrays.

Neighbours in a good vector space mostly share a label, so a student's errors on unlabelled texts partly cancel among
them (label spreading: Zhou et al. 2004; with known labels held fixed, label propagation: Zhu and Ghahramani 2002).
Exact search in blocks of rows: N x N products, never an N x N array.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
BLOCK_ROWS = 1024  # rows compared at once
# Share of its first probabilities that a text keeps in each iteration, and the number of iterations: chosen on train
# texts of BANKING77, HWU64 and AG News that no fold had seen (docs/log.md).
SELF_WEIGHT, N_ITER = 0.1, 10
KERNEL_WIDTH = 0.1  # a neighbour whose cosine is this much lower weighs 1/e


@dataclass(frozen=True)
class NeighborGraph:
    """The k nearest other rows of each of N rows.

    Attributes:
        indices: (N, k) row numbers.
        weights: (N, k) float32 in (0, 1], higher for nearer rows.
    """

    indices: NDArray[np.int64]
    weights: Floats

    def affinity_matrix(self) -> Any:
        """(N, N) CSR float32: the symmetric weights, each over the root of the product of both rows' sums.

        The normalisation keeps a row that is near to very many from dominating them.
        """
        from scipy.sparse import csr_matrix, diags

        n, k = self.indices.shape
        directed = csr_matrix((self.weights.ravel(), self.indices.ravel(), np.arange(n + 1) * k), shape=(n, n))
        symmetric = directed + directed.T
        scale = diags(1 / np.sqrt(np.maximum(np.asarray(symmetric.sum(axis=1)).ravel(), 1e-30)))
        return (scale @ symmetric @ scale).tocsr().astype(np.float32)


def nearest_neighbors(vectors: Floats, k: int) -> NeighborGraph:
    """The k nearest other rows of each of N rows, by cosine.

    Args:
        vectors: (N, D) of length one.
        k: how many; fewer if there are fewer other rows.
    """
    n = len(vectors)
    k = min(k, n - 1)
    indices, similarity = np.zeros((n, k), dtype=np.int64), np.zeros((n, k), dtype=np.float32)
    for start in range(0, n if k else 0, BLOCK_ROWS):
        cosines = vectors[start : start + BLOCK_ROWS] @ vectors.T
        block = np.arange(len(cosines))
        cosines[block, start + block] = -np.inf  # no row is its own neighbour
        nearest = np.argpartition(-cosines, k - 1, axis=1)[:, :k]
        indices[start : start + BLOCK_ROWS] = nearest
        similarity[start : start + BLOCK_ROWS] = np.take_along_axis(cosines, nearest, axis=1)
    return NeighborGraph(indices, np.exp((np.minimum(similarity, 1) - 1) / np.float32(KERNEL_WIDTH)).astype(np.float32))


def spread_labels(
    probs: Floats,
    graph: NeighborGraph,
    fixed: NDArray[np.bool_] | None = None,
    *,
    self_weight: float = SELF_WEIGHT,
    n_iter: int = N_ITER,
) -> Floats:
    """(N, K) probabilities after `n_iter` iterations over the graph; rows sum to one.

    Args:
        probs: (N, K) probabilities, rows sum to one.
        graph: neighbours of the same N rows.
        fixed: (N,) rows whose probabilities stay as they are; None for no row.
        self_weight: share of its first probabilities that a row keeps in each iteration, in [0, 1].
        n_iter: iterations, that is how many edges a label travels.
    """
    if not graph.indices.shape[1]:
        return probs
    affinity, spread = graph.affinity_matrix(), probs
    for _ in range(n_iter):
        spread = (self_weight * probs + (1 - self_weight) * (affinity @ spread)).astype(np.float32)
        if fixed is not None:
            spread[fixed] = probs[fixed]
    return np.asarray(spread / spread.sum(axis=1, keepdims=True), dtype=np.float32)


def propagate_labels(
    probs: Floats, vectors: Floats, n: int, n_neighbors: int, *, self_weight: float = SELF_WEIGHT
) -> Floats:
    """(n, K) probabilities of the first n rows after label propagation; the other rows are labelled and stay fixed.

    Args:
        probs: (N, K) of n unlabelled rows, then of the labelled ones.
        vectors: (N, D) of length one.
        n: how many rows are unlabelled.
        n_neighbors: neighbours of each row.
        self_weight: see `spread_labels`.
    """
    labelled = np.arange(len(probs)) >= n
    return spread_labels(probs, nearest_neighbors(vectors, n_neighbors), labelled, self_weight=self_weight)[:n]
