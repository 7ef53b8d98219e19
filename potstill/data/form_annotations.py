"""People's answers in a text-to-text task: how one is checked, stored, shown and compared, by the form of the answers.

An answer is stored as one string: entities as `encode_entities` writes them, so that "[]" is a text with nothing in it,
and an answer in words as it is. "" is stored for a person who could not tell, whatever the form.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from potstill.data.entities.answers import EntityAnswer, NamedEntity
from potstill.data.entities.build import decode_entities, encode_entities
from potstill.data.entities.marks import read_marks
from potstill.data.free_text.answers import FreeTextAnswer
from potstill.data.free_text.columns import read_references
from potstill.data.label_cells import parse_nested
from potstill.data.label_values import LabelMatcher
from potstill.data.tables.base import JsonText
from potstill.data.task import Answer, Task
from potstill.data.text2text_rows import UnreadableAnswerError
from potstill.errors import BadData
from potstill.evaluation.text2text.answers import token_f1
from potstill.evaluation.text2text.entities import Entities, entity_counts, micro_f1

MAX_ANSWER_CHARACTERS = 10_000
MAX_RAW = 200  # characters of an answer that are stored beside it for reading
NOTHING = "nothing in it"


class FormAnnotations(Protocol):
    """How people's answers of a form are read, stored and shown.

    Attributes:
        column: of the answers in a table.
        verb: what people do with a text, in the imperative.
        mend: of an answer that is refused.
    """

    column: str
    verb: str
    mend: str

    def read(self, text: str, given: str) -> str:
        """The string to store for what a person gave. Raises UnreadableAnswerError."""

    def read_cell(self, text: str, cell: str) -> str:
        """The string to store for the cell of a file. Raises UnreadableAnswerError."""

    def cell(self, text: str, stored: str) -> str:
        """The stored answer as a cell of a table, which `read_cell` reads."""

    def shown(self, text: str, stored: str) -> str:
        """The stored answer in words, on one line."""

    def same_as(self, stored: str) -> str:
        """A string that is equal for answers that count as identical."""

    def similarity(self, one: str, other: str) -> float:
        """F1 of two stored answers, in [0, 1]: of entities, or of words."""

    def answer(self, text: str, stored: str) -> Answer:
        """The stored answer as a teacher's."""

    def sentences(self, file: str) -> tuple[str, ...]:
        """What was read in another spelling than the task's."""


class EntityAnnotations:
    """Marked entities; see `FormAnnotations`.

    Args:
        types: the K types of the task.
    """

    column, verb, mend = "entities", "mark", "Correct the marks."

    def __init__(self, types: Sequence[str]) -> None:
        self._types = tuple(types)
        self._matcher = LabelMatcher(types)

    def read(self, text: str, given: str) -> str:
        """A list of spans in any form that `read_marks` reads; see `FormAnnotations.read`."""
        value = parse_nested(given)
        if value is None:
            raise UnreadableAnswerError(f"has marks that are no list of entities: {given[:40]!r}")
        entities = read_marks(text, value)
        return encode_entities(tuple(type(each)(each.start, each.end, self._type(each.type)) for each in entities))

    def read_cell(self, text: str, cell: str) -> str:
        """As `read`."""
        return self.read(text, cell)

    def _type(self, name: str) -> str:
        found = self._matcher.find(name)
        if found is None:
            named = ", ".join(map(repr, self._types[:5])) + (", ..." if len(self._types) > 5 else "")
            raise UnreadableAnswerError(f"has an entity of the type {name[:40]!r}, and the task's are {named}")
        return found

    def cell(self, text: str, stored: str) -> str:
        """Spans with their words."""
        spans = [
            {"start": each.start, "end": each.end, "type": each.type, "text": text[each.start : each.end]}
            for each in _entities(stored)
        ]
        return JsonText(json.dumps(spans, ensure_ascii=False))

    def shown(self, text: str, stored: str) -> str:
        """As in "5 ml [Amount], water [Reagent]"."""
        named = (f"{' '.join(text[e.start : e.end].split())} [{e.type}]" for e in _entities(stored))
        return ", ".join(named) or NOTHING

    def same_as(self, stored: str) -> str:
        """The spans and their types."""
        return stored

    def similarity(self, one: str, other: str) -> float:
        """F1 of spans with their types; 1 if both have none."""
        mine, theirs = _entities(one), _entities(other)
        return micro_f1(entity_counts([mine], [theirs], self._types)) if mine or theirs else 1.0

    def answer(self, text: str, stored: str) -> EntityAnswer:
        """With the place of each entity."""
        named = tuple(NamedEntity(text[each.start : each.end], each.type, each.start) for each in _entities(stored))
        return EntityAnswer("ok", raw=self.shown(text, stored)[:MAX_RAW], named=named)

    def sentences(self, file: str) -> tuple[str, ...]:
        """Types in another spelling."""
        return self._matcher.sentences(file)


class FreeTextAnnotations:
    """Answers in words; see `FormAnnotations`. Those that differ in case and white space alone count as identical."""

    column, verb, mend = "answer", "answer", "Correct the answer."

    def read(self, text: str, given: str) -> str:
        """The words, without white space around them; see `FormAnnotations.read`."""
        answer = given.replace("\r\n", "\n").strip()
        if not answer:
            raise UnreadableAnswerError("has an answer without words")
        if len(answer) > MAX_ANSWER_CHARACTERS:
            raise UnreadableAnswerError(
                f"has an answer of {len(answer):,} characters, and {MAX_ANSWER_CHARACTERS:,} are the most"
            )
        if any("\ud800" <= mark <= "\udfff" for mark in answer):
            raise UnreadableAnswerError("has half a character (a lone surrogate) in its answer")
        return answer

    def read_cell(self, text: str, cell: str) -> str:
        """The words, or a list with one text."""
        found = read_references(cell)
        if len(found) > 1:
            raise UnreadableAnswerError(f"has {len(found)} answers, and one is expected")
        return self.read(text, found[0] if found else "")

    def cell(self, text: str, stored: str) -> str:
        """The words; in a list if they would be read as one, or as a mark for unsure."""
        return json.dumps([stored], ensure_ascii=False) if parse_nested(stored) is not None or stored == "?" else stored

    def shown(self, text: str, stored: str) -> str:
        """The words on one line."""
        return " ".join(stored.split())

    def same_as(self, stored: str) -> str:
        """Without regard to case and white space."""
        return " ".join(stored.casefold().split())

    def similarity(self, one: str, other: str) -> float:
        """Token F1."""
        return token_f1(one, other)

    def answer(self, text: str, stored: str) -> FreeTextAnswer:
        """The words."""
        return FreeTextAnswer("ok", raw=stored[:MAX_RAW], text=stored)

    def sentences(self, file: str) -> tuple[str, ...]:
        """None: answers have no spelling that is the task's."""
        return ()


def form_annotations(task: Task) -> FormAnnotations:
    """The form of a text-to-text task's answers."""
    return EntityAnnotations(task.labels) if task.form == "entities" else FreeTextAnnotations()


def check_annotation(form: FormAnnotations, text: str, given: str) -> str:
    """The string to store for what a person gave.

    Raises:
        BadData: it cannot be an answer to this text.
    """
    try:
        return form.read(text, given)
    except UnreadableAnswerError as error:
        raise BadData(f"The text {error}.", form.mend) from None


@dataclass(frozen=True)
class AnswerConsensus:
    """The answer to a text of which several people gave one.

    Attributes:
        answer: the one that most people gave; of several such the first.
        n_answers: people who answered.
        n_same: those whose answer is identical to it.
        is_most: no other answer was given by as many.
    """

    answer: str
    n_answers: int
    n_same: int
    is_most: bool


def find_consensus(form: FormAnnotations, answers: Sequence[str]) -> AnswerConsensus:
    """The consensus of one stored answer or more, oldest first."""
    keys = [form.same_as(each) for each in answers]
    counts = Counter(keys)  # in the order of the first answers
    key = max(counts, key=lambda each: counts[each])
    is_most = list(counts.values()).count(counts[key]) == 1
    return AnswerConsensus(answers[keys.index(key)], len(answers), counts[key], is_most)


def is_stored_answer(form: FormAnnotations, text: str, stored: str) -> bool:
    """Whether a stored string is one that `read` returned for this text: files may be edited."""
    try:
        return form.read(text, stored) == stored
    except UnreadableAnswerError:
        return False


def _entities(stored: str) -> Entities:
    return decode_entities(stored) or ()
