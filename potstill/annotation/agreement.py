"""Agreement between annotators, consensus labels and label issues: functions of arrays.

Everywhere `labels` is (N, A) label columns in the task's order, a row for each text, a column for each annotator, -1 if
unlabelled; `probs` is (N, K) out-of-sample probabilities of a model that did not learn these labels. Consensus,
annotator quality and label issues come from cleanlab; the agreement coefficients are implemented here.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np
from numpy.typing import ArrayLike, NDArray

from potstill.errors import missing_extra

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Consensus:
    """The consensus of several annotators.

    Attributes:
        label: (N,) the label column of each text.
        quality: (N,) the probability that the label is right, in [0, 1].
        annotator_quality: (A,) quality of each annotator, in [0, 1]; NaN without labels.
    """

    label: Ints
    quality: Floats
    annotator_quality: Floats


@dataclass(frozen=True)
class LabelIssueRows:
    """M rows whose label is probably wrong, worst first.

    Attributes:
        rows: (M,) row numbers.
        suggested_label: (M,) the most probable label column.
        quality: (M,) the probability that the given label is right, in [0, 1].
    """

    rows: Ints
    suggested_label: Ints
    quality: Floats


def cohen_kappa(one: ArrayLike, other: ArrayLike) -> float:
    """Cohen's kappa (Cohen 1960): agreement of two annotators beyond chance; 1 is full agreement, 0 chance.

    Args:
        one: (N,) label columns of one annotator, -1 if unlabelled.
        other: (N,) those of the other, of the same texts.

    Returns:
        Kappa; NaN if no text has both labels, or if all labels are the same.
    """
    one_, other_ = np.asarray(one), np.asarray(other)
    both = (one_ >= 0) & (other_ >= 0)
    one_, other_ = one_[both], other_[both]
    if not len(one_):
        return float("nan")
    k = int(max(one_.max(), other_.max())) + 1
    chance = float((np.bincount(one_, minlength=k) / len(one_)) @ (np.bincount(other_, minlength=k) / len(other_)))
    return float("nan") if chance == 1 else (float((one_ == other_).mean()) - chance) / (1 - chance)


def krippendorff_alpha(labels: ArrayLike) -> float:
    """Krippendorff's alpha for nominal labels (Krippendorff 2011); annotators may have labelled different texts.

    Returns:
        Alpha; NaN if no text has two labels, or if all labels are the same.
    """
    labels_ = np.asarray(labels)
    if not labels_.size or labels_.max() < 0:
        return float("nan")
    k = int(labels_.max()) + 1
    counts = np.stack([(labels_ == column).sum(axis=1) for column in range(k)], axis=1)  # (N, K)
    n_labels = counts.sum(axis=1)  # (N,) labels of each text
    counts, n_labels = counts[n_labels > 1], n_labels[n_labels > 1]
    if not len(counts):
        return float("nan")
    # Observed: unequal pairs within each text, weighted by its number of labels. Expected: among all labels.
    observed = ((n_labels**2 - (counts**2).sum(axis=1)) / (n_labels - 1)).sum()
    totals = counts.sum(axis=0)
    n = totals.sum()
    expected = (n**2 - (totals**2).sum()) / (n - 1)
    return float("nan") if expected == 0 else float(1 - observed / expected)


def majority(labels: ArrayLike, n_labels: int) -> Ints:
    """(N,) the most frequent label column of each text, the lowest in a tie; -1 if unlabelled."""
    labels_ = np.asarray(labels)
    counts = np.stack([(labels_ == column).sum(axis=1) for column in range(n_labels)], axis=1)
    return np.where(counts.any(axis=1), counts.argmax(axis=1), -1).astype(np.int64)


def consensus(labels: ArrayLike, probs: ArrayLike) -> Consensus:
    """Consensus labels that weight each annotator, and the model, by their quality (CROWDLAB: Goh et al. 2022).

    Args:
        labels: (N, A) label columns; every text needs at least one label.
        probs: (N, K) out-of-sample probabilities.

    Raises:
        MissingExtra: cleanlab is not installed.
    """
    require_cleanlab("Consensus of several annotators")
    from cleanlab.multiannotator import get_label_quality_multiannotator

    labels_ = np.asarray(labels)
    active = np.flatnonzero((labels_ >= 0).any(axis=0))
    active_labels = np.where(labels_ >= 0, labels_, np.nan)[:, active].astype(np.float64)
    found = get_label_quality_multiannotator(
        active_labels, np.asarray(probs, dtype=np.float64), verbose=False, return_detailed_quality=False
    )
    quality = np.full(labels_.shape[1], np.nan)
    # cleanlab sorts the statistics by quality; their index is the annotator's column.
    stats = found["annotator_stats"]
    quality[active[np.asarray(stats.index, dtype=np.int64)]] = stats["annotator_quality"].to_numpy(dtype=np.float64)
    texts = found["label_quality"]
    return Consensus(
        texts["consensus_label"].to_numpy(dtype=np.int64),
        texts["consensus_quality_score"].to_numpy(dtype=np.float64),
        quality,
    )


def label_issues(gold: ArrayLike, probs: ArrayLike) -> LabelIssueRows:
    """Rows whose label is probably wrong, by confident learning (Northcutt et al. 2021; cleanlab).

    Args:
        gold: (N,) label columns.
        probs: (N, K) out-of-sample probabilities.

    Raises:
        MissingExtra: cleanlab is not installed.
    """
    require_cleanlab("Finding label issues")
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores

    gold_, probs_ = np.asarray(gold, dtype=np.int64), np.asarray(probs, dtype=np.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of labels with few rows, one for each
        rows = find_label_issues(gold_, probs_, return_indices_ranked_by="self_confidence", n_jobs=1)
    rows = np.asarray(rows, dtype=np.int64)
    quality = np.asarray(get_label_quality_scores(gold_, probs_), dtype=np.float64)
    return LabelIssueRows(rows, probs_[rows].argmax(axis=1).astype(np.int64), quality[rows])


def require_cleanlab(why: str) -> None:
    """Raise MissingExtra with this reason if cleanlab is not installed."""
    if find_spec("cleanlab") is None:
        raise missing_extra("cleanlab", "quality", why)
