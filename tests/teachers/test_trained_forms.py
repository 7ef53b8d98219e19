"""Trained students that teach in text-to-text tasks: what they answer, and what their time may cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from potstill.data.entities.answers import EntityAnswer, NamedEntity
from potstill.data.free_text.answers import FreeTextAnswer
from potstill.data.task import GenerationRequest, Output, Task
from potstill.errors import TeacherError
from potstill.evaluation.text2text.entities import Entity
from potstill.models.bio import ScoredEntities
from potstill.models.greedy_decoding import GeneratedAnswer
from potstill.teachers.base import TeacherSetup, TrainedStudent
from potstill.teachers.trained import open_teacher


class Finder:
    """Finds the first word of a text."""

    def find_entities(self, texts: Sequence[str]) -> list[ScoredEntities]:
        return [ScoredEntities((Entity(0, len(text.split()[0]), "dish"),), (0.9,)) for text in texts]


class Writer:
    """Repeats a text; a long one is cut, and of a blank one nothing is left."""

    def generate(self, texts: Sequence[str]) -> list[GeneratedAnswer]:
        return [GeneratedAnswer(text.strip()[:9], 0.5, complete=len(text) < 10) for text in texts]


def opened(task: Task, student: Any) -> Any:
    return open_teacher(TeacherSetup(task, "tagger", student=TrainedStudent(student, "key")))


def test_entities_are_named_with_their_place() -> None:
    teacher = opened(Task(("dish",), kind="text2text"), Finder())
    reply = teacher.answer(["soup please", "bread"])
    assert reply.answers[0] == EntityAnswer("ok", named=(NamedEntity("soup", "dish", 0),))
    assert 0 < reply.usage.seconds <= teacher.max_usage(["soup"]).seconds
    assert teacher.answer([]).answers == ()


def test_answers_in_words_are_given_unless_they_are_empty_or_cut() -> None:
    teacher = opened(Task((), kind="text2text", output=Output("free")), Writer())
    answers = teacher.answer(["soup", " ", "a long, long text"]).answers
    assert answers[0] == FreeTextAnswer("ok", text="soup")
    assert [each.state for each in answers] == ["ok", "unparsable", "unparsable"]
    assert teacher.max_usage(["a"]).seconds < 60 * 16  # measured by now
    with pytest.raises(TeacherError, match="generates no texts"):
        teacher.generate(GenerationRequest("a", 1))
