"""Conformal prediction sets, the abstention threshold and the energy score of new texts. Needs only numpy.

Applies what `fit_guarantees.py` fitted on held-out texts.

All guarantees assume new texts from the same distribution as the held-out ones (exchangeable), and hold on average over
such draws. `Guarantees.typicality` detects texts of another kind, for which none of them holds.

Multi-label tasks are in `multilabel_thresholds.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import ceil, exp, lgamma, log
from typing import Any

import numpy as np
from numpy.typing import NDArray

from potstill.evaluation.calibration import Array, log_softmax
from potstill.evaluation.metrics import JsonObject, Score

# Fixed before any text is seen: 0.00, 0.01, ..., 0.99.
THRESHOLDS = tuple(step / 100 for step in range(100))
GUARANTEE_CONFIDENCE = 0.9  # share of draws of held-out texts for which a threshold keeps its precision
TARGET_PRECISION = 0.95  # of the labels a bundle calls confident
# Coverages of a conformal set: 0.50, 0.51, ..., 0.99.
COVERAGE_LEVELS = tuple(step / 100 for step in range(50, 100))
SCOPE_QUANTILES = tuple(step / 100 for step in range(1, 100))  # of the held-out texts' energy, least typical first
MIN_TYPICALITY = 0.05  # a text at or below it is out of scope


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
        return np.exp(log_softmax(self.scaled(logits)))

    def scaled(self, logits: NDArray[np.floating]) -> Array:
        """(N, K) logits -> (N, K) calibrated logits."""
        return np.asarray(np.asarray(logits, dtype=np.float64) * self.scale + self.shift)

    def argmax(self, logits: NDArray[np.floating]) -> NDArray[np.intp]:
        """(N, K) logits -> (N,) columns of the most probable label; one scale for all labels does not change them."""
        if len(self.scale) == 1:
            return np.asarray(logits.argmax(axis=1))
        return np.asarray(self.scaled(logits).argmax(axis=1))


@dataclass(frozen=True)
class CalibrationQuality:
    """Expected calibration error (15 bins) and Brier score with 95 % intervals, before and after scaling.

    Cross-validated: each text is scaled by a scaling that was fitted without it.
    """

    ece_before: Score
    ece_after: Score
    brier_before: Score
    brier_after: Score


@dataclass(frozen=True)
class Guarantees:
    """What `fit_guarantees` measured of one graph on n held-out texts.

    Attributes:
        graph: SHA-256 of the graph whose logits were measured; valid for this graph only.
        n: held-out texts.
        scaling: logits -> probabilities.
        log_loss: method -> cross-validated log-loss, by which the scaling was selected.
        calibration_quality: calibration before and after scaling.
        n_above: for each of `THRESHOLDS` the texts whose confidence reaches it.
        n_wrong_above: those of them with a wrong label.
        conformal_scores: for each of `COVERAGE_LEVELS` the -log probability (unscaled) up to which a label is in the
            set; None if too few texts were held out.
        energy_quantiles: for each of `SCOPE_QUANTILES` the energy that this share of the texts does not exceed.
        n_folds: 0 if the graph scored the texts. Else they are texts it was trained on, and as many students, each
            trained without its part of them, scored them in its place: what holds is then expected, not guaranteed.
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
    n_folds: int = 0

    def threshold(self, precision: float = TARGET_PRECISION, confidence: float = GUARANTEE_CONFIDENCE) -> float | None:
        """The lowest probability above which at least `precision` of the labels are right, or None.

        Learn-then-Test (Angelopoulos et al. 2021): "too many are wrong" is tested with the exact binomial tail (whose
        inversion is Clopper-Pearson's interval), first at the threshold that equals the precision, where a
        calibrated student has a margin, then at lower ones until a test fails (fixed-sequence testing, which needs no
        correction for multiple tests). With probability `confidence` over the held-out texts the precision holds.

        Args:
            precision: share of right labels, in (0, 1).
            confidence: in (0, 1).

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
        """The share of the held-out texts whose confidence reaches `threshold`, one of `THRESHOLDS`."""
        return self.n_above[min(round(100 * threshold), 99)] / self.n

    def prediction_sets(self, logits: NDArray[np.floating], coverage: float) -> NDArray[np.bool_]:
        """(N, K) logits -> (N, K) bool, conformal label sets that hold the right label with probability `coverage`.

        Split conformal prediction with the score -log p of the label ("LAC", Sadinle et al. 2019: the smallest sets
        on average), of the unscaled probabilities, since the scaling was fitted on the same texts. The most probable
        label is always in the set, so no set is empty; a coverage between two `COVERAGE_LEVELS` takes the upper one.

        Raises:
            ValueError: the coverage is not between 0 and 1.
        """
        if not 0 < coverage < 1:
            raise ValueError(f"coverage {coverage} must lie between 0 and 1")
        step = max(0, ceil(round(100 * coverage, 6)) - 50)
        bound = self.conformal_scores[step] if step < len(COVERAGE_LEVELS) else None
        if bound is None:  # too few texts were held out for so much coverage
            return np.ones(np.shape(logits), dtype=np.bool_)
        sets = -log_softmax(logits) <= bound
        sets[np.arange(len(sets)), self.scaling.argmax(logits)] = True
        return np.asarray(sets)

    def typicality(self, logits: NDArray[np.floating]) -> Array:
        """(N, K) logits -> (N,) in (0, 1]: about the share of held-out texts that are at least as atypical.

        A conformal p-value of the energy score (Liu et al. 2020): of texts like the held-out ones at most a share a has
        a value of a or below, for every a; texts unlike the training data mostly have values near 0.01.
        """
        # With a margin: a batch of another shape changes a logit in its seventh digit.
        below = np.searchsorted(np.asarray(self.energy_quantiles), energy_score(logits) + 1e-5, side="right")
        ranks = np.array([*(conformal_rank(share, self.n) for share in SCOPE_QUANTILES), self.n + 1])
        return np.asarray(ranks[below] / (self.n + 1))

    def to_json(self) -> JsonObject:
        """A JSON object that `Guarantees.from_json` reads."""
        return asdict(self)

    @classmethod
    def from_json(cls, record: JsonObject) -> Guarantees:
        """Read what `to_json` returned.

        Raises:
            KeyError, TypeError, ValueError: a key is missing, or a value has the wrong type or length.
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
            n_folds=int(record.get("n_folds", 0)),
        )
        shapes = (len(read.n_above), len(read.n_wrong_above), len(read.conformal_scores), len(read.energy_quantiles))
        if shapes != (len(THRESHOLDS), len(THRESHOLDS), len(COVERAGE_LEVELS), len(SCOPE_QUANTILES)):
            raise ValueError(f"the guarantees' lists have the lengths {shapes}")
        return read


def scored_texts(n: int, n_folds: int) -> str:
    """The texts that guarantees were fitted on, in words."""
    return f"{n:,} out-of-fold scores ({n_folds} folds)" if n_folds else f"{n:,} held-out texts"


def energy_score(logits: NDArray[np.floating]) -> Array:
    """(N, K) logits -> (N,) logsumexp minus mean logit (Liu et al. 2020); low for texts unlike the training data."""
    logits = np.asarray(logits, dtype=np.float64)
    top = logits.max(axis=1)
    return np.asarray(top + np.log(np.exp(logits - top[:, None]).sum(axis=1)) - logits.mean(axis=1))


def binomial_tail(k: int, n: int, p: float) -> float:
    """The probability of at most k successes in n independent trials of probability p, 0 <= p <= 1."""
    if k >= n or p <= 0:
        return 1.0
    if p >= 1:
        return 0.0
    terms = [
        lgamma(n + 1) - lgamma(i + 1) - lgamma(n - i + 1) + i * log(p) + (n - i) * log(1 - p) for i in range(k + 1)
    ]
    top = max(terms)
    return min(1.0, exp(top) * sum(exp(term - top) for term in terms))


def conformal_rank(share: float, n: int) -> int:
    """The conformal rank, from 1, of a quantile of n sorted values: ceil(share * (n + 1))."""
    return max(1, ceil(round(share * (n + 1), 6)))


def _floats(numbers: Any) -> tuple[float, ...]:
    return tuple(float(number) for number in numbers)
