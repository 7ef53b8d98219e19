"""Which gold examples a teacher is offered for its prompt."""

from __future__ import annotations

import numpy as np

from potstill.data.label_sets import canonical
from potstill.data.pool import Part
from potstill.data.task import Task, Written
from potstill.run.spec import Spec
from potstill.teachers.question import MANY_LABELS

CHAT = ("openai", "anthropic")  # they pick by themselves where there are many labels


def picks_examples(spec: Spec, task: Task) -> bool:
    """Whether the teacher picks examples and labels for each text, by how near they are, and so wants all gold."""
    if spec.teacher is None or task.kind == "multi":
        return False
    options = spec.teacher.options
    if options.get("examples") == "nearest" or options.get("shortlist", "auto") not in ("auto", 0):
        return True
    many = task.n_labels > MANY_LABELS and "shots" not in spec.procedure.options
    return many and spec.teacher.kind in CHAT and options.get("examples", "auto") == "auto"


def offered_examples(gold: Part, spec: Spec, task: Task) -> list[Written]:
    """`[procedure] shots` gold examples of each class; by default one, or none above `MANY_LABELS` classes.

    All of the gold, where the teacher picks for each text what it shows.
    """
    if task.kind == "multi":
        return _sets(gold, spec, task)
    if picks_examples(spec, task):
        return [Written(text, task.labels[k]) for text, k in zip(gold.texts, gold.gold, strict=True)]
    shots = _shots(spec, task)
    order = np.random.default_rng(spec.seed).permutation(len(gold.texts))
    chosen = [i for k in range(task.n_labels) for i in [j for j in order if gold.gold[j] == k][:shots]]
    return [Written(gold.texts[i], task.labels[gold.gold[i]]) for i in np.random.default_rng(0).permutation(chosen)]


def _shots(spec: Spec, task: Task) -> int:
    return int(spec.procedure.options.get("shots", 1 if task.n_labels <= MANY_LABELS else 0))


def _sets(gold: Part, spec: Spec, task: Task) -> list[Written]:
    """Texts with their whole sets of labels: as many as show each label, and no label at all, so many times."""
    if spec.teacher is None or spec.teacher.kind not in CHAT:
        return []  # the others that can say several labels read no examples
    order = np.random.default_rng(spec.seed).permutation(len(gold.texts))
    with_none = (gold.gold == 1).sum(axis=1, keepdims=True) == 0
    has = np.hstack([gold.gold == 1, with_none])
    chosen = list(dict.fromkeys(i for k in range(has.shape[1]) for i in order[has[order, k]][: _shots(spec, task)]))
    names = [canonical(label for label, there in zip(task.labels, row, strict=True) if there) for row in gold.gold == 1]
    return [Written(gold.texts[i], names[i]) for i in np.random.default_rng(0).permutation(chosen)]
