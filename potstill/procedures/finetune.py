"""FT: teach the student the gold labels, nothing else. The comparison every other recipe has to win."""

from __future__ import annotations

import numpy as np

from potstill.errors import BadData
from potstill.run import Run
from potstill.students.base import Floats, Student


def finetune(run: Run) -> Student:
    """The student after learning the gold labels of the train part.

    Raises:
        BadData: there are none.
    """
    gold = run.pool.part("train")
    if not gold.texts:
        raise BadData("Fine-tuning needs labelled texts and there are none.", "Label some, or take --procedure kd.")
    return run.learn(gold.texts, one_hot(gold.gold, run.task.n_labels))


def one_hot(gold: np.ndarray, n_labels: int) -> Floats:
    """(N,) label columns -> (N, K) float32 targets."""
    return np.eye(n_labels, dtype=np.float32)[gold]
