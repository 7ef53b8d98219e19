"""5-fold cross-validation: the probabilities of each text, from a student that was not trained on it."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from potstill.data.task import Task, content_key
from potstill.errors import BadData
from potstill.evaluation.cross_validation import fold_splits
from potstill.students import BASELINE_STUDENT, REGISTRY
from potstill.students.base import StudentConfig, TrainingData

FOLDS = 5
MIN_TEXTS = 20


def cross_val_probs(
    texts: Sequence[str], gold: NDArray[np.int64], task: Task, *, student: str = BASELINE_STUDENT, seed: int = 0
) -> NDArray[np.float64] | None:
    """Cross-validated probabilities of N labelled texts.

    Args:
        texts: N texts; equal ones are in the same fold.
        gold: (N,) label columns.
        task: the task, with K labels.
        student: the kind of student, and after a colon the weights to start from.
        seed: draws the folds.

    Returns:
        (N, K) probabilities; None with fewer than `MIN_TEXTS` texts or fewer than two labels.
    """
    if len(texts) < MIN_TEXTS or len(np.unique(gold)) < 2:
        return None
    kind, _, weights = student.partition(":")
    fold = _folds(texts, gold, seed)
    probs = np.zeros((len(texts), task.n_labels))
    for train, test in fold_splits(fold):
        model = REGISTRY.resolve(kind)(StudentConfig(task.labels, weights, task.descriptions, kind=task.kind))
        targets = np.eye(task.n_labels, dtype=np.float32)[gold[train]]
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                model.fit(TrainingData([texts[i] for i in train.tolist()], targets, seed=seed))
        except BadData:
            return None
        probs[test] = model.predict_proba([texts[i] for i in test.tolist()])
    return probs


def _folds(texts: Sequence[str], gold: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """(N,) fold numbers, stratified by label; the order of the texts is decided by their content alone."""
    fold = np.empty(len(texts), dtype=np.int64)
    fold_of: dict[str, int] = {}
    next_fold: dict[int, int] = {}
    order = sorted(range(len(texts)), key=lambda i: content_key("fold", seed, texts[i]))
    for i in order:
        label = int(gold[i])
        if texts[i] not in fold_of:
            at = next_fold.get(label, label)
            fold_of[texts[i]] = at % FOLDS
            next_fold[label] = at + 1
        fold[i] = fold_of[texts[i]]
    return fold
