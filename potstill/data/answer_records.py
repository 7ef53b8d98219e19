"""How a teacher's answers are stored and read again, by the form of a task's answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from potstill.data.entities.answers import check_entity_answer, read_entity_answer
from potstill.data.free_text.answers import check_free_text_answer, read_free_text_answer
from potstill.data.task import Answer, OutputForm, Task, read_answer


@dataclass(frozen=True)
class AnswerForm:
    """One form of answers.

    Attributes:
        read: a stored record -> the answer that `to_json` wrote; None for anything else.
        check: an answer -> itself, or what can be stored in its place.
    """

    read: Callable[[Any], Answer | None]
    check: Callable[[Answer], Answer]


FORMS: dict[OutputForm, AnswerForm] = {
    "entities": AnswerForm(read_entity_answer, check_entity_answer),
    "free": AnswerForm(read_free_text_answer, check_free_text_answer),
}


def answer_form(task: Task) -> AnswerForm:
    """The form of a task's answers: scores of its labels, or that of its output."""
    if task.output is not None:
        return FORMS[task.output.form]
    n_labels = task.n_labels
    return AnswerForm(lambda record: read_answer(record, n_labels), lambda answer: answer.checked(n_labels))
