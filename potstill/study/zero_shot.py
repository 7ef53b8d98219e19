"""The zero-shot encoder: a text gets the label whose name (and description) is nearest to it in embedding space.

A student predicts under its kind's `zero_shot_options`, untrained. Nothing is trained or calibrated.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from potstill.data.task import Task
from potstill.run.spec import ComponentSpec
from potstill.students.base import StudentConfig, TrainingData
from potstill.students.kinds import student_kind


def zero_shot_labels(student: ComponentSpec, task: Task, texts: Sequence[str]) -> NDArray[np.int64]:
    """(N,) columns of the labels nearest to N texts.

    Args:
        student: an encoder or static vectors; a kind with `zero_shot` and `vectors`.
        task: its label names are embedded.
        texts: N texts.

    Raises:
        BadSpec: a label has no name in words.
    """
    kind = student_kind(student.kind)
    options = {**kind.capabilities.quick_options, **kind.capabilities.zero_shot_options}
    untrained = kind(StudentConfig(task.labels, student.model, task.descriptions, options))
    untrained.fit(TrainingData((), np.zeros((0, task.n_labels), dtype=np.float32)))
    return np.asarray(untrained.predict_logits(texts).argmax(axis=1), dtype=np.int64)
