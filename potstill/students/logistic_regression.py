"""Logistic regression on soft targets, multinomial or one per label: L-BFGS in float32 on sparse or dense features.

scikit-learn's takes one label per row, and repeating each row for every label of a soft target costs K times the work.
L2 penalty only.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from potstill.models.features import SparseFeatures

Floats = NDArray[np.float32]
LBFGS_HISTORY = 8


@dataclass(frozen=True)
class Regression:
    """A fitted regression: logits are `features @ weights + bias`.

    Attributes:
        weights: (D, K) float32.
        bias: (K,) float32.
        steps: L-BFGS steps made.
        converged: False if `max_iter` or the deadline was reached first.
    """

    weights: Floats
    bias: Floats
    steps: int
    converged: bool


@dataclass(frozen=True)
class SolverOptions:
    """The penalty, and when to stop.

    Attributes:
        c: inverse strength of the L2 penalty, as scikit-learn's C.
        anchor_weights: (D, K) weights; the penalty is on the distance to them. None means zeros.
        max_iter: L-BFGS steps at most.
        tolerance: stop when the loss per unit of weight falls by less than this in two steps in a row.
        deadline: `time.monotonic()` at which to stop.
        progress: called with (share done, a few words).
        multi: K sigmoids rather than one softmax.
    """

    c: float = 10.0
    anchor_weights: Floats | None = None
    max_iter: int = 200
    tolerance: float = 2e-5
    deadline: float | None = None
    progress: Callable[[float, str], None] | None = None
    multi: bool = False


LossFunction = Callable[[Floats], tuple[float, Floats]]


def fit_regression(
    features: Any, targets: Floats, sample_weight: Floats, solver: SolverOptions, init_from: Regression | None = None
) -> Regression:
    """Minimise  sum_i sample_weight_i * CE(softmax(x_i W + b), targets_i) + |W - anchor_weights|^2 / (2 C).

    With `solver.multi` the cross-entropy is that of K sigmoids, summed over the labels.

    Args:
        features: (N, D) float32, scipy CSR or dense.
        targets: (N, K) float32, rows sum to one (`multi`: each in [0, 1]).
        sample_weight: (N,) float32.
        solver: the penalty, and when to stop.
        init_from: initial weights; None starts from the anchor weights, or from zero.
    """
    d, k = features.shape[1], targets.shape[1]
    anchor = None if solver.anchor_weights is None else solver.anchor_weights.astype(np.float32).ravel()
    theta = np.zeros(d * k + k, dtype=np.float32)
    if anchor is not None:
        theta[: d * k] = anchor
    if init_from is not None:
        theta[: d * k], theta[d * k :] = init_from.weights.ravel(), init_from.bias
    loss_function = _loss_function(features, np.asarray(targets, np.float32), sample_weight, solver, anchor)
    theta, steps, converged = _lbfgs(loss_function, theta, solver, float(sample_weight.sum()))
    return Regression(theta[: d * k].reshape(d, k).copy(), theta[d * k :].copy(), steps, converged)


def _loss_function(
    features: Any, targets: Floats, sample_weight: Floats, solver: SolverOptions, anchor: Floats | None
) -> LossFunction:
    """The penalised loss and its gradient as a function of the (D * K + K,) vector of W and b."""
    d, k = features.shape[1], targets.shape[1]
    transposed = features.T.tocsr() if hasattr(features, "tocsr") else np.ascontiguousarray(features.T)

    def loss_and_gradient(theta: Floats) -> tuple[float, Floats]:
        logits = features @ theta[: d * k].reshape(d, k) + theta[d * k :]
        if solver.multi:
            small = np.exp(-np.abs(logits))
            probs = np.where(logits >= 0, 1 / (1 + small), small / (1 + small))
            losses = (np.maximum(logits, 0) + np.log1p(small)).sum(axis=1) - np.einsum("nk,nk->n", targets, logits)
        else:
            logits -= logits.max(axis=1, keepdims=True)
            probs = np.exp(logits)
            total = probs.sum(axis=1, keepdims=True)
            probs /= total
            losses = np.log(total[:, 0]) - np.einsum("nk,nk->n", targets, logits)
        residuals = probs
        residuals -= targets
        residuals *= sample_weight[:, None]
        gradient = np.empty_like(theta)
        gradient[: d * k] = (transposed @ residuals).ravel()
        distance = theta[: d * k] if anchor is None else theta[: d * k] - anchor
        gradient[: d * k] += distance / solver.c
        gradient[d * k :] = residuals.sum(axis=0)
        penalty = float(distance @ distance) / (2 * solver.c)
        return float(np.dot(losses.astype(np.float64), sample_weight)) + penalty, gradient

    return loss_and_gradient


def _lbfgs(
    loss_function: LossFunction, theta: Floats, solver: SolverOptions, total_weight: float
) -> tuple[Floats, int, bool]:
    """L-BFGS with backtracking line search; the last point, the number of steps, and whether it converged."""
    loss, gradient = loss_function(theta)
    history: list[tuple[Floats, Floats, float]] = []
    step, converged, n_small = 0, False, 0
    while step < solver.max_iter and not converged:
        if solver.deadline is not None and time.monotonic() > solver.deadline:
            break
        direction = _two_loop(gradient, history)
        slope = float(gradient @ direction)
        if slope >= 0:  # the limit of float32
            return theta, step, True
        # The first step has no curvature estimate: length one, halved by the line search if necessary.
        size = 1.0 if history else 1.0 / max(1e-12, float(np.linalg.norm(gradient)))
        for _ in range(20):
            next_theta = theta + np.float32(size) * direction
            next_loss, next_gradient = loss_function(next_theta)
            if next_loss <= loss + 1e-4 * size * slope:
                break
            size /= 2
        else:
            return theta, step, True
        moved, turned = next_theta - theta, next_gradient - gradient
        curvature = float(moved @ turned)
        if curvature > 0:
            history = [*history[-(LBFGS_HISTORY - 1) :], (moved, turned, curvature)]
        step += 1
        # Two small steps in a row: a single one is common after a change of curvature.
        n_small = n_small + 1 if (loss - next_loss) < solver.tolerance * total_weight else 0
        converged = n_small >= 2
        theta, loss, gradient = next_theta, next_loss, next_gradient
        if solver.progress is not None:
            solver.progress(step / solver.max_iter, f"regression step {step}, loss {loss / total_weight:.4f}")
    return theta, step, converged


def _two_loop(gradient: Floats, history: list[tuple[Floats, Floats, float]]) -> Floats:
    """Minus the L-BFGS estimate of inverse Hessian times gradient (Nocedal and Wright, algorithm 7.4)."""
    q = -gradient
    alphas: list[float] = []
    for moved, turned, curvature in reversed(history):
        alpha = float(moved @ q) / curvature
        q -= np.float32(alpha) * turned
        alphas.append(alpha)
    if history:
        _, turned, curvature = history[-1]
        q *= np.float32(curvature / float(turned @ turned))
    for (moved, turned, curvature), alpha in zip(history, reversed(alphas), strict=True):
        q += np.float32(alpha - float(turned @ q) / curvature) * moved
    return q


def to_csr(features: SparseFeatures, width: int) -> Any:
    """The (N, V) float32 scipy CSR matrix of a vectorizer's features."""
    from scipy.sparse import csr_matrix

    shape = (len(features.starts) - 1, max(width, 1))
    return csr_matrix((features.values, features.ids, features.starts), shape=shape)
