"""Query strategies on probabilities: functions of arrays that select rows.

Everywhere `gold` is (N,) label columns, `probs` is (N, K) rows that sum to one, `n` is how many rows are selected at
most, and the result is (M,) distinct row numbers, M <= n. A function with an `rng` draws the rows; the others return
the best row first, and of equal rows the lower number.

Strategies that cover the pool by its vectors are in `coverage_sampling.py`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Rng = np.random.Generator


def random_sampling(rows: ArrayLike, n: int, rng: Rng) -> Ints:
    """At most n of the (M,) `rows`, uniformly without replacement: the baseline of every strategy."""
    rows_ = np.asarray(rows, dtype=np.int64)
    return np.asarray(rng.permutation(rows_)[:n], dtype=np.int64)


def sample_correct(gold: ArrayLike, probs: ArrayLike, n: int, rng: Rng) -> Ints:
    """At most n rows whose most probable label is the gold one, at random (PGKD: Palo et al. 2024, Algorithm 1)."""
    return random_sampling(np.flatnonzero(_is_correct(gold, probs)), n, rng)


def sample_incorrect(gold: ArrayLike, probs: ArrayLike, n: int, rng: Rng) -> Ints:
    """At most n rows whose most probable label is not the gold one, at random (PGKD: Palo et al. 2024, Algorithm 1)."""
    return random_sampling(np.flatnonzero(~_is_correct(gold, probs)), n, rng)


def hard_negatives(gold: ArrayLike, probs: ArrayLike, n: int) -> Ints:
    """The misclassified rows with the highest probability of the wrong label, the highest first.

    Source: PGKD (Palo et al. 2024), section 3: "misclassified with the highest confidence".
    """
    wrong = np.flatnonzero(~_is_correct(gold, probs))
    confidence = np.asarray(probs, dtype=np.float64)[wrong].max(axis=1, initial=0.0)
    return _lowest(wrong, -confidence, n)


def most_confused_labels(gold: ArrayLike, probs: ArrayLike, n: int) -> Ints:
    """The n labels (M = n columns, ascending) that are confused with each other the most.

    Takes pairs of labels, by the mean probability that each one's rows give to the other, until there are n labels.
    Source: prompting groups of confusable labels together (Loukas et al. 2023, section 5).
    """
    gold_, probs_ = np.asarray(gold), np.asarray(probs, dtype=np.float64)
    k = probs_.shape[1]
    sums = np.zeros((k, k))
    np.add.at(sums, gold_, probs_)
    means = sums / np.maximum(np.bincount(gold_, minlength=k), 1)[:, None]
    mutual = np.triu(means + means.T, 1)
    columns: dict[int, None] = {}
    for pair in np.argsort(-mutual, axis=None, kind="stable"):
        if len(columns) >= min(n, k):
            break
        columns |= dict.fromkeys(divmod(int(pair), k))
    return np.sort(np.array(list(columns)[:n], dtype=np.int64))


def nearest_to_anchors(vectors: ArrayLike, anchors: ArrayLike, n: int) -> Ints:
    """Rows of (N, D) `vectors` nearest to any of the (A, D) anchors by cosine, nearest first.

    In the first turn each anchor, in the order given, selects its nearest row, and so on until there are n rows.
    """
    rows, targets = _unit(vectors), _unit(anchors)
    if not len(targets) or not len(rows):
        return np.zeros(0, dtype=np.int64)
    ranked = np.argsort(-(targets @ rows.T), axis=1, kind="stable")[:, :n]
    return np.array(list(dict.fromkeys(ranked.T.ravel().tolist()))[:n], dtype=np.int64)


def margin_sampling(probs: ArrayLike, n: int) -> Ints:
    """The rows with the smallest margin between their two most probable labels (Scheffer et al. 2001)."""
    margins = _margins(probs)
    return _lowest(np.arange(len(margins)), margins, n)


def margin_uncertainty(probs: ArrayLike) -> Floats:
    """(N,) one less the margin between the two most probable labels, in [0, 1]."""
    return np.asarray(1 - _margins(probs))


def entropy_sampling(probs: ArrayLike, n: int) -> Ints:
    """The rows whose distribution has the highest entropy, highest first (Settles 2009, section 3.1)."""
    probs_ = np.asarray(probs, dtype=np.float64)
    logs = np.log(probs_, out=np.zeros_like(probs_), where=probs_ > 0)
    return _lowest(np.arange(len(probs_)), (probs_ * logs).sum(axis=1), n)


def _margins(probs: ArrayLike) -> Floats:
    best = np.partition(np.asarray(probs, dtype=np.float64), -2, axis=1)
    return np.asarray(best[:, -1] - best[:, -2])


def _unit(vectors: ArrayLike) -> Floats:
    rows = np.asarray(vectors, dtype=np.float64)
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12))


def _is_correct(gold: ArrayLike, probs: ArrayLike) -> NDArray[np.bool_]:
    probs_ = np.asarray(probs)
    return np.asarray(probs_.argmax(axis=1) == np.asarray(gold), dtype=np.bool_)


def _lowest(rows: NDArray[np.int64], values: Floats, n: int) -> Ints:
    """The n rows with the lowest values."""
    return np.asarray(rows[np.argsort(values, kind="stable")[:n]], dtype=np.int64)
