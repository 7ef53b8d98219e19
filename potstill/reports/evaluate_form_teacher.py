"""The teacher on the test texts of a text-to-text task, within a tenth of the budget; the sibling of evaluate_teacher.

A text without a usable answer counts as one with an empty answer, as it would where the teacher is used.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from potstill.evaluation.metrics import EvaluationResult
from potstill.reports.evaluate_teacher import EVALUATION_BUDGET_DIVISOR, MAX_TEACHER_TEST_TEXTS, summarize_teacher
from potstill.reports.records import TeacherSummary
from potstill.run.run import Run
from potstill.teachers.base import Teacher

FoundT = TypeVar("FoundT")  # the answer to one text


@dataclass(frozen=True)
class AskedAnswers(Generic[FoundT]):
    """A teacher's answers to test texts, None where there is none, and their states."""

    answers: Sequence[FoundT | None]
    states: Sequence[str]


@dataclass(frozen=True)
class FormTeacher(Generic[FoundT]):
    """A teacher on the test texts.

    Attributes:
        summary: None for a run without a teacher.
        answers: to each test text; None where it gave none.
    """

    summary: TeacherSummary | None
    answers: tuple[FoundT | None, ...]


def evaluate_form_teacher(
    run: Run,
    texts: Sequence[str],
    ask: Callable[[Teacher, Sequence[str]], AskedAnswers[FoundT]],
    measure: Callable[[Sequence[int], Sequence[FoundT | None]], EvaluationResult],
) -> FormTeacher[FoundT]:
    """Ask a run's teacher about its test texts and measure the answers.

    Args:
        run: the run.
        texts: the test texts.
        ask: asks about some of them.
        measure: the metrics of the answers to the texts with these numbers.
    """
    found: list[FoundT | None] = [None] * len(texts)
    if run.teacher_record is None:
        return FormTeacher(None, tuple(found))
    teacher = run.teacher_record.teacher
    result = None
    if texts and not teacher.capabilities.human:
        order = np.random.default_rng(run.spec.seed).permutation(len(texts))[:MAX_TEACHER_TEST_TEXTS].tolist()
        kept = run.ledger.free - run.ledger.limit // EVALUATION_BUDGET_DIVISOR
        with run.ledger.reserve("all but the evaluation", kept):
            given = ask(teacher, [texts[i] for i in order])
        asked = [row for row, state in enumerate(given.states) if state != "unasked"]
        for row in asked:
            found[order[row]] = given.answers[row]
        if asked:
            result = measure([order[row] for row in asked], [given.answers[row] for row in asked])
    return FormTeacher(summarize_teacher(run, teacher, result), tuple(found))
