"""Priors of teachers and of generated texts, before anything is measured, and their update by measurements.

Each figure names its source or is marked as assumed. Draws are (N_DRAWS,) equally likely values.
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
    """A measured PGKD round.

    Attributes:
        texts_before: texts asked for in earlier rounds.
        texts: texts asked for in this one.
        loss_drop: the share by which the validation loss fell.
        std_error: of that share.
    """

    texts_before: int
    texts: int
    loss_drop: float
    std_error: float


class GenerationPrior:
    """The share of the student's errors that generated texts remove, for each doubling of 1 + texts / TEXTS.

    The prior is what ten rounds of 32 removed: 9 % of the errors on both data sets of Palo et al. 2024, and -2, 0, 1
    and 11 % on the four of bench/papers/pgkd.py with texts of zero-shot quality. Measured rounds update it (normal
    prior, normal errors; errors are assumed to fall as the loss does).
    """

    SHARE, SPREAD, TEXTS = 0.045, 0.055, 320

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
        """The estimate and what it rests on, in words."""
        estimate = f"{self.share:.1%} ± {self.spread:.1%} of the errors for {self.TEXTS} texts"
        return f"{estimate}, " + (f"prior and {self.rounds} measured" if self.rounds else "prior")

    def scores_after(self, score: Floats, texts: float) -> Floats:
        """(N_DRAWS,) scores after this many more texts, of students with (N_DRAWS,) `score`."""
        step = self._doublings(self._before + texts) - self._doublings(self._before)
        return np.asarray(np.clip(1 - (1 - score) * (1 - self._draws * step), 0.0, 1.0))

    def _doublings(self, texts: float) -> float:
        return float(np.log2(1 + texts / self.TEXTS))


class TeacherPriors:
    """Prior accuracy of the teachers of a plan, and the share of their errors that is systematic.

    A large model makes LARGE_ERROR times the errors of the student trained on the same labels, from about LARGE_LABELS
    labels on (Kang et al. 2023); with a quarter of them or fewer it makes as many. That factor is assumed, and so is
    the accuracy of a language model. The errors of a trained model are systematic; most of a language model's are
    assumed to be.
    """

    LARGE_LABELS, LARGE_ERROR, LARGE_ERROR_SD = 500, 0.80, 0.10
    LLM_LOW, LLM_HIGH = 0.60, 0.90
    TRAINED_SYSTEMATIC, LLM_SYSTEMATIC = (0.9, 1.0), (0.5, 1.0)

    def __init__(self, *, seed: int = 0) -> None:
        draw = np.random.default_rng(seed)
        self._large_error = np.clip(self.LARGE_ERROR + self.LARGE_ERROR_SD * draw.standard_normal(N_DRAWS), 0.4, 1.2)
        self.llm = draw.uniform(self.LLM_LOW, self.LLM_HIGH, N_DRAWS)
        self.trained_systematic = draw.uniform(*self.TRAINED_SYSTEMATIC, N_DRAWS)
        self.llm_systematic = draw.uniform(*self.LLM_SYSTEMATIC, N_DRAWS)
        # Factor on the expected error of a student, before one was measured.
        self.error_factor = np.exp(MODEL_ERROR_SD * draw.standard_normal(N_DRAWS))

    def large(self, student_score: Floats, labels: float) -> Floats:
        """(N_DRAWS,) accuracies of a large model, by the score of a student trained on the same `labels` labels."""
        share = float(np.clip(np.log2(max(labels, 1) / self.LARGE_LABELS) / 2 + 1, 0.0, 1.0))
        return np.asarray(1 - np.clip((1 - student_score) * (1 - share * (1 - self._large_error)), 0.0, 1.0))
