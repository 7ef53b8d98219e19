"""Several labels in one cell: parsed, formatted, and the separator guessed. Any names are labels here.

A set is encoded as one string, the JSON list of its sorted names (`encode_label_set`), so that sets compare as strings.
`[]` means that no label fits; an empty cell is unlabelled.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Literal, get_args

from potstill.errors import BadData

Separator = Literal["|", ";", ",", "json"]
SEPARATORS: tuple[Separator, ...] = get_args(Separator)
# Guessed in any task. Not the comma: it is part of many names ("Mortgage, home loan").
GUESSED_SEPARATORS: tuple[Separator, ...] = ("json", "|", ";")
MIN_SHARE = 0.02  # of the non-empty cells must hold a separator


def parse_labels(cell: str | None, separator: Separator) -> tuple[str, ...] | None:
    """The labels of a cell, in order, without repeats; None if it is empty.

    Raises:
        BadData: with "json", the cell is not a JSON list of names.
    """
    text = (cell or "").strip()
    if not text:
        return None
    if separator != "json":
        return _unique(text.split(separator))
    try:
        names = json.loads(text)
    except ValueError:
        names = None
    if not isinstance(names, list) or not all(isinstance(name, str | int | float) for name in names):
        raise BadData(f"{text[:60]!r} is not a JSON list of labels.", 'Write ["one", "other"], or [] for none.')
    return _unique(map(str, names))


def encode_label_set(labels: Iterable[str]) -> str:
    """One string for a set of labels, whatever their order."""
    return json.dumps(sorted(set(labels)), ensure_ascii=False)


def decode_label_set(encoded: str) -> tuple[str, ...]:
    """The labels that `encode_label_set` encoded."""
    return tuple(json.loads(encoded))


def format_labels(labels: Sequence[str]) -> str:
    """A cell for a set of labels, separated by "|", or as a JSON list if a name holds a "|"."""
    if any("|" in label for label in labels):
        return json.dumps(list(labels), ensure_ascii=False)
    return "|".join(labels) or "|"


def guess_separator(
    cells: Sequence[str | None], candidates: Sequence[Separator] = GUESSED_SEPARATORS
) -> Separator | None:
    """The separator of the labels in these cells; None if each cell seems to hold one label.

    A candidate is the separator if at least `MIN_SHARE` of the cells hold it and the split cells have fewer distinct
    labels than there are distinct cells: labels recur in other combinations.
    """
    filled = [cell.strip() for cell in cells if cell and cell.strip()]
    for separator in candidates:
        if separator == "json":
            if filled and all(_is_json_list(cell) for cell in filled):
                return separator
            continue
        n_separated = sum(separator in cell for cell in filled)
        names = {name for cell in filled for name in _unique(cell.split(separator))}
        if n_separated >= max(1, MIN_SHARE * len(filled)) and len(names) < len(set(filled)):
            return separator
    return None


def _is_json_list(cell: str) -> bool:
    try:
        return cell[0] == "[" and isinstance(json.loads(cell), list)
    except ValueError:
        return False


def _unique(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name.strip() for name in names if name.strip()))
