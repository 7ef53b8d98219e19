"""How far people agree, what they agree on, and which labels are doubtful: functions of arrays.

Everywhere `labels` is (N, A) integer columns in the task's label order: text n as annotator a labelled it, -1 where a
did not. `probs` is (N, K) what a model that did not learn these labels thinks of the texts. Consensus, annotators'
quality and doubtful labels come from the library cleanlab; the coefficients are written out here.
Not here: asking people, and what is done about doubtful labels.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np
from numpy.typing import ArrayLike, NDArray

from potstill.errors import missing_extra

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Consensus:
    """What several people's labels come to.

    Attributes:
        label: (N,) the label column of each text.
        quality: (N,) how likely that label is right, in [0, 1].
        annotators: (A,) how good each annotator is, in [0, 1]; NaN for one without labels.
    """

    label: Ints
    quality: Floats
    annotator_quality: Floats


@dataclass(frozen=True)
class LabelIssueRows:
    """Rows whose label is probably wrong, worst first: (M,) rows, the label a model finds likelier, and (M,) in [0, 1]
    how likely the given label is right."""

    rows: Ints
    suggested_label: Ints
    quality: Floats


def cohen_kappa(one: ArrayLike, other: ArrayLike) -> float:
    """Agreement of two people beyond chance: 1 always, 0 as by chance (Cohen 1960).

    Args:
        one, other: (N,) their label columns for the same texts, -1 where one of them said nothing.

    NaN without texts both labelled, or where both only ever said one and the same label.
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
    """Agreement of any number of people, who need not all have labelled everything; nominal (Krippendorff 2011).

    NaN where no text has two labels, or all labels are one and the same.
    """
    labels_ = np.asarray(labels)
    if not labels_.size or labels_.max() < 0:
        return float("nan")
    k = int(labels_.max()) + 1
    counts = np.stack([(labels_ == column).sum(axis=1) for column in range(k)], axis=1)  # (N, K)
    said = counts.sum(axis=1)
    counts, said = counts[said > 1], said[said > 1]
    if not len(counts):
        return float("nan")
    # Within a text: pairs of unlike labels, each text weighed by its labels. In all: pairs among all labels.
    observed = ((said**2 - (counts**2).sum(axis=1)) / (said - 1)).sum()
    totals = counts.sum(axis=0)
    n = totals.sum()
    expected = (n**2 - (totals**2).sum()) / (n - 1)
    return float("nan") if expected == 0 else float(1 - observed / expected)


def majority(labels: ArrayLike, n_labels: int) -> Ints:
    """(N,) the label most people gave each text; a tie falls to the lower column, -1 where nobody said anything."""
    labels_ = np.asarray(labels)
    counts = np.stack([(labels_ == column).sum(axis=1) for column in range(n_labels)], axis=1)
    return np.where(counts.any(axis=1), counts.argmax(axis=1), -1).astype(np.int64)


def consensus(labels: ArrayLike, probs: ArrayLike) -> Consensus:
    """Weighs each annotator, and the model, by how well they do (CROWDLAB: Goh et al. 2022; through cleanlab).

    Every text needs a label. Raises MissingExtra without cleanlab.
    """
    _need("Consensus of several annotators")
    from cleanlab.multiannotator import get_label_quality_multiannotator

    labels_ = np.asarray(labels)
    spoke = np.flatnonzero((labels_ >= 0).any(axis=0))
    given = np.where(labels_ >= 0, labels_, np.nan)[:, spoke].astype(np.float64)
    found = get_label_quality_multiannotator(
        given, np.asarray(probs, dtype=np.float64), verbose=False, return_detailed_quality=False
    )
    quality = np.full(labels_.shape[1], np.nan)
    # The statistics come sorted by quality; their index is the annotator's column.
    stats = found["annotator_stats"]
    quality[spoke[np.asarray(stats.index, dtype=np.int64)]] = stats["annotator_quality"].to_numpy(dtype=np.float64)
    texts = found["label_quality"]
    return Consensus(
        texts["consensus_label"].to_numpy(dtype=np.int64),
        texts["consensus_quality_score"].to_numpy(dtype=np.float64),
        quality,
    )


def doubtful(gold: ArrayLike, probs: ArrayLike) -> LabelIssueRows:
    """The rows whose label is probably wrong (confident learning: Northcutt et al. 2021; through cleanlab).

    Args:
        gold: (N,) label columns.
        probs: (N, K) by models that did not learn the row itself.

    Raises MissingExtra without cleanlab.
    """
    _need("Looking for wrong labels")
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores

    gold_, probs_ = np.asarray(gold, dtype=np.int64), np.asarray(probs, dtype=np.float64)
    rows = find_label_issues(gold_, probs_, return_indices_ranked_by="self_confidence", n_jobs=1)
    rows = np.asarray(rows, dtype=np.int64)
    quality = np.asarray(get_label_quality_scores(gold_, probs_), dtype=np.float64)
    return LabelIssueRows(rows, probs_[rows].argmax(axis=1).astype(np.int64), quality[rows])


def cleanlab_available() -> bool:
    """Whether cleanlab is here."""
    return find_spec("cleanlab") is not None


def _need(why: str) -> None:
    if not cleanlab_available():
        raise missing_extra("cleanlab", "quality", why)
