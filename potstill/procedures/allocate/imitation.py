"""How good a student becomes by how often its teacher is right: the curve behind every way that has a teacher.

Two extremes are known. A teacher whose errors are **its own habit**, the same wherever the same words are, is learnt
with its errors: the student comes as near to it as it comes, with true labels, to a student of four times the texts. A
teacher that errs **by chance** only makes the labels fewer: noise averages out, and m texts of it are worth m r^1.5
true labels, r being its accuracy above chance (labels that are plainly wrong or right would be worth m r^2). Real
teachers stand in between; `habit` is the share that is habit. Both numbers were chosen on two data sets and checked on
two others, with simulated and with trained teachers: bench/imitation.py.

Functions of arrays: knows no teacher, measures nothing. What measured students add is one factor on the error.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
ScoreCurve = Callable[[float], Floats]
SYSTEMATIC_GAIN = 4.0  # a student of m texts has of its teacher what m true labels have of the score of COPIES m
NOISE_EXPONENT = 1.5  # m texts of a teacher that errs by chance are worth m r ** NOISE true labels
MODEL_ERROR_SD = 0.1  # standard deviation of the log of true error over said error, roughly, on those data sets
MIN_ACCURACY = 0.01  # of r, and of errors: below it nothing is learnt, and no ratio holds
GRID_POINTS = 7


@dataclass(frozen=True)
class ImitationPoint:
    """What was measured: a student of `texts` texts beside `labels` labels, its teacher right in `accuracy` of them."""

    accuracy: float
    labels: int
    texts: int
    score: float


@dataclass(frozen=True)
class ImitationCurve:
    """Teacher accuracy -> student accuracy, as (D,) equally likely values.

    Attributes:
        alone: the score of the student after so many true labels, as (D,) draws.
        chance: the accuracy of guessing.
        habit: (D,) the share of the teacher's errors that are its own habit.
        factor: (D,) or 1: measured error of students over the error that was expected of them.
        source: "prior", or what it was measured on, in words.
    """

    gold_curve: ScoreCurve
    chance: float
    systematic: Floats
    error_factor: Floats | float = 1.0
    source: str = "prior"

    def student_accuracy(self, accuracy: Floats | float, texts: float, labels: float = 0.0) -> Floats:
        """(D,) scores of a student that learnt `texts` texts of a teacher, and `labels` true labels beside them.

        Args:
            accuracy: how often the teacher is right, in [0, 1]; (D,) or one number.
        """
        above = np.clip(
            self._above(np.broadcast_to(np.asarray(accuracy, float), self.systematic.shape)), MIN_ACCURACY, 1.0
        )
        n = labels + texts
        here, more = (np.maximum(self._above(self.gold_curve(size)), MIN_ACCURACY) for size in (n, SYSTEMATIC_GAIN * n))
        more = np.maximum(more, here)
        by_habit = np.minimum(above, more) * here / more
        by_chance = self._above(self._alone_at(labels + texts * above**NOISE_EXPONENT))
        mixed = self.systematic * by_habit + (1 - self.systematic) * by_chance
        error = (1 - self.chance) * (1 - np.clip(mixed, 0.0, 1.0))
        return np.asarray(1 - np.clip(error * self.error_factor, 0.0, 1.0))

    def fit(self, seen: Sequence[ImitationPoint], doubt: float, *, seed: int = 0) -> ImitationCurve:
        """As measured students say: their error over the expected one, on average, scales every error.

        What a measured score may be wrong by counts against what the curve is known to be wrong by (`MISFIT`): one
        student on few texts moves it little.

        Args:
            seen: students and how often their teachers were right; none change nothing.
            doubt: standard deviation of a measured score.
        """
        if not seen:
            return self
        draw, base = np.random.default_rng(seed), replace(self, error_factor=1.0)
        ratios, noise = [], draw.standard_normal(len(self.systematic))
        for each in seen:
            said = np.maximum(1 - base.student_accuracy(each.accuracy, each.texts, each.labels), MIN_ACCURACY)
            spread = doubt / max(1 - each.score, MIN_ACCURACY)
            trust = MODEL_ERROR_SD**2 / (MODEL_ERROR_SD**2 + spread**2)
            seen_ratio = np.log(max(1 - each.score, MIN_ACCURACY) / said)
            ratios.append(trust * seen_ratio + np.sqrt(trust) * spread * noise)
        most = max(seen, key=lambda each: each.texts)
        words = f"measured: a teacher right in {most.accuracy:.0%}, a student of {most.texts:,} of its texts"
        return replace(self, error_factor=np.asarray(np.exp(np.mean(ratios, axis=0))), source=words)

    def _above(self, score: Floats) -> Floats:
        return np.asarray((score - self.chance) / (1 - self.chance))

    def _alone_at(self, n: Floats) -> Floats:
        """`alone` at another size for each draw: between a few sizes, straight in log n."""
        at = np.geomspace(max(float(n.min()), 1e-3), max(float(n.max()), 2e-3), GRID_POINTS)
        scores = np.stack([self.gold_curve(float(size)) for size in at])
        place = np.clip(np.interp(np.log(np.maximum(n, 1e-3)), np.log(at), np.arange(GRID_POINTS)), 0, GRID_POINTS - 1)
        low = np.minimum(place.astype(np.int64), GRID_POINTS - 2)
        rows = np.arange(len(n))
        return np.asarray(scores[low, rows] + (place - low) * (scores[low + 1, rows] - scores[low, rows]))
