"""What is believed before anything was measured, and how what is measured corrects it: teachers, and written texts.

Every figure says where it is from; those that are assumed are called so. Draws are (DRAWS,) equally likely values.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from potstill.procedures.allocate.imitation import MODEL_ERROR_SD
from potstill.procedures.allocate.learning_curves import N_DRAWS

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class RoundGain:
    """One round of writing that was measured: texts asked for before and in it, and by how much the loss fell in it.

    `fell` is the share of the student's loss on the texts kept to measure on, `spread` that share's standard error.
    """

    texts_before: int
    texts: int
    loss_drop: float
    std_error: float


class GenerationPrior:
    """What texts written to the student's needs bring: a share of its errors for each doubling of 1 + texts / `AT`.

    The prior is what ten rounds of 32 brought: 9 % of the errors on both sets of Palo et al. 2024, and -2, 0, 1 and
    11 % on the four of bench/papers/pgkd.py at the quality of a zero-shot writer. Rounds that were measured correct it
    (normal prior, normal errors; errors are assumed to fall as the loss does).
    """

    SHARE, SPREAD, AT = 0.045, 0.055, 320

    def __init__(self, measured: Sequence[RoundGain] = (), *, seed: int = 0) -> None:
        weights, means = [self.SPREAD**-2], [self.SHARE]
        for each in measured:
            step = self._doublings(each.texts_before + each.texts) - self._doublings(each.texts_before)
            weights.append((each.std_error / step) ** -2)
            means.append(each.loss_drop / step)
        self.share, self.spread = float(np.average(means, weights=weights)), float(np.sum(weights)) ** -0.5
        self.rounds, self._before = len(measured), sum(each.texts for each in measured)
        self._draws = self.share + self.spread * np.random.default_rng(seed).standard_normal(N_DRAWS)

    @property
    def basis(self) -> str:
        """What it rests on, in words."""
        said = f"{self.share:.1%} ± {self.spread:.1%} of the errors for {self.AT} texts"
        return f"{said}, " + (f"prior and {self.rounds} measured" if self.rounds else "prior")

    def scores_after(self, score: Floats, texts: float) -> Floats:
        """(DRAWS,) scores after so many more texts, of students that have `score` now."""
        step = self._doublings(self._before + texts) - self._doublings(self._before)
        return np.asarray(np.clip(1 - (1 - score) * (1 - self._draws * step), 0.0, 1.0))

    def _doublings(self, texts: float) -> float:
        return float(np.log2(1 + texts / self.AT))


class TeacherPriors:
    """How often the teachers of a plan are right, before anybody asked them: from experience, and called a prior.

    A large model that learnt the labels makes `LARGE` of the errors of the student alone, from about `WANTS` labels on
    (Kang et al. 2023); with a quarter of them or fewer it knows no more than the student. That share is assumed, and so
    is how often a language model is right. Errors of a model that was trained are its habit; of a language model's it
    is assumed that most are.
    """

    WANTS, LARGE, LARGE_SPREAD = 500, 0.80, 0.10
    LLM_LOW, LLM_HIGH = 0.60, 0.90
    TRAINED_HABIT, LLM_HABIT = (0.9, 1.0), (0.5, 1.0)

    def __init__(self, *, seed: int = 0) -> None:
        draw = np.random.default_rng(seed)
        self._large = np.clip(self.LARGE + self.LARGE_SPREAD * draw.standard_normal(N_DRAWS), 0.4, 1.2)
        self.llm = draw.uniform(self.LLM_LOW, self.LLM_HIGH, N_DRAWS)
        self.trained_habit = draw.uniform(*self.TRAINED_HABIT, N_DRAWS)
        self.llm_habit = draw.uniform(*self.LLM_HABIT, N_DRAWS)
        # Of the error that is said of a student before one was measured.
        self.misfit = np.exp(MODEL_ERROR_SD * draw.standard_normal(N_DRAWS))

    def large(self, alone: Floats, labels: float) -> Floats:
        """(DRAWS,) accuracies of the large model that learnt `labels`, where the student that did has `alone`."""
        ready = float(np.clip(np.log2(max(labels, 1) / self.WANTS) / 2 + 1, 0.0, 1.0))
        return np.asarray(1 - np.clip((1 - alone) * (1 - ready * (1 - self._large)), 0.0, 1.0))
