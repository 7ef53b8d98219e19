"""Reads any supported file as a table or a stream of rows; errors name the line."""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from pathlib import Path

from potstill.data.tables.base import (
    HEADER_MEND,
    REPEATED_HEADER,
    Cell,
    NumberedRow,
    Row,
    Table,
    without_bytes,
)
from potstill.data.tables.conll import read_conll
from potstill.data.tables.decode import BYTE_ORDER_MARKS, TextFile, open_text
from potstill.data.tables.delimited import read_delimited
from potstill.data.tables.find_file import check_path
from potstill.data.tables.formats import COMPRESSION_SUFFIXES, find_format
from potstill.data.tables.header import header_doubt
from potstill.data.tables.json_files import read_json
from potstill.data.tables.layout import WITH_HEADER, Layout, OnBadRow
from potstill.data.tables.parquet import ParquetFile, read_parquet
from potstill.data.tables.streams import STREAM_NAME, is_stream, stored_stream
from potstill.data.tables.unpack import find_source
from potstill.data.tables.workbook import Sheet, open_sheet, read_sheet
from potstill.errors import BadData

_STRAY_BYTES = re.compile("[\udc80-\udcff]")
_HEAD_BYTES = 65_536  # that show a file's format
_MAX_SHOWN = 5
_MB = 1_000_000
_OpenFile = TextFile | Sheet | ParquetFile


def read_table(
    path: str | Path | Sequence[str | Path],
    *,
    encoding: str | None = None,
    max_cell_mb: float = 10,
    on_bad: OnBadRow = "error",
    layout: Layout = Layout(),  # noqa: B008 - frozen
) -> Table:
    """A whole file as a table, or several files of one shape as one table.

    Args:
        path: a .csv, .tsv, .jsonl, .ndjson, .json, .parquet, .xlsx, .xls, .ods or .txt file (one text a line, column
            `text`), which may be compressed (.gz, .bz2, .xz, .zst, .zip); "-" for standard input; or several.
        encoding: of a text file; None uses the byte-order mark, or UTF-8 without one.
        max_cell_mb: a row with a longer cell is bad; in million characters.
        on_bad: what to do with bad rows (wrong number of cells, not JSON, a NUL byte, too large a cell): `error` raises
            and names the first few, `skip` leaves them out and counts them in `Table.skipped`.
        layout: what the user named; the rest is guessed.

    Raises:
        BadData: no such file, a folder, an unknown suffix or encoding, bytes that do not fit the encoding, no rows, bad
            rows, two columns of one name, a quote that is never closed; several files with other columns.
        MissingExtra: the library of the format is not installed.
    """
    if encoding is not None:
        layout = replace(layout, encoding=encoding)
    paths = [path] if isinstance(path, str | Path) else list(path)
    if not paths:
        raise BadData("No file was given.", "Name at least one.")
    twice = next((each for each in paths if paths.count(each) > 1), None)
    if twice is not None:
        raise BadData(f"{twice} is given twice.", "Name each file once.")
    tables = []
    for each in paths:
        with ExitStack() as stack:
            file = stack.enter_context(stored_stream(each)) if is_stream(each) else check_path(each)
            tables.append(_read(file, max_cell_mb, on_bad, layout))
    names = [table.name for table in tables]
    if len(set(names)) < len(names):  # of several folders
        tables = [replace(table, name=str(each)) for table, each in zip(tables, paths, strict=True)]
    return Table.joined(tables)


def _read(path: Path, max_cell_mb: float, on_bad: OnBadRow, layout: Layout) -> Table:
    file = _open(path, max_cell_mb, layout)
    read = _ReadRows(file)
    with closing(_rows(file, int(max_cell_mb * _MB))) as rows:
        for line, row in rows:
            read.add(line, row)
    doubt = file.header_doubt
    if read.n_bad and (on_bad == "error" or not read.lines):
        problems = f"{path.name} has {read.count_bad()}: {read.problems()}."
        if doubt:
            raise BadData(f"{doubt}. {problems}", HEADER_MEND)
        raise BadData(problems, "Correct them, or leave them out: --on-bad-row skip")
    if not read.lines:
        raise _no_rows_error(file)
    if file.layout.format in WITH_HEADER and layout.header is None:
        doubt = doubt or header_doubt(path.name, read.cells)
    of_bytes, left_out = without_bytes(path.name, read.cells) if file.layout.format == "parquet" else ((), ())
    cells = {column: values for column, values in read.cells.items() if column not in of_bytes}
    return Table(
        name=path.name,
        columns=tuple(cells),
        cells=cells,
        line_numbers=read.lines,
        encoding=file.layout.encoding or str(file.layout.format),
        warnings=(*read.warnings(), *left_out, *file.notes, *(guess.to_text(path.name) for guess in file.guesses)),
        skipped=read.n_bad,
        header_doubt=doubt,
        layout=file.layout,
        guesses=tuple(file.guesses),
        of_bytes=of_bytes,
    )


@dataclass
class _ReadRows:
    """The rows that were read, by column, and the number of those that were not."""

    file: _OpenFile
    cells: dict[str, list[Cell]] = field(default_factory=dict)
    lines: array[int] = field(default_factory=lambda: array("q"))
    bad: list[str] = field(default_factory=list)
    n_bad: int = 0
    n_headers: int = 0

    def add(self, line: int, row: Row | str) -> None:
        """Add a row; one that is a problem is counted."""
        if isinstance(row, str):
            self.n_headers += row == REPEATED_HEADER
            self.n_bad += row != REPEATED_HEADER
            if row != REPEATED_HEADER and len(self.bad) < _MAX_SHOWN:
                self.bad.append(f"{row_word(self.file)} {line:,} {row}")
            return
        if len(row) != len(self.cells) or row.keys() != self.cells.keys():
            for column in row:  # a key that first occurs here was missing before
                self.cells.setdefault(column, [None] * len(self.lines))
            for column in self.cells.keys() - row.keys():
                self.cells[column].append(None)
        for column, cell in row.items():
            self.cells[column].append(cell)
        self.lines.append(line)

    def problems(self) -> str:
        """The first few problems, and how many more there are."""
        more = f" and {self.n_bad - len(self.bad):,} more" if self.n_bad > len(self.bad) else ""
        return "; ".join(self.bad) + more

    def count_bad(self) -> str:
        """The number of bad rows, in words."""
        return f"{self.n_bad:,} bad row{'s' * (self.n_bad != 1)}"

    def warnings(self) -> Iterator[str]:
        """A sentence for each kind of row that was left out."""
        if self.n_bad:
            yield f"{self.count_bad()} of {self.file.source.path.name} left out: {self.problems()}."
        if self.n_headers:
            rows = "row" if self.n_headers == 1 else "rows"
            yield f"{self.n_headers:,} {rows} of {self.file.source.path.name} left out: the header, repeated."


def stream_rows(
    path: str | Path,
    *,
    encoding: str | None = None,
    max_cell_mb: float = 10,
    on_bad: Callable[[str], None] | None = None,
    on_note: Callable[[str], None] | None = None,
    on_layout: Callable[[Layout], None] | None = None,
    layout: Layout = Layout(),  # noqa: B008 - frozen
) -> Iterator[tuple[int, Row]]:
    """The rows of a file of any size with their line numbers; one row at a time is in memory (a JSON array: all).

    The path is checked at once, the file is read during the iteration. Arguments and errors as in `read_table`, but for
    bad rows: the first one raises, or with `on_bad` each is passed to it ("line 7 has 3 cells where the header has 2")
    and left out. At the end `on_note` gets each sentence on what was guessed and found, and `on_layout` the layout.
    """
    if encoding is not None:
        layout = replace(layout, encoding=encoding)
    path = path if is_stream(path) else check_path(path)
    opened = None if is_stream(path) else _open(Path(path), max_cell_mb, layout)

    def rows() -> Iterator[tuple[int, Row]]:
        with ExitStack() as stack:
            file = opened or _open(stack.enter_context(stored_stream(path)), max_cell_mb, layout)
            yield from _stream(file, int(max_cell_mb * _MB), on_bad)
            for note in (*file.notes, *(guess.to_text(file.source.path.name) for guess in file.guesses)):
                if on_note is not None:
                    on_note(note)
            if on_layout is not None:
                on_layout(file.layout)

    return rows()


def _stream(file: _OpenFile, max_cell: int, on_bad: Callable[[str], None] | None) -> Iterator[tuple[int, Row]]:
    any_row, name = False, file.source.path.name
    with closing(_rows(file, max_cell)) as rows:
        for line, row in rows:
            if row == REPEATED_HEADER and on_bad is None:
                continue
            if isinstance(row, str) and on_bad is not None:
                on_bad(f"{row_word(file)} {line:,} {row}")
                any_row = True
                continue
            if isinstance(row, str):
                problem = f"{name}: {row_word(file)} {line:,} {row}."
                raise BadData(problem, "Correct this row, or leave it out: --on-bad-row skip")
            any_row = True
            yield line, row
    if not any_row:
        raise _no_rows_error(file)


def _open(path: Path, max_cell_mb: float, layout: Layout) -> _OpenFile:
    """Open a file by its format, which its first bytes, its name or the user say."""
    source = find_source(path)
    head = source.head(_HEAD_BYTES)
    if head.strip() in (b"", *BYTE_ORDER_MARKS):
        raise BadData(f"{path.name} is empty.", "Check that the file was written.")
    is_copy = path.name == STREAM_NAME
    found, guess = find_format(path.name, source.inner_name, head, layout.format, is_stream=is_copy)
    layout = replace(layout, format=found, compression=source.compression)
    file: _OpenFile
    if found == "parquet":
        file = ParquetFile(source, layout)
    elif found == "excel":
        file = open_sheet(source, layout)
    else:
        file = open_text(source, int(max_cell_mb * _MB), layout)
    if layout.sheet is not None and found != "excel":
        file.notes.append(f"{path.name} is no workbook: --sheet {layout.sheet} is not used for it.")
    file.guesses += [] if guess is None else [guess]
    by_name = COMPRESSION_SUFFIXES.get(path.suffix.lower(), "")
    if source.member:
        file.notes.append(f"{path.name}: the table {source.member} in it is read.")
    elif by_name != source.compression and not is_copy and found != "excel":
        packed = f"compressed ({source.compression})" if source.compression else "not compressed"
        file.notes.append(f"{path.name} is {packed} by its first bytes, and is read as that.")
    return file


def _rows(file: _OpenFile, max_cell: int) -> Generator[NumberedRow, None, None]:
    if isinstance(file, ParquetFile):
        yield from read_parquet(file, max_cell)
    elif isinstance(file, Sheet):
        yield from read_sheet(file, max_cell)
    else:
        with file.handle:
            for line, row in _text_rows(file, max_cell):
                stray = file.partly_decoded and not isinstance(row, str) and any(map(_has_stray_bytes, row.values()))
                yield line, f"has bytes that are not {file.encoding.removesuffix('-sig').upper()}" if stray else row


def _has_stray_bytes(cell: Cell) -> bool:
    return cell is not None and not cell.isascii() and bool(_STRAY_BYTES.search(cell))


def _text_rows(file: TextFile, max_cell: int) -> Iterator[NumberedRow]:
    if file.layout.format in ("csv", "tsv"):
        return read_delimited(file)
    file.layout = replace(file.layout, encoding=file.encoding.removesuffix("-sig"))
    if file.layout.format == "conll":
        return read_conll(file)
    return _lines(file, max_cell) if file.layout.format == "txt" else read_json(file)


def _lines(file: TextFile, max_cell: int) -> Iterator[NumberedRow]:
    for n, line in enumerate(file.lines(), 1):
        text = line.rstrip("\r\n")
        if len(text) > max_cell:
            yield n, f"is longer than the {max_cell / _MB:g} MB allowed"
        elif text:
            yield n, "has a NUL byte" if "\0" in text else {"text": text}


def row_word(file: _OpenFile) -> str:
    """What a row's number counts: lines of a text file that has several, else rows."""
    return "line" if isinstance(file, TextFile) and not file.by_row else "row"


def _no_rows_error(file: _OpenFile) -> BadData:
    name = file.source.path.name
    if not isinstance(file, TextFile) or len(file.source.head(5)) > 4:
        return BadData(f"{name} has a header and no rows.", "Give it at least one row.")
    return BadData(f"{name} is empty.", "Check that the file was written.")
