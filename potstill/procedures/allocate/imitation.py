"""The accuracy of a student as a function of its teacher's accuracy.

Two extremes are known. The **systematic** errors of a teacher, the same wherever the same words occur, are learnt: the
student comes as near to the teacher as, trained on true labels, it comes to a student of four times the texts.
**Random** errors only reduce the number of labels: noise averages out, and m texts are worth m r^1.5 true labels, with
r the teacher's accuracy above chance (if it were known which labels are wrong, they would be worth m r^2). Real
teachers are in between; `systematic` is the share of systematic errors. Both constants were chosen on two data sets and
checked on two others, with simulated and with trained teachers: bench/imitation.py.

Functions of arrays; nothing is measured here. Measured students add one factor on the error.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
ScoreCurve = Callable[[float], Floats]
SYSTEMATIC_GAIN = 4.0  # a student of m texts relates to its teacher as m true labels to SYSTEMATIC_GAIN m
NOISE_EXPONENT = 1.5  # m texts of a teacher with random errors are worth m r ** NOISE_EXPONENT true labels
MODEL_ERROR_SD = 0.1  # standard deviation of log(true error / expected error), roughly, on those data sets
MIN_ACCURACY = 0.01  # lower bound of r and of errors, below which no ratio is meaningful
GRID_POINTS = 7


@dataclass(frozen=True)
class ImitationPoint:
    """A measured student.

    Attributes:
        accuracy: of its teacher.
        labels: human labels it was trained on.
        texts: texts of the teacher it was trained on.
        score: its accuracy.
    """

    accuracy: float
    labels: int
    texts: int
    score: float


@dataclass(frozen=True)
class ImitationCurve:
    """Teacher accuracy -> student accuracy, as (D,) equally likely values.

    Attributes:
        gold_curve: number of true labels -> (D,) scores of the student.
        chance: the accuracy of guessing.
        systematic: (D,) the share of the teacher's errors that is systematic.
        error_factor: (D,) or 1: measured over expected error of students.
        source: "prior", or what it was measured on, in words.
    """

    gold_curve: ScoreCurve
    chance: float
    systematic: Floats
    error_factor: Floats | float = 1.0
    source: str = "prior"

    def student_accuracy(self, accuracy: Floats | float, texts: float, labels: float = 0.0) -> Floats:
        """(D,) scores of a student trained on `texts` texts of a teacher and on `labels` true labels.

        Args:
            accuracy: of the teacher, in [0, 1]; (D,) or one number.
            texts: texts that the teacher labelled.
            labels: true labels beside them.
        """
        above = np.clip(
            self._above(np.broadcast_to(np.asarray(accuracy, float), self.systematic.shape)), MIN_ACCURACY, 1.0
        )
        n = labels + texts
        score, limit = (
            np.maximum(self._above(self.gold_curve(size)), MIN_ACCURACY) for size in (n, SYSTEMATIC_GAIN * n)
        )
        limit = np.maximum(limit, score)
        if_systematic = np.minimum(above, limit) * score / limit
        if_random = self._above(self._gold_curve_at(labels + texts * above**NOISE_EXPONENT))
        mixed = self.systematic * if_systematic + (1 - self.systematic) * if_random
        error = (1 - self.chance) * (1 - np.clip(mixed, 0.0, 1.0))
        return np.asarray(1 - np.clip(error * self.error_factor, 0.0, 1.0))

    def fit(self, points: Sequence[ImitationPoint], std_error: float, *, seed: int = 0) -> ImitationCurve:
        """Scale every error by the mean ratio of measured to expected error.

        The ratio is shrunk by the error of a measured score against the error of the curve (MODEL_ERROR_SD): one
        student measured on few texts changes it little.

        Args:
            points: measured students; without any the curve is unchanged.
            std_error: of a measured score.
            seed: draws the measurement error.
        """
        if not points:
            return self
        draw, base = np.random.default_rng(seed), replace(self, error_factor=1.0)
        ratios, noise = [], draw.standard_normal(len(self.systematic))
        for each in points:
            expected = np.maximum(1 - base.student_accuracy(each.accuracy, each.texts, each.labels), MIN_ACCURACY)
            spread = std_error / max(1 - each.score, MIN_ACCURACY)
            weight = MODEL_ERROR_SD**2 / (MODEL_ERROR_SD**2 + spread**2)
            ratio = np.log(max(1 - each.score, MIN_ACCURACY) / expected)
            ratios.append(weight * ratio + np.sqrt(weight) * spread * noise)
        largest = max(points, key=lambda each: each.texts)
        source = f"measured: a teacher of accuracy {largest.accuracy:.0%}, a student of {largest.texts:,} of its texts"
        return replace(self, error_factor=np.asarray(np.exp(np.mean(ratios, axis=0))), source=source)

    def _above(self, score: Floats) -> Floats:
        return np.asarray((score - self.chance) / (1 - self.chance))

    def _gold_curve_at(self, n: Floats) -> Floats:
        """The gold curve at another size for each draw, interpolated in log n on a grid of sizes."""
        sizes = np.geomspace(max(float(n.min()), 1e-3), max(float(n.max()), 2e-3), GRID_POINTS)
        scores = np.stack([self.gold_curve(float(size)) for size in sizes])
        position = np.interp(np.log(np.maximum(n, 1e-3)), np.log(sizes), np.arange(GRID_POINTS))
        position = np.clip(position, 0, GRID_POINTS - 1)
        low = np.minimum(position.astype(np.int64), GRID_POINTS - 2)
        rows = np.arange(len(n))
        return np.asarray(scores[low, rows] + (position - low) * (scores[low + 1, rows] - scores[low, rows]))
