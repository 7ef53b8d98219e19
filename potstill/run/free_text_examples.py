"""Selects the answered texts of a teacher's prompt in a task of free texts."""

from __future__ import annotations

import numpy as np

from potstill.data.free_text.pool import FreeTextSubset
from potstill.data.task import LabelledText
from potstill.run.spec import Spec

DEFAULT_SHOTS = 4
MAX_EXAMPLES, MAX_EXAMPLE_CHARACTERS = 12, 1200  # a prompt is paid for with each text


def select_free_text_examples(gold: FreeTextSubset, spec: Spec) -> list[LabelledText]:
    """`[procedure] shots` texts in random order, with their first references; at most `MAX_EXAMPLES`."""
    shots = min(int(spec.procedure.options.get("shots", DEFAULT_SHOTS)), MAX_EXAMPLES)
    chosen: list[LabelledText] = []
    for i in np.random.default_rng(spec.seed).permutation(len(gold)).tolist():
        references = gold.gold[i]
        if references and len(gold.texts[i]) + len(references[0]) <= MAX_EXAMPLE_CHARACTERS:
            chosen.append(LabelledText(gold.texts[i], references[0]))
        if len(chosen) >= shots:
            break
    return chosen[:shots]
