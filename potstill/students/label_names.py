"""What labels are called, as texts a student can read: "card_arrival" says a good deal before the first example does.

Used as examples of their labels and as the start of a head; see `encoder.py`. Pure: knows no student and no model.
Does not judge whether a name means anything: who learns with names compares with learning without them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

MIN_LETTERS = 2  # "A", "3" and "?" name nothing


@dataclass(frozen=True)
class LabelTexts:
    """M texts that speak of labels, and the (M,) column each speaks of. A label has none, one or two."""

    texts: tuple[str, ...]
    columns: tuple[int, ...]

    def covers_all(self, n_labels: int) -> bool:
        """Whether every one of the K labels has a text."""
        return len(set(self.columns)) == n_labels


def label_texts(labels: Sequence[str], descriptions: Mapping[str, str] | None = None) -> LabelTexts:
    """The names of K labels as words, each followed by its description where there is one.

    Args:
        labels: the K names as they stand in the data: `card_arrival`, `cardArrival`, `CARD-ARRIVAL`, `Sci/Tech`.
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
    """A label's name with its parts as words in small letters: `cardArrival` is "card arrival"."""
    parted = re.sub(r"(?<=[^\W\d_A-Z])(?=[A-Z])", " ", label)
    return re.sub(r"[\s_/\-]+", " ", parted).strip().lower()
