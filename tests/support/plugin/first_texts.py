"""A plug-in recipe: the teacher answers about the first texts of the pool, and the student learns them and the gold."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from potstill.evaluation.calibration import softmax
from potstill.procedures.base import Ask, QuoteInputs, Recipe, quote_answers
from potstill.registry import Options, read_options
from potstill.run.run import Run
from potstill.students.base import Student


class FirstTextsOptions(Options):
    """How many texts of the pool the teacher answers about."""

    n_texts: int = Field(default=8, gt=0)


def first_texts(run: Run) -> Student:
    """The student after learning the gold and the answers."""
    options = read_options(FirstTextsOptions, "procedure 'first-texts'", run.spec.procedure.options)
    gold, pool = run.pool.subset("train"), run.pool.subset("pool")
    found = run.ask(run.teacher(), pool.texts[: options.n_texts])
    answered = [text for text, ok in zip(found.texts, found.answered, strict=True) if ok]
    targets = [gold.targets(run.task.n_labels), softmax(found.scores[found.answered]).astype(np.float32)]
    return run.learn([*gold.texts, *answered], np.concatenate(targets))


def quote(request: QuoteInputs[FirstTextsOptions]) -> tuple[Ask, ...]:
    """As many answers."""
    return quote_answers(request, request.options.n_texts)


RECIPE = Recipe("first-texts", first_texts, FirstTextsOptions, quote=quote)
