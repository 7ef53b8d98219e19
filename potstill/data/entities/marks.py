"""The marks of one text -> its entities: lists of spans as labelling tools and language models write them.

Read are `[start, end, type]`, objects with a type and a start and an end (in characters), the same inside `value` as
Label Studio writes them, objects with a type and the words alone, and `{"type": ["words", ...]}`. A mark with words and
no numbers is the first place of these words that no earlier mark has.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, TypeGuard

from potstill.data.text2text_rows import UnreadableAnswerError
from potstill.evaluation.text2text.entities import Entities, Entity

_STARTS, _ENDS = ("start", "start_offset", "begin"), ("end", "end_offset", "stop")
_TYPES = ("type", "label", "labels", "hypertextlabels", "entity", "entity_type", "entity_group", "tag", "class")
_WORDS = ("text", "surface", "word", "words", "span", "value")
_LISTS = ("entities", "spans", "result", "labels", "annotations")
_LAST_OF_ONE_UNIT = 0xFFFF  # the last character that UTF-16 writes in one unit
UTF16 = "utf-16"  # the `units` of a mark, if they are no characters
MAX_SHOWN = 40  # characters of a word in a message


class UnreadableMarksError(UnreadableAnswerError):
    """Marks that are no entities of their text; the message is the end of a sentence ("has an entity ...")."""


@dataclass(frozen=True)
class _Mark:
    """A mark as it was written: the span may be missing, or the words; `utf16` if its tool counts in UTF-16 units."""

    type: str
    start: int | None = None
    end: int | None = None
    words: str | None = None
    utf16: bool = False


def read_marks(text: str, value: Any) -> Entities:
    """The entities of a text, sorted.

    Args:
        text: the text.
        value: its marks, as JSON gives them.

    Raises:
        UnreadableMarksError: marks of another form, a span outside of the text or without a character, words that are
            not at their place, or two entities that share a character.
    """
    found: list[Entity] = []
    for mark in _in_characters(text, list(_marks(value))):
        found.append(_locate(text, mark, found))
    found = sorted(set(found))
    for one, other in pairwise(found):
        if other.start < one.end:
            raise UnreadableMarksError(f"has two entities that overlap, {_shown(text, one)} and {_shown(text, other)}")
    return tuple(found)


def is_marks(value: Any) -> bool:
    """Whether a value has the form of marks; an empty list has it."""
    try:
        list(_marks(value))
    except UnreadableMarksError:
        return False
    return True


def _marks(value: Any) -> Iterator[_Mark]:
    if isinstance(value, Mapping):
        inner = next((value[name] for name in _LISTS if isinstance(value.get(name), list)), None)
        if inner is not None and not any(name in value for name in _STARTS):
            yield from _marks(inner)
            return
        if value and all(_is_words(each) for each in value.values()):
            yield from (_Mark(str(kind), words=words) for kind, each in value.items() for words in _listed(each))
            return
    elif isinstance(value, list | tuple):
        for each in value:
            yield _mark(each)
        return
    raise UnreadableMarksError("has marks that are no list of entities")


def _is_words(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def _mark(value: Any) -> _Mark:
    if isinstance(value, list | tuple) and len(value) == 3 and _is_whole(value[0]) and _is_whole(value[1]):
        return _Mark(str(value[2]), int(value[0]), int(value[1]))
    if isinstance(value, Mapping):
        inner = value.get("value")
        if isinstance(inner, Mapping):
            return replace(_mark(inner), utf16=True)
        names = next((_listed(value[name]) for name in _TYPES if value.get(name)), [])
        start, end = (next((value[name] for name in keys if name in value), None) for keys in (_STARTS, _ENDS))
        words = next((value[name] for name in _WORDS if isinstance(value.get(name), str)), None)
        if len(names) == 1 and isinstance(names[0], str) and _is_whole(start) and _is_whole(end):
            return _Mark(names[0], int(start), int(end), words, value.get("units") == UTF16)
        if len(names) == 1 and isinstance(names[0], str) and start is None and words:
            return _Mark(names[0], words=words)
    raise UnreadableMarksError(f"has a mark that is no entity: {str(value)[:MAX_SHOWN]!r}")


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _is_whole(value: Any) -> TypeGuard[int | float]:
    return not isinstance(value, bool) and isinstance(value, int | float) and float(value).is_integer()


def _locate(text: str, mark: _Mark, found: Sequence[Entity]) -> Entity:
    kind = " ".join(mark.type.split())
    if not kind:
        raise UnreadableMarksError("has an entity without a type")
    if mark.start is None or mark.end is None:
        return _find(text, mark.words or "", kind, found)
    start, end = mark.start, mark.end
    if mark.words is not None and not _is_there(text, mark):
        there, shown = text[max(start, 0) : max(end, 0)][:MAX_SHOWN], mark.words[:MAX_SHOWN]
        raise UnreadableMarksError(f"has the entity {shown!r} at {start:,} to {end:,}, and the text there is {there!r}")
    if not 0 <= start < end <= len(text):
        raise UnreadableMarksError(
            f"has an entity from {start:,} to {end:,}, and the text has {len(text):,} characters"
        )
    words = text[start:end]
    if not words.strip():
        raise UnreadableMarksError(f"has an entity at {start:,} to {end:,} that is blank")
    return Entity(start + len(words) - len(words.lstrip()), end - len(words) + len(words.rstrip()), kind)


def _is_there(text: str, mark: _Mark) -> bool:
    """Whether the words of a mark are at its place; also if it lacks one of both."""
    if mark.words is None or mark.start is None or mark.end is None:
        return True
    return 0 <= mark.start < mark.end <= len(text) and text[mark.start : mark.end].strip() == mark.words.strip()


def _in_characters(text: str, marks: list[_Mark]) -> list[_Mark]:
    """The marks with their places in characters: programs in JavaScript count UTF-16 units.

    All marks of a text are counted alike: as their tool is known to do, or else as their words show.
    """
    if not any(ord(mark) > _LAST_OF_ONE_UNIT for mark in text):
        return marks
    places = [0]  # of each UTF-16 unit, in characters
    for i, mark in enumerate(text):
        places += [i + 1] * (2 if ord(mark) > _LAST_OF_ONE_UNIT else 1)

    def place(unit: int | None) -> int | None:
        return unit if unit is None or not 0 <= unit < len(places) else places[unit]

    converted = [replace(each, start=place(each.start), end=place(each.end)) for each in marks]
    forms = (converted, marks) if any(each.utf16 for each in marks) else (marks, converted)
    return next((form for form in forms if all(_is_there(text, each) for each in form)), forms[0])


def _find(text: str, words: str, kind: str, found: Sequence[Entity]) -> Entity:
    """The first place of the words that no earlier entity has."""
    words, at = words.strip(), -1
    while words and (at := text.find(words, at + 1)) >= 0:
        if all(at >= each.end or at + len(words) <= each.start for each in found):
            return Entity(at, at + len(words), kind)
    raise UnreadableMarksError(f"has the entity {words[:MAX_SHOWN]!r}, which is not in the text")


def _shown(text: str, entity: Entity) -> str:
    return f"{text[entity.start : entity.end][:MAX_SHOWN]!r} ({entity.type})"
