"""Text from elsewhere, made safe to print on a terminal or to open in a spreadsheet."""

from __future__ import annotations

import json
import re

# C0 and C1 controls, the marks that change the direction of writing or end a line, and half characters (lone
# surrogates, as in file names that are not UTF-8), which cannot be printed; line ends and tabs stay.
_CONTROLS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
_COLOURS = re.compile(r"(\x1b\[[\d;]*m)")

FORMULA_PREFIXES = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
_NUMBER = re.compile(r"[-+]?[\d.,]*\d(?:[eE][-+]?\d+)?%?")


def without_formula(cell: str) -> str:
    """The cell with a leading quote if a spreadsheet would read it as a formula."""
    return f"'{cell}" if cell.startswith(FORMULA_PREFIXES) else cell


def with_formula(cell: str) -> str:
    """The cell without the quote that `without_formula` wrote."""
    return cell[1:] if cell.startswith("'") and cell[1:].startswith(FORMULA_PREFIXES) else cell


def guarded_cell(cell: object) -> object:
    """`without_formula` of a string; numbers, also as strings ("-1.5"), and other values stay as they are."""
    return without_formula(cell) if isinstance(cell, str) and not _NUMBER.fullmatch(cell) else cell


def escape_controls(text: str, *, colours: bool = False) -> str:
    r"""The text with control characters as escapes ("\x1b"), so that none reaches a terminal as a command.

    Args:
        text: any text.
        colours: keep the sequences that select a colour or a style.
    """
    parts = _COLOURS.split(text) if colours else [text]
    escaped = (part if i % 2 else _CONTROLS.sub(lambda at: ascii(at[0])[1:-1], part) for i, part in enumerate(parts))
    return "".join(escaped)


def printable_json(value: object) -> str:
    """Indented JSON without control characters, half characters and marks of direction: they are written as escapes."""
    return escaped_json(value, indent=2)


def escaped_json(value: object, *, indent: int | None = None) -> str:
    """JSON whose control characters, half characters and marks of direction are escapes of four digits."""
    return _CONTROLS.sub(lambda at: f"\\u{ord(at[0]):04x}", json.dumps(value, ensure_ascii=False, indent=indent))
