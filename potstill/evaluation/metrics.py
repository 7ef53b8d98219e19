"""Metrics of single-label predictions, with bootstrap intervals: functions of arrays.

Everywhere `gold` is (N,) label columns in the task's order; `predicted` is (N,) columns, -1 if unanswered (always
wrong); `probs` is (N, K) with rows that sum to one, NaN if unanswered; `weights` is (N,) how often each row counts,
None for once each (a bootstrap resample is a weight, so nothing is copied).

Calibration is in `calibration.py`, multi-label metrics in `multilabel_metrics.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import exp, fsum, isfinite, lgamma, log, sqrt
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Metric = Callable[[Any, Any, Floats], float]
JsonObject = Mapping[str, Any]  # what `to_json` returns and `from_json` reads; higher rooms take it from `data.task`
FORMAT = 2


@dataclass(frozen=True)
class Score:
    """A value and its 95 % interval, in the metric's unit."""

    value: float
    low: float
    high: float

    def to_json(self) -> dict[str, float]:
        """A JSON object that `Score.from_json` reads."""
        return asdict(self)

    @classmethod
    def from_json(cls, record: JsonObject) -> Score:
        """Read what `to_json` returned."""
        return cls(record["value"], record["low"], record["high"])


@dataclass(frozen=True)
class ClassScore:
    """One label's metrics; `support` texts have the label, `predicted` texts were predicted to have it."""

    label: str
    precision: float
    recall: float
    f1: float
    support: int
    predicted: int


@dataclass(frozen=True)
class Confusion:
    """`n` texts with the label `gold` were predicted as `predicted`."""

    gold: str
    predicted: str
    n: int


@dataclass(frozen=True)
class McNemar:
    """McNemar's test of two models a and b on the same texts.

    Attributes:
        only_a, only_b: texts that only a, or only b, got right.
        p_exact: two-sided exact binomial p-value.
        p_mid: its mid-p version, which is less conservative (Fagerland et al. 2013).
    """

    only_a: int
    only_b: int
    p_exact: float
    p_mid: float


@dataclass(frozen=True)
class EvaluationResult:
    """The metrics of one model on one set of texts.

    Attributes:
        n: texts; `unanswered` of them have no prediction and count as wrong.
        accuracy, macro_f1: with bootstrap intervals of `n_resamples` resamples.
        ece, brier, log_loss: over the answered texts; None without any.
        per_class: K entries in label order.
        confusions: the most frequent first.
        kind: "multi" for multi-label tasks: `accuracy` is then the share of texts whose set of labels is exactly right,
            and `ece` covers all N x K decisions.
        micro_f1, lrap: F1 over all decisions, and label ranking average precision; multi-label only.
    """

    n: int
    accuracy: Score
    macro_f1: Score
    weighted_f1: float
    ece: float | None
    brier: float | None
    log_loss: float | None
    per_class: tuple[ClassScore, ...]
    confusions: tuple[Confusion, ...]
    unanswered: int = 0
    n_resamples: int = 1000
    kind: str = "single"
    micro_f1: Score | None = None
    lrap: Score | None = None
    format: int = FORMAT

    @property
    def main_score(self) -> Score:
        """The score to compare models by: accuracy, or micro F1 for multi-label tasks."""
        return self.accuracy if self.micro_f1 is None else self.micro_f1

    def to_json(self) -> JsonObject:
        """A JSON object that `EvaluationResult.from_json` reads."""
        record = asdict(self)
        return {**record, "per_class": list(record["per_class"]), "confusions": list(record["confusions"])}

    @classmethod
    def from_json(cls, record: JsonObject) -> EvaluationResult:
        """Read what `to_json` returned.

        Raises:
            ValueError: another format version.
        """
        if record["format"] != FORMAT:
            raise ValueError(f"an evaluation result of format {record['format']!r}; this version reads format {FORMAT}")
        return cls(
            **{
                **record,
                "accuracy": Score.from_json(record["accuracy"]),
                "macro_f1": Score.from_json(record["macro_f1"]),
                "micro_f1": record.get("micro_f1") and Score.from_json(record["micro_f1"]),
                "lrap": record.get("lrap") and Score.from_json(record["lrap"]),
                "per_class": tuple(ClassScore(**each) for each in record["per_class"]),
                "confusions": tuple(Confusion(**each) for each in record["confusions"]),
            }
        )


def accuracy(gold: ArrayLike, predicted: ArrayLike, weights: Floats | None = None) -> float:
    """The share of texts whose predicted label is right."""
    correct = (np.asarray(gold) == np.asarray(predicted)).astype(np.float64)
    return float(np.average(correct, weights=weights))


def macro_f1(gold: ArrayLike, predicted: ArrayLike, weights: Floats | None = None) -> float:
    """The plain mean of F1 over the classes that occur in `gold` or in `predicted`.

    A class that is never predicted, or is predicted but has no text, has F1 zero; a class with neither is left out.
    Equals scikit-learn's `f1_score(average="macro", zero_division=0)` with its default `labels`.
    """
    counts = _counts(gold, predicted, weights)
    present = (counts.support + counts.predicted) > 0
    return float(_f1(counts)[present].mean())


def weighted_f1(gold: ArrayLike, predicted: ArrayLike, weights: Floats | None = None) -> float:
    """The mean of F1 over classes, weighted by support; an undefined F1 is zero."""
    counts = _counts(gold, predicted, weights)
    return float(np.average(_f1(counts), weights=counts.support))


def confusion_matrix(gold: ArrayLike, predicted: ArrayLike, n_labels: int) -> Ints:
    """(K, K) counts, a row for each gold label, a column for each predicted one; unanswered texts are left out."""
    gold_, predicted_ = _columns(gold), _columns(predicted)
    answered = predicted_ >= 0
    cells = gold_[answered] * n_labels + predicted_[answered]
    return np.bincount(cells, minlength=n_labels * n_labels).reshape(n_labels, n_labels).astype(np.int64)


def is_finite_number(value: object) -> bool:
    """Whether a value read from JSON is an int or a float that is finite as a float; a bool is none."""
    if type(value) not in (int, float):
        return False
    try:
        return isfinite(value)  # type: ignore[arg-type]
    except OverflowError:  # an integer beyond the largest float
        return False


def per_class(gold: ArrayLike, predicted: ArrayLike, labels: Sequence[str]) -> tuple[ClassScore, ...]:
    """Precision, recall, F1 and counts of all K labels, in their order; undefined values are zero."""
    counts = _counts(gold, predicted, None, len(labels))
    precision = _ratio(counts.correct, counts.predicted)
    recall = _ratio(counts.correct, counts.support)
    f1 = _f1(counts)
    return tuple(
        ClassScore(
            label,
            float(precision[k]),
            float(recall[k]),
            float(f1[k]),
            int(counts.support[k]),
            int(counts.predicted[k]),
        )
        for k, label in enumerate(labels)
    )


def ece(gold: ArrayLike, probs: ArrayLike, weights: Floats | None = None, *, bins: int = 15) -> float:
    """Expected calibration error of the top label over equal-width bins (Naeini et al. 2015; Guo et al. 2017).

    Bin i holds confidences in (i/bins, (i+1)/bins]. It is larger for small N: compare it only at equal N.
    """
    gold_, probs_ = _columns(gold), np.asarray(probs, dtype=np.float64)
    weights_ = np.ones(len(gold_)) if weights is None else weights
    confidence = probs_.max(axis=1)
    gap = confidence - (probs_.argmax(axis=1) == gold_)
    bin_index = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    return float(np.abs(np.bincount(bin_index, weights=weights_ * gap, minlength=bins)).sum() / weights_.sum())


def brier(gold: ArrayLike, probs: ArrayLike, weights: Floats | None = None) -> float:
    """Brier score: mean squared distance of (N, K) probabilities from one-hot gold, summed over K; 0 best, 2 worst."""
    gold_, probs_ = _columns(gold), np.asarray(probs, dtype=np.float64)
    at_gold = probs_[np.arange(len(gold_)), gold_]
    return float(np.average((probs_**2).sum(axis=1) - 2 * at_gold + 1, weights=weights))


def mcc(gold: ArrayLike, predicted: ArrayLike, weights: Floats | None = None) -> float:
    """Matthews correlation for any number of classes (Gorodkin 2004); 0 if gold or predictions have one class only."""
    gold_, predicted_ = _columns(gold), _columns(predicted)
    weights_: Floats = np.ones(len(gold_)) if weights is None else weights
    n_labels = int(max(gold_.max(), predicted_.max())) + 2  # column 0 is "unanswered"
    support, given = _sums(gold_ + 1, weights_, n_labels), _sums(predicted_ + 1, weights_, n_labels)
    total, correct = float(weights_.sum()), float((weights_ * (gold_ == predicted_)).sum())
    variance = (total**2 - float(given @ given)) * (total**2 - float(support @ support))
    return (correct * total - float(support @ given)) / sqrt(variance) if variance > 0 else 0.0


def log_loss(gold: ArrayLike, probs: ArrayLike, weights: Floats | None = None) -> float:
    """Mean negative natural log of the gold label's probability, clipped at 1e-15."""
    gold_, probs_ = _columns(gold), np.asarray(probs, dtype=np.float64)
    at_gold = probs_[np.arange(len(gold_)), gold_]
    return float(np.average(-np.log(np.maximum(at_gold, 1e-15)), weights=weights))


def bootstrap_interval(
    metric: Metric,
    gold: ArrayLike,
    predictions: ArrayLike,
    *,
    seed: int = 0,
    n_resamples: int = 1000,
    centred: bool = False,
) -> Score:
    """A metric and its 95 % percentile bootstrap interval over texts (Efron 1979).

    The interval covers other texts drawn the same way, not other training seeds; without any error it has no width.

    Args:
        metric: (gold, predictions, weights) -> number; every metric of this file is one.
        gold: (N,) label columns.
        predictions: what the metric takes: (N,) predicted columns or (N, K) probabilities.
        seed: draws the resamples.
        n_resamples: number of resamples.
        centred: subtract the mean bias of resampling from both ends, not below zero. For ECE, which the noise of a
            resample raises so much that the value itself can lie below its resamples.

    Raises:
        ValueError: no texts, or `gold` and `predictions` differ in length.
    """
    gold_, predictions_ = _columns(gold), np.asarray(predictions)
    n = len(gold_)
    if n == 0 or len(predictions_) != n:
        raise ValueError(
            f"{n} gold labels and {len(predictions_)} predictions; both must be the same number above zero"
        )
    rng = np.random.default_rng(seed)
    values = [
        metric(gold_, predictions_, np.bincount(rng.integers(0, n, n), minlength=n).astype(np.float64))
        for _ in range(n_resamples)
    ]
    low, high = np.percentile(values, [2.5, 97.5])
    value = metric(gold_, predictions_, np.ones(n))
    if centred:
        bias = float(np.mean(values)) - value
        low, high = max(low - bias, 0.0), max(high - bias, 0.0)
    return Score(value, float(low), float(high))


def mcnemar(gold: ArrayLike, a: ArrayLike, b: ArrayLike) -> McNemar:
    """McNemar's exact and mid-p test for the (N,) predictions of two models on the same texts."""
    gold_ = np.asarray(gold)
    a_correct, b_correct = np.asarray(a) == gold_, np.asarray(b) == gold_
    only_a, only_b = int((a_correct & ~b_correct).sum()), int((b_correct & ~a_correct).sum())
    n_differ, smaller = only_a + only_b, min(only_a, only_b)

    def pmf(k: int) -> float:
        # Binomial(n_differ, 1/2) at k, in logarithms so that thousands of texts do not underflow.
        return exp(lgamma(n_differ + 1) - lgamma(k + 1) - lgamma(n_differ - k + 1) - n_differ * log(2))

    tail = fsum(pmf(k) for k in range(smaller + 1))
    return McNemar(only_a, only_b, min(1.0, 2 * tail), min(1.0, 2 * tail - pmf(smaller)))


def compute_metrics(
    gold: ArrayLike,
    probs: ArrayLike,
    labels: Sequence[str],
    *,
    seed: int = 0,
    n_resamples: int = 1000,
    confusions: int = 20,
) -> EvaluationResult:
    """All metrics of (N, K) probabilities against (N,) gold columns.

    Args:
        gold: (N,) label columns.
        probs: (N, K) probabilities; a row of NaN is unanswered.
        labels: the K label names.
        seed: draws the resamples.
        n_resamples: bootstrap resamples of each interval.
        confusions: how many confused pairs are listed.

    Raises:
        ValueError: no texts, shapes that do not fit, or a gold column outside the labels.
    """
    gold_, probs_ = _columns(gold), np.asarray(probs, dtype=np.float64)
    if not len(gold_) or probs_.shape != (len(gold_), len(labels)):
        raise ValueError(f"{len(gold_)} gold labels, {len(labels)} labels, but probabilities of shape {probs_.shape}")
    if gold_.min() < 0 or gold_.max() >= len(labels):
        raise ValueError(f"a gold column is outside 0..{len(labels) - 1}")
    answered: NDArray[np.bool_] = np.asarray(np.isfinite(probs_).all(axis=1))
    predicted = np.where(answered, np.where(answered[:, None], probs_, 0.0).argmax(axis=1), -1)
    matrix = confusion_matrix(gold_, predicted, len(labels))
    np.fill_diagonal(matrix, 0)
    top = [int(cell) for cell in np.argsort(-matrix, axis=None, kind="stable")[:confusions] if matrix.flat[cell]]
    pairs = [divmod(cell, len(labels)) for cell in top]
    any_answered = bool(answered.any())
    return EvaluationResult(
        n=len(gold_),
        accuracy=bootstrap_interval(accuracy, gold_, predicted, seed=seed, n_resamples=n_resamples),
        macro_f1=bootstrap_interval(macro_f1, gold_, predicted, seed=seed, n_resamples=n_resamples),
        weighted_f1=weighted_f1(gold_, predicted),
        ece=ece(gold_[answered], probs_[answered]) if any_answered else None,
        brier=brier(gold_[answered], probs_[answered]) if any_answered else None,
        log_loss=log_loss(gold_[answered], probs_[answered]) if any_answered else None,
        per_class=per_class(gold_, predicted, labels),
        confusions=tuple(Confusion(labels[g], labels[p], int(matrix[g, p])) for g, p in pairs),
        unanswered=int((~answered).sum()),
        n_resamples=n_resamples,
    )


@dataclass(frozen=True)
class _LabelCounts:
    """(K,) each: correct predictions, texts with the label, predictions of the label."""

    correct: Floats
    support: Floats
    predicted: Floats


def _columns(values: ArrayLike) -> Ints:
    return np.asarray(values).astype(np.int64, copy=False)


def _counts(gold: ArrayLike, predicted: ArrayLike, weights: Floats | None, n_labels: int = 0) -> _LabelCounts:
    gold_, predicted_ = _columns(gold), _columns(predicted)
    weights_: Floats = np.ones(len(gold_)) if weights is None else weights
    n_labels = max(n_labels, int(gold_.max()) + 1, int(predicted_.max()) + 1)
    return _LabelCounts(
        _sums(gold_, weights_ * (gold_ == predicted_), n_labels),
        _sums(gold_, weights_, n_labels),
        # Column 0 is "unanswered" and is dropped.
        _sums(predicted_ + 1, weights_, n_labels + 1)[1:],
    )


def _sums(columns: Ints, weights: Floats, n_columns: int) -> Floats:
    return np.asarray(np.bincount(columns, weights=weights, minlength=n_columns), dtype=np.float64)


def _ratio(part: Floats, whole: Floats) -> Floats:
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)


def _f1(counts: _LabelCounts) -> Floats:
    return _ratio(2 * counts.correct, counts.support + counts.predicted)
