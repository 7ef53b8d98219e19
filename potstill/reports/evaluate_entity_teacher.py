"""The teacher on the test texts of a run on entities, within a tenth of the budget; the sibling of evaluate_teacher."""

from __future__ import annotations

import numpy as np

from potstill.data.entities.pool import EntitySubset
from potstill.evaluation.metrics import EvaluationResult
from potstill.evaluation.text2text.entities import Entities, compute_entity_metrics
from potstill.reports.evaluate_teacher import EVALUATION_BUDGET_DIVISOR, MAX_TEACHER_TEST_TEXTS, summarize_teacher
from potstill.reports.records import TeacherSummary
from potstill.run.entity_verbs import ask_entities
from potstill.run.run import Run
from potstill.teachers.base import Teacher


def evaluate_entity_teacher(run: Run, test: EntitySubset) -> tuple[TeacherSummary | None, tuple[Entities | None, ...]]:
    """The teacher's summary, and the entities it finds in each test text, None where it gave no answer.

    A text without a usable answer counts as one without entities, as it would where the teacher is used.
    """
    found: list[Entities | None] = [None] * len(test)
    if run.teacher_record is None:
        return None, tuple(found)
    teacher = run.teacher_record.teacher
    result = _ask(run, teacher, test, found) if len(test) and not teacher.capabilities.human else None
    return summarize_teacher(run, teacher, result), tuple(found)


def _ask(run: Run, teacher: Teacher, test: EntitySubset, found: list[Entities | None]) -> EvaluationResult | None:
    """Ask about test texts and fill their rows of `found`; None if the money did not reach for one."""
    order = np.random.default_rng(run.spec.seed).permutation(len(test))[:MAX_TEACHER_TEST_TEXTS]
    texts = [test.texts[i] for i in order]
    kept = run.ledger.free - run.ledger.limit // EVALUATION_BUDGET_DIVISOR
    with run.ledger.reserve("all but the evaluation", kept):
        answers = ask_entities(run, teacher, texts, purpose="measure")
    asked = [row for row, state in enumerate(answers.states) if state != "unasked"]
    for row in asked:
        found[order[row]] = answers.entities[row]
    if not asked:
        return None
    gold = [test.entities[order[row]] for row in asked]
    return compute_entity_metrics(gold, [answers.entities[row] or () for row in asked], run.task.labels)
