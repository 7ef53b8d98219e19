"""Tags of words and the entities they mark: BIO and its relatives.

Read are BIO (IOB2), IOB1, BIOES and BILOU; an entity also begins at a stray I- tag, as in seqeval's default mode.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from potstill.evaluation.text2text.entities import Entities, Entity

OUTSIDE = ("O", "o", "0")
_BEGINS, _ENDS, _KNOWN = "BSU", "ESLU", "BIESLU"


def is_tag(tag: str) -> bool:
    """Whether a word has the form of a tag: O, or a letter of BIOES or BILOU, a hyphen and a type."""
    return tag in OUTSIDE or (len(tag) > 2 and tag[1] in "-_" and tag[0] in _KNOWN)


def tagged_words(tags: Sequence[str]) -> Iterator[tuple[int, int, str]]:
    """The entities that N tags mark: the first word, the word after the last one, and the type.

    Raises:
        ValueError: a word that is no tag.
    """
    start, kind = -1, ""
    for i, tag in enumerate(tags):
        if not is_tag(tag):
            raise ValueError(f"{tag[:40]!r} is no tag such as O, B-TYPE or I-TYPE")
        prefix, name = ("O", "") if tag in OUTSIDE else (tag[0], tag[2:])
        if start >= 0 and (prefix == "O" or prefix in _BEGINS or name != kind):
            yield start, i, kind
            start = -1
        if prefix == "O":
            continue
        if start < 0:
            start, kind = i, name
        if prefix in _ENDS:
            yield start, i + 1, kind
            start = -1
    if start >= 0:
        yield start, len(tags), kind


def read_tags(words: Sequence[str], tags: Sequence[str]) -> tuple[str, Entities]:
    """N words and their N tags -> the words joined by blanks, and the entities in this text.

    Raises:
        ValueError: unequal numbers, or a word that is no tag.
    """
    if len(words) != len(tags):
        raise ValueError(f"has {len(words)} words and {len(tags)} tags")
    starts, at = [], 0
    for word in words:
        starts.append(at)
        at += len(word) + 1
    found = (
        Entity(starts[first], starts[end - 1] + len(words[end - 1]), name) for first, end, name in tagged_words(tags)
    )
    return " ".join(words), tuple(found)
