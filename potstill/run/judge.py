"""A run's student, its teacher and its rivals judged, where a text has one label and where it may have several.

The one place that knows how the two differ when a run is judged and told. Arrays and parts of a pool in, records out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from potstill.data.pool import Part
from potstill.data.task import Task
from potstill.evaluation import metrics
from potstill.evaluation.fit_thresholds import measure_several
from potstill.evaluation.metrics import Judgement, McNemar
from potstill.evaluation.multilabel_judge import judge_sets
from potstill.evaluation.multilabel_thresholds import Cut
from potstill.students.base import Student

ENOUGH = 50  # held-out texts below which thresholds chosen on them are noise
Floats = NDArray[np.floating]
Truths = NDArray[np.bool_]


@dataclass(frozen=True)
class Constant:
    """A model that says the same of every text: its judgement, and in a few words what it says."""

    judgement: Judgement
    about: str


def judge_probs(task: Task, gold: NDArray[np.integer], probs: Floats, cut: Cut | None = None) -> Judgement:
    """All that is said of (N, K) probabilities against the gold; `cut` says which of several labels are given."""
    if task.kind != "multi":
        return metrics.judge(gold, probs, task.labels)
    cut = cut or Cut()
    chosen = cut.chosen(np.nan_to_num(np.asarray(probs, dtype=np.float64)))
    return judge_sets(np.asarray(gold) == 1, probs, chosen, task.labels)


def judge_student(task: Task, student: Student, part: Part, held_out: Part) -> Judgement:
    """A student that was not exported, judged on a part; of several labels with thresholds from the held-out part."""
    if task.kind != "multi":
        return metrics.judge(part.gold, student.predict_proba(part.texts), task.labels)
    logits = student.predict_logits(part.texts)
    if len(held_out) < ENOUGH:
        return judge_probs(task, part.gold, 1 / (1 + np.exp(-logits.astype(np.float64))))
    trust = measure_several(student.predict_logits(held_out.texts), held_out.gold == 1)
    return judge_probs(task, part.gold, trust.scaling.probs(logits), trust.cut)


def cut_of(held_out: Part, probs: Floats) -> Cut:
    """The thresholds under which these (N, K) probabilities do best on the held-out part."""
    there = np.isfinite(probs).all(axis=1)
    if there.sum() < ENOUGH:
        return Cut()
    inside = np.clip(probs[there], 1e-6, 1 - 1e-6)
    return measure_several(np.log(inside / (1 - inside)), held_out.gold[there] == 1).cut


def majority(task: Task, gold: Part, test: Part) -> Constant:
    """Always the most frequent label."""
    counts = gold.targets(task.n_labels).sum(axis=0)
    probs = np.tile(counts / max(len(gold) if task.kind == "multi" else counts.sum(), 1), (len(test.texts), 1))
    top = float(probs[0].max())
    judged = judge_probs(task, test.gold, probs, Cut((top,)))
    return Constant(judged, f"always {task.labels[int(counts.argmax())]!r}")


def differ(task: Task, gold: NDArray[np.integer], ours: Truths, theirs: Truths) -> McNemar:
    """McNemar's test; of several labels a text counts as right if its whole set is. `ours`, `theirs`: (N, K) truths."""
    right = np.asarray(gold) == 1 if task.kind == "multi" else np.arange(task.n_labels) == np.asarray(gold)[:, None]
    wrong = [(np.asarray(given) != right).any(axis=1).astype(np.int64) for given in (ours, theirs)]
    return metrics.mcnemar(np.zeros(len(right), dtype=np.int64), *wrong)


def shown(task: Task, marks: Truths, probs: Floats | None = None) -> str:
    """The labels of one text for a reader: the one, or several, likeliest first, or a dash."""
    columns = np.flatnonzero(marks)
    if probs is not None:
        columns = columns[np.argsort(-np.asarray(probs)[columns], kind="stable")]
    return ", ".join(task.labels[k] for k in columns) or "–"
