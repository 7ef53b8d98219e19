"""How good predictions are: arrays in, numbers out.

Everywhere `gold` is (N,) integer columns in the task's label order, `predicted` is (N,) columns or -1 where there was
no answer (always wrong), `probs` is (N, K) rows that sum to one, or rows of NaN where there was no answer. `weights`
is (N,) how often each row counts; None means once, so that a resample is a weight and nothing is copied.

Not here: fitting (calibrate.py), choosing texts (choose.py), several labels a text (labelsets.py) and generated text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import exp, fsum, lgamma, log, sqrt
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Metric = Callable[[Any, Any, Floats], float]
FORMAT = 1


@dataclass(frozen=True)
class Score:
    """A value and its 95 % interval, all in the metric's own unit."""

    value: float
    low: float
    high: float

    def to_json(self) -> dict[str, float]:
        """A plain dictionary that `Score.from_json` reads back."""
        return asdict(self)

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Score:
        """The score that `to_json` wrote."""
        return cls(record["value"], record["low"], record["high"])


@dataclass(frozen=True)
class ClassScore:
    """One label's figures. `support` is how many texts have it, `predicted` how many were given it."""

    label: str
    precision: float
    recall: float
    f1: float
    support: int
    predicted: int


@dataclass(frozen=True)
class Confusion:
    """`n` texts of label `gold` were taken for `predicted`."""

    gold: str
    predicted: str
    n: int


@dataclass(frozen=True)
class McNemar:
    """Do two models on the same texts differ? `only_a` texts only a got right, `only_b` only b.

    `p_exact` is the two-sided binomial p-value, `p_mid` its mid-p version, which is less timid (Fagerland et al. 2013).
    """

    only_a: int
    only_b: int
    p_exact: float
    p_mid: float


@dataclass(frozen=True)
class EvaluationResult:
    """All that is said of one model on one set of texts.

    Attributes:
        n: texts judged; `unanswered` of them got no answer and count as wrong.
        accuracy, macro_f1: with their bootstrap intervals of `draws` resamples.
        ece, brier, log_loss: over the answered texts; None if nothing was answered.
        per_class: K figures in label order.
        confusions: the most frequent first.
        kind: "multi" where a text may have several labels; then `accuracy` is the share of texts whose whole set of
            labels is right, `ece` that of all decisions, and these are there as well:
        micro_f1: F1 over all decisions together. lrap: label ranking average precision.
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
        """The one figure to compare by: accuracy, or micro F1 where a text may have several labels."""
        return self.accuracy if self.micro_f1 is None else self.micro_f1

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary that `Judgement.from_json` reads back."""
        record = asdict(self)
        return {**record, "per_class": list(record["per_class"]), "confusions": list(record["confusions"])}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> EvaluationResult:
        """The judgement that `to_json` wrote.

        Raises:
            ValueError: another format version.
        """
        if record["format"] != FORMAT:
            raise ValueError(f"a judgement of format {record['format']!r}; this version reads format {FORMAT}")
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
    """The share of texts that got their gold label."""
    right = (np.asarray(gold) == np.asarray(predicted)).astype(np.float64)
    return float(np.average(right, weights=weights))


def macro_f1(gold: ArrayLike, predicted: ArrayLike, weights: Floats | None = None) -> float:
    """The plain mean of F1 over the classes that occur in `gold` or in `predicted`.

    A class that is never predicted, or is predicted but has no text, has F1 zero; a class that does neither is left
    out. That is scikit-learn's `f1_score(average="macro", zero_division=0)` with its default `labels`.
    """
    counts = _counts(gold, predicted, weights)
    seen = (counts.support + counts.predicted) > 0
    return float(_f1(counts)[seen].mean())


def weighted_f1(gold: ArrayLike, predicted: ArrayLike, weights: Floats | None = None) -> float:
    """The mean of F1 over classes, each counted by its support; F1 is zero where it is undefined."""
    counts = _counts(gold, predicted, weights)
    return float(np.average(_f1(counts), weights=counts.support))


def confusion_matrix(gold: ArrayLike, predicted: ArrayLike, n_labels: int) -> Ints:
    """(K, K) counts, a row for each gold label, a column for each predicted one; texts without answer are left out."""
    gold_, predicted_ = _columns(gold), _columns(predicted)
    answered = predicted_ >= 0
    cells = gold_[answered] * n_labels + predicted_[answered]
    return np.bincount(cells, minlength=n_labels * n_labels).reshape(n_labels, n_labels).astype(np.int64)


def per_class(gold: ArrayLike, predicted: ArrayLike, labels: Sequence[str]) -> tuple[ClassScore, ...]:
    """Precision, recall, F1 and counts of all K labels, in their order; what is undefined is zero."""
    counts = _counts(gold, predicted, None, len(labels))
    precision = _share(counts.right, counts.predicted)
    recall = _share(counts.right, counts.support)
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

    Bin i holds confidences in (i/bins, (i+1)/bins]. Grows with small N: compare it only at equal N.
    """
    gold_, probs_ = _columns(gold), np.asarray(probs, dtype=np.float64)
    weights_ = np.ones(len(gold_)) if weights is None else weights
    confidence = probs_.max(axis=1)
    gap = confidence - (probs_.argmax(axis=1) == gold_)
    which = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    return float(np.abs(np.bincount(which, weights=weights_ * gap, minlength=bins)).sum() / weights_.sum())


def brier(gold: ArrayLike, probs: ArrayLike, weights: Floats | None = None) -> float:
    """Mean squared distance of the (N, K) probabilities from the one-hot truth, summed over K: 0 best, 2 worst."""
    gold_, probs_ = _columns(gold), np.asarray(probs, dtype=np.float64)
    at_gold = probs_[np.arange(len(gold_)), gold_]
    return float(np.average((probs_**2).sum(axis=1) - 2 * at_gold + 1, weights=weights))


def mcc(gold: ArrayLike, predicted: ArrayLike, weights: Floats | None = None) -> float:
    """Matthews correlation for any number of classes (Gorodkin 2004); 0 where gold or prediction has one class only."""
    gold_, predicted_ = _columns(gold), _columns(predicted)
    weights_: Floats = np.ones(len(gold_)) if weights is None else weights
    n_labels = int(max(gold_.max(), predicted_.max())) + 2  # column 0 stands for no answer
    true, said = _sums(gold_ + 1, weights_, n_labels), _sums(predicted_ + 1, weights_, n_labels)
    total, right = float(weights_.sum()), float((weights_ * (gold_ == predicted_)).sum())
    spread = (total**2 - float(said @ said)) * (total**2 - float(true @ true))
    return (right * total - float(true @ said)) / sqrt(spread) if spread > 0 else 0.0


def log_loss(gold: ArrayLike, probs: ArrayLike, weights: Floats | None = None) -> float:
    """Mean negative natural log of the gold label's probability, which is clipped at 1e-15."""
    gold_, probs_ = _columns(gold), np.asarray(probs, dtype=np.float64)
    at_gold = probs_[np.arange(len(gold_)), gold_]
    return float(np.average(-np.log(np.maximum(at_gold, 1e-15)), weights=weights))


def bootstrap_interval(
    metric: Metric,
    gold: ArrayLike,
    predictions: ArrayLike,
    *,
    seed: int = 0,
    draws: int = 1000,
    centred: bool = False,
) -> Score:
    """A metric and its 95 % percentile bootstrap interval over texts (Efron 1979).

    It speaks of other texts drawn the same way, not of other training seeds; where no text is wrong it has no width.

    Args:
        metric: (gold, outcome, weights) -> number; every metric of this file is one.
        outcome: what the metric takes: (N,) predicted columns or (N, K) probabilities.
        centred: shift the interval by what resampling adds to the metric on average, no further down than zero. For
            ECE, which the noise of each resample raises so much that the value itself can lie below its resamples.
    """
    gold_, outcome_ = _columns(gold), np.asarray(predictions)
    n = len(gold_)
    if n == 0 or len(outcome_) != n:
        raise ValueError(f"{n} gold labels and {len(outcome_)} outcomes; both must be the same number above zero")
    rng = np.random.default_rng(seed)
    values = [
        metric(gold_, outcome_, np.bincount(rng.integers(0, n, n), minlength=n).astype(np.float64))
        for _ in range(draws)
    ]
    low, high = np.percentile(values, [2.5, 97.5])
    value = metric(gold_, outcome_, np.ones(n))
    if centred:
        added = float(np.mean(values)) - value
        low, high = max(low - added, 0.0), max(high - added, 0.0)
    return Score(value, float(low), float(high))


def mcnemar(gold: ArrayLike, a: ArrayLike, b: ArrayLike) -> McNemar:
    """McNemar's exact and mid-p test for the (N,) predictions of two models on the same texts."""
    gold_ = np.asarray(gold)
    a_right, b_right = np.asarray(a) == gold_, np.asarray(b) == gold_
    only_a, only_b = int((a_right & ~b_right).sum()), int((b_right & ~a_right).sum())
    differ, fewer = only_a + only_b, min(only_a, only_b)

    def chance(k: int) -> float:
        # Of `differ` fair coins exactly k heads, by logarithms so that thousands do not underflow.
        return exp(lgamma(differ + 1) - lgamma(k + 1) - lgamma(differ - k + 1) - differ * log(2))

    tail = fsum(chance(k) for k in range(fewer + 1))
    return McNemar(only_a, only_b, min(1.0, 2 * tail), min(1.0, 2 * tail - chance(fewer)))


def compute_metrics(
    gold: ArrayLike,
    probs: ArrayLike,
    labels: Sequence[str],
    *,
    seed: int = 0,
    draws: int = 1000,
    confusions: int = 20,
) -> EvaluationResult:
    """Everything about (N, K) probabilities against (N,) gold columns. A row of NaN is a text without an answer.

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
    worst = [int(cell) for cell in np.argsort(-matrix, axis=None, kind="stable")[:confusions] if matrix.flat[cell]]
    pairs = [divmod(cell, len(labels)) for cell in worst]
    some = bool(answered.any())
    return EvaluationResult(
        n=len(gold_),
        accuracy=bootstrap_interval(accuracy, gold_, predicted, seed=seed, draws=draws),
        macro_f1=bootstrap_interval(macro_f1, gold_, predicted, seed=seed, draws=draws),
        weighted_f1=weighted_f1(gold_, predicted),
        ece=ece(gold_[answered], probs_[answered]) if some else None,
        brier=brier(gold_[answered], probs_[answered]) if some else None,
        log_loss=log_loss(gold_[answered], probs_[answered]) if some else None,
        per_class=per_class(gold_, predicted, labels),
        confusions=tuple(Confusion(labels[g], labels[p], int(matrix[g, p])) for g, p in pairs),
        unanswered=int((~answered).sum()),
        n_resamples=draws,
    )


@dataclass(frozen=True)
class _LabelCounts:
    """(K,) each: right answers, texts of the label, texts given the label."""

    right: Floats
    support: Floats
    predicted: Floats


def _columns(of: ArrayLike) -> Ints:
    return np.asarray(of).astype(np.int64, copy=False)


def _counts(gold: ArrayLike, predicted: ArrayLike, weights: Floats | None, n_labels: int = 0) -> _LabelCounts:
    gold_, predicted_ = _columns(gold), _columns(predicted)
    weights_: Floats = np.ones(len(gold_)) if weights is None else weights
    n_labels = max(n_labels, int(gold_.max()) + 1, int(predicted_.max()) + 1)
    return _LabelCounts(
        _sums(gold_, weights_ * (gold_ == predicted_), n_labels),
        _sums(gold_, weights_, n_labels),
        # One column stands before the labels for "no answer", and is dropped again.
        _sums(predicted_ + 1, weights_, n_labels + 1)[1:],
    )


def _sums(columns: Ints, weights: Floats, n_columns: int) -> Floats:
    return np.asarray(np.bincount(columns, weights=weights, minlength=n_columns), dtype=np.float64)


def _share(part: Floats, whole: Floats) -> Floats:
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)


def _f1(counts: _LabelCounts) -> Floats:
    return _share(2 * counts.right, counts.support + counts.predicted)
