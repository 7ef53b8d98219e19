"""Reads people's answers in a text-to-text task from a table: spans in a column `entities`, words in a column `answer`.

It is a table that `spreadsheet.write_spreadsheet` wrote, or one that is read as data are: marks of Prodigy, doccano and
Label Studio's CSV, tagged words, a column of answers. Such rows have none of our ids and are found by their texts.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from potstill.annotation.import_labels import UNSURE, LabelEntries, LabelEntry
from potstill.annotation.spreadsheet import read_seconds
from potstill.data.entities.build import encode_entities
from potstill.data.entities.columns import find_entity_columns
from potstill.data.entities.marks import UnreadableMarksError, is_marks
from potstill.data.form_annotations import FormAnnotations, form_annotations
from potstill.data.free_text.columns import find_answer_columns
from potstill.data.label_cells import parse_nested
from potstill.data.pool import PoolOptions
from potstill.data.pool.prodigy_answers import find_answer_column
from potstill.data.printable import with_formula
from potstill.data.tables import Cell, ReadOptions, Table, read_table
from potstill.data.task import Task
from potstill.errors import BadData

_ID = re.compile(r"[0-9a-f]{6}-[0-9a-z]{12}")


@dataclass(frozen=True)
class _Columns:
    """The cells of answers and of texts, N each."""

    answers: Sequence[Cell]
    texts: Sequence[Cell]


def read_form_table(
    path: Path,
    task: Task,
    read: ReadOptions = ReadOptions(),  # noqa: B008 - frozen
    named: str = "",
) -> LabelEntries:
    """The rows of a table.

    Args:
        path: the file.
        task: of the form `entities` or `free`.
        read: how the file is read.
        named: the column of the answers; "" to find it.

    Raises:
        BadData: no column of answers, neither ids nor texts, a time that is not a number, or tags that cannot be read.
    """
    table = read_table(path, encoding=read.encoding, layout=read.layout, on_bad=read.on_bad_row or "error")
    names = {name.strip().lower(): name for name in table.columns}
    if named:
        table.column(named)
    own = named or names.get(form_annotations(task).column, "")
    columns = _own_columns(table, own, names.get("text", ""), task) or _found_columns(table, task, named)
    ids = next((name for name in ("potstill_id", "id") if name in names and _has_ids(table, names[name])), "")

    def cells(*candidates: str) -> Sequence[Cell]:
        name = next((names[each] for each in candidates if each in names), None)
        return [None] * len(table) if name is None else table.column(name)

    answers, sentences = _accepted(table, columns.answers)
    rows = zip(
        table.line_numbers,
        cells(ids) if ids else [None] * len(table),
        columns.texts,
        answers,
        cells("annotator", "_session_id", "_annotator_id"),
        cells("seconds", "lead_time"),
        strict=True,
    )
    entries = (
        LabelEntry(
            location=f"line {line}",
            id=(id or "").strip(),
            text=text or None,
            label=with_formula(answer or ""),
            annotator=with_formula((annotator or "").strip()),
            seconds=read_seconds(path, line, seconds),
        )
        for line, id, text, answer, annotator, seconds in rows
    )
    return LabelEntries(tuple(entries), sentences)


def _has_ids(table: Table, column: str) -> bool:
    return any(_ID.fullmatch((cell or "").strip()) for cell in table.column(column))


def _own_columns(table: Table, answers: str, texts: str, task: Task) -> _Columns | None:
    """The columns as this program writes them; None if that of the answers is absent, or holds something else."""
    if not answers or answers == find_answer_column(table, ""):
        return None
    cells = table.column(answers)
    if task.form == "entities" and not _holds_spans(cells):
        return None
    return _Columns(cells, table.column(texts) if texts else [None] * len(table))


def _found_columns(table: Table, task: Task, named: str) -> _Columns:
    """The columns as in data files; the tags of words become spans."""
    form, options = form_annotations(task), PoolOptions(label=named)
    if task.form == "free":
        found = find_answer_columns("pool", table, options)
        if not found.answer:
            raise _no_column(table, form)
        return _Columns(table.column(found.answer), table.column(found.text))
    cells = {name: [None if _is_unsure(cell) else cell for cell in own] for name, own in table.cells.items()}
    marked = find_entity_columns("pool", replace(table, cells=cells), options)
    if not marked.marks:
        raise _no_column(table, form)
    if len(marked.table) != len(table):
        raise BadData(f"{table.name} has tasks of Label Studio, one a line.", "Export the project as JSON.")
    texts = marked.table.column(marked.text)
    answers: list[Cell] = []
    for row, (text, cell) in enumerate(zip(texts, table.column(marked.marks), strict=True)):
        if not (cell or "").strip() or _is_unsure(cell) or is_marks(parse_nested(cell)):
            answers.append(cell)
            continue
        try:
            answers.append(encode_entities(marked.read(text or "", cell)))
        except UnreadableMarksError as error:
            raise BadData(f"{table.name}, line {table.line_numbers[row]} {error}.", form.mend) from None
    return _Columns(answers, texts)


def _holds_spans(cells: Sequence[Cell]) -> bool:
    """Whether a column holds lists of spans, or nothing yet."""
    given = [cell for cell in cells if cell and cell.strip() and not _is_unsure(cell)]
    return not given or any(is_marks(parse_nested(cell)) for cell in given)


def _is_unsure(cell: Cell) -> bool:
    return (cell or "").strip() == UNSURE


def _no_column(table: Table, form: FormAnnotations) -> BadData:
    present = ", ".join(map(repr, table.columns))
    return BadData(
        f"{table.name} has no column {form.column!r} (it has {present}).",
        "Use the file that potstill annotate RUN --export wrote, or name the column of the answers: --label COLUMN",
    )


def _accepted(table: Table, cells: Sequence[Cell]) -> tuple[Sequence[Cell], tuple[str, ...]]:
    """The answers without those that were rejected or ignored in Prodigy; and how many these are."""
    column = find_answer_column(table, "")
    if not column:
        return cells, ()
    kept = [(cell or "").strip().casefold() == "accept" for cell in table.column(column)]
    n = sum(bool(cell) and not keep for cell, keep in zip(cells, kept, strict=True))
    said = (f"{n} rows of {table.name} were rejected or ignored, and have no answer.",) if n else ()
    return [cell if keep else None for cell, keep in zip(cells, kept, strict=True)], said
