"""Fits the scaling and the thresholds of a multi-label student on held-out texts.

Both are selected by cross-validation, simplest first: no scaling, one temperature, or a scale and a shift a label
(Platt 1999); one threshold for all labels, or one a label (S-cut: Yang 2001).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from potstill.evaluation.calibration import Array, sigmoid
from potstill.evaluation.cross_validation import fold_splits, random_folds, select_scaling_by_loss
from potstill.evaluation.metrics import Score
from potstill.evaluation.multilabel_metrics import multilabel_ece, multilabel_macro_f1, multilabel_micro_f1
from potstill.evaluation.multilabel_thresholds import LabelScaling, LabelThresholds, MultilabelGuarantees

FOLDS = 5
THRESHOLD_GRID = tuple(step / 100 for step in range(2, 99))
L2_STRENGTH = 10.0  # pulls a label's scale and shift to the common ones, as in scaling.py
MIN_TEXTS_PER_LABEL = 8  # a label with fewer texts takes the common threshold
N_RESAMPLES = 200
BoolArray = NDArray[np.bool_]


def fit_multilabel_guarantees(
    logits: NDArray[np.floating], gold: NDArray[np.bool_], graph: str = "", seed: int = 0
) -> MultilabelGuarantees:
    """Scaling and thresholds of a multi-label student's scores, from N held-out texts.

    Args:
        logits: (N, K) logits of texts that the student did not learn from.
        gold: (N, K) bool, the texts' labels; N >= 50, fewer give only noise.
        graph: SHA-256 of the graph the logits come from.
        seed: draws folds and resamples.
    """
    values, gold_ = np.asarray(logits, dtype=np.float64), np.asarray(gold, dtype=np.bool_)
    fold = random_folds(len(values), FOLDS, seed)
    selected = select_scaling_by_loss(
        LABEL_SCALING_METHODS,
        values,
        gold_,
        fold,
        lambda probs: -np.log(np.clip(np.where(gold_, probs, 1 - probs), 1e-15, None)).sum(axis=1),
    )
    never_empty = bool(gold_.any(axis=1).all())
    thresholds, f1 = select_thresholds(selected.probs, gold_, fold, never_empty)
    return MultilabelGuarantees(
        graph=graph,
        n=len(values),
        scaling=selected.scaling,
        label_thresholds=thresholds,
        log_loss=selected.log_loss,
        f1=f1,
        ece_before=_ece_with_interval(gold_, sigmoid(values), seed),
        ece_after=_ece_with_interval(gold_, selected.probs, seed),
    )


def no_label_scaling(logits: Array, gold: BoolArray) -> LabelScaling:
    """No scaling: the student's own probabilities."""
    return LabelScaling()


def label_temperature_scaling(logits: Array, gold: BoolArray) -> LabelScaling:
    """One scale for all labels."""
    from scipy.optimize import minimize_scalar

    def loss(log_scale: float) -> float:
        p = sigmoid(logits * np.exp(log_scale))
        return float(-np.log(np.clip(np.where(gold, p, 1 - p), 1e-15, None)).mean())

    found = minimize_scalar(loss, bounds=(np.log(0.05), np.log(20.0)), method="bounded").x
    return LabelScaling("temperature", (float(np.exp(found)),))


def platt_scaling(logits: Array, gold: BoolArray) -> LabelScaling:
    """A scale and a shift a label (Platt 1999), pulled to the common scale by an L2 penalty on the summed log-loss."""
    from scipy.optimize import minimize

    common, n_labels = label_temperature_scaling(logits, gold).scale[0], logits.shape[1]

    def loss(parameters: Array) -> tuple[float, Array]:
        log_ratio, shift = parameters[:n_labels], parameters[n_labels:]
        scaled = logits * (common * np.exp(log_ratio))
        p = sigmoid(scaled + shift)
        error = p - gold
        gradient = np.concatenate([(error * scaled).sum(axis=0), error.sum(axis=0)]) + L2_STRENGTH * parameters
        cross = -np.log(np.clip(np.where(gold, p, 1 - p), 1e-15, None)).sum()
        return float(cross + L2_STRENGTH / 2 * (parameters @ parameters)), gradient

    found = minimize(loss, np.zeros(2 * n_labels), jac=True, method="L-BFGS-B", options={"maxiter": 60}).x
    scale = common * np.exp(found[:n_labels])
    return LabelScaling("platt", tuple(scale.tolist()), tuple(found[n_labels:].tolist()))


LABEL_SCALING_METHODS: tuple[Callable[[Array, BoolArray], LabelScaling], ...] = (
    no_label_scaling,
    label_temperature_scaling,
    platt_scaling,
)


def fit_global_threshold(probs: Array, gold: BoolArray, never_empty: bool) -> LabelThresholds:
    """The one threshold that maximises micro F1."""
    f1 = [multilabel_micro_f1(gold, LabelThresholds((each,), never_empty).apply(probs)) for each in THRESHOLD_GRID]
    return LabelThresholds((THRESHOLD_GRID[int(np.argmax(f1))],), never_empty)


def fit_label_thresholds(probs: Array, gold: BoolArray, never_empty: bool) -> LabelThresholds:
    """For each label the threshold that maximises its F1; the common one for labels with few texts.

    Of equally good thresholds the one nearest to the common one is taken.
    """
    common = fit_global_threshold(probs, gold, never_empty).thresholds[0]
    grid = np.array(sorted(THRESHOLD_GRID, key=lambda each: abs(each - common)))
    found = []
    for k in range(probs.shape[1]):
        predicted = probs[:, k, None] >= grid
        correct = (predicted & gold[:, k, None]).sum(0)
        f1 = 2 * correct / np.maximum(predicted.sum(0) + gold[:, k].sum(), 1)
        found.append(float(grid[f1.argmax()]) if gold[:, k].sum() >= MIN_TEXTS_PER_LABEL else common)
    return LabelThresholds(tuple(found), never_empty)


def select_thresholds(
    probs: Array, gold: BoolArray, fold: NDArray[np.int64], never_empty: bool
) -> tuple[LabelThresholds, dict[str, float]]:
    """The better of one threshold and one a label, and method -> cross-validated mean of micro and macro F1."""
    methods = {"global": fit_global_threshold, "per label": fit_label_thresholds}
    f1: dict[str, float] = {}
    for name, fit in methods.items():
        predicted = np.zeros_like(gold)
        for train, held_out in fold_splits(fold):
            if len(train):
                predicted[held_out] = fit(probs[train], gold[train], never_empty).apply(probs[held_out])
        f1[name] = (multilabel_micro_f1(gold, predicted) + multilabel_macro_f1(gold, predicted)) / 2
    best = max(f1, key=lambda name: f1[name])  # in a tie the first, simpler one
    return methods[best](probs, gold, never_empty), f1


def _ece_with_interval(gold: BoolArray, probs: Array, seed: int) -> Score:
    """ECE with a bootstrap interval, shifted by the bias that resampling adds (see `metrics.bootstrap_interval`)."""
    draw = np.random.default_rng(seed)
    value = multilabel_ece(gold, probs)
    rows = [draw.integers(0, len(gold), len(gold)) for _ in range(N_RESAMPLES)]
    values = [multilabel_ece(gold[sample], probs[sample]) for sample in rows]
    low, high = np.percentile(values, [2.5, 97.5])
    bias = float(np.mean(values)) - value
    return Score(value, max(float(low) - bias, 0.0), max(float(high) - bias, 0.0))
