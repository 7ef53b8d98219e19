"""A teacher's answer about the entities of a text: the words it named with their types, and their places in the text.

What is stored is what was named, since a text is not at hand where a batch is fetched. Places are looked for when
answers are read (`locate_entities`), and what has none is counted with the reason.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, get_args

from potstill.data.task import Answer, AnswerState, JsonObject
from potstill.evaluation.text2text.entities import Entities, Entity

NOT_IN_TEXT = "not in the text"
NO_TYPE = "of no type of the task"
OVERLAPPING = "on words that another entity has"
_FIELDS = {"state", "named", "raw"}
_SPACE = re.compile(r"\s+")


@dataclass(frozen=True)
class NamedEntity:
    """Words of a text and their type; `start` is their first character if the teacher knows it."""

    words: str
    type: str
    start: int | None = None


@dataclass(frozen=True)
class EntityAnswer(Answer):
    """A teacher's answer in a task of entities; it has no scores.

    Attributes:
        named: the entities, in the teacher's order; empty unless `state` is `ok`.
    """

    named: tuple[NamedEntity, ...] = ()

    def to_json(self) -> JsonObject:
        """A JSON object that `read_entity_answer` reads."""
        return {
            "state": self.state,
            "named": [[each.words, each.type, each.start] for each in self.named],
            "raw": self.raw,
        }

    @classmethod
    def from_json(cls, record: JsonObject) -> EntityAnswer:
        """Read what `to_json` returned."""
        return cls(record["state"], raw=record["raw"], named=tuple(NamedEntity(*each) for each in record["named"]))

    def checked(self, n_labels: int | None = None) -> EntityAnswer:
        """The answer without entities unless its state is `ok`; it never has scores."""
        if self.state == "ok" and self.scores is None:
            return self
        return replace(self, scores=None, named=self.named if self.state == "ok" else ())


def check_entity_answer(answer: Answer) -> EntityAnswer:
    """The answer as one about entities; a failed one if it has scores of labels instead."""
    if isinstance(answer, EntityAnswer):
        return answer.checked()
    if answer.state == "ok":
        return EntityAnswer("failed", raw="scores of labels, and no entities")
    return EntityAnswer(answer.state, raw=answer.raw)


def read_entity_answer(record: Any) -> EntityAnswer | None:
    """The answer that `EntityAnswer.to_json` wrote; None for anything else."""
    if not isinstance(record, dict) or record.keys() != _FIELDS or not isinstance(record["raw"], str):
        return None
    if record["state"] not in get_args(AnswerState) or not isinstance(record["named"], list):
        return None
    if not all(map(_is_named, record["named"])) or (record["named"] and record["state"] != "ok"):
        return None
    return EntityAnswer.from_json(record)


def _is_named(value: Any) -> bool:
    if not isinstance(value, list) or len(value) != 3:
        return False
    words, kind, start = value
    return isinstance(words, str) and isinstance(kind, str) and (start is None or type(start) is int)


@dataclass(frozen=True)
class LocatedEntities:
    """The entities of a text, sorted and without overlaps, and how many named ones were dropped, by reason."""

    entities: Entities
    dropped: Mapping[str, int] = field(default_factory=dict)

    @property
    def n_dropped(self) -> int:
        """Named entities without a place or a type."""
        return sum(self.dropped.values())


def locate_entities(text: str, named: Sequence[NamedEntity], types: Sequence[str]) -> LocatedEntities:
    """The places of named entities in a text.

    Models name entities in the order of the text. So words that occur several times are looked for behind the entity
    before, then anywhere; as whole words first, then within words; then without regard to case and white space.

    Args:
        text: the text.
        named: the entities, in the teacher's order. The same entity twice, where its words occur once, is one.
        types: the K types of the task.
    """
    found: list[Entity] = []
    dropped: Counter[str] = Counter()
    cursor = 0
    for each in named:
        if each.type not in types:
            dropped[NO_TYPE] += 1
            continue
        places = list(_places(text, each, cursor))
        free = next((place for place in places if not any(_touch(place, other) for other in found)), None)
        if free is not None:
            found.append(Entity(*free, each.type))
            cursor = free[1]
        elif not places:
            dropped[NOT_IN_TEXT] += 1
        elif not any(Entity(*place, each.type) in found for place in places):
            dropped[OVERLAPPING] += 1
    return LocatedEntities(tuple(sorted(found)), dict(dropped))


def _touch(place: tuple[int, int], entity: Entity) -> bool:
    return place[0] < entity.end and entity.start < place[1]


def _places(text: str, named: NamedEntity, cursor: int) -> Iterator[tuple[int, int]]:
    """All places of the words, the likeliest first."""
    words = named.words.strip()
    if not words:
        return
    if named.start is not None and text.startswith(words, named.start):
        yield named.start, named.start + len(words)
        return
    exact = [found.span() for found in re.finditer(re.escape(words), text)]
    if not exact:
        loose = r"\s+".join(map(re.escape, _SPACE.split(words)))
        exact = [found.span() for found in re.finditer(loose, text, re.IGNORECASE)]
    yield from sorted(exact, key=lambda place: (not _is_whole(text, place), place[0] < cursor, place[0]))


def _is_whole(text: str, place: tuple[int, int]) -> bool:
    """Whether a place begins and ends where words do."""
    start, end = place
    begins = start == 0 or not (text[start - 1].isalnum() and text[start].isalnum())
    return begins and (end == len(text) or not (text[end].isalnum() and text[end - 1].isalnum()))
