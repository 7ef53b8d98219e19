"""Text from elsewhere, made safe to print on a terminal or to open in a spreadsheet."""

from __future__ import annotations

import re

# C0 and C1 controls, and the marks that change the direction of writing; line ends and tabs stay.
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")

FORMULA_PREFIXES = ("=", "+", "-", "@", "\t", "\r")


def without_formula(cell: str) -> str:
    """The cell with a leading quote if a spreadsheet would read it as a formula."""
    return f"'{cell}" if cell.startswith(FORMULA_PREFIXES) else cell


def escape_controls(text: str) -> str:
    r"""The text with control characters as escapes ("\x1b"), so that none reaches a terminal as a command."""
    return _CONTROLS.sub(lambda found: ascii(found[0])[1:-1], text)
