"""Labelled files that a simulated teacher answers from: how they are read, and their labels by text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from pydantic import Field

from potstill.data.column_guess import ColumnNames, guess_columns
from potstill.data.label_sets import Separator, parse_labels
from potstill.data.label_values import clean_cells
from potstill.data.pairs import join_pair
from potstill.data.tables import Format, Layout, OnBadRow, Quotes, Table, read_table
from potstill.data.task import Task
from potstill.errors import BadData, did_you_mean, with_keys
from potstill.registry import Options

TruthT = TypeVar("TruthT")


class LabelledFileOptions(Options):
    """The columns of a labelled file, and how it is read, as under `[data]`.

    Attributes:
        text, text_b, label: its columns; for pairs, the columns of both texts are guessed by name if `text_b` is empty.
        format, sheet, encoding, delimiter, quotes, escape, header, skip_rows, on_bad_row: as under `[data]`.
    """

    text: str = "text"
    text_b: str = ""
    label: str = "label"
    format: Format | None = None
    sheet: str | None = None
    encoding: str | None = None
    delimiter: str | None = None
    quotes: Quotes | None = None
    escape: str | None = None
    header: bool | None = None
    skip_rows: int = Field(default=0, ge=0)
    on_bad_row: OnBadRow = "error"


_LAYOUT = frozenset({"format", "sheet", "delimiter", "quotes", "escape", "header", "skip_rows"})
READING_OPTIONS = _LAYOUT | {"encoding", "on_bad_row"}


def read_gold_labels(path: Path, options: LabelledFileOptions, task: Task) -> dict[str, int]:
    """Text (white space collapsed) -> true column, of a labelled file. Raises BadData for an unknown label."""
    table = _read(path, options)
    columns = {label: column for column, label in enumerate(task.labels)}
    gold: dict[str, int] = {}
    texts, cells = _texts(table, options, task), clean_cells(table.column(options.label), path.name, named=task.labels)
    for line, text, label in zip(table.line_numbers, texts, cells.cells, strict=True):
        if text is None or not label:
            continue
        if label not in columns:
            raise _unknown_label(path, line, label, columns)
        gold.setdefault(normalize_whitespace(text), columns[label])
    return _not_empty(gold, path)


def read_gold_label_sets(
    path: Path, options: LabelledFileOptions, task: Task, separator: Separator
) -> dict[str, tuple[int, ...]]:
    """Text (white space collapsed) -> the columns of its labels, of the file of a multi-label task."""
    table = _read(path, options)
    cells = clean_cells(table.column(options.label), path.name, named=task.labels).cells
    gold: dict[str, tuple[int, ...]] = {}
    for line, text, cell in zip(table.line_numbers, table.column(options.text), cells, strict=True):
        names = parse_labels(cell, separator)
        unknown = [name for name in names or () if name not in task.labels]
        if unknown:
            raise _unknown_label(path, line, unknown[0], task.labels)
        if text is not None and names is not None:
            gold.setdefault(normalize_whitespace(text), tuple(task.index(name) for name in names))
    return _not_empty(gold, path)


def normalize_whitespace(text: str) -> str:
    """The text with each run of white space as one blank: the key under which texts are compared."""
    return " ".join(text.split())


def _read(path: Path, options: LabelledFileOptions) -> Table:
    layout = Layout(**{name: getattr(options, name) for name in _LAYOUT})
    try:
        return read_table(path, encoding=options.encoding, layout=layout, on_bad=options.on_bad_row)
    except BadData as error:
        raise with_keys(error, "teacher") from None


def _unknown_label(path: Path, line: int, label: str, labels: Sequence[str] | Mapping[str, int]) -> BadData:
    return BadData(f"{path.name}, line {line}: {label!r} is not a label of the task.", did_you_mean(label, labels))


def _not_empty(gold: dict[str, TruthT], path: Path) -> dict[str, TruthT]:
    if not gold:
        raise BadData(f"{path.name} has no labelled text.", "Give a file with texts and their labels.")
    return gold


def _texts(table: Table, options: LabelledFileOptions, task: Task) -> Sequence[str | None]:
    if task.kind != "pair":
        return table.column(options.text)
    named = ColumnNames(options.text if options.text_b else "", options.text_b, options.label)
    found = guess_columns(table, named)
    if not found.text_b:
        raise BadData(
            f"{table.name} has one column of texts, and the task is about pairs.",
            "Set text and text_b under [teacher].",
        )
    pairs = zip(table.column(found.text), table.column(found.text_b), strict=True)
    return [join_pair(first, second) if first and second else None for first, second in pairs]
