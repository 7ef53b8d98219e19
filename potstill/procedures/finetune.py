"""FT: train the student on the gold labels, nothing else. The baseline that every other recipe has to beat."""

from __future__ import annotations

from potstill.errors import BadData
from potstill.procedures.base import ANY_TASK, Recipe, quote_nothing
from potstill.registry import NoOptions
from potstill.run.run import Run
from potstill.students.base import Student


def finetune(run: Run) -> Student:
    """The student trained on the gold labels of the train part.

    Raises:
        BadData: there are none.
    """
    gold = run.pool.subset("train")
    if not gold.texts:
        raise BadData("Fine-tuning needs labelled texts and there are none.", "Label some, or take --procedure kd.")
    return run.learn(gold.texts, gold.targets(run.task.n_labels))


RECIPE = Recipe("finetune", finetune, NoOptions, ANY_TASK, asks_teacher=False, quote=quote_nothing, calibration_folds=5)
