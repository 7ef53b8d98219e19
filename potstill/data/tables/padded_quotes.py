"""Blanks between a quoted cell and its delimiter, as in `"text" , "label"`: finds them, and takes them out of lines."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence

_DELIMITERS = (",", ";", "|", "\t")
_INSIDE = '[^"]*(?:""[^"]*)*'
_CELL = f'"{_INSIDE}"'
_IN_QUOTES = re.compile(_INSIDE)


def padded_delimiter(lines: Sequence[str]) -> str:
    """The delimiter of a file whose quoted cells have blanks around it; "" if the file is not of that kind.

    The header or the row below it decides: all its cells are quoted, and there are as many as in the header.
    """
    rows = [line for line in lines if line.strip()][:2]
    for delimiter in _DELIMITERS:
        gap = f" *{re.escape(delimiter)} *"
        for line in rows:
            bare = CellBlanks(delimiter).remove(line)
            if bare == line or not re.fullmatch(f" *{_CELL}(?:{gap}{_CELL})+ *[\r\n]*", line):
                continue
            header = CellBlanks(delimiter).remove(rows[0])
            n_columns, n_cells = (len(next(csv.reader([each], delimiter=delimiter))) for each in (header, bare))
            if n_columns == n_cells:
                return delimiter
    return ""


class CellBlanks:
    """Takes the blanks around quoted cells out of the lines of one file, in their order.

    Attributes:
        in_quotes: whether the last line ended inside a quoted cell.
    """

    def __init__(self, delimiter: str) -> None:
        mark = re.escape(delimiter)
        self._before = re.compile(r" *(?=\")")
        self._after = re.compile(rf" *(?={mark}|[\r\n]*$)")
        self._unquoted = re.compile(rf"[^{mark}]*")
        self.in_quotes = False

    def remove(self, line: str) -> str:
        """The line without them; blanks inside the quotes, and around cells without quotes, stay."""
        kept, at = [], 0
        while at < len(line):
            if not self.in_quotes:
                found = self._before.match(line, at)
                self.in_quotes = found is not None
                at = found.end() + 1 if found else at
                kept.append('"' if found else "")
            if self.in_quotes:
                inside = _IN_QUOTES.match(line, at)
                assert inside is not None  # it may be empty
                kept.append(inside[0])
                at = inside.end()
                if at == len(line):
                    break  # the cell goes on in the next line
                kept.append('"')
                at += 1
                self.in_quotes = False
                after = self._after.match(line, at)
                at = after.end() if after else at
            rest = self._unquoted.match(line, at)
            assert rest is not None
            kept.append(line[at : rest.end() + 1])  # with the delimiter
            at = rest.end() + 1
        return "".join(kept)
