"""The contract of a teacher in a task of answers in words: that of every teacher, with answers that are texts."""

from __future__ import annotations

import json
from typing import ClassVar, get_args

from potstill.data.free_text.answers import FreeTextAnswer, check_free_text_answer, read_free_text_answer
from potstill.data.task import Answer, AnswerState, LabelledText, Output, Task
from potstill.testing.checks import check
from potstill.testing.form_teacher import FormTeacherContract


class FreeTextTeacherContract(FormTeacherContract):
    """The contract of every teacher that answers in words. Override `open_teacher`, and what is different below."""

    task: ClassVar[Task] = Task((), kind="text2text", output=Output("free"))
    texts: ClassVar[tuple[str, ...]] = ("the soup bank please", "a goal tennis and", "one bread market the")
    example: ClassVar[LabelledText] = LabelledText("the cheese goal one", "food sport")
    generates: ClassVar[bool] = False

    def _check(self, answer: Answer) -> None:
        check(answer.state in get_args(AnswerState), f"no such state: {answer.state}")
        check(answer.scores is None, "scores of labels in a task of answers in words")
        stored = check_free_text_answer(answer)
        check(stored.state == answer.state, f"an answer that cannot be stored: {answer}")
        check(read_free_text_answer(json.loads(json.dumps(stored.to_json()))) == stored, "an answer that JSON changes")

    def _same(self, one: Answer, other: Answer, text: str) -> None:
        check(one == other, f"{text!r} got {one} and then {other}")

    def test_the_texts_are_answered_in_words(self) -> None:
        """Each text of this suite has an answer that is not blank."""
        teacher = self._opened()
        for text in self.texts:
            answer = self._call(teacher, [text]).answers[0]
            check(isinstance(answer, FreeTextAnswer), f"{text!r} got an answer without words: {answer}")
            check(bool(check_free_text_answer(answer).text.strip()), f"{text!r} got an empty answer")
