"""What the tests of the openai teacher share: a task, its price, and short ways to ask a stand-in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import pytest
from support.chat_server import FakeServer

from potstill.data.task import Answer, LabelledText, Task
from potstill.teachers.base import Teacher, TeacherSetup
from potstill.teachers.chat import ChatTeacher
from potstill.teachers.openai import open_teacher
from potstill.teachers.price_options import PriceOptions
from potstill.testing import TeacherContract

TASK = Task(("world", "sports", "business"))
PRICES = {"m": {"usd_per_million_input": 1, "usd_per_million_output": 2, "usd_per_million_cached": 0.5}}
KEY = "sk-planted-0123456789"


def teacher_at(
    server: FakeServer | str, examples: Sequence[LabelledText] = (), task: Task = TASK, **options: Any
) -> ChatTeacher:
    url = server if isinstance(server, str) else server.url
    return open_teacher(TeacherSetup(task, "m", examples, {"base_url": url, **options}, PriceOptions.parse(PRICES)))


def ask(server: FakeServer, text: str = "some sports", **options: Any) -> Answer:
    """One answer of a new teacher; its price keeps to its bound."""
    teacher = teacher_at(server, **options)
    bound = teacher.max_usage([text])
    reply = teacher.answer([text])
    assert teacher.price.cost_micros(reply.usage) <= teacher.price.cost_micros(bound)
    return reply.answers[0]


def likeliest(answer: Answer) -> str:
    """The label of an answer that must be there."""
    assert answer.state == "ok", answer
    assert answer.scores is not None
    return TASK.labels[max(range(3), key=lambda column: answer.scores[column])]  # type: ignore[index]


class Served(TeacherContract):
    """The contract on a stand-in that stays up for the class."""

    server: ClassVar[FakeServer]
    options: ClassVar[dict[str, Any]] = {}

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _serve(cls) -> Iterator[None]:
        with FakeServer() as cls.server:
            yield

    def open_teacher(self, task: Task, examples: Sequence[LabelledText] = ()) -> Teacher:
        return teacher_at(self.server, examples, task, **self.options)
