"""How good sets of labels are, where a text may have several: arrays in, numbers out.

Everywhere `gold` is (N, K) truths in the task's label order, `chosen` is (N, K) truths, `probs` (N, K) probabilities of
each label by itself. Does not cover choosing thresholds (`fit_thresholds.py`) or intervals (`judging.py`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
MAX_CELLS_IN_MEMORY = 20_000_000  # compared at once
BINS = 15


def multilabel_micro_f1(gold: ArrayLike, chosen: ArrayLike) -> float:
    """F1 over all decisions together; 0 where nothing is right."""
    g, c = as_bool(gold), as_bool(chosen)
    return safe_ratio(2 * float((g & c).sum()), float(g.sum() + c.sum()))


def multilabel_macro_f1(gold: ArrayLike, chosen: ArrayLike) -> float:
    """The plain mean of F1 over the labels that occur in `gold` or in `chosen`."""
    g, c = as_bool(gold), as_bool(chosen)
    return float(macro_f1_from_counts((g & c).sum(0)[None], g.sum(0)[None], c.sum(0)[None])[0])


def label_ranking_precision(gold: ArrayLike, scores: ArrayLike) -> Floats:
    """(N,) label ranking average precision of each text; 1 where no label or every label is right.

    Of each right label: the share of right ones among those that score at least as high. As scikit-learn's
    `label_ranking_average_precision_score`, before the mean.
    """
    right_ones, values = as_bool(gold), np.asarray(scores, dtype=np.float64)
    n, k = right_ones.shape
    found = np.ones(n)
    step = max(1, MAX_CELLS_IN_MEMORY // max(k * k, 1))
    for at in range(0, n, step):
        g, s = right_ones[at : at + step], values[at : at + step]
        above = s[:, None, :] >= s[:, :, None]  # (n, j, k): k scores at least as high as j
        share = (above & g[:, None, :]).sum(2) / above.sum(2)
        right = g.sum(1)
        mean = (share * g).sum(1) / np.maximum(right, 1)
        found[at : at + step] = np.where((right == 0) | (right == k), 1.0, mean)
    return found


def multilabel_ece(gold: ArrayLike, probs: ArrayLike, bins: int = BINS) -> float:
    """Expected calibration error of all N x K probabilities as what they are: of a label being right."""
    p, g = np.asarray(probs, dtype=np.float64).ravel(), as_bool(gold).ravel()
    which = np.clip(np.ceil(p * bins).astype(np.int64) - 1, 0, bins - 1)
    return float(np.abs(np.bincount(which, weights=p - g, minlength=bins)).sum() / max(len(p), 1))


def as_bool(of: ArrayLike) -> BoolArray:
    """As an array of truths."""
    return np.asarray(of).astype(np.bool_)


def safe_ratio(part: float, whole: float) -> float:
    """`part` of `whole`; 0 of nothing."""
    return float(part / whole) if whole else 0.0


def macro_f1_from_counts(hit: NDArray[np.floating], have: NDArray[np.floating], give: NDArray[np.floating]) -> Floats:
    """(B, K) counts -> (B,) mean F1 over the labels that occur."""
    there = (have + give) > 0
    f1 = 2 * hit / np.maximum(have + give, 1e-12)
    return np.asarray((f1 * there).sum(1) / np.maximum(there.sum(1), 1))
