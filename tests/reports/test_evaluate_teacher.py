"""The teacher on the test texts: what is measured when the money ends between two calls."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any, cast

import numpy as np

from potstill.data.pool import Subset
from potstill.data.task import Task
from potstill.evaluation.calibration import Calibration
from potstill.reports.evaluate_teacher import evaluate_teacher
from potstill.run import Answers
from potstill.run.run import Run
from potstill.teachers.base import TeacherCapabilities, TeacherMetadata

LABELS = ("a", "b", "c")
GOLD = np.array([0, 1, 2, 0, 1, 2, 0, 1])


class HalfAsked:
    """A run whose teacher is right on every text, and whose money ends with every other text unasked."""

    def __init__(self, batch_size: int = 1) -> None:
        self.calls: list[int] = []
        teacher = SimpleNamespace(
            name="half",
            capabilities=TeacherCapabilities(),
            parallel=1,
            batch_size=batch_size,
            metadata=TeacherMetadata("free"),
            category="llm",
        )
        answers = Answers((), np.empty((0, 3)), (), ())
        self.teacher_record = SimpleNamespace(teacher=teacher, calibration=Calibration((0.0,) * 3), answers=answers)
        self.task, self.spec = Task(LABELS), SimpleNamespace(seed=0)
        self.ledger = SimpleNamespace(free=100, limit=100, reserve=lambda name, micros: nullcontext())
        self.store = SimpleNamespace(calls=list)

    def ask(self, teacher: Any, texts: list[str], **_: Any) -> Answers:
        self.calls.append(len(texts))
        asked = np.arange(len(texts)) % 2 == 1
        scores = np.log(np.eye(3)[[GOLD[int(text)] for text in texts]] * 0.9 + 1e-3)
        scores[~asked] = np.nan
        return Answers(tuple(texts), scores, tuple(np.where(asked, "ok", "unasked")), ("scored",) * len(texts))


def test_unasked_test_texts_count_neither_for_nor_against_the_teacher() -> None:
    texts = tuple(str(i) for i in range(len(GOLD)))
    summary, labels = evaluate_teacher(cast(Run, HalfAsked()), Subset(texts, GOLD, texts, np.arange(len(GOLD))))
    assert summary is not None
    assert labels is not None
    assert summary.evaluation is not None
    assert (summary.evaluation.n, summary.evaluation.accuracy.value) == (4, 1.0)
    assert labels.answered.sum() == 4
    assert (labels.given[labels.answered].argmax(axis=1) == GOLD[labels.answered]).all()


def test_single_texts_are_not_timed_once_the_money_has_ended() -> None:
    """Each would say again that it has."""
    run = HalfAsked(batch_size=4)
    texts = tuple(str(i) for i in range(len(GOLD)))
    evaluate_teacher(cast(Run, run), Subset(texts, GOLD, texts, np.arange(len(GOLD))))
    assert run.calls == [1, len(GOLD)]
