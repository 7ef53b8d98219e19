"""Label names as texts: "card_arrival" becomes "card arrival".

The encoder student uses them as training rows and to initialise a head (see `training_strategy`). Whether names carry
meaning is not checked here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

MIN_LETTERS = 2  # "A", "3" and "?" say nothing about a label


@dataclass(frozen=True)
class LabelTexts:
    """M names and descriptions, and the (M,) column of the label of each. A label has none, one or two."""

    texts: tuple[str, ...]
    columns: tuple[int, ...]

    def covers_all(self, n_labels: int) -> bool:
        """Whether every one of the K labels has a text."""
        return len(set(self.columns)) == n_labels


def label_texts(labels: Sequence[str], descriptions: Mapping[str, str] | None = None) -> LabelTexts:
    """The names of K labels as words, each followed by its description if it has one.

    Args:
        labels: the K names as in the data: `card_arrival`, `cardArrival`, `CARD-ARRIVAL`, `Sci/Tech`.
        descriptions: label -> a sentence about it.
    """
    texts: list[str] = []
    columns: list[int] = []
    for column, label in enumerate(labels):
        for text in (label_to_words(label), (descriptions or {}).get(label, "").strip()):
            if sum(letter.isalpha() for letter in text) >= MIN_LETTERS:
                texts.append(text)
                columns.append(column)
    return LabelTexts(tuple(texts), tuple(columns))


def label_to_words(label: str) -> str:
    """A label's name as lower-case words: `cardArrival` is "card arrival"."""
    spaced = re.sub(r"(?<=[^\W\d_A-Z])(?=[A-Z])", " ", label)
    return re.sub(r"[\s_/\-]+", " ", spaced).strip().lower()
