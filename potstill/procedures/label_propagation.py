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
BLOCK = 1024  # rows compared at once
# How much of its first belief a text keeps each time it listens, and how often it does: chosen on train texts of
# BANKING77, HWU64 and AG News that no fold had seen (docs/log.md).
OWN, ROUNDS = 0.1, 10
WIDTH = 0.1  # of the kernel: a neighbour whose cosine is this much lower counts 1/e


@dataclass(frozen=True)
class Neighbours:
    """Of each of N texts the k nearest others.

    Attributes:
        rows: (N, k) which texts.
        weights: (N, k) float32, how near each is, in (0, 1].
    """

    rows: NDArray[np.int64]
    weights: Floats

    def graph(self) -> Any:
        """(N, N) CSR float32: who is near whom, both ways, over the root of both texts' sums.

        So a text that is near to very many does not talk to all of them as loudly as a near one does.
        """
        from scipy.sparse import csr_matrix, diags

        n, k = self.rows.shape
        one_way = csr_matrix((self.weights.ravel(), self.rows.ravel(), np.arange(n + 1) * k), shape=(n, n))
        both = one_way + one_way.T
        scale = diags(1 / np.sqrt(np.maximum(np.asarray(both.sum(axis=1)).ravel(), 1e-30)))
        return (scale @ both @ scale).tocsr().astype(np.float32)


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
    return Neighbours(rows, np.exp((np.minimum(near, 1) - 1) / np.float32(WIDTH)).astype(np.float32))


def spread(
    beliefs: Floats,
    neighbours: Neighbours,
    known: NDArray[np.bool_] | None = None,
    *,
    own: float = OWN,
    rounds: int = ROUNDS,
) -> Floats:
    """(N, K) probabilities after each text has listened to its neighbours; rows sum to one.

    Args:
        beliefs: (N, K) probabilities, rows sum to one.
        neighbours: of the same N texts.
        known: (N,) texts whose belief is certain and stays as it is; None means no text.
        own: how much of a text's first belief it keeps in each round, in [0, 1].
        rounds: how far a belief travels.
    """
    if not neighbours.rows.shape[1]:
        return beliefs
    graph, found = neighbours.graph(), beliefs
    for _ in range(rounds):
        found = (own * beliefs + (1 - own) * (graph @ found)).astype(np.float32)
        if known is not None:
            found[known] = beliefs[known]
    return np.asarray(found / found.sum(axis=1, keepdims=True), dtype=np.float32)


def listen(beliefs: Floats, vectors: Floats, n: int, neighbours: int, *, own: float = OWN) -> Floats:
    """(n, K) what is left of the first n rows' beliefs among their neighbours; the other rows are known and stay.

    Args:
        beliefs: (N, K) of n texts that are guessed, then of those that are known.
        vectors: (N, D) of length one.
        n: how many are guessed.
        neighbours: to how many texts each listens.
        own: see `spread`.
    """
    known = np.arange(len(beliefs)) >= n
    return spread(beliefs, nearest(vectors, neighbours), known, own=own)[:n]
