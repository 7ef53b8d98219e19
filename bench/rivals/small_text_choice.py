"""small-text's query strategies on cached vectors and the product's own head. Imported by `bench/label_choice.py`.

They run in the development environment, through a data set of vectors and a classifier that has `predict_proba` and
`embed`. Not covered: SEALS and AnchorSubsampling, which make other strategies faster; BALD, which needs dropout; and
DiscriminativeActiveLearning, which trains a network of its own.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

ProbsAfter = Callable[[Any], Any]  # the rows labelled so far -> (N, K) probabilities of the pool
COLD = ("EmbeddingKMeans", "LightweightCoreset")


@dataclass(frozen=True)
class VectorSet:
    """The rows of a pool that a strategy asks about."""

    rows: Any

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, at: Any) -> VectorSet:
        return VectorSet(self.rows[at])


@dataclass(frozen=True)
class CachedClassifier:
    """What small-text asks of a classifier, from arrays of the whole pool."""

    vectors: Any
    probs: Any

    def predict_proba(self, part: VectorSet) -> Any:
        """(n, K)."""
        return self.probs[part.rows]

    def embed(self, part: VectorSet, return_proba: bool = False, pbar: str = "") -> Any:
        """(n, D), with the probabilities if asked."""
        vectors = self.vectors[part.rows]
        return (vectors, self.probs[part.rows]) if return_proba else vectors


def choose(name: str, vectors: Any, gold: Any, probs_after: ProbsAfter, n: int, seed: int, batch: int) -> Any:
    """Rows in the order they are bought.

    Args:
        name: a class of small-text; "+random" after it begins with one batch at random, as its documentation does,
            otherwise the classifier begins with the label names.
        vectors: (N, D) of the pool.
        gold: (N,) labels; those of rows not yet bought are not read.
        probs_after: fits the head.
        n: how many rows.
        seed: of numpy's global generator, which small-text draws from.
        batch: rows a query; strategies that read no classifier are asked once.
    """
    import small_text

    kind, _, start = name.partition("+")
    np.random.seed(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        strategy = getattr(small_text, kind)()
    everything = np.arange(len(vectors))
    rows = np.random.default_rng(seed).permutation(len(vectors))[:batch] if start else np.zeros(0, dtype=np.int64)
    size = n if kind in COLD else batch
    while len(rows) < n:
        classifier = CachedClassifier(vectors, probs_after(rows))
        left = np.setdiff1d(everything, rows)
        asked = min(size, n - len(rows))
        new = strategy.query(classifier, VectorSet(everything), left, rows, gold[rows], n=asked)
        rows = np.concatenate([rows, new])
    return rows
