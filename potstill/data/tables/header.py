"""Tells whether the first line of a file is a header or a row.

A file without a header would lose a row, and its columns would be named after a text and a label.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from potstill.data.tables.base import Cell

# A first line with one of these words as a cell is a header.
_HEADER_WORDS = frozenset(
    "id ids index idx no nr n key uid guid date time timestamp created author user name url link source lang language "
    "text texts text_a text_b sentence sentence1 sentence2 review content message body utterance query question answer "
    "comment tweet document doc headline title description summary subject label labels class classes category "
    "categories intent intents sentiment target topic topics tag tags gold rating stars score emotion y split "
    "partition subset fold set part premise hypothesis passage claim evidence file row".split()
)
_NUMBER = re.compile(r"[-+]?\d+(?:[.,]\d+)?")
_LONG, _MIN_REPEATS, _FEW = 80, 2, 10


def has_header_word(cells: Iterable[str]) -> bool:
    """Whether one of the cells is a word that headers have."""
    return any(cell.casefold().strip() in _HEADER_WORDS for cell in cells)


def header_doubt(name: str, cells: Mapping[str, Sequence[Cell]]) -> str:
    """A sentence that says why the column names look like a row; "" if they do not.

    Args:
        name: of the file.
        cells: column name -> its N cells below.
    """
    if has_header_word(cells):
        return ""
    for column, values in cells.items():
        start = f"The first line of {name} looks like a row, not like a header: "
        if len(column) > _LONG:
            return f"{start}it has a cell of {len(column)} characters"
        if column[:1] in "[{" and column[-1:] in "]}":
            return f"{start}{column[:_LONG]!r} is a list, not a name"
        if (n := Counter(values)[column]) >= (_MIN_REPEATS if len(values) > _FEW else 1):
            return f"{start}{column!r} is the value of its column in {n:,} other row{'s' * (n > 1)}"
        filled = [value for value in values if value]
        if _NUMBER.fullmatch(column) and filled and all(_NUMBER.fullmatch(value.strip()) for value in filled):
            return f"{start}{column!r} is a number, as is each cell below"
    return ""
