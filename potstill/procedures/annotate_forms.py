"""Annotate in text-to-text tasks: people mark entities or answer texts, and the student learns these and the gold.

The sibling of `annotate.py`. People get texts of the pool in random order, as many as the money buys. Their answers
are gold, each learnt once. Of several people's answers to a text the one that most gave is learnt, else the first.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median

import numpy as np

from potstill.annotation import FormAnswerSummary, summarise_answers
from potstill.annotation.form_summary import agreement_sentence
from potstill.errors import BadData
from potstill.evaluation.calibration import Calibration
from potstill.ledger.store import AnnotationStore
from potstill.ledger.store.annotations import LABELS_FILE
from potstill.procedures.annotators import affordable_texts, open_annotator
from potstill.procedures.pgkd.form_tasks import AnsweredRows, FormTask, GoldT, ModelT
from potstill.run.notes import NoteRecord
from potstill.run.run import Run
from potstill.run.spec import ComponentSpec
from potstill.teachers import DEFAULT_ANNOTATOR
from potstill.teachers.base import Teacher


@dataclass(frozen=True)
class AnnotatedAnswers(NoteRecord):
    """People answered texts.

    Attributes:
        n_annotators: people.
        n_answers: answers by all of them, unsure ones included.
        n_complete: texts with every answer that was requested.
        median_seconds: seconds an answer, median over the people whose time was measured; None without such people.
        agreement: how far they agree, in a sentence; empty without a text that several answered.
    """

    name = "annotated_answers"
    n_annotators: int
    n_answers: int
    n_complete: int
    median_seconds: float | None = None
    agreement: str = ""

    def sentence(self) -> str:
        """How many answers there are and how far the people agree."""
        people = "One person" if self.n_annotators == 1 else f"{self.n_annotators} people"
        pace = "" if self.median_seconds is None else f", {self.median_seconds:.1f} s each"
        return f"{people} gave {self.n_answers} answers to {self.n_complete} texts{pace}. {self.agreement}".strip()


def annotate_form(run: Run, form: FormTask[GoldT, ModelT], n_texts: int | None) -> ModelT:
    """The student trained on people's answers to texts of the pool, and on the gold.

    Args:
        run: the run.
        form: its task.
        n_texts: how many texts people are asked about; None for as many as the money buys.

    Raises:
        BadData: there are no unlabelled texts, the money buys no answer, or no text got one.
        BadSpec: a teacher that is not human.
        Waiting: people have to answer first.
    """
    texts = run.pool.subset("pool").texts
    if not texts:
        raise BadData("There are no unlabelled texts for people to answer.", "Give some with --pool FILE.")
    annotator = open_annotator(run, run.spec.teacher or ComponentSpec(name=DEFAULT_ANNOTATOR), form.hidden)
    n = affordable_texts(run, annotator, n_texts, len(texts))
    order = np.random.default_rng(run.spec.seed).permutation(len(texts))[:n]
    with run.reserve_training():
        answered = form.ask(run, annotator, [texts[row] for row in order])
    run.record_teacher(annotator, Calibration(()), answered.asked)
    _note_people(run, annotator)
    gold = form.gold
    rows = AnsweredRows((*gold.texts, *answered.texts), (*gold.answers, *answered.answers), len(gold.texts))
    if not rows.texts:
        raise BadData("No text got an answer, and all are closed.", "Ask for them again in a new folder: -o FOLDER")
    return form.learn(run, rows)


def _note_people(run: Run, annotator: Teacher) -> None:
    """Note how many answers real people gave, and how far they agree."""
    if annotator.simulated or not (run.folder / LABELS_FILE).exists():
        return
    store = AnnotationStore(run.folder, write=False)
    try:
        summary = summarise_answers(store, run.task)
    finally:
        store.close()
    run.note(_note_of(summary))


def _note_of(summary: FormAnswerSummary) -> AnnotatedAnswers:
    seconds = [person.seconds for person in summary.annotators if person.seconds]
    return AnnotatedAnswers(
        n_annotators=len(summary.annotators),
        n_answers=summary.labels,
        n_complete=summary.complete,
        median_seconds=median(seconds) if seconds else None,
        agreement=agreement_sentence(summary) if summary.n_overlapping else "",
    )
