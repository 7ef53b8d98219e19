"""What is expected of a student after so many labels, distilled texts, answers or written texts.

An outlook answers in (DRAWS,) equally likely scores; `strategies.py` weighs them against prices. `Surface` draws lines
between measured points. `Piloted` has the learning curve of a pilot, and `Experience` knows nothing of the data but how
many labels there are: averages of other data sets, and the regularities of Kang et al. 2023. Both go through
`imitation.py` for every way that has a teacher, and have the rest of their expectations from `priors.py`.
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
MAX_TEXTS = 1e7  # more text than anybody distils


@dataclass(frozen=True)
class Measurement:
    """What somebody measured: the student's score after so many labels and so many distilled texts (0: none)."""

    labels: int
    texts: int
    score: float


class InterpolatedScores:
    """An outlook from a few measured points: straight lines between them in log labels and log texts.

    Beyond the last size a line goes on at its last slope, and every doubling adds doubt. Below the fewest distilled
    texts that were measured it falls by no less than `FALL` a halving: a student of few examples is a poor one.

    Args:
        measured: points; at least two sizes without distilled texts.
        doubt: standard deviation of a measured score.
        seed: draws the doubt.
    """

    FALL = 0.03
    DOUBT = 0.015  # of a doubling beyond what was measured

    def __init__(self, measured: Sequence[Measurement], *, doubt: float = 0.01, seed: int = 0) -> None:
        draw = np.random.default_rng(seed)
        levels: dict[int, list[Measurement]] = {}
        for point in measured:
            levels.setdefault(point.texts, []).append(point)
        self._levels: Mapping[int, tuple[Floats, Floats]] = {
            texts: (
                np.log2([p.labels for p in sorted(points, key=lambda p: p.labels)]),
                np.array([p.score for p in sorted(points, key=lambda p: p.labels)])[None, :]
                + doubt * draw.standard_normal((N_DRAWS, len(points))),
            )
            for texts, points in sorted(levels.items())
        }
        self._beyond = draw.standard_normal((len(self._levels) + 1, N_DRAWS))

    def after_labels(self, labels: float) -> Floats:
        """After learning so many human labels."""
        return self._at(0, labels)

    def after_distillation(self, labels: float, texts: Floats) -> Floats:
        """After learning from a large model that learnt `labels`; no text at all leaves nothing but chance."""
        known = [level for level in self._levels if level]
        x = np.log2(np.maximum(np.broadcast_to(texts, (N_DRAWS,)), 1.0))
        at = np.log2(np.array(known, dtype=np.float64))
        y = np.stack([self._at(level, labels) for level in known], axis=1)
        if len(known) == 1:
            inside = y[:, 0]
            slope_low = np.full(N_DRAWS, self.FALL)
        else:
            step = np.clip(np.searchsorted(at, x) - 1, 0, len(at) - 2)
            rows = np.arange(N_DRAWS)
            share = np.clip((x - at[step]) / (at[step + 1] - at[step]), 0.0, 1.0)
            inside = y[rows, step] * (1 - share) + y[rows, step + 1] * share
            slope_low = np.maximum((y[:, 1] - y[:, 0]) / (at[1] - at[0]), self.FALL)
        outside = np.maximum(at[0] - x, 0.0)
        fallen = inside - outside * (slope_low + self.DOUBT * np.abs(self._beyond[-1]))
        return np.asarray(np.where(np.asarray(texts) < 1, 0.0, np.clip(fallen, 0.0, 1.0)))

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
        if share > 1:  # beyond: more labels do no harm, and a curve that leapt at its end does not go on leaping
            overall = (scores[:, -1] - scores[:, 0]) / (sizes[-1] - sizes[0]) * (sizes[-1] - sizes[-2])
            share_inside, extra = 1.0, (share - 1) * np.maximum(np.minimum(gain, overall), 0.0)
        else:
            share_inside, extra = max(share, 0.0), 0.0
        found = scores[:, step] + share_inside * (scores[:, step + 1] - scores[:, step]) + extra
        octaves = max(0.0, x - float(sizes[-1]))
        noise = self.DOUBT * octaves * self._beyond[list(self._levels).index(level)]
        return np.asarray(np.clip(found + noise, 0.0, 1.0))


@dataclass(frozen=True)
class TeacherMeasurement:
    """What a pilot measured of a teacher and of the students it taught.

    Attributes:
        accuracy: how often the teacher is right; None where nobody knows.
        labels: of a large model, those that it learnt.
        students: who learnt from it.
    """

    accuracy: float | None = None
    labels: int = 0
    measured_students: tuple[ImitationPoint, ...] = ()


class PilotScores:
    """An outlook from a pilot on the user's own data.

    More labels follow the fitted learning curve, and so do the errors of the large model that learns them; what its
    student has of it `imitation.py` says, corrected by the students of the pilot. What was not measured is a prior.

    Args:
        curve: the student's scores over labels.
        large: what was measured of the large model. llm: of the language model, if there is one.
        writing: what written texts are expected to bring; None where nobody writes.
        n_labels: of the task; guessing is right in one of them.
        doubt: standard deviation of a measured score (the validation texts are few).
    """

    def __init__(
        self,
        curve: LearningCurve,
        large: TeacherMeasurement = TeacherMeasurement(),
        llm: TeacherMeasurement = TeacherMeasurement(),
        writing: GenerationPrior | None = None,
        *,
        n_labels: int,
        doubt: float,
        seed: int = 0,
    ) -> None:
        self._curve, self._writing, self._large_seen = curve, writing, large
        prior = TeacherPriors(seed=seed)
        noise = np.random.default_rng((seed, 1)).standard_normal(N_DRAWS)
        self._prior, self._noise = prior, doubt * noise
        made = ImitationCurve(curve.draws, 1 / n_labels, prior.trained_habit, prior.misfit)
        self.distillation_curve = made.fit(large.measured_students, doubt, seed=seed)
        self.llm_curve = ImitationCurve(curve.draws, 1 / n_labels, prior.llm_habit, prior.misfit).fit(
            llm.measured_students, doubt, seed=seed + 1
        )
        self.llm_accuracy = prior.llm if llm.accuracy is None else np.clip(llm.accuracy + self._noise, 0.0, 1.0)

    @property
    def generation_basis(self) -> str:
        """What is expected of written texts, and on what it rests, in words; empty where nobody writes."""
        return "" if self._writing is None else self._writing.basis

    def after_labels(self, labels: float) -> Floats:
        """After learning so many human labels."""
        return self._curve.draws(labels)

    def large_accuracy(self, labels: float) -> Floats:
        """(DRAWS,) accuracies of the large model after so many labels."""
        seen = self._large_seen
        if seen.accuracy is None:
            return self._prior.large(self._curve.draws(labels), labels)
        shrinks = (1 - self._curve.draws(labels)) / np.maximum(1 - self._curve.draws(seen.labels), 1e-6)
        return np.asarray(1 - np.clip((1 - seen.accuracy - self._noise) * np.minimum(shrinks, 1.0), 0.0, 1.0))

    def after_distillation(self, labels: float, texts: Floats) -> Floats:
        """After learning from a large model that learnt `labels`; (DRAWS,) texts, and nothing where there are none."""
        return _taught(self.distillation_curve, self.large_accuracy(labels), texts, labels)

    def after_answers(self, texts: float) -> Floats | None:
        """After learning a language model's answers about so many texts, beside the labels of the pilot."""
        return None if texts < 1 else self.llm_curve.student_accuracy(self.llm_accuracy, texts, self._curve.largest)

    def after_generation(self, texts: float) -> Floats | None:
        """After so many more texts written to its needs; None where nobody writes."""
        return (
            None if self._writing is None else self._writing.scores_after(self._curve.draws(self._curve.largest), texts)
        )


class PriorScores:
    """An outlook before anything was measured: a prior, and called so wherever it is shown.

    The error of a student that learnt n labels of K classes is `START` at one a class and falls as a power of n / K;
    both, and their spread, are those of six data sets with a frozen encoder (bench/curves.py). The rest is that of
    `Teachers`, `Imitation` and `Writing`.

    Args:
        n_labels: of the task.
        owned: labels there are, beside which answers and written texts are learnt.
    """

    START, START_SPREAD, POWER, POWER_SPREAD = 0.58, 0.29, 0.28, 0.18

    def __init__(self, n_labels: int, *, owned: int = 0, seed: int = 0) -> None:
        draw = np.random.default_rng(seed)
        self._k, self._owned = n_labels, owned
        self._start = self.START * np.exp(self.START_SPREAD * draw.standard_normal(N_DRAWS))
        self._power = np.clip(self.POWER + self.POWER_SPREAD * draw.standard_normal(N_DRAWS), 0.05, 1.0)
        self._teachers, self._writing = TeacherPriors(seed=seed + 1), GenerationPrior(seed=seed)
        self.distillation_curve = ImitationCurve(
            self.after_labels, 1 / n_labels, self._teachers.trained_habit, self._teachers.misfit
        )
        self.llm_curve = ImitationCurve(
            self.after_labels, 1 / n_labels, self._teachers.llm_habit, self._teachers.misfit
        )
        self.llm_accuracy = self._teachers.llm

    def after_labels(self, labels: float) -> Floats:
        """After learning so many human labels; none leave chance."""
        error = self._start * np.maximum(labels / self._k, 0.25) ** -self._power
        return np.asarray(1 - np.minimum(error, 1 - 1 / self._k))

    def large_accuracy(self, labels: float) -> Floats:
        """(DRAWS,) accuracies of a large model after so many labels."""
        return self._teachers.large(self.after_labels(labels), labels)

    def after_distillation(self, labels: float, texts: Floats) -> Floats:
        """After learning from a large model that learnt `labels`."""
        return _taught(self.distillation_curve, self.large_accuracy(labels), texts, labels)

    def after_answers(self, texts: float) -> Floats | None:
        """After learning a language model's answers about so many texts, beside the labels there are."""
        return None if texts < 1 else self.llm_curve.student_accuracy(self.llm_accuracy, texts, self._owned)

    def after_generation(self, texts: float) -> Floats | None:
        """After so many texts written to its needs."""
        return self._writing.scores_after(self.after_labels(self._owned), texts) if self._owned else None


def _taught(curve: ImitationCurve, accuracy: Floats, texts: Floats, labels: float) -> Floats:
    """(DRAWS,) scores of students of (DRAWS,) texts; without any text nothing is learnt."""
    there = np.broadcast_to(np.asarray(texts, dtype=np.float64), (N_DRAWS,))
    if not (there >= 1).any():
        return np.zeros(N_DRAWS)
    # The number of texts is in doubt only as their price is: a few sizes stand for all.
    sizes = np.unique(np.quantile(np.minimum(there[there >= 1], MAX_TEXTS), (0.1, 0.5, 0.9)))
    scores = np.stack([curve.student_accuracy(accuracy, float(size), labels) for size in sizes])
    nearest = np.abs(np.log(sizes)[:, None] - np.log(np.maximum(there, 1.0))).argmin(axis=0)
    return np.asarray(np.where(there < 1, 0.0, scores[nearest, np.arange(N_DRAWS)]))
