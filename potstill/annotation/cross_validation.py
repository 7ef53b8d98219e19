"""What models that did not learn a row think of it: cross-validated probabilities, by the quickest student there is."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from potstill.data.task import Task, content_key
from potstill.errors import BadData
from potstill.students import REGISTRY
from potstill.students.base import StudentConfig, TrainingData

FOLDS = 5
MIN_TEXTS = 20


def cross_val_probs(
    texts: Sequence[str], gold: NDArray[np.int64], task: Task, *, student: str = "linear", seed: int = 0
) -> NDArray[np.float64] | None:
    """(N, K) probabilities of each text by a student that learnt four fifths of the others; None if there are too few.

    Args:
        texts: N texts; equal ones are in the same fold.
        gold: (N,) label columns.
        task: with K labels.
        student: a name of the menu; "linear" is TF-IDF and logistic regression.
        seed: draws the folds.
    """
    if len(texts) < MIN_TEXTS or len(np.unique(gold)) < 2:
        return None
    kind, _, weights = student.partition(":")
    fold = _folds(texts, gold, seed)
    probs = np.zeros((len(texts), task.n_labels))
    for number in range(FOLDS):
        learn, asked = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
        if not len(asked):
            continue
        made = REGISTRY.resolve(kind)(StudentConfig(task.labels, weights, task.descriptions, kind=task.kind))
        targets = np.eye(task.n_labels, dtype=np.float32)[gold[learn]]
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                made.fit(TrainingData([texts[i] for i in learn.tolist()], targets, seed=seed))
        except BadData:
            return None
        probs[asked] = made.predict_proba([texts[i] for i in asked.tolist()])
    return probs


def _folds(texts: Sequence[str], gold: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """(N,) fold numbers: each label dealt out evenly, in an order that only their content decides."""
    fold = np.empty(len(texts), dtype=np.int64)
    seen: dict[str, int] = {}
    dealt: dict[int, int] = {}
    order = sorted(range(len(texts)), key=lambda i: content_key("fold", seed, texts[i]))
    for i in order:
        if texts[i] not in seen:
            at = dealt.get(int(gold[i]), int(gold[i]))
            seen[texts[i]] = at % FOLDS
            dealt[int(gold[i])] = at + 1
        fold[i] = seen[texts[i]]
    return fold
