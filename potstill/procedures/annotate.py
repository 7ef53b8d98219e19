"""Annotate: people label texts of the pool, and the student learns their labels and the gold. No machine in between.

"Ann." in Kang et al. 2023: the whole budget goes into labels. In several rounds a student says in between which texts
it doubts (uncertainty sampling: Lewis and Gale 1994; Settles 2009).
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from potstill.annotation import summarise
from potstill.data.pool import Subset
from potstill.errors import BadData, BadSpec
from potstill.evaluation.calibration import Calibration, one_hot
from potstill.ledger.store import AnnotationStore
from potstill.procedures import query_strategies as choose
from potstill.procedures.annotate_options import AnnotateOptions
from potstill.procedures.base import Ask, QuoteInputs, Recipe, quote_answers
from potstill.registry import read_options
from potstill.run import Answers
from potstill.run.notes import Annotated
from potstill.run.run import Run
from potstill.run.spec import ComponentSpec
from potstill.students.base import Floats, Student
from potstill.teachers.base import Teacher


def annotate(run: Run) -> Student:
    """The student after learning what people said of `n` texts of the pool, and the gold labels.

    Raises:
        BadData: there is nothing to label, or nobody could tell of any text.
        BadSpec: an option nobody knows, or a teacher that is no person.
        Waiting: people have to label first.
    """
    options = read_options(AnnotateOptions, "procedure 'annotate'", run.spec.procedure.options)
    gold, pool = run.pool.subset("train"), run.pool.subset("pool")
    if not pool.texts:
        raise BadData("There are no unlabelled texts for people to label.", "Give some with --pool FILE.")
    people = open_annotator(run)
    labelled: list[Answers] = []
    n = affordable_labels(run, people, options, len(pool.texts))
    left = np.arange(len(pool.texts))
    for number in range(options.rounds):
        share = (n * (number + 1)) // options.rounds - (n * number) // options.rounds
        rows = left[_next(run, options, gold, labelled, [pool.texts[i] for i in left], share, number)]
        left = np.setdiff1d(left, rows)
        labelled.append(run.ask(people, [pool.texts[i] for i in rows], reserve_micros=run.training_reserve))
    _tell(run, people, labelled)
    return fit_answers(run, gold, labelled)


def open_annotator(run: Run, named: ComponentSpec | None = None) -> Teacher:
    """Whoever labels, by the spec or as `named`; simulated ones with `simulate_from = "pool"` get the pool's hidden labels.

    Raises:
        BadSpec: a teacher that is paid as a machine.
        UnknownPrice: nobody said what a label costs.
    """
    named = named or run.spec.teacher or ComponentSpec(name="human")
    hidden: dict[str, Any] = {}
    if named.options.get("simulate_from") == "pool":
        rows = np.flatnonzero(run.pool.hidden_labels >= 0).tolist()
        hidden["known"] = {run.pool.texts[i]: int(run.pool.hidden_labels[i]) for i in rows}
    people = run.open_teacher(named, **hidden)
    if people.category != "human":
        raise BadSpec(
            f"{named.name!r} is no person, and this procedure asks people.",
            "Take --teacher human (or replay with usd_per_label), or --procedure kd.",
        )
    return people


def affordable_labels(run: Run, annotator: Teacher, options: AnnotateOptions, available: int) -> int:
    """How many texts are labelled: `n`, or as many as the money reaches beside training; at most all there are."""
    each = annotator.price.cost_micros(annotator.max_usage(["x"]))
    free = run.ledger.limit - run.training_reserve
    most = available if not each else min(available, free // each)
    if most < 1:
        raise BadData(
            f"A label can cost ${each / 1e6:.4f} and ${max(free, 0) / 1e6:.4f} of the budget is for labels.",
            "Raise the budget.",
        )
    return min(options.n_texts or most, available)


def fit_answers(run: Run, gold: Subset, labelled: Sequence[Answers]) -> Student:
    """A student of the gold and of what people said; several people's labels of a text count by their shares.

    Raises:
        BadData: there is neither.
    """
    texts, targets = _rows(run, gold, labelled)
    if not texts:
        raise BadData("Nobody could tell of any text.", "Look at the guideline, then: potstill annotate RUN")
    return run.learn(texts, targets)


def _rows(run: Run, gold: Subset, labelled: Sequence[Answers]) -> tuple[list[str], Floats]:
    texts, targets = list(gold.texts), [one_hot(gold.gold, run.task.n_labels)]
    for answers in labelled:
        there = answers.answered
        texts += [text for text, ok in zip(answers.texts, there, strict=True) if ok]
        targets.append(np.exp(answers.scores[there]).astype(np.float32))
    together = np.concatenate(targets)
    return texts, together / together.sum(axis=1, keepdims=True)


def _next(
    run: Run,
    options: AnnotateOptions,
    gold: Subset,
    labelled: Sequence[Answers],
    texts: Sequence[str],
    n: int,
    number: int,
) -> NDArray[np.int64]:
    """The (n,) places in `texts` that come next."""
    draw = np.random.default_rng((run.spec.seed, number))
    known, targets = _rows(run, gold, labelled)
    seen = int((targets.sum(axis=0) > 0.5).sum())
    if options.query_strategy == "random" or seen < 2:
        return choose.random_sampling(np.arange(len(texts)), n, draw)
    probs = run.learn(known, targets).predict_proba(texts)
    return choose.margin_sampling(probs, n) if options.query_strategy == "margin" else choose.entropy_sampling(probs, n)


def _tell(run: Run, annotator: Teacher, labelled: Sequence[Answers]) -> None:
    """Remember who taught, and how far people agreed."""
    texts = tuple(text for answers in labelled for text in answers.texts)
    together = Answers(
        texts,
        np.concatenate([answers.scores for answers in labelled]),
        tuple(state for answers in labelled for state in answers.states),
        tuple(how for answers in labelled for how in answers.score_source),
    )
    run.record_teacher(annotator, Calibration(tuple([0.0] * run.task.n_labels), 1.0), together)
    if annotator.simulated or not (run.folder / "labels.sqlite").exists():
        return
    labels = AnnotationStore(run.folder, write=False)
    try:
        summary = summarise(labels, run.task)
    finally:
        labels.close()
    timed = [person.seconds for person in summary.annotators if person.seconds]
    run.note(
        Annotated(
            n_annotators=len(summary.annotators),
            n_labels=summary.labels,
            n_complete=summary.complete,
            median_seconds=median(timed) if timed else None,
            alpha=summary.alpha,
            n_overlapping=summary.n_overlapping,
        )
    )


def quote_labels(request: QuoteInputs[AnnotateOptions]) -> tuple[Ask, ...]:
    """Labels of `n_texts` texts, or of all."""
    return quote_answers(request, request.options.n_texts)


RECIPE = Recipe("annotate", annotate, AnnotateOptions, quote=quote_labels)
