"""Logits -> probabilities that mean what they say: nothing, one temperature, or one scale and one shift a label.

Which of the three is chosen by cross-validated log-loss, and a richer one has to win clearly: on few texts it would
fit noise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from potstill.evaluation.calibration import Array, fit_temperature, log_softmax, one_hot
from potstill.evaluation.guarantees import Scaling

FOLDS = 5
# Of a label's scale (as a logarithm) and shift to the one temperature: as if drawn around it with a deviation of 0.3.
L2_STRENGTH = 10.0
MAX_ROWS = 5000  # more texts do not change 2 K numbers


@dataclass(frozen=True)
class ScalingChoice:
    """A scaling and how it was chosen.

    Attributes:
        scaling: fitted on all texts.
        log_loss: method -> mean cross-validated log-loss.
        probs: (N, K) probabilities, each text's from a scaling of the chosen method that had not seen it.
    """

    scaling: Scaling
    log_loss: Mapping[str, float]
    probs: Array


def no_scaling(logits: NDArray[np.floating], gold: NDArray[np.integer]) -> Scaling:
    """The student's own probabilities."""
    return Scaling()


def temperature_scaling(logits: NDArray[np.floating], gold: NDArray[np.integer]) -> Scaling:
    """One temperature (Guo et al. 2017)."""
    return Scaling("temperature", scale=(1 / fit_temperature(logits, gold),))


def vector_scaling(logits: NDArray[np.floating], gold: NDArray[np.integer]) -> Scaling:
    """A scale and a shift for each label (Guo et al. 2017), pulled towards the one temperature by an L2 penalty.

    The penalty stands against the summed log-loss, so K labels with few texts each stay near the temperature.
    """
    from scipy.optimize import minimize

    middle = 1 / fit_temperature(logits, gold)
    if len(gold) > MAX_ROWS:
        some = np.random.default_rng(0).permutation(len(gold))[:MAX_ROWS]
        logits, gold = logits[some], gold[some]
    values = np.asarray(logits, dtype=np.float64)
    values = values - values.mean(axis=1, keepdims=True)
    n_labels = values.shape[1]
    target = one_hot(gold, n_labels).astype(np.float64)

    def loss(free: Array) -> tuple[float, Array]:
        spread, shift = free[:n_labels], free[n_labels:]
        scaled = values * (middle * np.exp(spread))
        logs = log_softmax(scaled + shift)
        off = np.exp(logs) - target
        slope = np.concatenate([(off * scaled).sum(axis=0), off.sum(axis=0)]) + L2_STRENGTH * free
        return float(-(logs * target).sum() + L2_STRENGTH / 2 * (free @ free)), slope

    found = minimize(loss, np.zeros(2 * n_labels), jac=True, method="L-BFGS-B", options={"maxiter": 60}).x
    scale, shift = middle * np.exp(found[:n_labels]), found[n_labels:]
    return Scaling("vector", tuple(scale.tolist()), tuple((shift - shift.mean()).tolist()))


ScalingMethod = Callable[[NDArray[np.floating], NDArray[np.integer]], Scaling]
SCALING_METHODS: tuple[ScalingMethod, ...] = (no_scaling, temperature_scaling, vector_scaling)  # the simplest first


def select_scaling(logits: NDArray[np.floating], gold: NDArray[np.integer], seed: int = 0) -> ScalingChoice:
    """The simplest of `METHODS` that no richer one beats by more than a standard error, in cross-validated log-loss.

    Args:
        logits: (N, K) of held-out texts; centred rows or not, it does not matter.
        gold: (N,) their right columns.
        seed: draws the folds.
    """
    values = np.asarray(logits, dtype=np.float64)
    values = values - values.mean(axis=1, keepdims=True)
    fold = np.random.default_rng(seed).permutation(len(gold)) % FOLDS
    rows = np.arange(len(gold))
    losses: dict[str, Array] = {}
    probs: dict[str, Array] = {}
    for fit in SCALING_METHODS:
        out, name = np.empty_like(values), ""
        for held in range(min(FOLDS, len(gold))):
            scaling = fit(values[fold != held], gold[fold != held])
            out[fold == held], name = scaling.apply(values[fold == held]), scaling.method
        probs[name] = out
        losses[name] = -np.log(np.maximum(out[rows, gold], 1e-15))
    best = "none"
    chosen: ScalingMethod = no_scaling
    for fit, name in zip(SCALING_METHODS[1:], list(losses)[1:], strict=True):
        gain = losses[best] - losses[name]
        if gain.mean() > gain.std(ddof=1) / np.sqrt(len(gain)):
            best, chosen = name, fit
    means = {name: float(loss.mean()) for name, loss in losses.items()}
    return ScalingChoice(chosen(values, gold), means, probs[best])
