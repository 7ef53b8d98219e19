"""Selects the marked texts of a teacher's prompt in a task of entities."""

from __future__ import annotations

import numpy as np

from potstill.data.entities.build import encode_entities
from potstill.data.entities.pool import EntitySubset
from potstill.data.task import LabelledText, Task
from potstill.run.spec import Spec

DEFAULT_SHOTS = 1
MAX_EXAMPLES, MAX_EXAMPLE_CHARACTERS = 12, 1200  # a prompt is paid for with each text


def select_entity_examples(gold: EntitySubset, spec: Spec, task: Task) -> list[LabelledText]:
    """Texts that show each type `[procedure] shots` times, and as many without an entity; at most `MAX_EXAMPLES`.

    Texts are taken in random order if they show a type that is not shown often enough yet, the rarest types first.
    Their label is the entities as `encode_entities` writes them.
    """
    shots = int(spec.procedure.options.get("shots", DEFAULT_SHOTS))
    order = np.random.default_rng(spec.seed).permutation(len(gold)).tolist()
    marked = [i for i in order if gold.gold[i] is not None and len(gold.texts[i]) <= MAX_EXAMPLE_CHARACTERS]
    with_type: dict[str, list[int]] = {name: [] for name in task.labels}
    for i in marked:
        for name in {each.type for each in gold.gold[i] or ()}:
            with_type[name].append(i)
    groups = [*sorted(with_type.values(), key=len), [i for i in marked if not gold.gold[i]]]
    chosen: dict[int, None] = {}
    for group in groups:
        missing = shots - sum(i in chosen for i in group)
        chosen |= dict.fromkeys([i for i in group if i not in chosen][: max(missing, 0)])
    kept = np.random.default_rng(0).permutation(list(chosen)[:MAX_EXAMPLES]).tolist()
    return [LabelledText(gold.texts[i], encode_entities(gold.gold[i] or ())) for i in kept]
