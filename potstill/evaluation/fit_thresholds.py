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
from potstill.evaluation.multilabel_metrics import decision_ece, macro_f1, micro_f1
from potstill.evaluation.multilabel_thresholds import Cut, LabelScaling, SeveralTrust

FOLDS = 5
GRID = tuple(step / 100 for step in range(2, 99))
PULL = 10.0  # of a label's scale and shift to the common ones, as in scaling.py
FEWEST = 8  # texts of a label below which it takes the common threshold
DRAWS = 200
Truths = NDArray[np.bool_]


def measure_several(
    logits: NDArray[np.floating], gold: NDArray[np.bool_], graph: str = "", seed: int = 0
) -> SeveralTrust:
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
    for fit in METHODS:
        out, name = np.empty_like(values), ""
        for held in range(min(FOLDS, len(values))):
            scaling = fit(values[fold != held], truths[fold != held])
            out[fold == held], name = scaling.probs(values[fold == held]), scaling.method
        probs[name] = out
        losses[name] = -np.log(np.clip(np.where(truths, out, 1 - out), 1e-15, None)).sum(axis=1)
    best, chosen = "none", METHODS[0]
    for fit, name in zip(METHODS[1:], list(losses)[1:], strict=True):
        gain = losses[best] - losses[name]
        if gain.mean() > gain.std(ddof=1) / np.sqrt(len(gain)):
            best, chosen = name, fit
    never_empty = bool(truths.any(axis=1).all())
    cut, f1 = _choose_cut(probs[best], truths, fold, never_empty)
    return SeveralTrust(
        graph=graph,
        n=len(values),
        scaling=chosen(values, truths),
        cut=cut,
        log_loss={name: float(loss.mean()) for name, loss in losses.items()},
        f1=f1,
        ece_before=_ece(truths, sigmoid(values), seed),
        ece_after=_ece(truths, probs[best], seed),
    )


def no_scaling(logits: Array, gold: Truths) -> LabelScaling:
    """The student's own probabilities."""
    return LabelScaling()


def one_temperature(logits: Array, gold: Truths) -> LabelScaling:
    """One scale for all labels."""
    from scipy.optimize import minimize_scalar

    def loss(log_scale: float) -> float:
        p = sigmoid(logits * np.exp(log_scale))
        return float(-np.log(np.clip(np.where(gold, p, 1 - p), 1e-15, None)).mean())

    found = minimize_scalar(loss, bounds=(np.log(0.05), np.log(20.0)), method="bounded").x
    return LabelScaling("temperature", (float(np.exp(found)),))


def platt(logits: Array, gold: Truths) -> LabelScaling:
    """A scale and a shift a label, pulled towards the one scale by an L2 penalty against the summed log-loss."""
    from scipy.optimize import minimize

    middle, n_labels = one_temperature(logits, gold).scale[0], logits.shape[1]

    def loss(free: Array) -> tuple[float, Array]:
        spread, shift = free[:n_labels], free[n_labels:]
        scaled = logits * (middle * np.exp(spread))
        p = sigmoid(scaled + shift)
        off = p - gold
        slope = np.concatenate([(off * scaled).sum(axis=0), off.sum(axis=0)]) + PULL * free
        cross = -np.log(np.clip(np.where(gold, p, 1 - p), 1e-15, None)).sum()
        return float(cross + PULL / 2 * (free @ free)), slope

    found = minimize(loss, np.zeros(2 * n_labels), jac=True, method="L-BFGS-B", options={"maxiter": 60}).x
    scale = middle * np.exp(found[:n_labels])
    return LabelScaling("platt", tuple(scale.tolist()), tuple(found[n_labels:].tolist()))


METHODS: tuple[Callable[[Array, Truths], LabelScaling], ...] = (no_scaling, one_temperature, platt)


def global_cut(probs: Array, gold: Truths, never_empty: bool) -> Cut:
    """The one threshold with the most micro F1."""
    scored = [micro_f1(gold, Cut((at,), never_empty).chosen(probs)) for at in GRID]
    return Cut((GRID[int(np.argmax(scored))],), never_empty)


def label_cut(probs: Array, gold: Truths, never_empty: bool) -> Cut:
    """For each label the threshold with its most F1; the common one for labels with few texts, and between equals."""
    common = global_cut(probs, gold, never_empty).thresholds[0]
    grid = np.array(sorted(GRID, key=lambda at: abs(at - common)))
    found = []
    for k in range(probs.shape[1]):
        given = probs[:, k, None] >= grid
        right = (given & gold[:, k, None]).sum(0)
        f1 = 2 * right / np.maximum(given.sum(0) + gold[:, k].sum(), 1)
        found.append(float(grid[f1.argmax()]) if gold[:, k].sum() >= FEWEST else common)
    return Cut(tuple(found), never_empty)


def _choose_cut(probs: Array, gold: Truths, fold: NDArray[np.int64], never_empty: bool) -> tuple[Cut, dict[str, float]]:
    """The cut, and what each way of cutting reached on texts that its thresholds had not seen."""
    ways = {"global": global_cut, "per label": label_cut}
    reached: dict[str, float] = {}
    for name, way in ways.items():
        given = np.zeros_like(gold)
        for held in range(FOLDS):
            if (fold == held).any() and (fold != held).any():
                cut = way(probs[fold != held], gold[fold != held], never_empty)
                given[fold == held] = cut.chosen(probs[fold == held])
        reached[name] = (micro_f1(gold, given) + macro_f1(gold, given)) / 2
    best = max(reached, key=lambda name: reached[name])  # the first, simpler one between equals
    return ways[best](probs, gold, never_empty), reached


def _ece(gold: Truths, probs: Array, seed: int) -> Score:
    """With the interval of resampled texts, shifted by what resampling adds, as for single labels."""
    draw = np.random.default_rng(seed)
    value = decision_ece(gold, probs)
    rows = [draw.integers(0, len(gold), len(gold)) for _ in range(DRAWS)]
    values = [decision_ece(gold[some], probs[some]) for some in rows]
    low, high = np.percentile(values, [2.5, 97.5])
    added = float(np.mean(values)) - value
    return Score(value, max(float(low) - added, 0.0), max(float(high) - added, 0.0))
