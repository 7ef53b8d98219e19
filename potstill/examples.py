"""Which gold examples a teacher is offered for its prompt."""

from __future__ import annotations

import numpy as np

from potstill.pool import Part
from potstill.spec import Spec
from potstill.task import Task, Written

MANY_LABELS = 20  # above so many, a prompt with an example of each is too long to be the default


def picks_examples(spec: Spec) -> bool:
    """Whether the teacher picks examples and labels for each text, by how near they are, and so wants all gold."""
    options = spec.teacher.options if spec.teacher else {}
    return options.get("examples") == "nearest" or options.get("shortlist", "auto") not in ("auto", 0)


def offered_examples(gold: Part, spec: Spec, task: Task) -> list[Written]:
    """`[procedure] shots` gold examples of each class; by default one, or none above `MANY_LABELS` classes.

    All of the gold, where the teacher picks for each text what it shows.
    """
    if picks_examples(spec):
        return [Written(text, task.labels[k]) for text, k in zip(gold.texts, gold.gold, strict=True)]
    shots = int(spec.procedure.options.get("shots", 1 if task.n_labels <= MANY_LABELS else 0))
    order = np.random.default_rng(spec.seed).permutation(len(gold.texts))
    chosen = [i for k in range(task.n_labels) for i in [j for j in order if gold.gold[j] == k][:shots]]
    return [Written(gold.texts[i], task.labels[gold.gold[i]]) for i in np.random.default_rng(0).permutation(chosen)]
