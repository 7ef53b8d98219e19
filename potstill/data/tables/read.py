"""Any supported file -> a table, or a stream of rows; all that can be wrong with it is told with its line."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from difflib import get_close_matches
from pathlib import Path

from potstill.data.tables.base import Cell, NumberedRow, OnBadRow, Row, Table
from potstill.data.tables.decode import TextFile, open_text
from potstill.data.tables.delimited import read_delimited
from potstill.data.tables.json_files import read_json
from potstill.data.tables.parquet import read_parquet
from potstill.errors import BadData

# suffix -> what it is called in messages
FILE_FORMATS = {
    ".csv": "CSV",
    ".tsv": "TSV",
    ".jsonl": "JSON Lines",
    ".ndjson": "JSON Lines",
    ".json": "JSON",
    ".parquet": "Parquet",
    ".txt": "one text a line",
}
_SHOWN = 5
_MB = 1_000_000


def read_table(
    path: str | Path, *, encoding: str | None = None, max_cell_mb: float = 10, on_bad: OnBadRow = "error"
) -> Table:
    """A whole file as a table.

    Args:
        path: a .csv, .tsv, .jsonl, .ndjson, .json, .parquet or .txt file (one text a line, column `text`).
        encoding: of a text file; None reads a byte-order mark and else takes UTF-8.
        max_cell_mb: a row with a cell of more million characters is bad.
        on_bad: what becomes of bad rows (wrong number of cells, no JSON, a NUL byte, too large a cell): `error`
            names the first few, `skip` leaves them out and counts them in `Table.skipped`.

    Raises:
        BadData: no such file, not a file, an unknown suffix or encoding, bytes outside the encoding, no rows,
            bad rows, two columns of one name, a quote that is never closed.
        MissingExtra: a Parquet file without pyarrow.
    """
    path = _checked(path)
    cells: dict[str, list[Cell]] = {}
    lines: array[int] = array("q")
    flaws: list[str] = []
    n_flaws = 0
    file = _opened(path, encoding, max_cell_mb)
    with closing(_rows(path, file, int(max_cell_mb * _MB))) as rows:
        for line, row in rows:
            if isinstance(row, str):
                n_flaws += 1
                if len(flaws) < _SHOWN:
                    flaws.append(_told(path, line, row))
                continue
            if len(row) != len(cells) or row.keys() != cells.keys():
                for column in row:  # a key that appears late was missing until now
                    cells.setdefault(column, [None] * len(lines))
                for column in cells.keys() - row.keys():
                    cells[column].append(None)
            for column, cell in row.items():
                cells[column].append(cell)
            lines.append(line)
    more = f" and {n_flaws - len(flaws):,} more" if n_flaws > len(flaws) else ""
    told = "; ".join(flaws) + more
    if n_flaws and (on_bad == "error" or not lines):
        count = f"{n_flaws:,} bad row{'s' * (n_flaws != 1)}"
        raise BadData(f"{path.name} has {count}: {told}.", "Mend them, or leave them out: --on-bad-row skip")
    if not lines:
        raise _no_rows(path)
    problems = [f"{n_flaws:,} bad row{'s' * (n_flaws != 1)} of {path.name} left out: {told}."] if n_flaws else []
    if file is not None and path.suffix.lower() in (".csv", ".tsv") and max(map(len, cells)) > 80:
        problems.append(f"The first line of {path.name} looks like data; it is read as the names of the columns.")
    name = file.encoding.removesuffix("-sig") if file else "parquet"
    return Table(path.name, tuple(cells), cells, lines, name, tuple(problems), n_flaws)


def stream_rows(
    path: str | Path,
    *,
    encoding: str | None = None,
    max_cell_mb: float = 10,
    on_bad: Callable[[str], None] | None = None,
) -> Iterator[tuple[int, Row]]:
    """The rows of a file of any size, each with its line number; only one is in memory (a JSON array: all).

    The file is looked for at once and read while the result is walked through. Arguments and errors as in
    `read_table`, but for bad rows: the first one ends it, or with `on_bad` each is left out after it was told there
    ("line 7 has 3 cells where the header has 2").
    """
    path = _checked(path)
    return _streamed(path, _opened(path, encoding, max_cell_mb), int(max_cell_mb * _MB), on_bad)


def _streamed(
    path: Path, file: TextFile | None, max_cell: int, on_bad: Callable[[str], None] | None
) -> Iterator[tuple[int, Row]]:
    any_row = False
    with closing(_rows(path, file, max_cell)) as rows:
        for line, row in rows:
            if isinstance(row, str) and on_bad is not None:
                on_bad(_told(path, line, row))
                any_row = True
                continue
            if isinstance(row, str):
                raise BadData(f"{path.name}: {_told(path, line, row)}.", "Mend this row and run again.")
            any_row = True
            yield line, row
    if not any_row:
        raise _no_rows(path)


def _opened(path: Path, encoding: str | None, max_cell_mb: float) -> TextFile | None:
    if path.suffix.lower() == ".parquet":
        return None
    return open_text(path, encoding, int(max_cell_mb * _MB))


def _rows(path: Path, file: TextFile | None, max_cell: int) -> Generator[NumberedRow, None, None]:
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


def _told(path: Path, line: int, what: str) -> str:
    return f"{'row' if path.suffix.lower() == '.parquet' else 'line'} {line:,} {what}"


def _no_rows(path: Path) -> BadData:
    if path.suffix.lower() == ".parquet" or path.stat().st_size > 4:
        return BadData(f"{path.name} has a header and no rows.", "Give it at least one row.")
    return BadData(f"{path.name} is empty.", "Check that the file was written.")


def _checked(path: str | Path) -> Path:
    path = Path(path).expanduser()
    suffixes = ", ".join(FILE_FORMATS)
    if path.is_dir():
        inside = sorted(p.name for p in path.iterdir() if p.suffix.lower() in FILE_FORMATS)[:_SHOWN]
        mend = f"Name a file in it: {', '.join(inside)}" if inside else f"Name a file ({suffixes})."
        raise BadData(f"{path} is a folder, not a file.", mend)
    if not path.exists():
        if not path.parent.is_dir():
            raise BadData(f"There is no folder {path.parent}, so no {path.name} in it.", "Check the path.")
        names = sorted(p.name for p in path.parent.iterdir())
        near = get_close_matches(path.name, names, n=3, cutoff=0.5)
        there = [n for n in names if Path(n).suffix.lower() in FILE_FORMATS][:_SHOWN]
        mend = f"There are: {', '.join(there)}." if there else "Check the path."
        mend = f"Did you mean {' or '.join(near)}?" if near else mend
        raise BadData(f"There is no file {path}.", mend)
    if path.suffix.lower() not in FILE_FORMATS:
        what = f"ends in {path.suffix!r}" if path.suffix else "has no suffix"
        raise BadData(f"{path.name} {what}, which is no kind of table known here.", f"Save it as one of {suffixes}.")
    if path.stat().st_size == 0:
        raise BadData(f"{path.name} is empty.", "Check that the file was written.")
    try:
        path.open("rb").close()
    except OSError as error:
        raise BadData(f"{path} cannot be opened: {error.strerror}.", "Check its permissions.") from None
    return path
