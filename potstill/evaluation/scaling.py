"""Selects a scaling of logits for calibrated probabilities: none, one temperature, or one scale and shift a label.

Selected by cross-validated log-loss; a richer method must win by a standard error, since it overfits few texts.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from potstill.evaluation.calibration import Array, fit_temperature, log_softmax, one_hot
from potstill.evaluation.cross_validation import SelectedScaling, random_folds, select_scaling_by_loss
from potstill.evaluation.guarantees import Scaling

FOLDS = 5
# Of a label's log scale and shift, to the common temperature: a Gaussian prior with a deviation of 0.3.
L2_STRENGTH = 10.0
MAX_ROWS = 5000  # more texts do not change 2 K parameters


def no_scaling(logits: NDArray[np.floating], gold: NDArray[np.integer]) -> Scaling:
    """No scaling: the student's own probabilities."""
    return Scaling()


def temperature_scaling(logits: NDArray[np.floating], gold: NDArray[np.integer]) -> Scaling:
    """One temperature (Guo et al. 2017)."""
    return Scaling("temperature", scale=(1 / fit_temperature(logits, gold),))


def vector_scaling(logits: NDArray[np.floating], gold: NDArray[np.integer]) -> Scaling:
    """A scale and a shift for each label (Guo et al. 2017), pulled to the common temperature by an L2 penalty.

    The penalty is added to the summed log-loss, so labels with few texts stay near the temperature. It is fitted to the
    logits as they are applied: with a scale for each label, a constant in all logits of a text is not without effect.
    """
    from scipy.optimize import minimize

    common = 1 / fit_temperature(logits, gold)
    if len(gold) > MAX_ROWS:
        sample = np.random.default_rng(0).permutation(len(gold))[:MAX_ROWS]
        logits, gold = logits[sample], gold[sample]
    values = np.asarray(logits, dtype=np.float64)
    n_labels = values.shape[1]
    target = one_hot(gold, n_labels).astype(np.float64)

    def loss(parameters: Array) -> tuple[float, Array]:
        log_ratio, shift = parameters[:n_labels], parameters[n_labels:]
        scaled = values * (common * np.exp(log_ratio))
        log_probs = log_softmax(scaled + shift)
        error = np.exp(log_probs) - target
        gradient = np.concatenate([(error * scaled).sum(axis=0), error.sum(axis=0)]) + L2_STRENGTH * parameters
        return float(-(log_probs * target).sum() + L2_STRENGTH / 2 * (parameters @ parameters)), gradient

    found = minimize(loss, np.zeros(2 * n_labels), jac=True, method="L-BFGS-B", options={"maxiter": 60}).x
    scale, shift = common * np.exp(found[:n_labels]), found[n_labels:]
    return Scaling("vector", tuple(scale.tolist()), tuple((shift - shift.mean()).tolist()))


ScalingMethod = Callable[[NDArray[np.floating], NDArray[np.integer]], Scaling]
SCALING_METHODS: tuple[ScalingMethod, ...] = (no_scaling, temperature_scaling, vector_scaling)  # the simplest first


def select_scaling(logits: NDArray[np.floating], gold: NDArray[np.integer], seed: int = 0) -> SelectedScaling[Scaling]:
    """The simplest scaling that no richer one beats by more than a standard error of the cross-validated log-loss.

    Args:
        logits: (N, K) logits of held-out texts, as the scaling will be applied to them.
        gold: (N,) gold columns.
        seed: draws the folds.
    """
    values = np.asarray(logits, dtype=np.float64)
    fold, rows = random_folds(len(gold), FOLDS, seed), np.arange(len(gold))
    return select_scaling_by_loss(
        SCALING_METHODS, values, gold, fold, lambda probs: -np.log(np.maximum(probs[rows, gold], 1e-15))
    )
