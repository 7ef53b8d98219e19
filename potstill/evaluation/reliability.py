"""Checks the guarantees on the test set: precision of confident labels, coverage of label sets, and calibration.

The guarantees themselves are fitted in `fit_guarantees.py`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from math import sqrt

import numpy as np
from numpy.typing import ArrayLike, NDArray

from potstill.evaluation import metrics
from potstill.evaluation.guarantees import GUARANTEE_CONFIDENCE, MIN_TYPICALITY, TARGET_PRECISION, Guarantees
from potstill.evaluation.metrics import JsonObject, Score

POINTS = 50  # of the risk-coverage curve
COVERAGE = 0.9  # of the label sets in a report
N_RESAMPLES = 200


@dataclass(frozen=True)
class RiskCoveragePoint:
    """The accuracy on the `coverage` most confident share of the texts, with its 95 % interval."""

    coverage: float
    accuracy: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Reliability:
    """How reliable the student's confidence is on n test texts.

    Attributes:
        n: test texts; nothing was fitted on them.
        ece, brier: of the bundle's probabilities, with 95 % bootstrap intervals.
        curve: risk-coverage curve, from the most confident texts to all.
        n_held_out: texts the guarantees were fitted on; 0 without guarantees, and the following are None.
        n_folds: 0 if the graph scored those texts; else see `guarantees.Guarantees.n_folds`.
        method: the scaling: "none", "temperature" or "vector".
        target_precision: guaranteed precision of the confident labels, with probability `confidence`.
        threshold: the probability from which a label is confident; None if no threshold reaches that precision.
        confident_share: share of the test texts with a confident label; `confident_accuracy` is their accuracy.
        target_coverage: guaranteed coverage of the label sets; `set_coverage` is the measured one.
        mean_set_size: labels in a set, on average.
        out_of_scope: share of the test texts that are out of scope.
    """

    n: int
    ece: Score
    brier: Score
    curve: tuple[RiskCoveragePoint, ...]
    n_held_out: int = 0
    n_folds: int = 0
    method: str = "none"
    target_precision: float = TARGET_PRECISION
    confidence: float = GUARANTEE_CONFIDENCE
    threshold: float | None = None
    confident_share: float | None = None
    confident_accuracy: Score | None = None
    target_coverage: float = COVERAGE
    set_coverage: Score | None = None
    mean_set_size: float | None = None
    out_of_scope: float | None = None

    def to_json(self) -> JsonObject:
        """A JSON object that `Reliability.from_json` reads."""
        return asdict(self)

    @classmethod
    def from_json(cls, record: JsonObject) -> Reliability:
        """Read what `to_json` returned."""
        scores = {name: record[name] and Score.from_json(record[name]) for name in _SCORES}
        return cls(**{**record, **scores, "curve": tuple(RiskCoveragePoint(**point) for point in record["curve"])})


_SCORES = ("ece", "brier", "confident_accuracy", "set_coverage")


def measure_reliability(
    gold: ArrayLike, logits: NDArray[np.floating], probs: NDArray[np.floating], guarantees: Guarantees | None
) -> Reliability:
    """Compare a bundle's guarantees with the results on N test texts.

    Args:
        gold: (N,) gold columns, N > 0.
        logits: (N, K) logits of the served graph.
        probs: (N, K) float32 probabilities of the bundle.
        guarantees: measured on held-out texts; None without them.
    """
    gold_, probs_ = np.asarray(gold, dtype=np.int64), np.asarray(probs, dtype=np.float64)
    measured = Reliability(
        n=len(gold_),
        ece=metrics.bootstrap_interval(metrics.ece, gold_, probs_, n_resamples=N_RESAMPLES, centred=True),
        brier=metrics.bootstrap_interval(metrics.brier, gold_, probs_, n_resamples=N_RESAMPLES),
        curve=risk_coverage(gold_, probs_),
    )
    if guarantees is None:
        return measured
    sets = guarantees.prediction_sets(logits, COVERAGE)
    measured = replace(
        measured,
        n_held_out=guarantees.n,
        n_folds=guarantees.n_folds,
        method=guarantees.scaling.method,
        set_coverage=wilson_score(int(sets[np.arange(len(gold_)), gold_].sum()), len(gold_)),
        mean_set_size=float(sets.sum(axis=1).mean()),
        out_of_scope=float((guarantees.typicality(logits) <= MIN_TYPICALITY).mean()),
    )
    threshold = guarantees.threshold()
    if threshold is None:
        return measured
    confident = probs.max(axis=1) >= threshold  # in float32, as the bundle compares
    correct = int((confident & (probs_.argmax(axis=1) == gold_)).sum())
    return replace(
        measured,
        threshold=threshold,
        confident_share=float(confident.mean()),
        confident_accuracy=wilson_score(correct, int(confident.sum())) if confident.any() else None,
    )


def risk_coverage(gold: ArrayLike, probs: ArrayLike, points: int = POINTS) -> tuple[RiskCoveragePoint, ...]:
    """Accuracy on the most confident texts, for at most `points` shares of them (El-Yaniv and Wiener 2010).

    Equally confident texts are added together. One minus the mean accuracy is the area under the risk-coverage curve.

    Args:
        gold: (N,) gold columns.
        probs: (N, K) probabilities.
        points: most points of the curve.
    """
    gold_, probs_ = np.asarray(gold, dtype=np.int64), np.asarray(probs, dtype=np.float64)
    confidence = probs_.max(axis=1)
    order = np.argsort(-confidence, kind="stable")
    n_correct = np.cumsum((probs_.argmax(axis=1) == gold_)[order])
    ranked = confidence[order]
    ends = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))  # the last of equally confident texts
    targets = np.ceil(np.linspace(1 / points, 1, points) * len(gold_)) - 1
    curve = []
    for end in np.unique(ends[np.searchsorted(ends, targets)]).tolist():
        score = wilson_score(int(n_correct[end]), end + 1)
        curve.append(RiskCoveragePoint((end + 1) / len(gold_), score.value, score.low, score.high))
    return tuple(curve)


def wilson_score(k: int, n: int) -> Score:
    """k / n with the 95 % interval of Wilson (1927), which has a width even if k is 0 or n."""
    z2 = 1.959964**2
    middle, half = (k + z2 / 2) / (n + z2), sqrt(z2 * (k * (n - k) / n + z2 / 4)) / (n + z2)
    return Score(k / n, max(0.0, middle - half), min(1.0, middle + half))
