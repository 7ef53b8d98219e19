"""Reads any supported file as a table or a stream of rows; errors name the line."""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path

from potstill.data.tables.base import HEADER_MEND, REPEATED_HEADER, Cell, Layout, NumberedRow, OnBadRow, Row, Table
from potstill.data.tables.decode import TextFile, open_text
from potstill.data.tables.delimited import read_delimited
from potstill.data.tables.header import header_doubt
from potstill.data.tables.json_files import read_json
from potstill.data.tables.parquet import read_parquet
from potstill.errors import BadData

# suffix -> name in messages
FILE_FORMATS = {
    ".csv": "CSV",
    ".tsv": "TSV",
    ".jsonl": "JSON Lines",
    ".ndjson": "JSON Lines",
    ".json": "JSON",
    ".parquet": "Parquet",
    ".txt": "one text a line",
}
_STRAY_BYTES = re.compile("[\udc80-\udcff]")
_MAX_SHOWN = 5
_MB = 1_000_000


def read_table(
    path: str | Path,
    *,
    encoding: str | None = None,
    max_cell_mb: float = 10,
    on_bad: OnBadRow = "error",
    layout: Layout = Layout(),  # noqa: B008 - frozen
) -> Table:
    """A whole file as a table.

    Args:
        path: a .csv, .tsv, .jsonl, .ndjson, .json, .parquet or .txt file (one text a line, column `text`).
        encoding: of a text file; None uses the byte-order mark, or UTF-8 without one.
        max_cell_mb: a row with a longer cell is bad; in million characters.
        on_bad: what to do with bad rows (wrong number of cells, not JSON, a NUL byte, too large a cell): `error` raises
            and names the first few, `skip` leaves them out and counts them in `Table.skipped`.
        layout: of a CSV or TSV file; what it does not say is guessed.

    Raises:
        BadData: no such file, a folder, an unknown suffix or encoding, bytes that do not fit the encoding, no rows, bad
            rows, two columns of one name, a quote that is never closed.
        MissingExtra: a Parquet file without pyarrow.
    """
    path = _check_path(path)
    read = _ReadRows(path)
    file = _open(path, encoding, max_cell_mb, layout)
    with closing(_rows(path, file, int(max_cell_mb * _MB))) as rows:
        for line, row in rows:
            read.add(line, row)
    doubt = file.header_doubt if file else ""
    if read.n_bad and (on_bad == "error" or not read.lines):
        problems = f"{path.name} has {read.count_bad()}: {read.problems()}."
        if doubt:
            raise BadData(f"{doubt}. {problems}", HEADER_MEND)
        raise BadData(problems, "Correct them, or leave them out: --on-bad-row skip")
    if not read.lines:
        raise _no_rows_error(path)
    if path.suffix.lower() in (".csv", ".tsv") and layout.header is None:
        doubt = doubt or header_doubt(path.name, read.cells)
    return Table(
        name=path.name,
        columns=tuple(read.cells),
        cells=read.cells,
        line_numbers=read.lines,
        encoding=file.encoding.removesuffix("-sig") if file else "parquet",
        warnings=(*read.warnings(), *(file.notes if file else ())),
        skipped=read.n_bad,
        header_doubt=doubt,
    )


@dataclass
class _ReadRows:
    """The rows that were read, by column, and the number of those that were not."""

    path: Path
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
                self.bad.append(_describe(self.path, line, row))
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
            yield f"{self.count_bad()} of {self.path.name} left out: {self.problems()}."
        if self.n_headers:
            rows = "row" if self.n_headers == 1 else "rows"
            yield f"{self.n_headers:,} {rows} of {self.path.name} left out: the header, repeated."


def stream_rows(
    path: str | Path,
    *,
    encoding: str | None = None,
    max_cell_mb: float = 10,
    on_bad: Callable[[str], None] | None = None,
    layout: Layout = Layout(),  # noqa: B008 - frozen
) -> Iterator[tuple[int, Row]]:
    """The rows of a file of any size with their line numbers; one row at a time is in memory (a JSON array: all).

    The path is checked at once, the file is read during the iteration. Arguments and errors as in `read_table`, but for
    bad rows: the first one raises, or with `on_bad` each is passed to it ("line 7 has 3 cells where the header has 2")
    and left out.
    """
    path = _check_path(path)
    return _stream(path, _open(path, encoding, max_cell_mb, layout), int(max_cell_mb * _MB), on_bad)


def _stream(
    path: Path, file: TextFile | None, max_cell: int, on_bad: Callable[[str], None] | None
) -> Iterator[tuple[int, Row]]:
    any_row = False
    with closing(_rows(path, file, max_cell)) as rows:
        for line, row in rows:
            if row == REPEATED_HEADER and on_bad is None:
                continue
            if isinstance(row, str) and on_bad is not None:
                on_bad(_describe(path, line, row))
                any_row = True
                continue
            if isinstance(row, str):
                raise BadData(f"{path.name}: {_describe(path, line, row)}.", "Correct this row and run again.")
            any_row = True
            yield line, row
    if not any_row:
        raise _no_rows_error(path)


def _open(
    path: Path,
    encoding: str | None,
    max_cell_mb: float,
    layout: Layout = Layout(),  # noqa: B008
) -> TextFile | None:
    if path.suffix.lower() == ".parquet":
        return None
    return open_text(path, encoding, int(max_cell_mb * _MB), layout)


def _rows(path: Path, file: TextFile | None, max_cell: int) -> Generator[NumberedRow, None, None]:
    for line, row in _decoded_rows(path, file, max_cell):
        if file and file.partly_decoded and not isinstance(row, str) and any(map(_has_stray_bytes, row.values())):
            yield line, "has bytes that are not UTF-8"
        else:
            yield line, row


def _has_stray_bytes(cell: Cell) -> bool:
    return cell is not None and not cell.isascii() and bool(_STRAY_BYTES.search(cell))


def _decoded_rows(path: Path, file: TextFile | None, max_cell: int) -> Generator[NumberedRow, None, None]:
    if file is None:
        yield from read_parquet(path, max_cell)
        return
    with file.handle:
        if path.suffix.lower() in (".csv", ".tsv"):
            yield from read_delimited(file)
        elif path.suffix.lower() == ".txt":
            for n, line in enumerate(file.lines(), 1):
                text = line.rstrip("\r\n")
                if len(text) > max_cell:
                    yield n, f"is longer than the {max_cell / _MB:g} MB allowed"
                elif text:
                    yield n, "has a NUL byte" if "\0" in text else {"text": text}
        else:
            yield from read_json(file)


def _describe(path: Path, line: int, what: str) -> str:
    return f"{'row' if path.suffix.lower() == '.parquet' else 'line'} {line:,} {what}"


def _no_rows_error(path: Path) -> BadData:
    if path.suffix.lower() == ".parquet" or path.stat().st_size > 4:
        return BadData(f"{path.name} has a header and no rows.", "Give it at least one row.")
    return BadData(f"{path.name} is empty.", "Check that the file was written.")


def _check_path(path: str | Path) -> Path:
    path = Path(path).expanduser()
    suffixes = ", ".join(FILE_FORMATS)
    if path.is_dir():
        inside = sorted(p.name for p in path.iterdir() if p.suffix.lower() in FILE_FORMATS)[:_MAX_SHOWN]
        hint = f"Name a file in it: {', '.join(inside)}" if inside else f"Name a file ({suffixes})."
        raise BadData(f"{path} is a folder, not a file.", hint)
    if not path.exists():
        if not path.parent.is_dir():
            raise BadData(f"There is no folder {path.parent}, so no {path.name} in it.", "Check the path.")
        names = sorted(p.name for p in path.parent.iterdir())
        near = get_close_matches(path.name, names, n=3, cutoff=0.5)
        tables = [n for n in names if Path(n).suffix.lower() in FILE_FORMATS][:_MAX_SHOWN]
        hint = f"There are: {', '.join(tables)}." if tables else "Check the path."
        hint = f"Did you mean {' or '.join(near)}?" if near else hint
        raise BadData(f"There is no file {path}.", hint)
    if path.suffix.lower() not in FILE_FORMATS:
        what = f"ends in {path.suffix!r}" if path.suffix else "has no suffix"
        raise BadData(f"{path.name} {what}, which is not a supported table.", f"Save it as one of {suffixes}.")
    if path.stat().st_size == 0:
        raise BadData(f"{path.name} is empty.", "Check that the file was written.")
    try:
        path.open("rb").close()
    except OSError as error:
        raise BadData(f"{path} cannot be opened: {error.strerror}.", "Check its permissions.") from None
    return path
