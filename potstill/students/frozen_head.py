"""The head on frozen embeddings: its regression, and what is selected by cross-validation before it is fitted.

Functions of (N, D) embeddings; no network.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from potstill.evaluation.calibration import log_softmax, softmax
from potstill.evaluation.cross_validation import fold_splits
from potstill.students.base import Floats
from potstill.students.encoder_options import TrainingStrategy
from potstill.students.encoder_training import EncodedBatch, soft_loss
from potstill.students.label_head import label_weights, name_evidence
from potstill.students.logistic_regression import Regression, SolverOptions, fit_regression

# Cross-validation of the head's penalty: the grid, and how many rows it needs and uses.
HEAD_C_GRID, MIN_ROWS_FOR_CV, MAX_ROWS_FOR_CV = (1.0, 10.0, 30.0), 64, 3000
CV_FOLDS = 3
# For multi-label tasks the best C lies between the first two of the other grid.
MULTILABEL_HEAD_C_GRID = (1.0, 3.0, 10.0, 30.0)
DEFAULT_C = 10.0
# With more rows per label, the label names add nothing.
MAX_ROWS_PER_LABEL_FOR_NAMES = 50
# With few rows and the label names: a head is pulled to the names if they fit the rows by so many standard deviations
# (`label_head.name_evidence`), to weights of this scale. Both and the grid of C were chosen on validation texts of five
# data sets (docs/log.md).
MIN_NAME_EVIDENCE, ANCHOR_SCALE, NAMED_HEAD_C_GRID = 2.0, 10.0, (10.0, 30.0, 100.0)
MANY_FOLDS, MAX_ROWS_FOR_MANY_FOLDS = 5, 100
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


@dataclass(frozen=True)
class NameRows:
    """The label names and descriptions: (M, D) embeddings, and M rows."""

    embeddings: Floats
    batch: EncodedBatch

    def added_to(self, embeddings: Floats, batch: EncodedBatch) -> tuple[Floats, EncodedBatch]:
        """(N + M, D) embeddings and rows, the names last."""
        return np.concatenate([embeddings, self.embeddings]), batch.concat(self.batch)


def label_names_help(
    embeddings: Floats, batch: EncodedBatch, names: NameRows, anchor_weights: Floats | None, strategy: TrainingStrategy
) -> bool:
    """Whether the cross-validated loss is smaller with the label names among the training rows.

    With `anchor_weights` the head is pulled to them, too. True without a test on few rows: label names are typical
    examples.
    """
    if strategy.options.anchor_at_names or strategy.options.few_shot:
        return True
    if len(embeddings) < max(MIN_ROWS_FOR_CV, 3 * batch.targets.shape[1]):
        return True
    if len(embeddings) > MAX_ROWS_PER_LABEL_FOR_NAMES * batch.targets.shape[1]:
        return False
    difference = 0.0
    for train, test in fold_splits(np.arange(len(embeddings)) % CV_FOLDS):
        if strategy.past_deadline():
            return False
        without = embeddings[train], batch.take(train)
        for sign, (x, rows), anchor in ((-1, without, None), (1, names.added_to(*without), anchor_weights)):
            fitted = fit_head(x, rows, DEFAULT_C, strategy, anchor)
            difference += sign * soft_loss(embeddings[test] @ fitted.weights + fitted.bias, batch.take(test))
    return difference < 0


def name_anchor(embeddings: Floats, batch: EncodedBatch, names: NameRows, strategy: TrainingStrategy) -> Floats | None:
    """(D, K) weights that the label names give, if the head is to be pulled to them and not to zero; else None.

    By default it is if the encoder stays frozen, there are few rows per label, all of them trusted, and the names fit
    them better than chance: names may be mere codes.
    """
    weights = label_weights(names.embeddings, names.batch.targets, ANCHOR_SCALE)
    anchors, few = strategy.options.anchor_at_names, MAX_ROWS_PER_LABEL_FOR_NAMES * batch.targets.shape[1]
    if anchors is None and _has_trusted_head(batch, strategy) and len(embeddings) <= few:
        counted = batch.sample_weight > 0
        anchors = name_evidence(embeddings[counted] @ weights, batch.targets[counted]) > MIN_NAME_EVIDENCE
    return weights if anchors else None


def _has_trusted_head(batch: EncodedBatch, strategy: TrainingStrategy) -> bool:
    """Whether the head is the last step, on rows that are all trusted.

    What a fine-tuning gains from another head to start from was not measured.
    """
    return strategy.options.mode == "frozen" and not strategy.options.few_shot and not batch.noisy.any()


def select_named_head_c(
    embeddings: Floats, batch: EncodedBatch, names: NameRows, anchor_weights: Floats | None, strategy: TrainingStrategy
) -> float:
    """The C of a head with the label names as rows, by its cross-validated loss on the other rows.

    The names are rows of every fold, so that a few rows are enough to choose.
    """
    if len(embeddings) < MANY_FOLDS or not (anchor_weights is not None or _has_trusted_head(batch, strategy)):
        return select_head_c(embeddings, batch, strategy)
    strategy.report_progress(0.15, "selecting the head's penalty")
    sample = np.arange(len(embeddings))[:MAX_ROWS_FOR_CV]  # the rows are shuffled
    n_folds = MANY_FOLDS if len(sample) < MAX_ROWS_FOR_MANY_FOLDS else CV_FOLDS
    losses = dict.fromkeys(NAMED_HEAD_C_GRID, 0.0)
    for train, test in fold_splits(sample % n_folds):
        x, rows = names.added_to(embeddings[train], batch.take(train))
        for c in NAMED_HEAD_C_GRID:
            if strategy.past_deadline():
                return DEFAULT_C
            fitted = fit_head(x, rows, c, strategy, anchor_weights)
            logs = log_softmax(embeddings[test] @ fitted.weights + fitted.bias)
            losses[c] -= float(batch.sample_weight[test] @ (batch.targets[test] * logs).sum(axis=1))
    return min(losses, key=lambda c: losses[c])
