"""What is expected of a student after so many labels, distilled texts or answers: measured, or from experience.

An outlook answers in (DRAWS,) equally likely scores; `strategies.py` weighs them against prices. `Surface` draws lines
between measured points, `Piloted` adds the learning curve of a pilot, and `Experience` knows nothing of the data but
how many labels there are: averages of other data sets, and the regularities of Kang et al. 2023.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from potstill.curves import DRAWS, Curves

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Measured:
    """What somebody measured: the student's score after so many labels and so many distilled texts (0: none)."""

    labels: int
    texts: int
    score: float


class Surface:
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

    def __init__(self, measured: Sequence[Measured], *, doubt: float = 0.01, seed: int = 0) -> None:
        draw = np.random.default_rng(seed)
        levels: dict[int, list[Measured]] = {}
        for point in measured:
            levels.setdefault(point.texts, []).append(point)
        self._levels: Mapping[int, tuple[Floats, Floats]] = {
            texts: (
                np.log2([p.labels for p in sorted(points, key=lambda p: p.labels)]),
                np.array([p.score for p in sorted(points, key=lambda p: p.labels)])[None, :]
                + doubt * draw.standard_normal((DRAWS, len(points))),
            )
            for texts, points in sorted(levels.items())
        }
        self._beyond = draw.standard_normal((len(self._levels) + 1, DRAWS))

    def annotate(self, labels: float) -> Floats:
        """After learning so many human labels."""
        return self._at(0, labels)

    def distil(self, labels: float, texts: Floats) -> Floats:
        """After learning from a large model that learnt `labels`; no text at all leaves nothing but chance."""
        known = [level for level in self._levels if level]
        x = np.log2(np.maximum(np.broadcast_to(texts, (DRAWS,)), 1.0))
        at = np.log2(np.array(known, dtype=np.float64))
        y = np.stack([self._at(level, labels) for level in known], axis=1)
        if len(known) == 1:
            inside = y[:, 0]
            slope_low = np.full(DRAWS, self.FALL)
        else:
            step = np.clip(np.searchsorted(at, x) - 1, 0, len(at) - 2)
            rows = np.arange(DRAWS)
            share = np.clip((x - at[step]) / (at[step + 1] - at[step]), 0.0, 1.0)
            inside = y[rows, step] * (1 - share) + y[rows, step + 1] * share
            slope_low = np.maximum((y[:, 1] - y[:, 0]) / (at[1] - at[0]), self.FALL)
        outside = np.maximum(at[0] - x, 0.0)
        fallen = inside - outside * (slope_low + self.DOUBT * np.abs(self._beyond[-1]))
        return np.asarray(np.where(np.asarray(texts) < 1, 0.0, np.clip(fallen, 0.0, 1.0)))

    def answers(self, texts: float) -> Floats | None:
        """Not measured here."""
        return None

    def written(self, texts: float) -> Floats | None:
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


class Piloted:
    """An outlook from a pilot on the user's own data.

    More labels follow the fitted learning curve. A distilled student is known at the labels there are; with more of
    them its error is expected to shrink as the curve's does, since its teacher learns the same labels. Answers of a
    language model follow the line through the sizes that were measured.

    Args:
        curve: the student's scores over labels.
        distilled: points at about the largest size of the curve, with their texts; may be empty.
        answered: (texts, score) of students that learnt so many answers beside the labels; may be empty.
        doubt: standard deviation of a measured score (the validation texts are few).
    """

    def __init__(
        self,
        curve: Curves,
        distilled: Sequence[Measured] = (),
        answered: Sequence[tuple[int, float]] = (),
        *,
        doubt: float,
        seed: int = 0,
    ) -> None:
        self._curve = curve
        self._distilled = Surface(distilled, doubt=doubt, seed=seed) if distilled else None
        self._known_at = max((point.labels for point in distilled), default=0)
        known = [Measured(n, 0, score) for n, score in answered]
        self._answered = Surface(known, doubt=doubt, seed=seed + 1) if known else None

    def annotate(self, labels: float) -> Floats:
        """After learning so many human labels."""
        return self._curve.draws(labels)

    def distil(self, labels: float, texts: Floats) -> Floats:
        """After learning from a large model that learnt `labels`; nothing, if none was measured."""
        if self._distilled is None:
            return np.zeros(DRAWS)
        here = 1 - self._distilled.distil(self._known_at, texts)
        shrinks = (1 - self._curve.draws(labels)) / np.maximum(1 - self._curve.draws(self._known_at), 1e-6)
        return np.asarray(np.where(here < 1, 1 - np.clip(here * np.minimum(shrinks, 1.0), 0.0, 1.0), 0.0))

    def answers(self, texts: float) -> Floats | None:
        """After learning a language model's answers about so many texts."""
        return None if self._answered is None or texts < 1 else self._answered.annotate(texts)

    def written(self, texts: float) -> Floats | None:
        """Not measured by a pilot."""
        return None


class Experience:
    """An outlook before anything was measured: a prior, and called so wherever it is shown.

    The error of a student that learnt n labels of K classes is `START` at one a class and falls as a power of n / K;
    both, and their spread, are those of six data sets with a frozen encoder (bench/curves.py). From Kang et al. 2023:
    a large teacher makes fewer errors than the student alone, but only from about `TEACHER_WANTS` labels on; the
    student comes near it with the number of texts it is taught on. By how much is assumed, and so is how often a
    language model is right (60 to 90 %, as the field's are zero-shot); its student repeats it.
    """

    START, START_SPREAD, POWER, POWER_SPREAD = 0.58, 0.29, 0.28, 0.18
    TEACHER_WANTS = 500
    LLM_LOW, LLM_HIGH = 0.60, 0.90

    def __init__(self, n_labels: int, *, seed: int = 0) -> None:
        draw = np.random.default_rng(seed)
        self._k = n_labels
        self._start = self.START * np.exp(self.START_SPREAD * draw.standard_normal(DRAWS))
        self._power = np.clip(self.POWER + self.POWER_SPREAD * draw.standard_normal(DRAWS), 0.05, 1.0)
        self._large = np.clip(0.80 + 0.10 * draw.standard_normal(DRAWS), 0.4, 1.2)
        self._copies = np.clip(0.25 + 0.08 * draw.standard_normal(DRAWS), 0.05, 0.6)
        self._llm = draw.uniform(self.LLM_LOW, self.LLM_HIGH, DRAWS)

    def annotate(self, labels: float) -> Floats:
        """After learning so many human labels; none leave chance."""
        error = self._start * np.maximum(labels / self._k, 0.25) ** -self._power
        return np.asarray(1 - np.minimum(error, 1 - 1 / self._k))

    def distil(self, labels: float, texts: Floats) -> Floats:
        """After learning from a large model that learnt `labels`."""
        # From a quarter of what it wants the teacher begins to be worth something.
        ready = float(np.clip(np.log2(max(labels, 1) / self.TEACHER_WANTS) / 2 + 1, 0.0, 1.0))
        alone = 1 - self.annotate(labels)
        teacher = alone * (1 - ready * (1 - self._large))
        missed = self._copies * np.maximum(np.asarray(texts) / 1000, 1e-3) ** -0.4
        error = np.clip(teacher + (1 - teacher) * missed * teacher, 0.0, 1 - 1 / self._k)
        return np.asarray(np.where(np.asarray(texts) < 1, 0.0, 1 - error))

    def answers(self, texts: float) -> Floats | None:
        """After learning a language model's answers about so many texts."""
        if texts < 1:
            return None
        learnt = 1 - self.annotate(texts)
        return np.asarray(np.maximum(1 - (1 - self._llm) - self._llm * learnt * 0.5, 1 / self._k))

    def written(self, texts: float) -> Floats | None:
        """Nothing is known before it was tried."""
        return None
