"""FT: train the student on the gold labels, nothing else. The baseline that every other recipe has to beat."""

from __future__ import annotations

from potstill.errors import BadData
from potstill.procedures.base import ANY_TASK, FormRecipe, Recipe, quote_nothing
from potstill.registry import NoOptions
from potstill.run.entity_verbs import entity_pool, learn_entities, marked_texts
from potstill.run.free_text_verbs import answered_texts, free_text_pool, learn_free_text
from potstill.run.run import Run
from potstill.students.base import Student
from potstill.students.entity_student import EntityStudent
from potstill.students.free_text_student import FreeTextStudent


def finetune(run: Run) -> Student:
    """The student trained on the gold labels of the train part.

    Raises:
        BadData: there are none.
    """
    gold = run.pool.subset("train")
    if not gold.texts:
        raise BadData("Fine-tuning needs labelled texts and there are none.", "Label some, or take --procedure kd.")
    return run.learn(gold.texts, gold.targets(run.task.n_labels))


def finetune_entities(run: Run) -> EntityStudent:
    """The student trained on the marked texts of the train part; training ends by entity F1 on the validation part."""
    pool = entity_pool(run)
    return learn_entities(run, marked_texts(pool.subset("train")), marked_texts(pool.subset("validation")))


def finetune_free_text(run: Run) -> FreeTextStudent:
    """The student trained on the answers of the train part; the validation part says which weights are kept."""
    pool = free_text_pool(run)
    return learn_free_text(run, answered_texts(pool.subset("train")), answered_texts(pool.subset("validation")))


RECIPE = Recipe(
    "finetune",
    finetune,
    NoOptions,
    ANY_TASK,
    asks_teacher=False,
    quote=quote_nothing,
    calibration_folds=5,
    forms={
        "entities": FormRecipe(finetune_entities, quote_nothing),
        "free": FormRecipe(finetune_free_text, quote_nothing),
    },
)
