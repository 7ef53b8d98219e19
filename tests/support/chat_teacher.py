"""What the tests of chat teachers share: a task, prices, and short ways to ask a stand-in."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
from support.chat_server import FakeServer

from potstill.data.task import Answer, LabelledText, Task
from potstill.teachers import openai
from potstill.teachers.base import Teacher, TeacherSetup
from potstill.teachers.chat import ChatTeacher
from potstill.teachers.price_options import PriceOptions
from potstill.testing import TeacherContract

TASK = Task(("world", "sports", "business"))
PRICES = {"m": {"usd_per_million_input": 1, "usd_per_million_output": 2, "usd_per_million_cached": 0.5}}
KEY = "sk-planted-0123456789"


@dataclass(frozen=True)
class ChatProvider:
    """How a provider's teacher is opened, and what its model `m` costs."""

    open_teacher: Callable[[TeacherSetup], ChatTeacher]
    prices: Mapping[str, Mapping[str, float]]

    def teacher_at(
        self, server: FakeServer | str, examples: Sequence[LabelledText] = (), task: Task = TASK, **options: Any
    ) -> ChatTeacher:
        url = server if isinstance(server, str) else server.url
        prices = PriceOptions.parse(self.prices)
        return self.open_teacher(TeacherSetup(task, "m", examples, {"base_url": url, **options}, prices))

    def ask(self, server: FakeServer, text: str = "some sports", **options: Any) -> Answer:
        """One answer of a new teacher; its price keeps to its bound."""
        teacher = self.teacher_at(server, **options)
        bound = teacher.max_usage([text])
        reply = teacher.answer([text])
        assert teacher.price.cost_micros(reply.usage) <= teacher.price.cost_micros(bound)
        return reply.answers[0]


OPENAI = ChatProvider(openai.open_teacher, PRICES)
teacher_at, ask = OPENAI.teacher_at, OPENAI.ask


def likeliest(answer: Answer) -> str:
    """The label of an answer that must be there."""
    assert answer.state == "ok", answer
    assert answer.scores is not None
    return TASK.labels[max(range(3), key=lambda column: answer.scores[column])]  # type: ignore[index]


class Served(TeacherContract):
    """The contract on a stand-in that stays up for the class."""

    provider: ClassVar[ChatProvider] = OPENAI
    server: ClassVar[FakeServer]
    options: ClassVar[dict[str, Any]] = {}

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _serve(cls) -> Iterator[None]:
        with FakeServer() as cls.server:
            yield

    def open_teacher(self, task: Task, examples: Sequence[LabelledText] = ()) -> Teacher:
        return self.provider.teacher_at(self.server, examples, task, **self.options)
