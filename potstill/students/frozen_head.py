"""The head on frozen embeddings: its regression, and what is selected by cross-validation before it is fitted.

Functions of (N, D) embeddings; no network.
"""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import NDArray

from potstill.evaluation.calibration import softmax
from potstill.evaluation.cross_validation import fold_splits
from potstill.students.base import Floats
from potstill.students.encoder_options import TrainingStrategy
from potstill.students.encoder_training import EncodedBatch, soft_loss
from potstill.students.logistic_regression import Regression, SolverOptions, fit_regression

# Cross-validation of the head's penalty: the grid, and how many rows it needs and uses.
HEAD_C_GRID, MIN_ROWS_FOR_CV, MAX_ROWS_FOR_CV = (1.0, 10.0, 30.0), 64, 3000
CV_FOLDS = 3
# For multi-label tasks the best C lies between the first two of the other grid.
MULTILABEL_HEAD_C_GRID = (1.0, 3.0, 10.0, 30.0)
DEFAULT_C = 10.0
# With more rows per label, the label names add nothing.
MAX_ROWS_PER_LABEL_FOR_NAMES = 50
# Cross-validation that filters noisy labels: folds, C, and the rows per label it needs.
NOISE_FILTER_FOLDS, NOISE_FILTER_C, MIN_ROWS_PER_LABEL_FOR_NOISE_FILTER = 5, 1.0, 30
# A target of at least this probability says nothing of how sure its giver is.
ONE_HOT = 0.999
# Seconds for the regression after the deadline: without it, no head is fitted at all.
GRACE_S = 1.0


def fit_head(
    embeddings: Floats,
    batch: EncodedBatch,
    c: float,
    strategy: TrainingStrategy,
    anchor_weights: Floats | None = None,
) -> Regression:
    """Fit a linear head on (N, D) embeddings; see `fit_regression`."""
    deadline = None if strategy.deadline is None else max(strategy.deadline, time.monotonic() + GRACE_S)
    solver = SolverOptions(c=c, anchor_weights=anchor_weights, tolerance=1e-5, deadline=deadline, multi=batch.multi)
    return fit_regression(embeddings, batch.targets, batch.sample_weight, solver)


def confirmed_rows(embeddings: Floats, batch: EncodedBatch, strategy: TrainingStrategy) -> NDArray[np.bool_]:
    """(N,) bool, False for noisy rows whose label a regression contradicts that was fitted without the row.

    Cross-validated disagreement finds label errors (confident learning: Northcutt et al. 2021): where teacher and
    student agree, the label is right far more often. Soft targets say how sure the teacher is, so the more sure of the
    two decides, by the product of their probabilities; one-hot targets do not, and any contradiction counts.
    """
    n, k = len(embeddings), batch.targets.shape[1]
    confirmed = np.ones(n, dtype=np.bool_)
    has_noise = bool(batch.noisy.any()) and not strategy.options.trust_labels
    if not has_noise or batch.multi or n < MIN_ROWS_PER_LABEL_FOR_NOISE_FILTER * k:
        return confirmed
    strategy.report_progress(0.15, "cross-validating the teacher's labels")
    is_soft = says_how_sure(batch)
    for train, test in fold_splits(np.arange(n) % NOISE_FILTER_FOLDS):
        if strategy.past_deadline():
            return np.ones(n, dtype=np.bool_)
        fitted = fit_head(embeddings[train], batch.take(train), NOISE_FILTER_C, strategy)
        opinions = softmax(embeddings[test] @ fitted.weights + fitted.bias)
        targets = batch.targets[test]
        agreed = (opinions * targets if is_soft else opinions).argmax(axis=1)
        confirmed[test] = ~batch.noisy[test] | (agreed == targets.argmax(axis=1))
    return confirmed


def says_how_sure(batch: EncodedBatch) -> bool:
    """Whether the targets of the noisy rows are soft, not one-hot."""
    return bool((batch.targets[batch.noisy].max(axis=1) < ONE_HOT).any())


def select_head_c(embeddings: Floats, batch: EncodedBatch, strategy: TrainingStrategy) -> float:
    """The C with the smallest cross-validated loss."""
    if strategy.options.few_shot or len(embeddings) < max(MIN_ROWS_FOR_CV, 3 * batch.targets.shape[1]):
        return DEFAULT_C
    strategy.report_progress(0.15, "selecting the head's penalty")
    sample = np.random.default_rng(strategy.seed).permutation(len(embeddings))[:MAX_ROWS_FOR_CV]
    grid = MULTILABEL_HEAD_C_GRID if batch.multi else HEAD_C_GRID
    losses = dict.fromkeys(grid, 0.0)
    for in_train, in_test in fold_splits(np.arange(len(sample)) % CV_FOLDS):
        train, test = sample[in_train], sample[in_test]
        for c in grid:
            if strategy.past_deadline():
                return DEFAULT_C
            fitted = fit_head(embeddings[train], batch.take(train), c, strategy)
            losses[c] += soft_loss(embeddings[test] @ fitted.weights + fitted.bias, batch.take(test))
    return min(losses, key=lambda c: losses[c])


def label_names_help(
    embeddings: Floats,
    batch: EncodedBatch,
    name_embeddings: Floats,
    label_names: EncodedBatch,
    strategy: TrainingStrategy,
) -> bool:
    """Whether the cross-validated loss is smaller with the label names among the training rows.

    True without a test on few rows: label names are typical examples.
    """
    if strategy.options.few_shot or len(embeddings) < max(MIN_ROWS_FOR_CV, 3 * batch.targets.shape[1]):
        return True
    if len(embeddings) > MAX_ROWS_PER_LABEL_FOR_NAMES * batch.targets.shape[1]:
        return False
    difference = 0.0
    for train, test in fold_splits(np.arange(len(embeddings)) % CV_FOLDS):
        if strategy.past_deadline():
            return False
        without = batch.take(train)
        for sign, x, rows in (
            (-1, embeddings[train], without),
            (1, np.concatenate([embeddings[train], name_embeddings]), without.concat(label_names)),
        ):
            fitted = fit_head(x, rows, DEFAULT_C, strategy)
            difference += sign * soft_loss(embeddings[test] @ fitted.weights + fitted.bias, batch.take(test))
    return difference < 0
