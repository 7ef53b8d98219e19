"""How an answer is written as JSON beside a text that a teacher writes, by the form of the answers.

What is stored is what the teacher wrote; whether it can be learnt (words that are not in the text, an empty answer) is
for the reader to decide.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from potstill.data.entities.answers import NamedEntity
from potstill.data.task import Task
from potstill.teachers.entity_prompt import RULES, EntityPrompt, encode_named
from potstill.teachers.prompts import JsonDict, json_object

Redact = Callable[[str], str]


class AnswerFormat(Protocol):
    """How answers of a form are written.

    Attributes:
        key: of the answer, beside "text", in the JSON of a reply.
        value: of this key, as a prompt describes it.
        role: what the teacher is said to write.
        lines: what a prompt says of the answers: the types, how to copy words.
    """

    key: str
    value: str
    role: str
    lines: Sequence[str]

    def schema(self, *, lists_types: bool) -> JsonDict:
        """The JSON schema of the value."""

    def read(self, value: Any) -> str | None:
        """The answer as JSON, from the value in a reply; None if it cannot be read."""

    def shown(self, answer: str, text: str, redact: Redact) -> str:
        """An answer as a prompt shows it beside its text, which may be cut or redacted."""


class EntityFormat:
    """Entities: words of the text and their types; see `AnswerFormat`."""

    key, value = "entities", '[{"text": words of the text, "type": their type}, ...]'
    role = (
        "You are the teacher of a small model that finds entities in texts, the student. You write new texts with "
        "their entities that improve what it gets wrong: realistic, varied, and with all of their entities."
    )

    def __init__(self, task: Task) -> None:
        self._task, self._prompt = task, EntityPrompt(task)
        named = []
        for name in task.labels:
            meaning = " ".join(task.descriptions.get(name, "").split())
            named.append(f"- {name}" + (f": {meaning}" if meaning else ""))
        self.lines: Sequence[str] = ["\n".join(["The types of entities:", *named]), RULES]

    def schema(self, *, lists_types: bool) -> JsonDict:
        """See `AnswerFormat.schema`."""
        kind: JsonDict = {"type": "string"} | ({"enum": list(self._task.labels)} if lists_types else {})
        return {"type": "array", "items": json_object({"text": {"type": "string"}, "type": kind})}

    def read(self, value: Any) -> str | None:
        """See `AnswerFormat.read`."""
        if not isinstance(value, list | dict):
            return None
        named = self._prompt.read(json.dumps({"entities": value}))
        return None if named is None else encode_named(named)

    def shown(self, answer: str, text: str, redact: Redact) -> str:
        """The entities whose words are in the text."""
        named = [each for each in read_written_entities(answer) or () if each.words in text]
        listed = [{"text": each.words, "type": each.type} for each in named]
        return json.dumps(listed, ensure_ascii=False)


class FreeTextFormat:
    """An answer in words; see `AnswerFormat`."""

    key, value = "answer", '"..."'
    role = (
        "You are the teacher of a small language model that answers texts, the student. You write new texts with their "
        "answers that improve what it gets wrong: realistic, varied, and each with its right answer."
    )
    lines: Sequence[str] = ("An answer is as long as those shown, in the same form, and without a word around it.",)

    def schema(self, *, lists_types: bool) -> JsonDict:
        """See `AnswerFormat.schema`."""
        return {"type": "string"}

    def read(self, value: Any) -> str | None:
        """See `AnswerFormat.read`."""
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            return None
        return encode_written_answer(str(value).strip())

    def shown(self, answer: str, text: str, redact: Redact) -> str:
        """The words of the answer, redacted."""
        return json.dumps(redact(read_written_answer(answer) or ""), ensure_ascii=False)


def answer_format(task: Task) -> AnswerFormat:
    """The format of a text-to-text task's answers."""
    return EntityFormat(task) if task.form == "entities" else FreeTextFormat()


def read_written_entities(answer: str) -> tuple[NamedEntity, ...] | None:
    """The entities that `encode_named` wrote, in their order; None for anything else."""
    try:
        return tuple(NamedEntity(str(each["text"]), str(each["type"])) for each in json.loads(answer)["entities"])
    except (ValueError, TypeError, LookupError):
        return None


def encode_written_answer(answer: str) -> str:
    """An answer in words as JSON."""
    return json.dumps({"answer": answer}, ensure_ascii=False)


def read_written_answer(answer: str) -> str | None:
    """The words that `encode_written_answer` wrote; None for anything else."""
    try:
        found = json.loads(answer)["answer"]
    except (ValueError, TypeError, LookupError):
        return None
    return found if isinstance(found, str) else None
