"""The prompt that asks for the entities of a text as JSON, and the reader of a reply.

The types and their descriptions come first, then gold examples as earlier turns, then the text between marks that it
cannot close. A reply names words and their type; where they stand is found in the text
(`data.entities.answers.locate_entities`), as models cannot count characters.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from potstill.data.entities.answers import NamedEntity
from potstill.data.task import Task
from potstill.teachers.label_parsing import CODE_FENCE
from potstill.teachers.prompts import (
    DATA_NOTICE,
    QUOTED_CHARACTERS,
    JsonDict,
    Message,
    json_object,
    marked_text,
    max_tokens_of,
    sanitize_text,
)
from potstill.teachers.reply_frames import cut_end_marks, cut_thinking

ENTITY_PROMPT_VERSION = "1"
INSTRUCTION = "Find the entities in the text: all its words that are of one of the types."
RULES = (
    "Copy each entity from the text, character by character, no longer than it is. Name all of them in the order of "
    "the text, one that occurs twice two times. No two share a word. Take the types as they are spelt in the list."
)
FORM = '{"entities": [{"text": words of the text, "type": their type}, ...]}'
QUESTION = f"Which entities are in the text? Answer with JSON: {FORM}, with an empty list if there are none."
_GAPS = re.compile(r"[\s_\-]+")


@dataclass(frozen=True)
class EntityExample:
    """A gold text and the entities to show for it."""

    text: str
    named: tuple[NamedEntity, ...]


def encode_named(named: Sequence[NamedEntity]) -> str:
    """The entities as a reply names them."""
    return json.dumps({"entities": [{"text": e.words, "type": e.type} for e in named]}, ensure_ascii=False)


@dataclass(frozen=True)
class EntityPrompt:
    """Builds the prompt for the entities of one text, and reads the reply.

    Attributes:
        task: the K types, their descriptions, and the instruction.
        examples: gold texts before every text, as earlier turns of the same conversation.
        aliases: other names of types that the model may use -> type.
    """

    task: Task
    examples: tuple[EntityExample, ...] = ()
    aliases: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def schema(self) -> JsonDict:
        """The JSON schema of a reply."""
        entity = json_object({"text": {"type": "string"}, "type": {"type": "string", "enum": list(self.task.labels)}})
        return json_object({"entities": {"type": "array", "items": entity}})

    @cached_property
    def _constant(self) -> tuple[Message, ...]:
        lines = []
        for name in self.task.labels:
            meaning = " ".join(self.task.descriptions.get(name, "").split())
            lines.append(f"- {name}" + (f": {meaning}" if meaning else ""))
        types = "\n".join(["The types:", *lines])
        head = "\n\n".join([self.task.instruction or INSTRUCTION, types, RULES, DATA_NOTICE])
        return ({"role": "system", "content": head}, *self._shown())

    def _shown(self) -> Iterator[Message]:
        for example in self.examples:
            yield _turn(example.text)
            yield {"role": "assistant", "content": sanitize_text(encode_named(example.named))}

    @property
    def n_constant(self) -> int:
        """Messages that are the same for every text."""
        return 1 + 2 * len(self.examples)

    def messages(self, text: str, rejected: str | None = None) -> list[Message]:
        """The conversation that asks about a text; a second time after a reply that cannot be read."""
        asked = [*self._constant, _turn(text)]
        return asked if rejected is None else [*asked, *_complaint(rejected)]

    @cached_property
    def _constant_bound(self) -> int:
        # The schema is sent along and may be counted; the second prompt quotes at most QUOTED_CHARACTERS.
        constant = max_tokens_of([*self._constant, *_complaint("")])
        return constant + len(json.dumps(self.schema).encode()) + 4 * QUOTED_CHARACTERS

    def max_prompt_tokens(self, text: str) -> int:
        """An upper bound of the prompt tokens of one request about a text; see `prompts.max_tokens_of`."""
        return self._constant_bound + max_tokens_of([_turn(text)])

    @cached_property
    def _type_of(self) -> dict[str, str]:
        loose = {_loose(name): label for name, label in self.aliases.items()}
        return loose | {_loose(label): label for label in self.task.labels}

    def read(self, reply: str) -> tuple[NamedEntity, ...] | None:
        """The entities that a reply names, also such of other types; None if it is not JSON of this form.

        Thinking before it, a code fence and words around it are left out. A list without "entities", and
        {"type": ["words", ...]}, are read as well.
        """
        record = _first_json(cut_end_marks(cut_thinking(reply)).strip())
        items = list(_items(record))
        if not items and record not in ([], {"entities": []}) and not _names_none(record, self._type_of):
            return None
        if any(item is None for item in items):
            return None
        return tuple(NamedEntity(words, self._type_of.get(_loose(kind), kind)) for words, kind in filter(None, items))


def _turn(text: str) -> Message:
    return {"role": "user", "content": f"{marked_text(text)}\n{QUESTION}"}


def _complaint(previous_reply: str) -> list[Message]:
    quoted = sanitize_text(previous_reply)[:QUOTED_CHARACTERS] or "(nothing)"
    complaint = f"That cannot be read. Answer with JSON of the form {FORM} and nothing else."
    return [{"role": "assistant", "content": quoted}, {"role": "user", "content": complaint}]


def _loose(name: str) -> str:
    return _GAPS.sub(" ", name).strip().casefold()


def _first_json(reply: str) -> Any:
    """The JSON value of a reply, alone, in a code fence or after a few words; None without one."""
    fenced = CODE_FENCE.match(reply)
    bare = fenced[1].strip() if fenced else reply
    starts = [at for at in (bare.find("{"), bare.find("[")) if at >= 0]
    if not starts:
        return None
    try:
        value, _ = json.JSONDecoder(strict=False).raw_decode(bare, min(starts))
    except (ValueError, RecursionError):
        return None
    return value


def _items(record: Any) -> Iterator[tuple[str, str] | None]:
    """Words and type of each entity of a reply; None for an item that is no entity."""
    if isinstance(record, dict) and isinstance(record.get("entities"), list | dict):
        record = record["entities"]
    if isinstance(record, dict):
        for kind, listed in record.items():
            for words in listed if isinstance(listed, list) else [listed]:
                yield (words, kind) if isinstance(words, str) else None
        return
    for item in record if isinstance(record, list) else []:
        words, kind = (item.get("text"), item.get("type")) if isinstance(item, dict) else (None, None)
        yield (words, kind) if isinstance(words, str) and isinstance(kind, str) else None


def _names_none(record: Any, types: Mapping[str, str]) -> bool:
    """Whether a reply is an object of types with empty lists."""
    inner = record.get("entities", record) if isinstance(record, dict) else None
    if not isinstance(inner, dict) or not (inner or "entities" in record):
        return False
    return all(value == [] for value in inner.values()) and {*map(_loose, inner)} <= {*types}
