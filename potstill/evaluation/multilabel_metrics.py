"""Metrics of multi-label predictions: functions of arrays.

Everywhere `gold` and `predicted` are (N, K) bool in the task's label order, `probs` is (N, K) probabilities of each
label by itself. Thresholds are fitted in `fit_thresholds.py`, intervals are in `multilabel_evaluation.py`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
MAX_CELLS_IN_MEMORY = 20_000_000  # of the (n, K, K) comparison
BINS = 15


def multilabel_micro_f1(gold: ArrayLike, predicted: ArrayLike) -> float:
    """F1 over all N x K decisions; 0 if none is right."""
    g, c = as_bool(gold), as_bool(predicted)
    return safe_ratio(2 * float((g & c).sum()), float(g.sum() + c.sum()))


def multilabel_macro_f1(gold: ArrayLike, predicted: ArrayLike) -> float:
    """The plain mean of F1 over the labels that occur in `gold` or in `predicted`."""
    g, c = as_bool(gold), as_bool(predicted)
    return float(macro_f1_from_counts((g & c).sum(0)[None], g.sum(0)[None], c.sum(0)[None])[0])


def label_ranking_precision(gold: ArrayLike, scores: ArrayLike) -> Floats:
    """(N,) label ranking average precision of each text; 1 if the text has no label or every label.

    Per gold label: the share of gold labels among those that score at least as high. Equals scikit-learn's
    `label_ranking_average_precision_score` before the mean.
    """
    gold_, values = as_bool(gold), np.asarray(scores, dtype=np.float64)
    n, k = gold_.shape
    precision = np.ones(n)
    step = max(1, MAX_CELLS_IN_MEMORY // max(k * k, 1))
    for start in range(0, n, step):
        g, s = gold_[start : start + step], values[start : start + step]
        above = s[:, None, :] >= s[:, :, None]  # (n, j, k): label k scores at least as high as label j
        share = (above & g[:, None, :]).sum(2) / above.sum(2)
        n_gold = g.sum(1)
        mean = (share * g).sum(1) / np.maximum(n_gold, 1)
        precision[start : start + step] = np.where((n_gold == 0) | (n_gold == k), 1.0, mean)
    return precision


def multilabel_ece(gold: ArrayLike, probs: ArrayLike, bins: int = BINS) -> float:
    """Expected calibration error of all N x K probabilities, over equal-width bins."""
    p, g = np.asarray(probs, dtype=np.float64).ravel(), as_bool(gold).ravel()
    bin_index = np.clip(np.ceil(p * bins).astype(np.int64) - 1, 0, bins - 1)
    return float(np.abs(np.bincount(bin_index, weights=p - g, minlength=bins)).sum() / max(len(p), 1))


def as_bool(values: ArrayLike) -> BoolArray:
    """The values as a bool array."""
    return np.asarray(values).astype(np.bool_)


def safe_ratio(part: float, whole: float) -> float:
    """part / whole; 0 if `whole` is 0."""
    return float(part / whole) if whole else 0.0


def macro_f1_from_counts(hit: NDArray[np.floating], have: NDArray[np.floating], give: NDArray[np.floating]) -> Floats:
    """(B, K) counts of correct, gold and predicted labels -> (B,) mean F1 over the labels that occur."""
    present = (have + give) > 0
    f1 = 2 * hit / np.maximum(have + give, 1e-12)
    return np.asarray((f1 * present).sum(1) / np.maximum(present.sum(1), 1))
