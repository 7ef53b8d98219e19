"""Several labels in one cell: parsed, formatted, and the separator guessed. Any names are labels here.

A set is encoded as one string, the JSON list of its sorted names (`encode_label_set`), so that sets compare as strings.
`[]` means that no label fits; an empty cell is unlabelled.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from potstill.errors import BadData

Separator = str  # characters between the labels of a cell; "json" for a list
SEPARATORS: tuple[Separator, ...] = ("|", ";", ",", "json")
# Guessed in any task, in this order. These are part of hardly any name ("#" is doccano's):
_RARE_SEPARATORS = ("|", ";", "#", "\n", "\t")
# These are part of many names ("Mortgage, home loan", "Health & Beauty", "not spam"), so other cells have to show that
# their parts are labels.
_COMMON_SEPARATORS = (",", "/", "+", "&", " ")
GUESSED_SEPARATORS: tuple[Separator, ...] = ("json", *_RARE_SEPARATORS, *_COMMON_SEPARATORS)
SEPARATOR_NAMES = {"comma": ",", "semicolon": ";", "tab": "\t", "newline": "\n", "space": " ", "hash": "#"}
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
        return _unique(text.split(SEPARATOR_NAMES.get(separator, separator)))
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

    A candidate is the separator if it splits at least `MIN_SHARE` of the cells, into fewer distinct labels than there
    are distinct cells, or such as all recur in other cells. One that is part of many names has to
    separate labels that are cells by themselves, in several combinations.
    """
    filled = [cell.strip() for cell in cells if cell and cell.strip()]
    for separator in candidates:
        if separator == "json":
            if filled and all(_is_json_list(cell) for cell in filled):
                return separator
            continue
        split = {cell: _unique(cell.split(separator)) for cell in set(filled)}
        n_separated = sum(len(split[cell]) != 1 for cell in filled)  # "C#" is one name
        if n_separated < max(1, MIN_SHARE * len(filled)):
            continue
        counts = Counter(name for parts in split.values() for name in parts)
        recur = len(counts) < len(split) or min(counts.values(), default=0) > 1
        if recur and (separator not in _COMMON_SEPARATORS or _are_labels(split, separator)):
            return separator
    return None


def _are_labels(split: Mapping[str, Sequence[str]], separator: Separator) -> bool:
    """Whether the names in separated cells are labels: cells by themselves, or for a comma in several combinations."""
    combinations = {cell: parts for cell, parts in split.items() if len(parts) > 1}
    alone = {parts[0] for parts in split.values() if len(parts) == 1}
    counts = Counter(name for parts in combinations.values() for name in parts)
    if separator == ",":
        return any(name in alone for name in counts) and all(name in alone or counts[name] > 1 for name in counts)
    return len(combinations) > 1 and all(name in alone for name in counts)


def _is_json_list(cell: str) -> bool:
    try:
        return cell[0] == "[" and isinstance(json.loads(cell), list)
    except ValueError:
        return False


def _unique(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name.strip() for name in names if name.strip()))
