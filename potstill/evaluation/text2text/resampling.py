"""Bootstrap intervals and paired permutation tests of scores that are functions of summed counts.

A metric of N texts is given as (N, C) counts, a row a text, and a score of their sums. A mean has the counts (value,
1), entity F1 (correct, gold, predicted), corpus BLEU the matches and totals of its n-grams. One resampling serves all.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from potstill.evaluation.metrics import Score

Floats = NDArray[np.float64]
# (R, C) sums of counts -> (R,) scores.
SummedScore = Callable[[Floats], Floats]
CHUNK = 100  # resamples that are held at once


def f1_of_sums(sums: Floats) -> Floats:
    """(R, 3) sums of correct, gold and predicted entities -> (R,) F1; 0 without any."""
    return safe_divide(2 * sums[..., 0], sums[..., 1] + sums[..., 2])


def mean_of_sums(sums: Floats) -> Floats:
    """(R, 2) sums of a value and of ones -> (R,) means."""
    return safe_divide(sums[..., 0], sums[..., 1])


def mean_counts(values: ArrayLike) -> Floats:
    """(N,) values of texts -> (N, 2) counts whose score is `mean_of_sums`."""
    given = np.asarray(values, dtype=np.float64)
    return np.stack([given, np.ones_like(given)], axis=1)


def safe_divide(part: Floats, whole: Floats) -> Floats:
    """part / whole; 0 where whole is 0."""
    return np.divide(part, whole, out=np.zeros(np.broadcast_shapes(part.shape, whole.shape)), where=whole != 0)


def resampled_scores(counts: ArrayLike, score: SummedScore, *, seed: int = 0, n_resamples: int = 1000) -> Floats:
    """(n_resamples,) scores of resamples of the N texts; (n_resamples, ...) if the score has several values."""
    given = np.asarray(counts, dtype=np.float64)
    generator = np.random.default_rng(seed)
    n, scores = len(given), []
    for start in range(0, n_resamples, CHUNK):
        size = min(CHUNK, n_resamples - start)
        weights = np.stack([np.bincount(generator.integers(0, n, n), minlength=n) for _ in range(size)])
        scores.append(score(weights.astype(np.float64) @ given))
    return np.concatenate(scores)


def bootstrap_counts(counts: ArrayLike, score: SummedScore, *, seed: int = 0, n_resamples: int = 1000) -> Score:
    """A score and its 95 % percentile bootstrap interval over texts (Efron 1979).

    Args:
        counts: (N, C) counts, a row a text.
        score: of their sums.
        seed: draws the resamples.
        n_resamples: number of resamples.

    Raises:
        ValueError: no texts.
    """
    given = np.asarray(counts, dtype=np.float64)
    if not len(given):
        raise ValueError("no texts to score")
    low, high = np.percentile(resampled_scores(given, score, seed=seed, n_resamples=n_resamples), [2.5, 97.5])
    return Score(float(score(given.sum(axis=0)[None])[0]), float(low), float(high))


def permutation_test(
    counts_a: ArrayLike, counts_b: ArrayLike, score: SummedScore, *, seed: int = 0, n_permutations: int = 10_000
) -> float:
    """The two-sided p-value of the difference of two models on the same texts (Noreen 1989).

    Each permutation exchanges the two models' counts of a random half of the texts. The observed arrangement counts as
    one permutation, so the value is never zero.

    Args:
        counts_a: (N, C) counts of one model.
        counts_b: (N, C) counts of the other, on the same texts.
        score: of the sums of counts.
        seed: draws the permutations.
        n_permutations: number of permutations.

    Raises:
        ValueError: no texts, or counts of different shapes.
    """
    a, b = (np.asarray(counts, dtype=np.float64) for counts in (counts_a, counts_b))
    if not len(a) or a.shape != b.shape:
        raise ValueError(f"counts of the shapes {a.shape} and {b.shape}; both must be equal and not empty")
    generator = np.random.default_rng(seed)
    total_a, total_b, difference = a.sum(axis=0), b.sum(axis=0), b - a
    observed = abs(float((score(total_a[None]) - score(total_b[None]))[0]))
    n_extreme = 1
    for start in range(0, n_permutations, CHUNK):
        size = min(CHUNK, n_permutations - start)
        exchanged = generator.integers(0, 2, (size, len(a))).astype(np.float64) @ difference
        gaps = np.abs(score(total_a + exchanged) - score(total_b - exchanged))
        n_extreme += int((gaps >= observed - 1e-12).sum())
    return n_extreme / (n_permutations + 1)
