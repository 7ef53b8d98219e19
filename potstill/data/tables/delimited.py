"""Delimited text -> rows: CSV and TSV, with quotes, cells over several lines, and line numbers.

Does NOT cover: files without a header line, comments, or several tables in one file.
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
_NOTHING = "\x1f"  # separates nothing: a file of one column may hold commas without quotes


@dataclass(frozen=True)
class Dialect:
    """How the cells of a line are told apart: the delimiter, and whether quotes mean anything."""

    delimiter: str
    quoting: bool = True


@dataclass
class _Fed:
    """What was handed to the parser since its last row: the number of characters, and the first line with a NUL."""

    characters: int = 0
    nul_line: int = 0


def sniff(sample: str, suffix: str) -> Dialect:
    """The dialect under which the sample's lines have the header's number of cells most often.

    A header that no delimiter splits means one column. Quotes mean nothing in a TSV that they would break.
    """
    lines = sample.splitlines(keepends=True)
    whole = lines[:-1] if len(lines) > 1 and len(sample) >= _SAMPLE else lines  # the last one may be cut
    ranked = sorted(
        (_fit(whole, d) for d in _DELIMITERS),
        key=lambda f: (f.share, f.width, suffix == ".tsv" and f.dialect.delimiter == "\t"),
    )
    best = ranked[-1]
    if best.width < 2:
        return Dialect(_NOTHING)
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
    """The rows of a CSV or TSV file; the first line that is not blank is the header.

    Raises:
        BadData: no header, a column name twice, a quote that is never closed.
    """
    # Our own limit is stricter and names lines.
    csv.field_size_limit(max(csv.field_size_limit(), 8 * file.max_cell))
    dialect = sniff(file.peek(_SAMPLE), file.path.suffix.lower())
    fed = _Fed()
    reader = csv.reader(
        _watched(file, fed),
        delimiter=dialect.delimiter,
        quoting=csv.QUOTE_MINIMAL if dialect.quoting else csv.QUOTE_NONE,
        strict=True,
    )
    columns: tuple[str, ...] = ()
    while True:
        start = reader.line_num + 1
        fed.characters = fed.nul_line = 0
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
            if fed.nul_line:
                raise BadData(
                    f"The header of {file.path.name} has a NUL byte.",
                    "If this is a text file in UTF-16, say so: --encoding utf-16",
                )
            columns = column_names(file.path, cells)
            continue
        yield start, _row(columns, cells, fed, file.max_cell)


def _watched(file: TextFile, fed: _Fed) -> Iterator[str]:
    for n, line in enumerate(file.lines(), 1):
        fed.characters += len(line)
        if "\0" in line:
            fed.nul_line = fed.nul_line or n
        if fed.characters > 16 * file.max_cell:  # an open quote must not swallow a file of any size
            raise csv.Error("field larger than any row may be")
        yield line


def _row(columns: tuple[str, ...], cells: list[str], fed: _Fed, max_cell: int) -> Row | str:
    if fed.nul_line:
        return "has a NUL byte"
    if len(cells) != len(columns):
        return f"has {len(cells)} cell{'s' * (len(cells) != 1)} where the header has {len(columns)}"
    row: Row = dict(zip(columns, cells, strict=True))
    return (fed.characters > max_cell and oversized_cell_error(row, max_cell)) or row


def _unclosed(path: Path, line: int) -> BadData:
    return BadData(
        f"The row that starts on line {line:,} of {path.name} opens a quote that is never closed.",
        "Close the quote, or double the quotes that are part of the text.",
    )
