"""Reads a sheet of a workbook (.xlsx, .xlsm, .xlsb, .xls, .ods) with python-calamine. The only file that imports it.

Dates are read as ISO 8601, whole numbers without a point, empty cells as missing values; a cell that is merged over
several rows has its value in each of them. Formulas have the values that were stored with them.
"""

from __future__ import annotations

import datetime as dt
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from io import BytesIO
from typing import Any

from potstill.data.tables.base import (
    REPEATED_HEADER,
    Cell,
    NumberedRow,
    Row,
    column_names,
    oversized_cell_error,
    to_cell,
)
from potstill.data.tables.layout import Guess, Layout
from potstill.data.tables.row_lines import rows_above_header
from potstill.data.tables.unpack import Source, unpacked_limit
from potstill.errors import BadData, did_you_mean, missing_extra

_MAX_SHOWN = 8
_LARGEST_WHOLE = 1e15  # above, a float has no exact whole digits
_SAMPLE_ROWS = 200


@dataclass
class Sheet:
    """An open sheet.

    Attributes:
        source: the workbook.
        layout: as the user named it; complete once the sheet is open.
        rows: the values of each row from the first row of the sheet on.
        guesses: what of the layout the user did not name.
        notes: sentences about what was found while reading.
        header_doubt: see `Table`.
    """

    source: Source
    layout: Layout
    rows: Sequence[Sequence[Any]]
    guesses: list[Guess] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    header_doubt: str = ""


def open_sheet(source: Source, layout: Layout) -> Sheet:
    """The sheet that the layout names, or the first visible one with rows.

    Raises:
        BadData: the file is no workbook, has a password, no rows, or no such sheet.
        MissingExtra: python-calamine is not installed.
    """
    name = source.path.name
    try:
        import python_calamine as calamine
    except ImportError:
        raise missing_extra("python-calamine", "excel", f"{name} (a workbook)") from None
    data = source.read_all()
    _check_size(source, data)
    try:
        workbook = calamine.load_workbook(BytesIO(data))
        visible = [
            each.name
            for each in workbook.sheets_metadata
            if each.typ == calamine.SheetTypeEnum.WorkSheet and each.visible == calamine.SheetVisibleEnum.Visible
        ]
        guesses: list[Guess] = []
        if layout.sheet is None:
            chosen = _first_with_rows(workbook, visible, name)
            if len(visible) > 1:
                others = ", ".join(repr(each) for each in visible if each != chosen)
                guesses.append(Guess("sheet", chosen, f"the first one with rows; the others are {others}"))
        else:
            chosen = _find_sheet(name, layout.sheet, workbook.sheet_names)
        sheet = workbook.get_sheet_by_name(chosen)
        rows = [list(row) for row in sheet.iter_rows()]
        merged = _fill_merged(rows, sheet.merged_cell_ranges or ())
    except calamine.PasswordError:
        raise BadData(f"{name} is encrypted.", "Save it without a password.") from None
    except (calamine.CalamineError, calamine.XmlError, calamine.ZipError, OSError, ValueError) as error:
        if source.path.suffix.lower() == ".xls" and "detect" not in str(error):
            hint = "Save it as .xlsx or CSV."
        else:
            hint = "Save it again as .xlsx or CSV; if it has a password, without it."
        raise BadData(f"{name} cannot be read as a workbook ({' '.join(str(error).split())[:120]}).", hint) from None
    notes = [f"{merged:,} cells of {name} that are merged over rows have their value in each row."] if merged else []
    found = replace(layout, format="excel", sheet=chosen, header=layout.header is not False)
    return Sheet(source, replace(found, compression=source.compression), rows, guesses, notes)


def _check_size(source: Source, data: bytes) -> None:
    """Raise BadData if the parts of a workbook unpack to far more than they hold."""
    try:
        with zipfile.ZipFile(BytesIO(data)) as archive:
            size = sum(part.file_size for part in archive.infolist())
    except (zipfile.BadZipFile, ValueError):
        return  # of the old format, or damaged, which is found when it is read
    if size > (limit := unpacked_limit(source.path)):
        raise BadData(
            f"{source.path.name} unpacks to {size / 1e6:,.0f} MB, more than the {limit / 1e6:,.0f} MB allowed for a "
            "workbook of its size.",
            "If it is yours, save its sheet as CSV.",
        )


def _first_with_rows(workbook: Any, visible: Sequence[str], name: str) -> str:
    for sheet in visible:
        if workbook.get_sheet_by_name(sheet).start is not None:
            return sheet
    raise BadData(f"{name} has no sheet with rows.", "Give it at least a header and one row.")


def _find_sheet(name: str, wanted: str, sheets: Sequence[str]) -> str:
    if wanted in sheets:
        return wanted
    if wanted.isdecimal() and 1 <= int(wanted) <= len(sheets):
        return sheets[int(wanted) - 1]
    raise BadData(
        f"{name} has no sheet {wanted!r}; it has {', '.join(map(repr, sheets[:_MAX_SHOWN]))}.",
        did_you_mean(wanted, sheets, otherwise="Name one of these, or its number from 1: --sheet 1"),
    )


def _fill_merged(rows: list[list[Any]], ranges: Sequence[Any]) -> int:
    """Give each row of a cell that is merged over several rows its value; returns how many cells were filled."""
    n = 0
    for (top, left), (bottom, _) in ranges:
        if top >= len(rows) or left >= len(rows[top]) or rows[top][left] == "":
            continue
        for row in rows[top + 1 : bottom + 1]:
            if left < len(row) and row[left] == "":
                row[left] = rows[top][left]
                n += 1
    return n


def read_sheet(sheet: Sheet, max_cell: int) -> Iterator[NumberedRow]:
    """The rows of a sheet with their numbers in it; rows without any value are left out.

    The first row with a value names the columns, unless the layout says otherwise; columns without a name and without
    values are none.

    Raises:
        BadData: two columns of one name.
    """
    name, with_header = sheet.source.path.name, bool(sheet.layout.header)
    numbered = [
        (n, [read_cell(value) for value in row])
        for n, row in enumerate(sheet.rows, 1)
        if n > sheet.layout.skip_rows and any(value not in ("", None) for value in row)
    ]
    if not numbered:
        return
    width = max(len(row) for _, row in numbered)
    used = [i for i in range(width) if any(i < len(row) and row[i] is not None for _, row in numbered)]
    rows = [(n, [row[i] if i < len(row) else None for i in used]) for n, row in numbered]
    header = [cell or "" for cell in rows[0][1]]
    if with_header and not sheet.layout.skip_rows:
        _doubt_header(sheet, rows)
    columns = column_names(name, header if with_header else [""] * len(header))
    for n, cells in rows[1:] if with_header else rows:
        row: Row = dict(zip(columns, cells, strict=True))
        if with_header and len(columns) > 1 and [cell or "" for cell in cells] == header:
            yield n, REPEATED_HEADER
        else:
            yield n, oversized_cell_error(row, max_cell) or row


def _doubt_header(sheet: Sheet, rows: Sequence[tuple[int, Sequence[Cell]]]) -> None:
    """Doubt the first row if it and some below have fewer cells than all that follow, as a title has."""
    above = rows_above_header([[cell or "" for cell in cells] for _, cells in rows[:_SAMPLE_ROWS]])
    if above:
        first, has, were = ("row", "has", "it was") if above == 1 else (f"{above} rows", "have", "they were")
        sheet.header_doubt = (
            f"The first {first} of {sheet.source.path.name} {has} fewer cells than those below, as if {were} above the "
            f"header (--skip-rows {rows[above][0] - 1})"
        )


def read_cell(value: Any) -> Cell:
    """The text of a cell; None if it is empty."""
    if value == "" or value is None:
        return None
    if isinstance(value, bool):
        return to_cell(value)
    if isinstance(value, float) and value.is_integer() and abs(value) < _LARGEST_WHOLE:
        return to_cell(int(value))
    if isinstance(value, dt.datetime):
        return value.isoformat(" ") if value.time() != dt.time() else value.date().isoformat()
    if isinstance(value, dt.timedelta):
        minutes, seconds = divmod(round(value.total_seconds()), 60)
        return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"
    return to_cell(value)
