"""The contract of a teacher in a task of entities: that of every teacher, with answers that name words of the text."""

from __future__ import annotations

import json
from typing import ClassVar, get_args

from potstill.data.entities.answers import EntityAnswer, check_entity_answer, locate_entities, read_entity_answer
from potstill.data.entities.build import encode_entities
from potstill.data.task import Answer, AnswerState, LabelledText, Task
from potstill.evaluation.text2text.entities import Entity
from potstill.testing.checks import check
from potstill.testing.form_teacher import FormTeacherContract


class EntityTeacherContract(FormTeacherContract):
    """The contract of every teacher that names entities. Override `open_teacher`, and what is different below.

    Attributes:
        named: whether it names an entity of each of the texts of this suite.
    """

    task: ClassVar[Task] = Task(("dish", "finance"), kind="text2text")
    texts: ClassVar[tuple[str, ...]] = ("the soup bread please", "a bank and the soup", "market of the bank")
    example: ClassVar[LabelledText] = LabelledText("the bread", encode_entities((Entity(4, 9, "dish"),)))
    generates: ClassVar[bool] = False
    named: ClassVar[bool] = True

    def _check(self, answer: Answer) -> None:
        check(answer.state in get_args(AnswerState), f"no such state: {answer.state}")
        check(answer.scores is None, "scores of labels in a task of entities")
        stored = check_entity_answer(answer)
        check(stored.state == answer.state, f"an answer that cannot be stored: {answer}")
        check(read_entity_answer(json.loads(json.dumps(stored.to_json()))) == stored, "an answer that JSON changes")

    def _same(self, one: Answer, other: Answer, text: str) -> None:
        check(one == other, f"{text!r} got {one} and then {other}")

    def test_the_named_entities_are_words_of_the_text_with_a_type(self) -> None:
        """Each text of this suite has one at least, none of its named entities is dropped, and each has a place."""
        teacher = self._opened()
        for text in self.texts:
            answer = self._call(teacher, [text]).answers[0]
            check(isinstance(answer, EntityAnswer), f"{text!r} got an answer without entities: {answer}")
            located = locate_entities(text, check_entity_answer(answer).named, self.task.labels)
            if self.named:
                check(bool(located.entities), f"no entity is found in {text!r}")
                check(not located.dropped, f"of {text!r} entities are dropped: {located.dropped}")
