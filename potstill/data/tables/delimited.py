"""Reads CSV and TSV: quotes, cells over several lines, and line numbers.

Not supported: files without a header line, comments, or several tables in one file.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from potstill.data.tables.base import NumberedRow, Row, column_names, oversized_cell_error
from potstill.data.tables.decode import TextFile
from potstill.errors import BadData

_DELIMITERS = (",", "\t", ";", "|")
_SAMPLE = 1 << 16
_NO_DELIMITER = "\x1f"  # occurs nowhere: a file of one column may hold commas without quotes


@dataclass(frozen=True)
class Dialect:
    """The delimiter between the cells of a line, and whether quotes have a meaning."""

    delimiter: str
    quoting: bool = True


@dataclass
class _RowInput:
    """The parser's input since its last row: the number of characters, and the first line with a NUL byte."""

    characters: int = 0
    nul_line: int = 0


def sniff(sample: str, suffix: str) -> Dialect:
    """The dialect with which most of the sample's lines have as many cells as the header.

    A header without any delimiter means one column. In a TSV that quotes would break, quotes have no meaning.
    """
    lines = sample.splitlines(keepends=True)
    whole = lines[:-1] if len(lines) > 1 and len(sample) >= _SAMPLE else lines  # the last line may be cut off
    ranked = sorted(
        (_fit(whole, d) for d in _DELIMITERS),
        key=lambda f: (f.share, f.width, suffix == ".tsv" and f.dialect.delimiter == "\t"),
    )
    best = ranked[-1]
    if best.width < 2:
        return Dialect(_NO_DELIMITER)
    if best.dialect.delimiter == "\t" and best.broken:
        return Dialect("\t", quoting=False)
    return best.dialect


@dataclass(frozen=True)
class _Fit:
    dialect: Dialect
    share: float
    width: int
    broken: bool = False


def _fit(lines: list[str], delimiter: str) -> _Fit:
    rows: list[list[str]] = []
    broken = False
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    while len(rows) < 200:
        try:
            row = next(reader, None)
        except csv.Error as error:
            broken = broken or "end of data" not in str(error) or len("".join(lines)) < _SAMPLE
            continue
        if row is None:
            break
        if row:
            rows.append(row)
    width = len(rows[0]) if rows else 0
    share = sum(len(row) == width for row in rows) / len(rows) if rows else 0.0
    return _Fit(Dialect(delimiter), share if width > 1 else 0.0, width, broken)


def read_delimited(file: TextFile) -> Iterator[NumberedRow]:
    """The rows of a CSV or TSV file; the first non-blank line is the header.

    Raises:
        BadData: no header, two columns of one name, or a quote that is never closed.
    """
    # Our own limit is stricter, and its error names the line.
    csv.field_size_limit(max(csv.field_size_limit(), 8 * file.max_cell))
    dialect = sniff(file.peek(_SAMPLE), file.path.suffix.lower())
    row_input = _RowInput()
    reader = csv.reader(
        _counted_lines(file, row_input),
        delimiter=dialect.delimiter,
        quoting=csv.QUOTE_MINIMAL if dialect.quoting else csv.QUOTE_NONE,
        strict=True,
    )
    columns: tuple[str, ...] = ()
    while True:
        start = reader.line_num + 1
        row_input.characters = row_input.nul_line = 0
        try:
            cells = next(reader, None)
        except csv.Error as error:
            if "end of data" in str(error) or "field larger" in str(error):
                raise _unclosed(file.path, start) from None
            yield start, "has a quote inside a quoted cell that is not doubled"
            continue
        if cells is None:
            return
        if not cells:
            continue
        if not columns:
            if row_input.nul_line:
                raise BadData(
                    f"The header of {file.path.name} has a NUL byte.",
                    "If the file is UTF-16, name the encoding: --encoding utf-16",
                )
            columns = column_names(file.path, cells)
            continue
        yield start, _row(columns, cells, row_input, file.max_cell)


def _counted_lines(file: TextFile, row_input: _RowInput) -> Iterator[str]:
    for n, line in enumerate(file.lines(), 1):
        row_input.characters += len(line)
        if "\0" in line:
            row_input.nul_line = row_input.nul_line or n
        if row_input.characters > 16 * file.max_cell:  # an open quote must not read a file of any size
            raise csv.Error("field larger than any row may be")
        yield line


def _row(columns: tuple[str, ...], cells: list[str], row_input: _RowInput, max_cell: int) -> Row | str:
    if row_input.nul_line:
        return "has a NUL byte"
    if len(cells) != len(columns):
        return f"has {len(cells)} cell{'s' * (len(cells) != 1)} where the header has {len(columns)}"
    row: Row = dict(zip(columns, cells, strict=True))
    return (row_input.characters > max_cell and oversized_cell_error(row, max_cell)) or row


def _unclosed(path: Path, line: int) -> BadData:
    return BadData(
        f"The row that starts on line {line:,} of {path.name} opens a quote that is never closed.",
        "Close the quote, or double the quotes that are part of the text.",
    )
