"""What was measured of a student's scores on held-out texts, applied to new ones. Needs numpy alone.

All promises are for texts that come as the held-out ones came (exchangeable), and hold on average over such draws;
none of them holds for a text of another kind, which is what `Trust.usualness` is there to notice.

Does not cover measuring (`measure.py`) or several right labels a text.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import ceil, exp, lgamma, log
from typing import Any

import numpy as np
from numpy.typing import NDArray

from potstill.evaluation.calibration import Array, log_softmax
from potstill.evaluation.metrics import Score

# Thresholds fixed before any text is seen: 0.00, 0.01, ..., 0.99.
THRESHOLDS = tuple(step / 100 for step in range(100))
GUARANTEE_CONFIDENCE = 0.9  # how often, over draws of held-out texts, a threshold keeps its promise
TARGET_PRECISION = 0.95  # the promise that `Prediction.sure` makes
# Coverages a label set can be asked for: 0.50, 0.51, ..., 0.99.
COVERAGE_LEVELS = tuple(step / 100 for step in range(50, 100))
SCOPE_QUANTILES = tuple(step / 100 for step in range(1, 100))  # of the held-out texts, least usual first
MIN_TYPICALITY = 0.05  # usualness from which on a text is called out of scope


@dataclass(frozen=True)
class Scaling:
    """Logits -> probabilities: times `scale`, plus `shift`, softmax. Both have one entry, or K.

    `method` is "none", "temperature" (Guo et al. 2017) or "vector" (the same, one scale and one shift a label).
    """

    method: str = "none"
    scale: tuple[float, ...] = (1.0,)
    shift: tuple[float, ...] = (0.0,)

    def apply(self, logits: NDArray[np.floating]) -> Array:
        """(N, K) logits -> (N, K) probabilities, rows sum to one."""
        return np.exp(log_softmax(np.asarray(logits, dtype=np.float64) * self.scale + np.asarray(self.shift)))

    def argmax(self, logits: NDArray[np.floating]) -> NDArray[np.intp]:
        """(N, K) logits -> (N,) columns of the likeliest label; one scale for all labels changes none of them."""
        if len(self.scale) == 1:
            return np.asarray(logits.argmax(axis=1))
        return np.asarray((np.asarray(logits, dtype=np.float64) * self.scale + self.shift).argmax(axis=1))


@dataclass(frozen=True)
class CalibrationQuality:
    """Calibration error (15 bins) and Brier score with 95 % intervals, before and after scaling, on texts whose own
    scaling had not seen them (cross-validated)."""

    ece_before: Score
    ece_after: Score
    brier_before: Score
    brier_after: Score


@dataclass(frozen=True)
class Guarantees:
    """What `measure` found of one graph on n held-out texts.

    Attributes:
        graph: SHA-256 of the graph whose logits were measured; of another graph this says nothing.
        n: texts.
        scaling: how its logits become probabilities.
        log_loss: method -> cross-validated log-loss, what the scaling was chosen by.
        quality: how well calibrated it is.
        accepted: for each of `THRESHOLDS` the texts whose confidence reaches it.
        wrong: those of them that were given a wrong label.
        set_scores: for each of `LEVELS` the -log probability (unscaled) up to which a label is in the set.
        scope_scores: for each of `SHARES` the energy that this share of the texts does not exceed.
    """

    graph: str
    n: int
    scaling: Scaling
    log_loss: Mapping[str, float]
    calibration_quality: CalibrationQuality
    n_above: tuple[int, ...]
    n_wrong_above: tuple[int, ...]
    conformal_scores: tuple[float | None, ...]
    energy_quantiles: tuple[float, ...]

    def threshold(self, precision: float = TARGET_PRECISION, confidence: float = GUARANTEE_CONFIDENCE) -> float | None:
        """The lowest probability from which on at least `precision` of the labels are right; None if none can be shown.

        Learn-then-Test (Angelopoulos et al. 2021): "too many are wrong" is tested with the exact binomial tail (the
        test whose inversion is Clopper-Pearson's interval), first at the threshold that equals the precision, where a
        calibrated student has some to spare, then at lower ones until a test fails (fixed-sequence testing, so that
        no test has to be paid for). With probability `confidence` over the held-out texts the promise holds.

        Raises:
            ValueError: precision or confidence is not between 0 and 1.
        """
        if not (0 < precision < 1 and 0 < confidence < 1):
            raise ValueError(f"precision {precision} and confidence {confidence} must lie between 0 and 1")
        lowest: float | None = None
        for step in range(min(round(100 * precision), len(THRESHOLDS) - 1), -1, -1):
            if binomial_tail(self.n_wrong_above[step], self.n_above[step], 1 - precision) > 1 - confidence:
                break
            lowest = THRESHOLDS[step]
        return lowest

    def coverage_above(self, threshold: float) -> float:
        """The share of the held-out texts whose confidence reaches one of `THRESHOLDS`."""
        return self.n_above[min(round(100 * threshold), 99)] / self.n

    def prediction_sets(self, logits: NDArray[np.floating], coverage: float) -> NDArray[np.bool_]:
        """(N, K) logits -> (N, K) which labels are in each text's set: the right one is, with probability `coverage`.

        Split conformal prediction with the score -log p of the label ("LAC", Sadinle et al. 2019: the smallest sets
        on average), of the student's own unscaled probabilities, since the scaling was fitted on these very texts.
        The likeliest label is always in, so no set is empty; a coverage between two `LEVELS` takes the upper one.

        Raises:
            ValueError: the coverage is not between 0 and 1.
        """
        if not 0 < coverage < 1:
            raise ValueError(f"coverage {coverage} must lie between 0 and 1")
        step = max(0, ceil(round(100 * coverage, 6)) - 50)
        bound = self.conformal_scores[step] if step < len(COVERAGE_LEVELS) else None
        if bound is None:  # too few texts were held out for so much coverage
            return np.ones(np.shape(logits), dtype=np.bool_)
        inside = -log_softmax(logits) <= bound
        inside[np.arange(len(inside)), self.scaling.argmax(logits)] = True
        return np.asarray(inside)

    def typicality(self, logits: NDArray[np.floating]) -> Array:
        """(N, K) logits -> (N,) in (0, 1]: about the share of held-out texts that are at least as strange.

        A conformal p-value of the energy score (Liu et al. 2020): of texts like the held-out ones at most a share a
        comes out at a or below, for every a; what is foreign to the student mostly comes out near 0.01.
        """
        below = np.searchsorted(np.asarray(self.energy_quantiles), energy_score(logits), side="right")
        ranks = np.array([*(conformal_rank(share, self.n) for share in SCOPE_QUANTILES), self.n + 1])
        return np.asarray(ranks[below] / (self.n + 1))

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary that `Guarantees.from_json` reads back."""
        return asdict(self)

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Guarantees:
        """What `to_json` wrote.

        Raises:
            KeyError, TypeError, ValueError: it is not.
        """
        scaling, quality = record["scaling"], record["calibration_quality"]
        read = cls(
            graph=str(record["graph"]),
            n=int(record["n"]),
            scaling=Scaling(scaling["method"], _floats(scaling["scale"]), _floats(scaling["shift"])),
            log_loss={str(name): float(loss) for name, loss in record["log_loss"].items()},
            calibration_quality=CalibrationQuality(**{name: Score.from_json(score) for name, score in quality.items()}),
            n_above=tuple(int(n) for n in record["n_above"]),
            n_wrong_above=tuple(int(n) for n in record["n_wrong_above"]),
            conformal_scores=tuple(None if score is None else float(score) for score in record["conformal_scores"]),
            energy_quantiles=_floats(record["energy_quantiles"]),
        )
        shapes = (len(read.n_above), len(read.n_wrong_above), len(read.conformal_scores), len(read.energy_quantiles))
        if shapes != (len(THRESHOLDS), len(THRESHOLDS), len(COVERAGE_LEVELS), len(SCOPE_QUANTILES)):
            raise ValueError(f"the calibration's lists have the lengths {shapes}")
        return read


def energy_score(logits: NDArray[np.floating]) -> Array:
    """(N, K) logits -> (N,) log of the sum of their exponentials, around their mean; low for what is unfamiliar."""
    logits = np.asarray(logits, dtype=np.float64)
    top = logits.max(axis=1)
    return np.asarray(top + np.log(np.exp(logits - top[:, None]).sum(axis=1)) - logits.mean(axis=1))


def binomial_tail(k: int, n: int, p: float) -> float:
    """The chance of at most k successes in n independent tries of probability p, 0 < p < 1."""
    if k >= n:
        return 1.0
    terms = [
        lgamma(n + 1) - lgamma(i + 1) - lgamma(n - i + 1) + i * log(p) + (n - i) * log(1 - p) for i in range(k + 1)
    ]
    top = max(terms)
    return min(1.0, exp(top) * sum(exp(term - top) for term in terms))


def conformal_rank(share: float, n: int) -> int:
    """Which of n sorted values stands at a share, counted from 1, so that n + 1 exchangeable ones keep the promise."""
    return max(1, ceil(round(share * (n + 1), 6)))


def _floats(numbers: Any) -> tuple[float, ...]:
    return tuple(float(number) for number in numbers)
