"""The texts of a labelling tool's export or of chats, for a student that labels its rows: one text for each row.

What an export is, is decided by its first rows. Labels in it are not looked at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from potstill.data.column_guess import ColumnNames, guess_columns
from potstill.data.label_exports import read_export
from potstill.data.tables import Cell, Table
from potstill.errors import BadData


@dataclass(frozen=True)
class ExportColumns:
    """Where the texts of an export are.

    Attributes:
        tool: that wrote it.
        names: the columns of the texts, after the export was read as a table.
    """

    tool: str
    names: tuple[str, ...]


def find_export(head: Table, wanted: Sequence[str], *, pairs: bool) -> ExportColumns | None:
    """The texts of a table that is an export; None if it is none, or has no such texts.

    Args:
        head: the first rows.
        wanted: the columns the user named, or those the student was trained on; taken where the export has them.
        pairs: two texts a row.
    """
    export = read_export(head)
    if export is None:
        return None
    if wanted and all(name in export.table.columns for name in wanted):
        return ExportColumns(export.tool, tuple(wanted))
    left_out = {*export.facts, *export.questions, export.label}
    rows = {line: row for row, line in reversed([*enumerate(export.table.line_numbers)])}  # the first of each
    cells = {name: [c[row] for row in rows.values()] for name, c in export.table.cells.items() if name not in left_out}
    table = Table.from_columns(cells, head.name)
    if len(cells) == 1 and not pairs:
        return ExportColumns(export.tool, tuple(cells))
    try:
        found = guess_columns(table, ColumnNames(export.text, "", "", ""), unlabelled=True, pairs=pairs)
    except BadData:
        return None
    names = (found.text, found.text_b or "") if pairs else (found.text,)
    return ExportColumns(export.tool, names) if all(names) else None


def export_texts(rows: Sequence[Mapping[str, Cell]], names: Sequence[str]) -> list[list[str]]:
    """The texts of N rows of an export; "" for a row without one.

    Each row is read by itself: an annotation may become a row of its own, and the text is that of the first.
    """
    return [_texts_of(row, names) for row in rows]


def _texts_of(row: Mapping[str, Cell], names: Sequence[str]) -> list[str]:
    export = read_export(Table.from_columns({name: [cell] for name, cell in row.items()}, "row"))
    cells = {} if export is None else export.table.cells
    return [next(iter(cells.get(name) or []), None) or "" for name in names]
