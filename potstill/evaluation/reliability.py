"""The promises held against the test part: what really happened where the student was sure, and in its label sets.

Arrays in, one record out; the record is part of a report. Does not cover measuring the promises (`measure.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from potstill.evaluation import metrics
from potstill.evaluation.guarantees import GUARANTEE_CONFIDENCE, MIN_TYPICALITY, TARGET_PRECISION, Guarantees
from potstill.evaluation.metrics import Score

POINTS = 50  # of a curve that is drawn
COVERAGE = 0.9  # of the label sets that a report looks at
N_RESAMPLES = 200


@dataclass(frozen=True)
class RiskCoveragePoint:
    """Of the `coverage` most confident share of the texts, `accuracy` got their right label; 95 % interval."""

    coverage: float
    accuracy: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Reliability:
    """What n test texts say of the student's confidence.

    Attributes:
        n: test texts; nothing was fitted on them.
        ece, brier: of the probabilities as they ship, with 95 % bootstrap intervals.
        curve: risk and coverage, from the surest texts to all.
        held_out: texts the promises were measured on; 0 where none were made, and the rest is None.
        method: how logits become probabilities: none, temperature or vector.
        precision: what was promised of the labels it is sure of, with `confidence`.
        threshold: the probability it is sure from; None if none could be shown to keep that promise.
        sure: the share of the test texts it is sure of, `sure_accuracy` how many of those labels are right.
        coverage: what was promised of the label sets; `covered` the share that hold the right label.
        set_size: labels in a set, on average.
        unusual: the share of the test texts called out of scope.
    """

    n: int
    ece: Score
    brier: Score
    curve: tuple[RiskCoveragePoint, ...]
    n_held_out: int = 0
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

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary that `Exam.from_json` reads back."""
        return asdict(self)

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Reliability:
        """The exam that `to_json` wrote."""
        scores = {name: record[name] and Score.from_json(record[name]) for name in _SCORES}
        return cls(**{**record, **scores, "curve": tuple(RiskCoveragePoint(**point) for point in record["curve"])})


_SCORES = ("ece", "brier", "confident_accuracy", "set_coverage")


def measure_reliability(
    gold: ArrayLike, logits: NDArray[np.floating], probs: NDArray[np.floating], guarantees: Guarantees | None
) -> Reliability:
    """Compare what a bundle promises with what happened on N test texts.

    Args:
        gold: (N,) right columns, N > 0.
        logits: (N, K) of the graph that is served.
        probs: (N, K) probabilities, as they ship.
        trust: what was measured before; None if nothing was.
    """
    right_columns, shipped = np.asarray(gold, dtype=np.int64), np.asarray(probs, dtype=np.float64)
    promised: dict[str, Any] = {}
    if guarantees is not None:
        inside = guarantees.prediction_sets(logits, COVERAGE)
        promised = {
            "n_held_out": guarantees.n,
            "method": guarantees.scaling.method,
            "threshold": guarantees.threshold(),
            "set_coverage": wilson_score(
                int(inside[np.arange(len(right_columns)), right_columns].sum()), len(right_columns)
            ),
            "mean_set_size": float(inside.sum(axis=1).mean()),
            "out_of_scope": float((guarantees.typicality(logits) <= MIN_TYPICALITY).mean()),
        }
        if promised["threshold"] is not None:
            # As the bundle compares: the float32 probability it hands out.
            sure = probs.max(axis=1) >= promised["threshold"]
            right = int((sure & (shipped.argmax(axis=1) == right_columns)).sum())
            promised["confident_share"] = float(sure.mean())
            promised["confident_accuracy"] = wilson_score(right, int(sure.sum())) if sure.any() else None
    return Reliability(
        n=len(right_columns),
        ece=metrics.bootstrap_interval(metrics.ece, right_columns, shipped, draws=N_RESAMPLES, centred=True),
        brier=metrics.bootstrap_interval(metrics.brier, right_columns, shipped, draws=N_RESAMPLES),
        curve=risk_coverage(right_columns, shipped),
        **promised,
    )


def risk_coverage(gold: ArrayLike, probs: ArrayLike, points: int = POINTS) -> tuple[RiskCoveragePoint, ...]:
    """Accuracy on the most confident texts, for at most `points` shares of them (El-Yaniv and Wiener 2010).

    Equally confident texts come in together. Its mean shortfall from one is the area under the risk-coverage curve.
    """
    columns, probs_ = np.asarray(gold, dtype=np.int64), np.asarray(probs, dtype=np.float64)
    confidence = probs_.max(axis=1)
    order = np.argsort(-confidence, kind="stable")
    right = np.cumsum((probs_.argmax(axis=1) == columns)[order])
    ranked = confidence[order]
    ends = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))
    wanted = np.ceil(np.linspace(1 / points, 1, points) * len(columns)) - 1
    shown = np.unique(ends[np.searchsorted(ends, wanted)])
    made = ((int(end) + 1, wilson_score(int(right[end]), int(end) + 1)) for end in shown)
    return tuple(RiskCoveragePoint(n / len(columns), score.value, score.low, score.high) for n, score in made)


def wilson_score(k: int, n: int) -> Score:
    """k of n with the 95 % interval of Wilson (1927), which does not vanish where all or none are."""
    z2 = 1.959964**2
    middle, half = (k + z2 / 2) / (n + z2), sqrt(z2 * (k * (n - k) / n + z2 / 4)) / (n + z2)
    return Score(k / n, max(0.0, middle - half), min(1.0, middle + half))
