"""Parses label sets from a chat model's reply, strictly, and turns one set or several into scores of each label.

Functions of texts and numbers, as in `label_parsing.py`. Does not cover probabilities that a model states for each
label: models give round numbers.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Sequence
from typing import Any

from potstill.teachers.label_parsing import (
    CODE_FENCE,
    MIN_PROBABILITY,
    STRIP_CHARACTERS,
    LabelParser,
    ParsedLabel,
    read_object,
)

# The reply if no label fits: the first of these that is not a label.
NONE_WORDS = ("NONE", "NOTHING", "NO LABEL", "(none of the labels)")
_SEPARATORS = re.compile(r"[,;\n]")


def none_word(labels: Sequence[str]) -> str:
    """The word for "none of the K labels fits"."""
    names = {label.strip().casefold() for label in labels}
    return next(word for word in NONE_WORDS if word.casefold() not in names)


class LabelSetParser(LabelParser):
    """Parses replies that name a set of labels; see `LabelParser` for how one name is parsed."""

    def _parse_bare(self, reply: str) -> ParsedLabel | None:
        """The set of a reply: `{"labels": [...]}`, a JSON list, or names with commas.

        The empty set is `[]` or the word of `none_word`. None if one name is not a label, or comes twice: a partly
        parsed set is rejected.
        """
        bare = reply.strip()
        fenced = CODE_FENCE.match(bare)
        if fenced:
            bare = fenced[1].strip()
        names = self._json_names(bare) if bare[:1] in ("{", "[") else self._plain_names(bare)
        if names is None:
            return None
        found = [self._named(name, reply) or self._pair(name, reply) for name in names]
        columns = [each.column for each in found if each is not None]
        if None in found or len(set(columns)) < len(names):
            return None
        return ParsedLabel(columns[0] if columns else -1, None, columns=frozenset(columns))

    def _json_names(self, bare: str) -> list[str] | None:
        """The names of a list, or of the field "labels" if no other field names another label."""
        try:
            names: Any = json.loads(bare) if bare.startswith("[") else (read_object(bare) or {}).get("labels")
        except (ValueError, RecursionError):
            return None
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            return None
        if bare.startswith("{") and self.named_columns(read_object(bare)) != self.named_columns(names):
            return None
        return names

    def _plain_names(self, bare: str) -> list[str] | None:
        bare = bare.strip(STRIP_CHARACTERS).removesuffix(".").strip(STRIP_CHARACTERS)
        if bare.casefold() == none_word(self.labels).casefold():
            return []
        if self._named(bare, bare) is not None:  # a label's name may hold a comma
            return [bare]
        names = [name.strip(STRIP_CHARACTERS) for name in _SEPARATORS.split(bare)]
        return names if all(names) else None


def scores_from_label_set(columns: Collection[int], n_labels: int, confidence: float) -> tuple[float, ...]:
    """(K,) log-probabilities of each label by itself, from one set: `confidence` for its labels.

    The expected number of labels is that of the set: `1 - confidence` for each of its labels (for one, if the set is
    empty) is shared equally by the other labels.
    """
    n_others = n_labels - len(columns)
    rest = (1 - confidence) * max(len(columns), 1) / n_others if n_others else 0.0
    inside, outside = math.log(confidence), math.log(min(max(rest, MIN_PROBABILITY), 1 - confidence))
    return tuple(inside if column in columns else outside for column in range(n_labels))


def scores_from_label_set_votes(sets: Sequence[Collection[int]], n_labels: int) -> tuple[float, ...]:
    """(K,) log-probabilities of each label by itself: its share of several sets.

    Smoothed by one pseudo-set that has every label with the average share.
    """
    counts = [sum(column in columns for columns in sets) for column in range(n_labels)]
    average = sum(counts) / (len(sets) * n_labels)
    pseudo_count = min(max(average, MIN_PROBABILITY), 1 - MIN_PROBABILITY)
    return tuple(math.log((count + pseudo_count) / (len(sets) + 1)) for count in counts)
