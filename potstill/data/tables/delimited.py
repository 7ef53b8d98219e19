"""Reads CSV and TSV: quotes, cells over several lines, headers, and line numbers.

Not supported: comments between rows, or several tables with other columns in one file.
"""

from __future__ import annotations

import csv
import sys
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from io import StringIO
from itertools import islice
from pathlib import Path

from potstill.data.tables.base import REPEATED_HEADER, NumberedRow, Row, column_names, oversized_cell_error
from potstill.data.tables.decode import TextFile
from potstill.data.tables.dialect import DECLARATION, SAMPLE, Dialect, delimiter_name, delimiter_of, find_dialect
from potstill.data.tables.padded_quotes import CellBlanks, padded_delimiter
from potstill.data.tables.row_lines import RowPattern, split_line
from potstill.errors import BadData

_MAX_RETURNED = 2_000_000  # lines that are read a second time because a quote was text


class _Lines:
    """The lines of a file, as input of the parser; lines can be given back.

    Attributes:
        number: of the last line that was taken, from 1.
        row: the lines taken since the last row.
        blanks: takes the blanks around quoted cells out of each line; None if the file has none.
    """

    def __init__(self, file: TextFile) -> None:
        self._source = file.lines()
        self._returned: deque[str] = deque()
        self._limit = 16 * file.max_cell
        self._characters = 0
        self.number = 0
        self.row: list[str] = []
        self.blanks: CellBlanks | None = None

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._returned.popleft() if self._returned else next(self._source)
        if self.blanks is not None:
            line = self.blanks.remove(line)
        self.number += 1
        self.row.append(line)
        self._characters += len(line)
        if self._characters > self._limit:  # bounds memory if a quote is never closed
            raise csv.Error("field larger than any row may be")
        return line

    def start_row(self) -> int:
        """Begin a row; returns its line number."""
        self._characters = 0
        self.row = []
        if self.blanks is not None:
            self.blanks.in_quotes = False
        return self.number + 1

    def give_back(self) -> None:
        """Return all lines of the row but its first."""
        self._returned.extendleft(reversed(self.row[1:]))
        self.number -= len(self.row) - 1
        self.row = self.row[:1]

    @property
    def nul_line(self) -> bool:
        """Whether the row has a NUL byte."""
        return any("\0" in line for line in self.row)


def read_delimited(file: TextFile) -> Iterator[NumberedRow]:
    """The rows of a CSV or TSV file; the first non-blank line is the header, unless the file's layout says otherwise.

    Raises:
        BadData: no header, two columns of one name, or a quote that is never closed.
    """
    # Our own limit is stricter, and its error names the line.
    csv.field_size_limit(max(csv.field_size_limit(), 8 * file.max_cell))
    start = list(StringIO(file.peek(SAMPLE), newline=""))[file.layout.skip_rows :]
    declared = DECLARATION.fullmatch(start[0].rstrip("\r\n")) if start else None
    lines = _Lines(file)
    for _ in islice(lines, min(file.layout.skip_rows, sys.maxsize - 1) + bool(declared)):
        lines.start_row()  # so that no limit is reached
    sample = start[bool(declared) :]
    padded = padded_delimiter(sample) if file.layout.quotes != "text" and not file.layout.escape else ""
    if padded and (not file.layout.delimiter or delimiter_of(file.layout.delimiter) == padded):
        lines.blanks, blanks = CellBlanks(padded), CellBlanks(padded)
        sample = [blanks.remove(line) for line in sample]
        file.notes.append(f"The blanks around the quoted cells of {file.path.name} are left out.")
    dialect = find_dialect(file, "".join(sample), declared[1] if declared else "")
    named = file.layout
    file.layout = replace(
        named,
        delimiter=delimiter_name(dialect.delimiter),
        quotes="cells" if dialect.quoting else "text",
        escape=dialect.escape,
        header=named.header is not False,
        encoding=file.encoding.removesuffix("-sig"),
        compression=file.source.compression,
    )
    yield from _DelimitedReader(file, lines, dialect, sample[1:-1] or sample[1:], named.quotes is None).rows()


@dataclass
class _DelimitedReader:
    """Reads the rows of one file; counts what is unusual for the file's notes."""

    file: TextFile
    lines: _Lines
    dialect: Dialect
    sample: list[str]
    may_stray: bool
    columns: tuple[str, ...] = ()
    pattern: RowPattern | None = None
    header: list[str] = field(default_factory=list)
    stray: list[int] = field(default_factory=list)
    returned: int = 0
    several: list[int] = field(default_factory=list)

    def rows(self) -> Iterator[NumberedRow]:
        reader = csv.reader(
            self.lines,
            delimiter=self.dialect.delimiter,
            quoting=csv.QUOTE_MINIMAL if self.dialect.quoting else csv.QUOTE_NONE,
            escapechar=self.dialect.escape or None,
            strict=True,
        )
        while True:
            start = self.lines.start_row()
            try:
                cells, error = next(reader, None), ""
            except csv.Error as raised:
                cells, error = None, str(raised)
                if "end of data" in error or "field larger" in error:
                    raise _unclosed(self.file.path, start) from None
            if self._is_stray(start):
                cells, error = split_line(self.lines.row[0], self.dialect.delimiter), ""
                self.lines.give_back()
            if error:
                end = f" (it ends on line {self.lines.number:,})" if len(self.lines.row) > 1 else ""
                yield start, f"has a quote inside a quoted cell that is not doubled{end}"
                continue
            if cells is None:
                break
            if cells:
                if len(self.lines.row) > 1:
                    self.several.append(start)
                yield from self._row(start, cells)
        self.file.notes += self._notes()

    def _is_stray(self, start: int) -> bool:
        """Whether the quote that opened this row is text; a file full of them is refused."""
        lines = self.lines.row
        if len(lines) < 2 or not self.may_stray or not self.columns:
            return False
        if self.pattern is None:
            self.pattern = RowPattern.of_sample(self.sample, self.dialect.delimiter, len(self.columns))
        if not self.pattern.fits(lines):
            return False
        self.stray.append(start)
        self.returned += len(lines)
        if self.returned > _MAX_RETURNED:
            raise BadData(
                f"{len(self.stray):,} rows of {self.file.path.name} open a quote that is closed many rows below, the "
                f"last on line {start:,}.",
                "If the quotes are part of the texts: --quotes text",
            )
        return True

    def _row(self, start: int, cells: list[str]) -> Iterator[NumberedRow]:
        if not self.columns:
            if self.lines.nul_line:
                order = "be" if cells[0].startswith("\0") else "le"
                raise BadData(
                    f"The header of {self.file.path.name} has a NUL byte.",
                    f"If the file is UTF-16, name the encoding: --encoding utf-16-{order}",
                )
            if self.file.layout.header is not False:
                self.header = cells
                self.columns = column_names(self.file.path.name, cells)
                return
            self.columns = column_names(self.file.path.name, [""] * len(cells))
        width = len(self.columns)
        if width > 1 and cells == self.header:
            yield start, REPEATED_HEADER
        elif self.lines.nul_line:
            yield start, "has a NUL byte"
        elif len(cells) != width and any(cells[width:] or self.header[len(cells) :] or ["?"]):
            where = "header" if self.header else "first line"
            yield start, f"has {len(cells)} cell{'s' * (len(cells) != 1)} where the {where} has {width}"
        else:  # delimiters at the end of a line are no cells
            row: Row = dict(zip(self.columns, [*cells, *[""] * width], strict=False))
            too_large = sum(map(len, self.lines.row)) > self.file.max_cell
            yield start, (too_large and oversized_cell_error(row, self.file.max_cell)) or row

    def _notes(self) -> list[str]:
        """Rows compared with lines."""
        name = self.file.path.name
        notes = []
        if self.stray:
            n, first = len(self.stray), ", ".join(f"{line:,}" for line in self.stray[:3])
            notes.append(
                f"{n:,} row{'s' * (n != 1)} of {name} open{'s' * (n == 1)} a quote that is closed rows below (line "
                f"{first}); the quote is read as text, and the rows as rows (--quotes cells reads one long cell)."
            )
        if self.several:
            n, run = len(self.several), "row runs" if len(self.several) == 1 else "rows run"
            notes.append(f"{n:,} {run} over several lines of {name} (first: line {self.several[0]:,}).")
        return notes


def _unclosed(path: Path, line: int) -> BadData:
    return BadData(
        f"The row that starts on line {line:,} of {path.name} opens a quote that is never closed.",
        "Close the quote, or double the quotes that are part of the text; if all quotes are text: --quotes text",
    )
