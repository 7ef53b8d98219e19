"""Logistic regression on soft targets, multinomial or one a label: L-BFGS in float32 over sparse or dense features.

scikit-learn's takes one label a row; repeating rows for every label of a soft target costs K times the work. Here a
(N, K) target is one row. No class weights, no penalty but L2.
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
        steps: L-BFGS steps taken.
        converged: False if the steps or the time ran out first; what was learnt by then is kept.
    """

    weights: Floats
    bias: Floats
    steps: int
    converged: bool


@dataclass(frozen=True)
class SolverOptions:
    """How hard to try.

    Attributes:
        c: inverse strength of the L2 penalty, as scikit-learn's C.
        around: (D, K) weights that cost nothing: the penalty is on the distance to them. None means zero.
        max_steps: L-BFGS steps at most.
        tolerance: stop when the loss per row falls by less than this in a step.
        deadline: `time.monotonic()` to stop at.
        progress: called with (share done, a few words).
        multi: each label is decided by itself (sigmoid), rather than one of all (softmax).
    """

    c: float = 10.0
    anchor_weights: Floats | None = None
    max_iter: int = 200
    tolerance: float = 2e-5
    deadline: float | None = None
    progress: Callable[[float, str], None] | None = None
    multi: bool = False


def fit_regression(
    features: Any, targets: Floats, sample_weight: Floats, effort: SolverOptions, start: Regression | None = None
) -> Regression:
    """The W, b that minimise  sum_i rows_i * CE(softmax(x_i W + b), targets_i) + |W - around|^2 / (2 C).

    With `effort.multi` the cross-entropy is that of K sigmoids, summed over the labels.

    Args:
        features: (N, D) float32, scipy CSR or dense.
        targets: (N, K) float32, rows sum to one (`multi`: each in [0, 1]).
        rows: (N,) float32 weight of each row.
        effort: the penalty and when to stop.
        start: where to start from; None starts from `around`, or from zero.
    """
    d, k = features.shape[1], targets.shape[1]
    transposed = features.T.tocsr() if hasattr(features, "tocsr") else np.ascontiguousarray(features.T)
    around = None if effort.anchor_weights is None else effort.anchor_weights.astype(np.float32).ravel()
    targets, mass = np.asarray(targets, np.float32), float(sample_weight.sum())

    def loss_of(theta: Floats) -> tuple[float, Floats]:
        w = theta[: d * k].reshape(d, k)
        logits = features @ w + theta[d * k :]
        if effort.multi:
            small = np.exp(-np.abs(logits))
            likely = np.where(logits >= 0, 1 / (1 + small), small / (1 + small))
            cross = (np.maximum(logits, 0) + np.log1p(small)).sum(axis=1) - np.einsum("nk,nk->n", targets, logits)
        else:
            logits -= logits.max(axis=1, keepdims=True)
            likely = np.exp(logits)
            total = likely.sum(axis=1, keepdims=True)
            likely /= total
            cross = np.log(total[:, 0]) - np.einsum("nk,nk->n", targets, logits)
        likely -= targets
        likely *= sample_weight[:, None]
        slope = np.empty_like(theta)
        slope[: d * k] = (transposed @ likely).ravel()
        far = theta[: d * k] if around is None else theta[: d * k] - around
        slope[: d * k] += far / effort.c
        slope[d * k :] = likely.sum(axis=0)
        penalty = float(far @ far) / (2 * effort.c)
        return float(np.dot(cross.astype(np.float64), sample_weight)) + penalty, slope

    theta = np.zeros(d * k + k, dtype=np.float32)
    if around is not None:
        theta[: d * k] = around
    if start is not None:
        theta[: d * k], theta[d * k :] = start.weights.ravel(), start.bias
    loss, slope = loss_of(theta)
    moves: list[tuple[Floats, Floats, float]] = []
    step, converged, calm = 0, False, 0
    while step < effort.max_iter and not converged:
        if effort.deadline is not None and time.monotonic() > effort.deadline:
            break
        toward = _two_loop(slope, moves)
        downhill = float(slope @ toward)
        if downhill >= 0:  # float32 has nothing more to give
            converged = True
            break
        # The first step knows no curvature: one of unit length is safe, the line search halves it if not.
        size = 1.0 if moves else 1.0 / max(1e-12, float(np.linalg.norm(slope)))
        for _ in range(20):
            next_theta = theta + np.float32(size) * toward
            next_loss, next_slope = loss_of(next_theta)
            if next_loss <= loss + 1e-4 * size * downhill:
                break
            size /= 2
        else:
            converged = True
            break
        moved, turned = next_theta - theta, next_slope - slope
        curvature = float(moved @ turned)
        if curvature > 0:
            moves = [*moves[-(LBFGS_HISTORY - 1) :], (moved, turned, curvature)]
        step += 1
        # Two calm steps in a row: a single short one is common after a change of curvature.
        calm = calm + 1 if (loss - next_loss) < effort.tolerance * mass else 0
        converged = calm >= 2
        theta, loss, slope = next_theta, next_loss, next_slope
        if effort.progress is not None:
            effort.progress(step / effort.max_iter, f"regression step {step}, loss {loss / mass:.4f}")
    return Regression(theta[: d * k].reshape(d, k).copy(), theta[d * k :].copy(), step, converged)


def _two_loop(slope: Floats, moves: list[tuple[Floats, Floats, float]]) -> Floats:
    """Minus the L-BFGS estimate of inverse Hessian times slope (Nocedal and Wright, algorithm 7.4)."""
    q = -slope
    alphas: list[float] = []
    for moved, turned, curvature in reversed(moves):
        alpha = float(moved @ q) / curvature
        q -= np.float32(alpha) * turned
        alphas.append(alpha)
    if moves:
        _, turned, curvature = moves[-1]
        q *= np.float32(curvature / float(turned @ turned))
    for (moved, turned, curvature), alpha in zip(moves, reversed(alphas), strict=True):
        q += np.float32(alpha - float(turned @ q) / curvature) * moved
    return q


def to_csr(entries: SparseFeatures, width: int) -> Any:
    """The (N, V) float32 CSR matrix of a reader's entries."""
    from scipy.sparse import csr_matrix

    shape = (len(entries.starts) - 1, max(width, 1))
    return csr_matrix((entries.values, entries.ids, entries.starts), shape=shape)
