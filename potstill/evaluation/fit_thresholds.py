"""Held-out texts with their sets of labels -> how scores become probabilities, and from which one on a label is given.

Everything is chosen by cross-validation, the simplest first: no scaling, one temperature, a scale and a shift a label
(Platt 1999); one threshold for all labels, or one a label (the S-cut of Yang 2001) where that wins.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from potstill.evaluation.calibration import Array, sigmoid
from potstill.evaluation.metrics import Score
from potstill.evaluation.multilabel_metrics import multilabel_ece, multilabel_macro_f1, multilabel_micro_f1
from potstill.evaluation.multilabel_thresholds import LabelScaling, LabelThresholds, MultilabelGuarantees

FOLDS = 5
THRESHOLD_GRID = tuple(step / 100 for step in range(2, 99))
L2_STRENGTH = 10.0  # of a label's scale and shift to the common ones, as in scaling.py
MIN_TEXTS_PER_LABEL = 8  # texts of a label below which it takes the common threshold
N_RESAMPLES = 200
BoolArray = NDArray[np.bool_]


def fit_multilabel_guarantees(
    logits: NDArray[np.floating], gold: NDArray[np.bool_], graph: str = "", seed: int = 0
) -> MultilabelGuarantees:
    """Everything that N held-out texts say about the scores of a student that gives several labels.

    Args:
        logits: (N, K) of texts that the student did not learn from.
        gold: (N, K) truths; N >= 50, or all of it is noise.
        graph: SHA-256 of the graph the logits come from.
        seed: draws folds and resamples.
    """
    values, truths = np.asarray(logits, dtype=np.float64), np.asarray(gold, dtype=np.bool_)
    fold = np.random.default_rng(seed).permutation(len(values)) % FOLDS
    losses: dict[str, Array] = {}
    probs: dict[str, Array] = {}
    for fit in LABEL_SCALING_METHODS:
        out, name = np.empty_like(values), ""
        for held in range(min(FOLDS, len(values))):
            scaling = fit(values[fold != held], truths[fold != held])
            out[fold == held], name = scaling.apply(values[fold == held]), scaling.method
        probs[name] = out
        losses[name] = -np.log(np.clip(np.where(truths, out, 1 - out), 1e-15, None)).sum(axis=1)
    best, chosen = "none", LABEL_SCALING_METHODS[0]
    for fit, name in zip(LABEL_SCALING_METHODS[1:], list(losses)[1:], strict=True):
        gain = losses[best] - losses[name]
        if gain.mean() > gain.std(ddof=1) / np.sqrt(len(gain)):
            best, chosen = name, fit
    never_empty = bool(truths.any(axis=1).all())
    cut, f1 = _choose_cut(probs[best], truths, fold, never_empty)
    return MultilabelGuarantees(
        graph=graph,
        n=len(values),
        scaling=chosen(values, truths),
        label_thresholds=cut,
        log_loss={name: float(loss.mean()) for name, loss in losses.items()},
        f1=f1,
        ece_before=_ece(truths, sigmoid(values), seed),
        ece_after=_ece(truths, probs[best], seed),
    )


def no_label_scaling(logits: Array, gold: BoolArray) -> LabelScaling:
    """The student's own probabilities."""
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
    """A scale and a shift a label, pulled towards the one scale by an L2 penalty against the summed log-loss."""
    from scipy.optimize import minimize

    middle, n_labels = label_temperature_scaling(logits, gold).scale[0], logits.shape[1]

    def loss(free: Array) -> tuple[float, Array]:
        spread, shift = free[:n_labels], free[n_labels:]
        scaled = logits * (middle * np.exp(spread))
        p = sigmoid(scaled + shift)
        off = p - gold
        slope = np.concatenate([(off * scaled).sum(axis=0), off.sum(axis=0)]) + L2_STRENGTH * free
        cross = -np.log(np.clip(np.where(gold, p, 1 - p), 1e-15, None)).sum()
        return float(cross + L2_STRENGTH / 2 * (free @ free)), slope

    found = minimize(loss, np.zeros(2 * n_labels), jac=True, method="L-BFGS-B", options={"maxiter": 60}).x
    scale = middle * np.exp(found[:n_labels])
    return LabelScaling("platt", tuple(scale.tolist()), tuple(found[n_labels:].tolist()))


LABEL_SCALING_METHODS: tuple[Callable[[Array, BoolArray], LabelScaling], ...] = (
    no_label_scaling,
    label_temperature_scaling,
    platt_scaling,
)


def fit_global_threshold(probs: Array, gold: BoolArray, never_empty: bool) -> LabelThresholds:
    """The one threshold with the most micro F1."""
    scored = [multilabel_micro_f1(gold, LabelThresholds((at,), never_empty).apply(probs)) for at in THRESHOLD_GRID]
    return LabelThresholds((THRESHOLD_GRID[int(np.argmax(scored))],), never_empty)


def fit_label_thresholds(probs: Array, gold: BoolArray, never_empty: bool) -> LabelThresholds:
    """For each label the threshold with its most F1; the common one for labels with few texts, and between equals."""
    common = fit_global_threshold(probs, gold, never_empty).thresholds[0]
    grid = np.array(sorted(THRESHOLD_GRID, key=lambda at: abs(at - common)))
    found = []
    for k in range(probs.shape[1]):
        given = probs[:, k, None] >= grid
        right = (given & gold[:, k, None]).sum(0)
        f1 = 2 * right / np.maximum(given.sum(0) + gold[:, k].sum(), 1)
        found.append(float(grid[f1.argmax()]) if gold[:, k].sum() >= MIN_TEXTS_PER_LABEL else common)
    return LabelThresholds(tuple(found), never_empty)


def _choose_cut(
    probs: Array, gold: BoolArray, fold: NDArray[np.int64], never_empty: bool
) -> tuple[LabelThresholds, dict[str, float]]:
    """The cut, and what each way of cutting reached on texts that its thresholds had not seen."""
    ways = {"global": fit_global_threshold, "per label": fit_label_thresholds}
    reached: dict[str, float] = {}
    for name, way in ways.items():
        given = np.zeros_like(gold)
        for held in range(FOLDS):
            if (fold == held).any() and (fold != held).any():
                cut = way(probs[fold != held], gold[fold != held], never_empty)
                given[fold == held] = cut.apply(probs[fold == held])
        reached[name] = (multilabel_micro_f1(gold, given) + multilabel_macro_f1(gold, given)) / 2
    best = max(reached, key=lambda name: reached[name])  # the first, simpler one between equals
    return ways[best](probs, gold, never_empty), reached


def _ece(gold: BoolArray, probs: Array, seed: int) -> Score:
    """With the interval of resampled texts, shifted by what resampling adds, as for single labels."""
    draw = np.random.default_rng(seed)
    value = multilabel_ece(gold, probs)
    rows = [draw.integers(0, len(gold), len(gold)) for _ in range(N_RESAMPLES)]
    values = [multilabel_ece(gold[some], probs[some]) for some in rows]
    low, high = np.percentile(values, [2.5, 97.5])
    added = float(np.mean(values)) - value
    return Score(value, max(float(low) - added, 0.0), max(float(high) - added, 0.0))
