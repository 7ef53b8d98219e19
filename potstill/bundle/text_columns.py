"""Which columns of a table a bundle reads: those the user named, those it was trained on, or the only text column.

Bundles that store no columns (made from Python, or by an older version) guess them, and say so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from potstill.bundle.export_texts import export_texts, find_export
from potstill.bundle.record import BundleRecord
from potstill.bundle.remembered_layout import reading_of
from potstill.data.column_guess import guess_columns
from potstill.data.pairs import join_pair
from potstill.data.tables import Cell, ReadOptions, Table, read_table
from potstill.errors import BadData, BadInput

MIN_TEXT_SHARE = 0.5  # of the filled cells must be texts of several words, or the column is none of texts
MIN_UNSPACED = 20  # characters from which a cell without a blank is a text too, as in Chinese or Thai


@dataclass(frozen=True)
class TextColumns:
    """The column of the text, or the two of a pair, and why they were chosen, as the end of a sentence.

    `in_export`: they are columns of the export or the chats that the table holds, not of the table itself.
    """

    names: tuple[str, ...]
    reason: str = ""
    in_export: bool = False

    def texts(self, rows: Sequence[Mapping[str, Cell]]) -> list[list[str]]:
        """The text, or the two of a pair, of each row; "" where there is none."""
        if self.in_export:
            return export_texts(rows, self.names)
        return [[row.get(name) or "" for name in self.names] for row in rows]

    def __str__(self) -> str:
        names = " and ".join(map(repr, self.names))
        return f"the column{'s' * (len(self.names) > 1)} {names}{self.reason}"


def named_columns(text: str | None, text_b: str | None, *, pairs: bool) -> tuple[str, ...]:
    """The columns given with `--text` and `--text-b`; "first,second" in one string names both of a pair.

    Raises:
        BadInput: a second text for a student that reads one, or one of two.
    """
    if text_b and not pairs:
        raise BadInput("This student reads one text, and --text-b names a second one.", "Leave --text-b out.")
    if not pairs or text is None:
        if text_b:
            raise BadInput("--text-b names the second text, and no --text the first one.", "Name both.")
        return () if text is None else (text,)
    names = (text, text_b) if text_b else tuple(name.strip() for name in text.split(","))
    if len(names) != 2:
        raise BadInput(f"The student compares two texts, and {text!r} is one column.", "Add --text-b COLUMN.")
    return names


def choose_text_columns(
    record: BundleRecord, table: str, available: Sequence[str], named: Sequence[str], head: Callable[[], Table]
) -> TextColumns:
    """The columns to read.

    Args:
        record: of the bundle; its `text_columns` are taken if the user named none.
        table: the table's name, for messages.
        available: its columns.
        named: the columns the user named; empty for the bundle's own.
        head: returns the first rows; called only if the bundle's columns are missing or unknown.

    Raises:
        BadData: the table lacks the columns; the message lists those it has.
    """
    pairs = record.task.kind == "pair"
    listed = ", ".join(map(repr, available))
    mend = "Name both: --text COLUMN --text-b COLUMN" if pairs else "Name the column of the texts: --text COLUMN"
    missing = [name for name in named or record.text_columns if name not in available]
    if missing or not (named or record.text_columns):
        export = find_export(head(), named or record.text_columns, pairs=pairs)
        if export is not None and (not named or export.names == tuple(named)):
            return TextColumns(export.names, f" of an export ({export.tool})", in_export=True)
    if named:
        if missing:
            raise BadData(f"{table} has no column {missing[0]!r}; it has {listed}.", mend)
        return TextColumns(tuple(named))
    if record.text_columns and not missing:
        return TextColumns(record.text_columns)
    if record.text_columns:
        texts = [name for name, cells in head().cells.items() if len(available) == 1 or _holds_texts(cells)]
        if len(texts) == 1 and not pairs:
            return TextColumns((texts[0],), f", its only text column (the student was trained on {missing[0]!r})")
        raise BadData(
            f"The student was trained on the column {missing[0]!r}, and {table} has none; it has {listed}.", mend
        )
    found = guess_columns(head(), unlabelled=True, pairs=pairs)
    if pairs and not found.text_b:
        raise BadData(f"The student compares two texts, and {table} has one text column; it has {listed}.", mend)
    names = (found.text, found.text_b) if pairs and found.text_b else (found.text,)
    return TextColumns(names, ", by a guess; --text names another")


def table_head(rows: Sequence[Mapping[str, Cell]], columns: Sequence[str], name: str) -> Table:
    """The first rows of a table as a table."""
    return Table.from_columns({column: [row.get(column) for row in rows] for column in columns}, name)


def read_texts(
    path: Path,
    record: BundleRecord,
    named: Sequence[str],
    read: ReadOptions = ReadOptions(),  # noqa: B008 - frozen
) -> tuple[tuple[str, ...], TextColumns]:
    """All texts of a table, or in a pair task its pairs, and the columns they were read from.

    Raises:
        BadData: the file cannot be read, or has no such column.
    """
    reading = reading_of(path, record, named, read)
    read = reading.options
    table = read_table(path, encoding=read.encoding, layout=read.layout, on_bad=read.on_bad_row or "error")
    columns = choose_text_columns(record, path.name, table.columns, named, lambda: table)
    columns = replace(
        columns, reason=f"{columns.reason}, laid out as the training file" if reading.note else columns.reason
    )
    rows = columns.texts(list(table.rows()))
    return tuple(join_pair(*row) if len(row) == 2 else row[0] for row in rows), columns


def _holds_texts(cells: Sequence[Cell]) -> bool:
    filled = [cell.strip() for cell in cells if cell and cell.strip()]
    texts = sum(len(cell.split()) > 1 or (len(cell) >= MIN_UNSPACED and not cell.isascii()) for cell in filled)
    return bool(filled) and texts >= MIN_TEXT_SHARE * len(filled)
