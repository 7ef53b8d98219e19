"""The baseline of entity tasks: words that were entities in training are entities, with their most frequent type.

As in CoNLL 2003's baseline, the longest known sequence of words wins, and one that is mostly no entity in training is
left out. Functions of strings.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from potstill.evaluation.text2text.entities import Entities, Entity

_WORD = re.compile(r"[^\W_]+|[^\w\s]|_")
MAX_WORDS = 8  # of an entity
MIN_SHARE = 0.5  # of the places of a sequence of words in training where it is an entity
Words = tuple[str, ...]


@dataclass(frozen=True)
class KnownWords:
    """Sequences of words, in lower case, and the type of each."""

    types: Mapping[Words, str]

    def find(self, text: str) -> Entities:
        """The entities of a text, from left to right, the longest first."""
        places = [found.span() for found in _WORD.finditer(text)]
        words = [text[start:end].casefold() for start, end in places]
        found: list[Entity] = []
        at = 0
        while at < len(words):
            size = next(
                (n for n in range(min(MAX_WORDS, len(words) - at), 0, -1) if tuple(words[at : at + n]) in self.types), 0
            )
            if size:
                found.append(Entity(places[at][0], places[at + size - 1][1], self.types[tuple(words[at : at + size])]))
            at += max(size, 1)
        return tuple(found)


def learn_words(texts: Sequence[str], entities: Sequence[Entities]) -> KnownWords:
    """The words that are entities in N texts, at least as often as not."""
    types: dict[Words, Counter[str]] = defaultdict(Counter)
    for text, marks in zip(texts, entities, strict=True):
        for each in marks:
            types[_words(text[each.start : each.end])][each.type] += 1
    known = {words for words in types if 0 < len(words) <= MAX_WORDS}
    sizes = sorted({len(words) for words in known})
    seen: Counter[Words] = Counter()
    for text in texts:
        words = _words(text)
        for n in sizes:
            seen.update(part for i in range(len(words) - n + 1) if (part := words[i : i + n]) in known)
    return KnownWords(
        {words: types[words].most_common(1)[0][0] for words in known if types[words].total() >= MIN_SHARE * seen[words]}
    )


def _words(text: str) -> Words:
    return tuple(_WORD.findall(text.casefold()))
