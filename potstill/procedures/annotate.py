"""Annotate: people label texts of the pool, and the student is trained on their labels and the gold.

"Ann." in Kang et al. 2023: the whole budget buys labels. With several rounds a student in between selects the texts it
is least certain of (uncertainty sampling: Lewis and Gale 1994; Settles 2009).
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from potstill.annotation import summarise
from potstill.data.task import ANSWERS
from potstill.errors import BadData, BadSpec
from potstill.evaluation.calibration import Calibration
from potstill.ledger.store import AnnotationStore
from potstill.procedures.annotate_forms import annotate_form
from potstill.procedures.annotators import affordable_texts, open_annotator
from potstill.procedures.base import Ask, FormRecipe, QuoteInputs, Recipe, quote_answers
from potstill.procedures.cold_start import DEFAULT_COLD_START, ColdStart, embedding_micros, select_first_texts
from potstill.procedures.pgkd.form_tasks import EntityTask, FreeTextTask
from potstill.procedures.query_strategies import entropy_sampling, margin_sampling, random_sampling
from potstill.registry import Options
from potstill.run import Answers
from potstill.run.entity_verbs import entity_pool
from potstill.run.free_text_verbs import free_text_pool
from potstill.run.notes import Annotated
from potstill.run.open_teacher import training_reserve
from potstill.run.run import Run
from potstill.run.spec import ComponentSpec
from potstill.students.base import Floats, Student
from potstill.students.entity_student import EntityStudent
from potstill.students.free_text_student import FreeTextStudent
from potstill.teachers import DEFAULT_ANNOTATOR
from potstill.teachers.base import Teacher

OPTIONS_OF_LABELS = ("rounds", "query_strategy", "cold_start")


class AnnotateOptions(Options):
    """`[procedure] name = "annotate"`.

    Attributes:
        n_texts: how many texts people label; None takes as many as the money buys, at most all.
        rounds: the number of parts they are labelled in; before each but the first a student is trained on the labels
            so far and selects the texts.
        query_strategy: which texts come next: "random", or those whose prediction has the smallest "margin" or the
            highest "entropy".
        cold_start: which texts come first if no two classes have a label: "max_herding", those that cover the pool in
            the student's embedding space, or "random".

    In a text-to-text task people get texts in random order, at once: the last three are refused.
    """

    n_texts: int | None = Field(default=None, gt=0)
    rounds: int = Field(default=1, ge=1, le=1000)
    query_strategy: Literal["random", "margin", "entropy"] = "random"
    cold_start: ColdStart = DEFAULT_COLD_START


def annotate(run: Run) -> Student:
    """The student trained on people's labels of `n_texts` texts of the pool, and on the gold labels.

    Raises:
        BadData: there are no unlabelled texts, or no text got a label.
        BadSpec: an invalid option, or a teacher that is not human.
        Waiting: people have to label first.
    """
    options = RECIPE.read_options(run.spec)
    pool = run.pool.subset("pool")
    if not pool.texts:
        raise BadData("There are no unlabelled texts for people to label.", "Give some with --pool FILE.")
    annotator = open_annotator(run, run.spec.teacher or ComponentSpec(name=DEFAULT_ANNOTATOR))
    n_texts = affordable_texts(run, annotator, options.n_texts, len(pool.texts))
    answers: list[Answers] = []
    unlabelled = np.arange(len(pool.texts))
    for number in range(options.rounds):
        n = (n_texts * (number + 1)) // options.rounds - (n_texts * number) // options.rounds
        rows = unlabelled[_select(run, options, answers, [pool.texts[row] for row in unlabelled], n)]
        unlabelled = np.setdiff1d(unlabelled, rows)
        texts = [pool.texts[row] for row in rows]
        # The first texts are chosen at the expense of training, so that as many can be labelled as were planned.
        with run.ledger.reserve("training", training_reserve(run.spec) - embedding_micros(run)):
            answers.append(run.ask(annotator, texts))
    _record(run, annotator, answers)
    return _train(run, answers)


def _select(
    run: Run, options: AnnotateOptions, answers: Sequence[Answers], texts: Sequence[str], n: int
) -> NDArray[np.int64]:
    """The (n,) rows of `texts` to label next; by `cold_start` until the labels so far name two classes."""
    rng = np.random.default_rng((run.spec.seed, len(answers)))
    labelled, targets = _training_rows(run, answers)
    n_classes = int((targets.sum(axis=0) > 0.5).sum())
    if n_classes < 2:
        return np.array(select_first_texts(run, texts, n, options.cold_start), dtype=np.int64)
    if options.query_strategy == "random":
        return random_sampling(np.arange(len(texts)), n, rng)
    probs = run.learn(labelled, targets).predict_proba(texts)
    return margin_sampling(probs, n) if options.query_strategy == "margin" else entropy_sampling(probs, n)


def _train(run: Run, answers: Sequence[Answers]) -> Student:
    texts, targets = _training_rows(run, answers)
    if not texts:
        raise BadData("No text got a label, and all are closed.", "Ask for them again in a new folder: -o FOLDER")
    return run.learn(texts, targets)


def _training_rows(run: Run, answers: Sequence[Answers]) -> tuple[list[str], Floats]:
    """The gold and the labelled texts, and their (N, K) targets; several people's labels of a text count by share."""
    gold = run.pool.subset("train")
    texts, targets = list(gold.texts), [gold.targets(run.task.n_labels)]
    for each in answers:
        texts += [text for text, answered in zip(each.texts, each.answered, strict=True) if answered]
        targets.append(np.exp(each.scores[each.answered]).astype(np.float32))
    stacked = np.concatenate(targets)
    return texts, stacked / stacked.sum(axis=1, keepdims=True)


def _record(run: Run, annotator: Teacher, answers: Sequence[Answers]) -> None:
    """Record the teacher and its answers, and a note of how far real people agreed."""
    together = Answers(
        tuple(text for each in answers for text in each.texts),
        np.concatenate([each.scores for each in answers]),
        tuple(state for each in answers for state in each.states),
        tuple(source for each in answers for source in each.score_source),
    )
    run.record_teacher(annotator, Calibration(tuple([0.0] * run.task.n_labels), 1.0), together)
    if annotator.simulated or not (run.folder / "labels.sqlite").exists():
        return
    labels = AnnotationStore(run.folder, write=False)
    try:
        summary = summarise(labels, run.task)
    finally:
        labels.close()
    seconds = [person.seconds for person in summary.annotators if person.seconds]
    run.note(
        Annotated(
            n_annotators=len(summary.annotators),
            n_labels=summary.labels,
            n_complete=summary.complete,
            median_seconds=median(seconds) if seconds else None,
            alpha=summary.alpha,
            n_overlapping=summary.n_overlapping,
        )
    )


def quote_labels(request: QuoteInputs[AnnotateOptions]) -> tuple[Ask, ...]:
    """Labels of `n_texts` texts, or of all."""
    return quote_answers(request, request.options.n_texts)


def annotate_entities(run: Run) -> EntityStudent:
    """See `annotate_forms.annotate_form`."""
    return annotate_form(run, EntityTask(run.task, entity_pool(run)), _form_texts(run))


def annotate_free_text(run: Run) -> FreeTextStudent:
    """See `annotate_forms.annotate_form`."""
    return annotate_form(run, FreeTextTask(run.task, free_text_pool(run)), _form_texts(run))


def _form_texts(run: Run) -> int | None:
    """How many texts people answer; None for as many as the money buys. Raises BadSpec for an option about labels."""
    options = RECIPE.read_options(run.spec)
    given = next((name for name in OPTIONS_OF_LABELS if name in options.model_fields_set), None)
    if given is not None:
        assert run.task.form is not None
        raise BadSpec(
            f"{given} is about labels, and this task has {ANSWERS[run.task.form]}: people get texts in random order.",
            f"Leave {given} out.",
        )
    return options.n_texts


RECIPE = Recipe(
    "annotate",
    annotate,
    AnnotateOptions,
    quote=quote_labels,
    forms={
        "entities": FormRecipe(annotate_entities, quote_labels),
        "free": FormRecipe(annotate_free_text, quote_labels),
    },
)
