"""One column a label: 0 or 1, yes or no, or a cross in each cell, read as one column of scores; or numbered columns.

Where the cells are 1 and -1, -1 is read as 0. Beside 0 it may mean that the label is unknown, or the column may be an
opinion of -1, 0 or 1: such columns are joined only if the user names them, and it is said.

The new column is called like the columns it joins, `billing,delivery`, and so can be named: `--label billing,delivery`.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from potstill.data.tables import Table
from potstill.data.tables.base import Cell, JsonText

_ON, _OFF = frozenset("1 1.0 true yes y t x ✓ ✔ ☑".split()), frozenset("0 0.0 false no n f - ☐".split())
_MINUS = frozenset(("-1", "-1.0"))
_FLAGS, _MAX_FLAG = _ON | _OFF | _MINUS | {""}, 20
_CROSSES = frozenset("x ✓ ✔ ☑".split())
_PREFIXES = frozenset("label labels class category topic tag intent sentiment emotion".split())
_DECIMAL = re.compile(r"[-+]?\d*\.?\d+(?:e[-+]?\d{1,3})?", re.ASCII)
_NUMBERED = re.compile(r"([A-Za-z]+)[ _.-]?\d{1,2}")
_MIN_COLUMNS = 2
SHOWN_NAME = 60  # characters of a joined name in a sentence


@dataclass(frozen=True)
class FlagColumns:
    """A table with its columns of labels joined; `name` is that of the joined column, "" if there are none.

    `found` says what was found, and is empty if the user named the columns; `doubt` is a sentence on columns that may
    be flags and were not joined.
    """

    table: Table
    name: str = ""
    found: str = ""
    doubt: str = ""


def join_flag_columns(
    table: Table, named: str, is_label_name: Callable[[str], bool], used: Sequence[str] = ()
) -> FlagColumns:
    """Join the flag columns that the user named, separated by commas, or those that are found.

    Args:
        table: any table.
        named: the user's name of the label column; "" to search for flags.
        is_label_name: whether a column is the label by its name; then no flags are searched for.
        used: columns that the user named for something else.
    """
    if named:
        parts = [part.strip() for part in named.split(",")]
        if named in table.cells or len(parts) < _MIN_COLUMNS or not all(part in table.cells for part in parts):
            return FlagColumns(table)
        return FlagColumns(_joined(table, parts, named), named)
    free = [name for name in table.columns if name not in used and "," not in name]
    numbered = _numbered(free)
    if numbered and not any(is_label_name(name) for name in free if name not in numbered):
        name = ",".join(numbered)
        return FlagColumns(_joined(table, numbered, name), name, "labels in numbered columns")
    flags = [name for name in free if _is_flag(table.column(name))]
    if sum(_varies(table.column(name)) for name in flags) < _MIN_COLUMNS:
        return FlagColumns(table)
    others = [name for name in free if name not in flags and any(table.column(name))]
    if any(is_label_name(name) for name in others) or not others:
        return FlagColumns(table)
    return _join_found(table, flags)


def _join_found(table: Table, flags: Sequence[str]) -> FlagColumns:
    """The flag columns that were found, joined; or a doubt, where -1 stands beside 0."""
    name = ",".join(flags)
    values = {(cell or "").strip().casefold() for each in flags for cell in table.column(each)}
    if values & _MINUS and values & _OFF:
        return FlagColumns(
            table,
            doubt=f"The columns {shown_columns(name)} of {table.name} hold -1, 0 and 1, which may be labels or not; "
            f"--label {shlex.quote(name)} reads 1 as a label and the others as none.",
        )
    found = "1 and -1 for each label, -1 read as 0" if values & _MINUS else "0 and 1 for each label"
    return FlagColumns(_joined(table, flags, name), name, f"a column of {found}")


def shown_columns(name: str) -> str:
    """The name of a joined column, shortened for a sentence."""
    if len(name) <= SHOWN_NAME or "," not in name:
        return name
    parts = name.split(",")
    return f"{','.join(parts[:3])} and {len(parts) - 3} more"


def _numbered(columns: Sequence[str]) -> list[str]:
    """Columns label_1, label_2, ... of at least two labels a row."""
    found: dict[str, list[str]] = {}
    for name in columns:
        match = _NUMBERED.fullmatch(name.strip())
        if match and {match[1].casefold(), match[1].casefold().removesuffix("s")} & _PREFIXES:
            found.setdefault(match[1].casefold(), []).append(name)
    return next((names for names in found.values() if len(names) >= _MIN_COLUMNS), [])


def _is_flag(cells: Sequence[Cell]) -> bool:
    if not all(_is_flag_cell(cell) for cell in cells):  # stops at the first text
        return False
    values = {(cell or "").strip().casefold() for cell in cells}
    return not values <= _ON and values != {""}


def _is_flag_cell(cell: Cell) -> bool:
    return not cell or (len(cell) < _MAX_FLAG and cell.strip().casefold() in _FLAGS)


def _varies(cells: Sequence[Cell]) -> bool:
    return any((cell or "").strip().casefold() in _ON for cell in cells)


def _joined(table: Table, columns: Sequence[str], name: str) -> Table:
    """The table with the column of scores, or of lists if the cells are names, in place of the columns."""
    left = tuple(each for each in table.columns if each not in columns)
    if not all(_is_score(cell) for each in columns for cell in table.column(each)):
        rows = zip(*(table.column(each) for each in columns), strict=True)
        lists = [[cell.strip() for cell in cells if cell and cell.strip()] for cells in rows]
        cells = [JsonText(json.dumps(labels, ensure_ascii=False)) if labels else None for labels in lists]
        return replace(table, columns=(*left, name), cells={**table.cells, name: cells})
    names = _without_prefix(columns)
    crosses = all(
        {(cell or "").strip().casefold() for cell in table.column(each)} <= _CROSSES | {""} for each in columns
    )
    joined: list[Cell] = []
    for row in zip(*(table.column(each) for each in columns), strict=True):
        filled = [(cell or "").strip() for cell in row]
        if not any(filled):
            joined.append(None)
            continue
        scores = {each: _score(cell) for each, cell in zip(names, filled, strict=True)}
        joined.append(JsonText(json.dumps({n: s for n, s in scores.items() if not crosses or s}, ensure_ascii=False)))
    return replace(table, columns=(*left, name), cells={**table.cells, name: joined})


def _is_score(cell: Cell) -> bool:
    word = (cell or "").strip().casefold()
    return not word or word in _ON or word in _OFF or bool(_DECIMAL.fullmatch(word))


def _score(cell: str) -> float:
    word = cell.casefold()
    if word in _MINUS:
        return 0.0
    return float(word) if _DECIMAL.fullmatch(word) else int(word in _ON)


def _without_prefix(columns: Sequence[str]) -> list[str]:
    """The labels: the names of the columns, without the prefix that pandas' `get_dummies` adds."""
    for separator in "_.-:/= ":
        words = {name.partition(separator)[0] if separator in name else "" for name in columns}
        word = min(words)
        if len(words) == 1 and word.casefold() in _PREFIXES:
            return [name[len(word) + 1 :].strip() or name for name in columns]
    return list(columns)
