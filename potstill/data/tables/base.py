"""Tables, rows and cells, and the conversion of any value to the text of a cell."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from potstill.data.tables.layout import Guess, Layout
from potstill.errors import BadData, did_you_mean

Cell = str | None
Row = dict[str, Cell]
# A line number, and the row or, as the end of a sentence ("has 3 cells ..."), what is wrong with it.
NumberedRow = tuple[int, Row | str]
REPEATED_HEADER = "repeats the header"
HEADER_MEND = (
    "If the file has no header: --no-header. If it has lines above it: --skip-rows N. "
    "If these are the names, name the column of the texts: --text COLUMN"
)
OutputRow = Mapping[str, Any]  # column -> value of any type, for writing


class JsonText(str):
    """The text of a cell that was not text in its file: a number, a bool or a list, as JSON.

    A plain string to all readers; `write_table` writes the original value to formats that have other types.
    """

    __slots__ = ()


class BytesText(str):
    """The text of a cell of bytes that are no UTF-8: base64.

    `write_table` writes the bytes where a file can hold them.
    """

    __slots__ = ()

    def to_bytes(self) -> bytes:
        """The bytes."""
        return b64decode(self)


@dataclass(frozen=True)
class TablePart:
    """A file whose rows are part of a table: its name, and the number of its rows."""

    name: str
    rows: int


@dataclass(frozen=True)
class Table:
    """A file's rows, stored by column.

    Attributes:
        name: the file's name, for messages.
        columns: the C column names in file order.
        cells: column -> its N cells; None if the file has no value (JSON null, a missing key), "" if it is empty.
        line_numbers: N line numbers, from 1; the line a row starts on (in Parquet, and in a JSON array on one
            line: the row's number).
        encoding: of the file's bytes; the format's name if it is not one of text.
        layout: how the file is laid out, complete.
        guesses: what of the layout was not named by the user.
        warnings: sentences about skipped rows, an unusual header, and what was guessed.
        skipped: number of bad rows that were left out.
        header_doubt: a sentence that says why the first line may be no header; "" if it looks like one.
        parts: the files, if the rows are those of several.
        of_bytes: names of columns that hold bytes instead of text; they are no part of `columns`.
    """

    name: str
    columns: tuple[str, ...]
    cells: Mapping[str, Sequence[Cell]]
    line_numbers: Sequence[int]
    encoding: str = "utf-8"
    warnings: tuple[str, ...] = ()
    skipped: int = 0
    header_doubt: str = ""
    layout: Layout = field(default_factory=Layout)
    guesses: tuple[Guess, ...] = ()
    parts: tuple[TablePart, ...] = ()
    of_bytes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.line_numbers)

    def column(self, name: str) -> Sequence[Cell]:
        """The N cells of one column.

        Raises:
            BadData: there is no such column; the message lists the columns.
        """
        if name in self.of_bytes:
            raise bytes_error(self.name, name, self.columns)
        if name not in self.cells:
            raise missing_column_error(self.name, name, self.columns)
        return self.cells[name]

    def rows(self) -> Iterator[Row]:
        """The rows one by one, as column -> cell."""
        for values in zip(*(self.cells[c] for c in self.columns), strict=True):
            yield dict(zip(self.columns, values, strict=True))

    def ids(self, name: str = "") -> list[str]:
        """N origins, "file:line"; `name` stands for the table's own."""
        if not self.parts:
            return [f"{name or self.name}:{line}" for line in self.line_numbers]
        files = (part.name for part in self.parts for _ in range(part.rows))
        return [f"{file}:{line}" for file, line in zip(files, self.line_numbers, strict=True)]

    @classmethod
    def joined(cls, tables: Sequence[Table]) -> Table:
        """The rows of several tables of one shape, in their order.

        Raises:
            BadData: the columns of two tables differ; both lists are in the message.
        """
        first = tables[0]
        if len(tables) == 1:
            return first
        for other in tables[1:]:
            if set(other.columns) != set(first.columns):
                ours, theirs = (", ".join(map(repr, each.columns)) for each in (first, other))
                raise BadData(
                    f"{other.name} has the columns {theirs}, and {first.name} has {ours}.",
                    "Give files with the same columns; distill takes other texts with --pool, --train or --test.",
                )
        names = [table.name for table in tables]
        doubt = next((table.header_doubt for table in tables if table.header_doubt), "")
        return cls(
            name=" and ".join(names) if len(names) == 2 else f"{names[0]} and {len(names) - 1} more files",
            columns=first.columns,
            cells={column: [cell for table in tables for cell in table.cells[column]] for column in first.columns},
            line_numbers=[line for table in tables for line in table.line_numbers],
            encoding=", ".join(dict.fromkeys(table.encoding for table in tables)),
            warnings=tuple(sentence for table in tables for sentence in table.warnings),
            skipped=sum(table.skipped for table in tables),
            header_doubt=doubt,
            layout=Layout.shared([table.layout for table in tables]),
            guesses=tuple(guess for guess in first.guesses if all(guess in table.guesses for table in tables)),
            parts=tuple(TablePart(table.name, len(table)) for table in tables),
            of_bytes=first.of_bytes,
        )

    @classmethod
    def from_columns(cls, columns: Any, name: str = "data") -> Table:
        """A table from a mapping of column -> N values, or a data frame (anything with `keys` and `[]`).

        Raises:
            BadData: no columns, or columns of unequal length.
        """
        cells = {str(key): [to_cell(value) for value in columns[key]] for key in columns.keys()}  # noqa: SIM118
        lengths = {len(values) for values in cells.values()}
        if len(lengths) != 1:
            sizes = ", ".join(f"{key!r} has {len(values):,}" for key, values in cells.items()) or "none"
            raise BadData(f"The columns of {name} must be equally long: {sizes}.", "Give every row every column.")
        of_bytes, warnings = without_bytes(name, cells)
        kept = {column: values for column, values in cells.items() if column not in of_bytes}
        return cls(name, tuple(kept), kept, range(1, lengths.pop() + 1), warnings=warnings, of_bytes=of_bytes)


def missing_column_error(name: str, column: str, columns: Sequence[str]) -> BadData:
    """The error of a missing column; lists the columns of the table."""
    present = ", ".join(repr(c) for c in columns)
    return BadData(
        f"{name} has no column {column!r}; it has {present}.",
        did_you_mean(column, columns, otherwise="Name one of these."),
    )


def to_cell(value: Any) -> Cell:
    """A cell's text: strings as they are, None and NaN as None, bools, numbers and nested values as JSON."""
    if isinstance(value, str) or value is None:
        return value
    if isinstance(value, bool):
        return JsonText("true" if value else "false")
    if isinstance(value, float) and value != value:
        return None
    if isinstance(value, (list, tuple, dict)):
        return JsonText(json.dumps(value, ensure_ascii=False, default=_inner_text))
    if isinstance(value, bytes | bytearray | memoryview):
        return _bytes_to_cell(bytes(value))
    return JsonText(value) if isinstance(value, int | float) else str(value)


def _bytes_to_cell(value: bytes) -> str:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return BytesText(b64encode(value).decode("ascii"))


def _inner_text(value: Any) -> str:
    """The text of a value inside a list or an object that JSON has no form for."""
    return _bytes_to_cell(bytes(value)) if isinstance(value, bytes | bytearray | memoryview) else str(value)


def bytes_error(name: str, column: str, columns: Sequence[str]) -> BadData:
    """The error of a column of bytes that is read as one of text."""
    present = ", ".join(repr(each) for each in columns)
    return BadData(f"The column {column!r} of {name} holds bytes, not text.", f"Name another column; it has {present}.")


def without_bytes(name: str, cells: Mapping[str, Sequence[Cell]]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The columns that hold bytes instead of text, and a sentence for each.

    Args:
        name: of the table.
        cells: column -> its N cells.
    """
    of_bytes = tuple(column for column, values in cells.items() if any(type(cell) is BytesText for cell in values))
    return of_bytes, tuple(f"The column {each!r} of {name} holds bytes, not text; it is left out." for each in of_bytes)


def oversized_cell_error(row: Row, max_cell: int) -> str:
    """The problem of a row with a cell of more than `max_cell` characters; "" if there is none."""
    for column, cell in row.items():
        if cell is not None and len(cell) > max_cell and type(cell) is not BytesText:
            size, limit = f"{len(cell) / 1e6:.1f} MB", f"{max_cell / 1e6:g} MB"
            return f"has a cell of {size} in column {column!r}, more than the {limit} allowed"
    return ""


def column_names(name: str, header: Sequence[str]) -> tuple[str, ...]:
    """The header's names, trimmed; a column without a name (a data frame's index) is called `column_<n>`.

    Raises:
        BadData: two columns have the same name.
    """
    names = tuple(each.strip() or f"column_{i}" for i, each in enumerate(header, 1))
    for i, each in enumerate(names):
        if each in names[:i]:
            first = names.index(each) + 1
            raise BadData(
                f"{name} has two columns called {each!r} (columns {first} and {i + 1}).",
                "Rename one of them in the header.",
            )
    return names
