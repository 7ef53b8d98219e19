"""A trained student as a teacher: its own predictions, charged by the clock."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import pytest

from potstill.data.task import GenerationRequest, LabelledText, Task
from potstill.errors import BadSpec, TeacherError
from potstill.ledger.prices import Price
from potstill.teachers.base import Predictor, Teacher, TeacherSetup, TrainedStudent
from potstill.teachers.price_options import PriceOptions
from potstill.teachers.trained import TimedStudentTeacher, open_teacher
from potstill.testing import TeacherContract


class Lengths:
    """A student that scores by the length of the text."""

    def predict_logits(self, texts: Sequence[str]) -> np.ndarray:
        return np.array([[len(text) % 3, 1.0, 2.0] for text in texts], dtype=np.float32)


def trained(student: Predictor | None = None, price: Price | None = None) -> TimedStudentTeacher:
    handed = TrainedStudent(student or Lengths(), "0123456789abcdef", price)
    prices = PriceOptions.parse({"usd_per_hour": 0.36})
    return open_teacher(TeacherSetup(Task(("a", "b", "c")), "large", prices=prices, student=handed))


class TestContract(TeacherContract):
    """The shared promises."""

    reads_examples: ClassVar[bool] = False
    generates: ClassVar[bool] = False

    def open_teacher(self, task: Task, examples: Sequence[LabelledText] = ()) -> Teacher:
        return trained()


def test_answers_are_the_log_probabilities_of_the_student() -> None:
    answer = trained().answer(["four"]).answers[0]
    assert answer.how == "scored"
    assert answer.scores is not None
    assert np.exp(answer.scores).sum() == pytest.approx(1)
    assert np.diff(answer.scores).tolist() == pytest.approx([0, 1])


def test_time_is_charged_and_the_bound_follows_it() -> None:
    teacher = trained()
    first = teacher.max_usage(["x"] * 256)
    usage = teacher.answer(["x"] * 256).usage
    assert 0 < usage.seconds < teacher.max_usage(["x"] * 256).seconds < first.seconds
    assert teacher.category == "compute"
    assert "usd_per_hour" in teacher.price.source


def test_the_price_of_the_procedure_wins() -> None:
    price = trained().price
    assert trained(price=price).price is price


def test_scores_that_are_not_numbers_are_a_failed_row() -> None:
    class Broken(Lengths):
        def predict_logits(self, texts: Sequence[str]) -> np.ndarray:
            return np.array([[np.nan, 0, 0] if text == "bad" else [1, 0, 0] for text in texts], dtype=np.float32)

    states = [answer.state for answer in trained(student=Broken()).answer(["good", "bad", "good"]).answers]
    assert states == ["ok", "failed", "ok"]


def test_it_needs_a_student_and_cannot_generate() -> None:
    with pytest.raises(BadSpec, match="trained first"):
        open_teacher(TeacherSetup(Task(("a", "b"))))
    with pytest.raises(TeacherError, match="generates no texts"):
        trained().generate(GenerationRequest("a", 1))
