"""Which texts next: functions of arrays that pick rows. They neither read nor write, and ask nobody.

Everywhere `gold` is (N,) integer columns in the task's label order, `probs` is (N, K) rows that sum to one, `n` is how
many rows are wanted at most, and what comes back is (M,) distinct row numbers, M <= n. Where `draw` is taken, the rows
are drawn by it; elsewhere the best comes first, and ties fall to the lower row number.

Not here: choosing by what texts look like (cover.py), and when to stop.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Rng = np.random.Generator


def random_sampling(rows: ArrayLike, n: int, rng: Rng) -> Ints:
    """So many of the (M,) `rows`, each as likely as the others, without repetition: what every method has to beat."""
    rows_ = np.asarray(rows, dtype=np.int64)
    return np.asarray(rng.permutation(rows_)[:n], dtype=np.int64)


def sample_correct(gold: ArrayLike, probs: ArrayLike, n: int, rng: Rng) -> Ints:
    """So many rows whose likeliest label is the gold one, at random (PGKD: Palo et al. 2024, Algorithm 1)."""
    return random_sampling(np.flatnonzero(_right(gold, probs)), n, rng)


def sample_incorrect(gold: ArrayLike, probs: ArrayLike, n: int, rng: Rng) -> Ints:
    """So many rows whose likeliest label is not the gold one, at random (PGKD: Palo et al. 2024, Algorithm 1)."""
    return random_sampling(np.flatnonzero(~_right(gold, probs)), n, rng)


def hard_negatives(gold: ArrayLike, probs: ArrayLike, n: int) -> Ints:
    """The rows that are taken for a wrong label with the highest probability, surest first.

    Source: PGKD (Palo et al. 2024), section 3: "misclassified with the highest confidence".
    """
    wrong = np.flatnonzero(~_right(gold, probs))
    sure = np.asarray(probs, dtype=np.float64)[wrong].max(axis=1, initial=0.0)
    return _first(wrong, -sure, n)


def most_confused_labels(gold: ArrayLike, probs: ArrayLike, n: int) -> Ints:
    """The n labels (M = n columns, ascending) that are taken for each other the most.

    Pairs of labels, by the probability that each one's rows give to the other on average, until n labels are named.
    Source: prompting groups of confusable labels together (Loukas et al. 2023, section 5).
    """
    gold_, probs_ = np.asarray(gold), np.asarray(probs, dtype=np.float64)
    k = probs_.shape[1]
    sums = np.zeros((k, k))
    np.add.at(sums, gold_, probs_)
    means = sums / np.maximum(np.bincount(gold_, minlength=k), 1)[:, None]
    mutual = np.triu(means + means.T, 1)
    named: dict[int, None] = {}
    for pair in np.argsort(-mutual, axis=None, kind="stable"):
        if len(named) >= min(n, k):
            break
        named |= dict.fromkeys(divmod(int(pair), k))
    return np.sort(np.array(list(named)[:n], dtype=np.int64))


def nearest_to_anchors(vectors: ArrayLike, anchors: ArrayLike, n: int) -> Ints:
    """The (N, D) rows most like any of the (A, D) anchors by cosine, nearest first; each anchor has its turn.

    In the first turn each anchor, in the order given, takes its nearest row, and so on until n rows are taken.
    """
    rows, marks = _unit(vectors), _unit(anchors)
    if not len(marks) or not len(rows):
        return np.zeros(0, dtype=np.int64)
    ranked = np.argsort(-(marks @ rows.T), axis=1, kind="stable")[:, :n]
    return np.array(list(dict.fromkeys(ranked.T.ravel().tolist()))[:n], dtype=np.int64)


def margin_sampling(probs: ArrayLike, n: int) -> Ints:
    """The rows whose two likeliest labels are closest, closest first (Scheffer et al. 2001; "smallest margin")."""
    probs_ = np.asarray(probs, dtype=np.float64)
    best = np.partition(probs_, -2, axis=1)
    return _first(np.arange(len(probs_)), best[:, -1] - best[:, -2], n)


def entropy_sampling(probs: ArrayLike, n: int) -> Ints:
    """The rows whose distribution has the highest entropy, highest first (Settles 2009, section 3.1)."""
    probs_ = np.asarray(probs, dtype=np.float64)
    logs = np.log(probs_, out=np.zeros_like(probs_), where=probs_ > 0)
    return _first(np.arange(len(probs_)), (probs_ * logs).sum(axis=1), n)


def _unit(vectors: ArrayLike) -> Floats:
    rows = np.asarray(vectors, dtype=np.float64)
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12))


def _right(gold: ArrayLike, probs: ArrayLike) -> NDArray[np.bool_]:
    probs_ = np.asarray(probs)
    return np.asarray(probs_.argmax(axis=1) == np.asarray(gold), dtype=np.bool_)


def _first(rows: NDArray[np.int64], by: Floats, n: int) -> Ints:
    return np.asarray(rows[np.argsort(by, kind="stable")[:n]], dtype=np.int64)
