"""Selects the gold examples of a teacher's prompt."""

from __future__ import annotations

import numpy as np

from potstill.data.entities.pool import EntitySubset
from potstill.data.free_text.pool import FreeTextSubset
from potstill.data.label_sets import encode_label_set
from potstill.data.pool import Subset
from potstill.data.task import LabelledText, Task
from potstill.run.entity_examples import select_entity_examples
from potstill.run.free_text_examples import select_free_text_examples
from potstill.run.spec import Spec
from potstill.teachers.kinds import teacher_kind
from potstill.teachers.prompt_builder import MAX_FIXED_EXAMPLE_LABELS


def selects_examples_per_text(spec: Spec, task: Task) -> bool:
    """Whether the teacher selects examples for each text itself, by their similarity, and so is given all gold."""
    if spec.teacher is None or task.kind == "multi" or task.output is not None:
        return False
    if not teacher_kind(spec.teacher.kind).capabilities.picks_examples:
        return False
    options = spec.teacher.options
    if options.get("examples") == "nearest" or options.get("shortlist", "auto") not in ("auto", 0):
        return True
    many = task.n_labels > MAX_FIXED_EXAMPLE_LABELS and "shots" not in spec.procedure.options
    return many and options.get("examples", "auto") == "auto"


def select_examples(gold: Subset | EntitySubset | FreeTextSubset, spec: Spec, task: Task) -> list[LabelledText]:
    """`[procedure] shots` gold examples of each class; by default one, or none if there are many classes.

    All of the gold if the teacher selects examples for each text itself. In a task of entities see
    `entity_examples.select_entity_examples`, of free texts `free_text_examples.select_free_text_examples`.
    """
    if isinstance(gold, FreeTextSubset):
        return select_free_text_examples(gold, spec)
    if isinstance(gold, EntitySubset):
        return select_entity_examples(gold, spec, task)
    if task.kind == "multi":
        return _label_set_examples(gold, spec, task)
    if selects_examples_per_text(spec, task):
        return [LabelledText(text, task.labels[k]) for text, k in zip(gold.texts, gold.gold, strict=True)]
    shots = _shots(spec, task)
    order = np.random.default_rng(spec.seed).permutation(len(gold.texts))
    chosen = [i for k in range(task.n_labels) for i in [j for j in order if gold.gold[j] == k][:shots]]
    return [
        LabelledText(gold.texts[i], task.labels[gold.gold[i]]) for i in np.random.default_rng(0).permutation(chosen)
    ]


def _shots(spec: Spec, task: Task) -> int:
    return int(spec.procedure.options.get("shots", 1 if task.n_labels <= MAX_FIXED_EXAMPLE_LABELS else 0))


def _label_set_examples(gold: Subset, spec: Spec, task: Task) -> list[LabelledText]:
    """Texts with their sets of labels: enough to show each label, and no label at all, `shots` times."""
    if spec.teacher is None or not teacher_kind(spec.teacher.kind).capabilities.picks_examples:
        return []  # the others that can give several labels read no examples
    order = np.random.default_rng(spec.seed).permutation(len(gold.texts))
    without_label = (gold.gold == 1).sum(axis=1, keepdims=True) == 0
    has = np.hstack([gold.gold == 1, without_label])
    chosen = list(dict.fromkeys(i for k in range(has.shape[1]) for i in order[has[order, k]][: _shots(spec, task)]))
    names = [
        encode_label_set(label for label, given in zip(task.labels, row, strict=True) if given)
        for row in gold.gold == 1
    ]
    return [LabelledText(gold.texts[i], names[i]) for i in np.random.default_rng(0).permutation(chosen)]
