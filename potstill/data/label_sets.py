"""Several labels in one cell: read, written, and guessed. Knows no task: any names are labels.

A set is kept as one string, the JSON list of its names in order (`canonical`), so that whatever compares labels
compares sets. `[]` says that no label fits; an empty cell says nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Literal, get_args

from potstill.errors import BadData

Separator = Literal["|", ";", ",", "json"]
SEPARATORS: tuple[Separator, ...] = get_args(Separator)
# Guessed without being told that there are several: a comma is part of many a name ("Mortgage, home loan").
GUESSED_SEPARATORS: tuple[Separator, ...] = ("json", "|", ";")
MIN_SHARE = 0.02  # of the filled cells that hold more than one label, for a separator to be one


def parse_labels(cell: str | None, separator: Separator) -> tuple[str, ...] | None:
    """The labels of a cell, in order and once each; None where the cell says nothing.

    Raises:
        BadData: with "json", a cell that is no JSON list of names.
    """
    text = (cell or "").strip()
    if not text:
        return None
    if separator != "json":
        return _once(text.split(separator))
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, list) or not all(isinstance(name, str | int | float) for name in found):
        raise BadData(f"{text[:60]!r} is no JSON list of labels.", 'Write ["one", "other"], or [] for none.')
    return _once(map(str, found))


def encode_label_set(labels: Iterable[str]) -> str:
    """One string for a set of labels, the same whatever their order."""
    return json.dumps(sorted(set(labels)), ensure_ascii=False)


def decode_label_set(canonical_labels: str) -> tuple[str, ...]:
    """The labels of what `canonical` wrote."""
    return tuple(json.loads(canonical_labels))


def format_labels(labels: Sequence[str]) -> str:
    """A cell for a set of labels, for `read_labels` with the separator "|", or with "json" where a name holds one."""
    if any("|" in label for label in labels):
        return json.dumps(list(labels), ensure_ascii=False)
    return "|".join(labels) or "|"


def guess_separator(
    cells: Sequence[str | None], candidates: Sequence[Separator] = GUESSED_SEPARATORS
) -> Separator | None:
    """What stands between the labels of these cells; None if each seems to hold one.

    A separator is one if some cells hold it, and its labels come back in other cells: fewer names than combinations.
    """
    filled = [cell.strip() for cell in cells if cell and cell.strip()]
    for separator in candidates:
        if separator == "json":
            if filled and all(_is_list(cell) for cell in filled):
                return separator
            continue
        several = [cell for cell in filled if separator in cell]
        names = {name for cell in filled for name in _once(cell.split(separator))}
        if len(several) >= max(1, MIN_SHARE * len(filled)) and len(names) < len(set(filled)):
            return separator
    return None


def _is_list(cell: str) -> bool:
    try:
        return cell[0] == "[" and isinstance(json.loads(cell), list)
    except ValueError:
        return False


def _once(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name.strip() for name in names if name.strip()))
