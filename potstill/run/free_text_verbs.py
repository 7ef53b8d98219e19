"""The verbs of a run on free texts, beside those of `Run`: `learn_free_text`.

As there, it looks in the store first, under a key of its content.
"""

from __future__ import annotations

import json
from dataclasses import replace

from potstill.data.free_text.pool import FreeTextPool, FreeTextSubset
from potstill.errors import BadSpec
from potstill.ledger.prices import Purpose
from potstill.run.learn_form import LearnKey, learn_form, training_progress
from potstill.run.learn_record import training_digest
from potstill.run.run import Run
from potstill.run.spec import ComponentSpec
from potstill.students.free_text_student import AnsweredTexts, FreeTextStudent, FreeTextTrainingData


def free_text_pool(run: Run) -> FreeTextPool:
    """The pool of a run on free texts. Raises BadSpec for another run."""
    pool: object = run.pool
    if not isinstance(pool, FreeTextPool):
        raise BadSpec(f"The task {run.task.name!r} has no answers in words.", "Give some: --form free")
    return pool


def answered_texts(subset: FreeTextSubset) -> AnsweredTexts:
    """The texts of a subset that have an answer, with all their references."""
    rows = [i for i, gold in enumerate(subset.gold) if gold]
    return AnsweredTexts([subset.texts[i] for i in rows], [subset.gold[i] or () for i in rows])


def learn_free_text(
    run: Run,
    train: AnsweredTexts,
    validation: AnsweredTexts,
    *,
    student: ComponentSpec | None = None,
    purpose: Purpose = "train",
) -> FreeTextStudent:
    """Train a student that answers in words; trained once, then loaded from the run's folder.

    Training may use all available money, stops at that deadline, and is charged the time it took.

    Args:
        run: the run.
        train: the texts to train on.
        validation: texts that say which weights are kept; may be none.
        student: its kind and options; None takes the spec's.
        purpose: what the training is for.

    Raises:
        BadSpec: the student gives no answers in words.
        BudgetExceeded: no money is available.
    """
    named, task = student or run.spec.student, run.task
    data = FreeTextTrainingData(train, validation, run.spec.seed, progress=training_progress(run, named))

    def fit(model: FreeTextStudent, limit: float | None) -> None:
        model.fit(replace(data, time_limit_s=limit))

    output = None if task.output is None else task.output.to_json()
    what = LearnKey("learn free text", [task.instruction, output], [_digest(part) for part in (train, validation)])
    return learn_form(run, named, what, len(train), fit, purpose)


def _digest(part: AnsweredTexts) -> str:
    pairs = zip(part.texts, part.references, strict=True)
    return training_digest([each for text, own in pairs for each in (text, json.dumps(list(own)))])
