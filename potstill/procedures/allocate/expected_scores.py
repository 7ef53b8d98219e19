"""Expected scores of a student by the number of labels, distilled texts, answers or generated texts.

A score model returns (N_DRAWS,) equally likely scores; `strategies.py` compares them at their prices.
`InterpolatedScores` interpolates measured points. `PilotScores` has the learning curve of a pilot. `PriorScores` uses
only the number of labels: averages of other data sets, and the regularities of Kang et al. 2023. The last two use
`imitation.py` for all strategies with a teacher, and `priors.py` for what was not measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from potstill.procedures.allocate.imitation import ImitationCurve, ImitationPoint
from potstill.procedures.allocate.learning_curves import N_DRAWS, LearningCurve
from potstill.procedures.allocate.priors import GenerationPrior, TeacherPriors

Floats = NDArray[np.float64]
MAX_TEXTS = 1e7  # a bound for the interpolation


@dataclass(frozen=True)
class Measurement:
    """The measured score of a student trained on this many labels and distilled texts (0: none)."""

    labels: int
    texts: int
    score: float


class InterpolatedScores:
    """A score model that interpolates measured points linearly in log labels and log texts.

    Beyond the largest size the last slope goes on, and each doubling adds EXTRAPOLATION_SD. Below the smallest
    number of distilled texts the score falls by at least MIN_FALL for each halving.

    Args:
        measured: points; at least two sizes without distilled texts.
        std_error: of a measured score.
        seed: draws the errors.
    """

    MIN_FALL = 0.03
    EXTRAPOLATION_SD = 0.015

    def __init__(self, measured: Sequence[Measurement], *, std_error: float = 0.01, seed: int = 0) -> None:
        draw = np.random.default_rng(seed)
        levels: dict[int, list[Measurement]] = {}
        for point in measured:
            levels.setdefault(point.texts, []).append(point)
        self._levels: Mapping[int, tuple[Floats, Floats]] = {
            texts: (
                np.log2([p.labels for p in sorted(points, key=lambda p: p.labels)]),
                np.array([p.score for p in sorted(points, key=lambda p: p.labels)])[None, :]
                + std_error * draw.standard_normal((N_DRAWS, len(points))),
            )
            for texts, points in sorted(levels.items())
        }
        self._extrapolation_noise = draw.standard_normal((len(self._levels) + 1, N_DRAWS))

    def after_labels(self, labels: float) -> Floats:
        """Trained on this many human labels."""
        return self._at(0, labels)

    def after_distillation(self, labels: float, texts: Floats) -> Floats:
        """Trained on (N_DRAWS,) texts of a large model that was trained on `labels`; 0 without any text."""
        levels = [level for level in self._levels if level]
        x = np.log2(np.maximum(np.broadcast_to(texts, (N_DRAWS,)), 1.0))
        at = np.log2(np.array(levels, dtype=np.float64))
        y = np.stack([self._at(level, labels) for level in levels], axis=1)
        if len(levels) == 1:
            inside = y[:, 0]
            slope_low = np.full(N_DRAWS, self.MIN_FALL)
        else:
            step = np.clip(np.searchsorted(at, x) - 1, 0, len(at) - 2)
            rows = np.arange(N_DRAWS)
            share = np.clip((x - at[step]) / (at[step + 1] - at[step]), 0.0, 1.0)
            inside = y[rows, step] * (1 - share) + y[rows, step + 1] * share
            slope_low = np.maximum((y[:, 1] - y[:, 0]) / (at[1] - at[0]), self.MIN_FALL)
        outside = np.maximum(at[0] - x, 0.0)
        scores = inside - outside * (slope_low + self.EXTRAPOLATION_SD * np.abs(self._extrapolation_noise[-1]))
        return np.asarray(np.where(np.asarray(texts) < 1, 0.0, np.clip(scores, 0.0, 1.0)))

    def after_answers(self, texts: float) -> Floats | None:
        """Not measured here."""
        return None

    def after_generation(self, texts: float) -> Floats | None:
        """Not measured here."""
        return None

    def _at(self, level: int, labels: float) -> Floats:
        sizes, scores = self._levels[level]
        x = np.log2(max(labels, 1.0))
        if len(sizes) == 1:
            return np.asarray(np.clip(scores[:, 0], 0.0, 1.0))
        step = int(np.clip(np.searchsorted(sizes, x) - 1, 0, len(sizes) - 2))
        share = (x - sizes[step]) / (sizes[step + 1] - sizes[step])
        gain = scores[:, step + 1] - scores[:, step]
        if share > 1:  # extrapolated: never falling, and not steeper than the whole curve
            overall = (scores[:, -1] - scores[:, 0]) / (sizes[-1] - sizes[0]) * (sizes[-1] - sizes[-2])
            share_inside, extra = 1.0, (share - 1) * np.maximum(np.minimum(gain, overall), 0.0)
        else:
            share_inside, extra = max(share, 0.0), 0.0
        found = scores[:, step] + share_inside * (scores[:, step + 1] - scores[:, step]) + extra
        doublings = max(0.0, x - float(sizes[-1]))
        noise = self.EXTRAPOLATION_SD * doublings * self._extrapolation_noise[list(self._levels).index(level)]
        return np.asarray(np.clip(found + noise, 0.0, 1.0))


@dataclass(frozen=True)
class TeacherMeasurement:
    """What a pilot measured of a teacher.

    Attributes:
        accuracy: of the teacher; None if it was not measured.
        labels: human labels that a large model was trained on.
        measured_students: students trained on its answers.
    """

    accuracy: float | None = None
    labels: int = 0
    measured_students: tuple[ImitationPoint, ...] = ()


class PilotScores:
    """A score model fitted by a pilot on the user's data.

    Scores over labels follow the fitted learning curve, and so do the errors of the large model trained on them. Its
    student's score comes from `imitation.py`, corrected by the students of the pilot. What was not measured is a prior.

    Args:
        curve: the student's scores over labels.
        large: measurements of the large model.
        llm: measurements of the language model.
        generation: expected gain of generated texts; None if none can be generated.
        n_labels: K of the task; chance is 1 / K.
        std_error: of a measured score.
        seed: draws the errors.
    """

    def __init__(
        self,
        curve: LearningCurve,
        large: TeacherMeasurement = TeacherMeasurement(),
        llm: TeacherMeasurement = TeacherMeasurement(),
        generation: GenerationPrior | None = None,
        *,
        n_labels: int,
        std_error: float,
        seed: int = 0,
    ) -> None:
        self._curve, self._generation, self._large = curve, generation, large
        self._prior = prior = TeacherPriors(seed=seed)
        self._noise = std_error * np.random.default_rng((seed, 1)).standard_normal(N_DRAWS)
        self.distillation_curve, self.llm_curve = (
            ImitationCurve(curve.draws, 1 / n_labels, systematic, prior.error_factor).fit(
                measured.measured_students, std_error, seed=seed + i
            )
            for i, (systematic, measured) in enumerate(((prior.trained_systematic, large), (prior.llm_systematic, llm)))
        )
        self.llm_accuracy = prior.llm if llm.accuracy is None else np.clip(llm.accuracy + self._noise, 0.0, 1.0)

    @property
    def generation_basis(self) -> str:
        """The expected gain of generated texts and what it rests on, in words; empty if none can be generated."""
        return "" if self._generation is None else self._generation.basis

    def after_labels(self, labels: float) -> Floats:
        """Trained on this many human labels."""
        return self._curve.draws(labels)

    def large_accuracy(self, labels: float) -> Floats:
        """(N_DRAWS,) accuracies of the large model trained on this many labels."""
        measured = self._large
        if measured.accuracy is None:
            return self._prior.large(self._curve.draws(labels), labels)
        ratio = (1 - self._curve.draws(labels)) / np.maximum(1 - self._curve.draws(measured.labels), 1e-6)
        return np.asarray(1 - np.clip((1 - measured.accuracy - self._noise) * np.minimum(ratio, 1.0), 0.0, 1.0))

    def after_distillation(self, labels: float, texts: Floats) -> Floats:
        """Trained on (N_DRAWS,) texts of a large model that was trained on `labels`; 0 without any text."""
        return _distilled_scores(self.distillation_curve, self.large_accuracy(labels), texts, labels)

    def after_answers(self, texts: float) -> Floats | None:
        """Trained on a language model's answers about this many texts, and on the labels of the pilot."""
        return None if texts < 1 else self.llm_curve.student_accuracy(self.llm_accuracy, texts, self._curve.largest)

    def after_generation(self, texts: float) -> Floats | None:
        """Trained on this many more generated texts; None if none can be generated."""
        if self._generation is None:
            return None
        return self._generation.scores_after(self._curve.draws(self._curve.largest), texts)


class PriorScores:
    """A score model before anything is measured; wherever it is shown it is called a prior.

    The error of a student trained on n labels of K classes is START_ERROR at one label a class and falls as a power of
    n / K. Both, and their spread, are those of six data sets with a frozen encoder (bench/curves.py). The rest comes
    from `TeacherPriors`, `ImitationCurve` and `GenerationPrior`.

    Args:
        n_labels: K of the task.
        n_owned: existing human labels, which answers and generated texts are added to.
        seed: draws the priors.
    """

    START_ERROR, START_SPREAD, POWER, POWER_SPREAD = 0.58, 0.29, 0.28, 0.18

    def __init__(self, n_labels: int, *, n_owned: int = 0, seed: int = 0) -> None:
        draw = np.random.default_rng(seed)
        self._k, self._n_owned = n_labels, n_owned
        self._start_error = self.START_ERROR * np.exp(self.START_SPREAD * draw.standard_normal(N_DRAWS))
        self._power = np.clip(self.POWER + self.POWER_SPREAD * draw.standard_normal(N_DRAWS), 0.05, 1.0)
        self._teachers, self._generation = TeacherPriors(seed=seed + 1), GenerationPrior(seed=seed)
        self.distillation_curve, self.llm_curve = (
            ImitationCurve(self.after_labels, 1 / n_labels, systematic, self._teachers.error_factor)
            for systematic in (self._teachers.trained_systematic, self._teachers.llm_systematic)
        )
        self.llm_accuracy = self._teachers.llm

    def after_labels(self, labels: float) -> Floats:
        """Trained on this many human labels; chance without any."""
        error = self._start_error * np.maximum(labels / self._k, 0.25) ** -self._power
        return np.asarray(1 - np.minimum(error, 1 - 1 / self._k))

    def large_accuracy(self, labels: float) -> Floats:
        """(N_DRAWS,) accuracies of a large model trained on this many labels."""
        return self._teachers.large(self.after_labels(labels), labels)

    def after_distillation(self, labels: float, texts: Floats) -> Floats:
        """Trained on (N_DRAWS,) texts of a large model that was trained on `labels`."""
        return _distilled_scores(self.distillation_curve, self.large_accuracy(labels), texts, labels)

    def after_answers(self, texts: float) -> Floats | None:
        """Trained on a language model's answers about this many texts, and on the existing labels."""
        return None if texts < 1 else self.llm_curve.student_accuracy(self.llm_accuracy, texts, self._n_owned)

    def after_generation(self, texts: float) -> Floats | None:
        """Trained on this many generated texts; None without any label."""
        return self._generation.scores_after(self.after_labels(self._n_owned), texts) if self._n_owned else None


def _distilled_scores(curve: ImitationCurve, accuracy: Floats, texts: Floats, labels: float) -> Floats:
    """(N_DRAWS,) scores of students trained on (N_DRAWS,) texts; 0 without any text."""
    n_texts = np.broadcast_to(np.asarray(texts, dtype=np.float64), (N_DRAWS,))
    if not (n_texts >= 1).any():
        return np.zeros(N_DRAWS)
    # The number of texts varies only with their price: three sizes stand for all.
    sizes = np.unique(np.quantile(np.minimum(n_texts[n_texts >= 1], MAX_TEXTS), (0.1, 0.5, 0.9)))
    scores = np.stack([curve.student_accuracy(accuracy, float(size), labels) for size in sizes])
    nearest = np.abs(np.log(sizes)[:, None] - np.log(np.maximum(n_texts, 1.0))).argmin(axis=0)
    return np.asarray(np.where(n_texts < 1, 0.0, scores[nearest, np.arange(N_DRAWS)]))
