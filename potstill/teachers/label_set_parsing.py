"""Sets of labels from a chat model: the reply read strictly, and one set or several as scores of each label by itself.

Functions of texts and numbers, as in `parse.py`; knows no server. Does not cover probabilities that a model states of
each label: asked for numbers, models give round ones.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Sequence
from typing import Any

from potstill.teachers.label_parsing import CODE_FENCE, MIN_PROBABILITY, STRIP_CHARACTERS, LabelParser, ParsedLabel

# Said where no label fits: the first of these that is no label's name.
NONE_WORDS = ("NONE", "NOTHING", "NO LABEL", "(none of the labels)")
_BETWEEN = re.compile(r"[,;\n]")


def none_word(labels: Sequence[str]) -> str:
    """The word that says that none of K labels fits."""
    names = {label.strip().casefold() for label in labels}
    return next(word for word in NONE_WORDS if word.casefold() not in names)


class LabelSetParser(LabelParser):
    """Reads replies that name a set of labels; see `parse.Reading` for how one name is read."""

    def parse(self, reply: str) -> ParsedLabel | None:
        """The set of a reply: `{"labels": [...]}`, a JSON list, or names with commas; `NONE` or `[]` for the empty one.

        None where one name of it is no label's, or comes twice: a set that is half understood is no answer.
        """
        bare = reply.strip()
        fenced = CODE_FENCE.match(bare)
        if fenced:
            bare = fenced[1].strip()
        names = _json_names(bare) if bare[:1] in ("{", "[") else self._plain_names(bare)
        if names is None:
            return None
        found = [self._named(name, reply) or self._pair(name, reply) for name in names]
        columns = [each.column for each in found if each is not None]
        if None in found or len(set(columns)) < len(names):
            return None
        return ParsedLabel(columns[0] if columns else -1, None, columns=frozenset(columns))

    def _plain_names(self, bare: str) -> list[str] | None:
        bare = bare.strip(STRIP_CHARACTERS).removesuffix(".").strip(STRIP_CHARACTERS)
        if bare.casefold() == none_word(self.labels).casefold():
            return []
        if self._named(bare, bare) is not None:  # a label's name may hold a comma
            return [bare]
        names = [name.strip(STRIP_CHARACTERS) for name in _BETWEEN.split(bare)]
        return names if all(names) else None


def _json_names(bare: str) -> list[str] | None:
    try:
        record: Any = json.loads(bare)
    except (ValueError, RecursionError):
        return None
    if isinstance(record, dict):
        record = record["labels"] if list(record) == ["labels"] else None
    if not isinstance(record, list) or not all(isinstance(name, str) for name in record):
        return None
    return record


def scores_from_label_set(columns: Collection[int], n_labels: int, confidence: float) -> tuple[float, ...]:
    """(K,) log-probabilities of each label by itself, from one set: `confidence` for those named.

    As many labels are expected to be missed as are wrongly named, so that as many as were named are expected in all:
    the rest, `1 - confidence` of each named label (of one, where the set is empty), is shared by those not named.
    """
    others = n_labels - len(columns)
    rest = (1 - confidence) * max(len(columns), 1) / others if others else 0.0
    inside, outside = math.log(confidence), math.log(min(max(rest, MIN_PROBABILITY), 1 - confidence))
    return tuple(inside if column in columns else outside for column in range(n_labels))


def scores_from_label_set_votes(sets: Sequence[Collection[int]], n_labels: int) -> tuple[float, ...]:
    """(K,) log-probabilities of each label by itself: its share of several sets.

    One more set counts, which has every label by as much as a set of theirs has on average.
    """
    counts = [sum(column in columns for columns in sets) for column in range(n_labels)]
    each = sum(counts) / (len(sets) * n_labels)
    spread = min(max(each, MIN_PROBABILITY), 1 - MIN_PROBABILITY)
    return tuple(math.log((count + spread) / (len(sets) + 1)) for count in counts)
