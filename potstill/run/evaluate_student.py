"""Evaluation of a run's student, teacher and baselines, for tasks with one label a text and with several.

The difference between the two is handled here, so that reports treat both alike. Arrays and subsets in, records out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from potstill.data.pool import Subset
from potstill.data.task import Task
from potstill.evaluation import metrics
from potstill.evaluation.fit_thresholds import fit_multilabel_guarantees
from potstill.evaluation.metrics import EvaluationResult, McNemar
from potstill.evaluation.multilabel_evaluation import compute_multilabel_metrics
from potstill.evaluation.multilabel_thresholds import LabelThresholds
from potstill.students.base import Student

MIN_HELD_OUT = 50  # held-out texts below which thresholds chosen on them are noise
Floats = NDArray[np.floating]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True)
class ConstantBaseline:
    """A model that predicts the same for every text: its evaluation, and its prediction in a few words."""

    evaluation: EvaluationResult
    description: str


def evaluate_probs(
    task: Task, gold: NDArray[np.integer], probs: Floats, thresholds: LabelThresholds | None = None
) -> EvaluationResult:
    """Evaluate (N, K) probabilities against the gold; in a multi-label task `thresholds` decide which are given."""
    if task.kind != "multi":
        return metrics.compute_metrics(gold, probs, task.labels)
    thresholds = thresholds or LabelThresholds()
    given = thresholds.apply(np.nan_to_num(np.asarray(probs, dtype=np.float64)))
    return compute_multilabel_metrics(np.asarray(gold) == 1, probs, given, task.labels)


def evaluate_student(task: Task, student: Student, part: Subset, held_out: Subset) -> EvaluationResult:
    """Evaluate a student before its export; with several labels a text, thresholds come from the held-out part."""
    if task.kind != "multi":
        return metrics.compute_metrics(part.gold, student.predict_proba(part.texts), task.labels)
    logits = student.predict_logits(part.texts)
    if len(held_out) < MIN_HELD_OUT:
        return evaluate_probs(task, part.gold, 1 / (1 + np.exp(-logits.astype(np.float64))))
    guarantees = fit_multilabel_guarantees(student.predict_logits(held_out.texts), held_out.gold == 1)
    return evaluate_probs(task, part.gold, guarantees.scaling.apply(logits), guarantees.label_thresholds)


def tune_label_thresholds(held_out: Subset, probs: Floats) -> LabelThresholds:
    """The thresholds that maximise F1 of (N, K) probabilities on the held-out part; rows of NaN are left out."""
    finite = np.isfinite(probs).all(axis=1)
    if finite.sum() < MIN_HELD_OUT:
        return LabelThresholds()
    inside = np.clip(probs[finite], 1e-6, 1 - 1e-6)
    return fit_multilabel_guarantees(np.log(inside / (1 - inside)), held_out.gold[finite] == 1).label_thresholds


def majority_baseline(task: Task, gold: Subset, test: Subset) -> ConstantBaseline:
    """The most frequent label for every text."""
    counts = gold.targets(task.n_labels).sum(axis=0)
    probs = np.tile(counts / max(len(gold) if task.kind == "multi" else counts.sum(), 1), (len(test.texts), 1))
    top = float(probs[0].max())
    evaluation = evaluate_probs(task, test.gold, probs, LabelThresholds((top,)))
    return ConstantBaseline(evaluation, f"always {task.labels[int(counts.argmax())]!r}")


def compare_predictions(task: Task, gold: NDArray[np.integer], ours: BoolArray, theirs: BoolArray) -> McNemar:
    """McNemar's test of the (N, K) labels given by two models; a text is right if its whole set of labels is."""
    right = np.asarray(gold) == 1 if task.kind == "multi" else np.arange(task.n_labels) == np.asarray(gold)[:, None]
    wrong = [(np.asarray(given) != right).any(axis=1).astype(np.int64) for given in (ours, theirs)]
    return metrics.mcnemar(np.zeros(len(right), dtype=np.int64), *wrong)


def display_labels(task: Task, indicator: BoolArray, probs: Floats | None = None) -> str:
    """The labels of one text in words, the most probable first; a dash for none."""
    columns = np.flatnonzero(indicator)
    if probs is not None:
        columns = columns[np.argsort(-np.asarray(probs)[columns], kind="stable")]
    return ", ".join(task.labels[k] for k in columns) or "–"
