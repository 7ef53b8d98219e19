"""Labelled files that a simulated teacher answers from: how they are read, and their labels by text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from pydantic import Field

from potstill.data.label_sets import Separator
from potstill.data.pairs import is_pair
from potstill.data.pool import PoolOptions
from potstill.data.pool.label_files import LabelFile, read_label_file, unknown_label_error
from potstill.data.tables import Format, Layout, OnBadRow, Quotes, Table, read_table
from potstill.data.task import Task
from potstill.errors import BadData, with_keys
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


@dataclass(frozen=True)
class GoldLabels(Generic[TruthT]):
    """Text (white space collapsed) -> the column or columns of its labels; and what was changed while reading."""

    columns: Mapping[str, TruthT]
    sentences: tuple[str, ...]


def read_gold_labels(path: Path, options: LabelledFileOptions, task: Task) -> GoldLabels[int]:
    """The label of each text of a labelled file.

    Raises:
        BadData: the file cannot be read, or has a label that the task does not, or two for one text in a cell.
    """
    file, gold = _read_labels(read_labelled_table(path, options), options, task, None), dict[str, int]()
    for row, names in _rows(file, task):
        if len(names) > 1:
            raise BadData(
                f"{file.place(row)}: {len(names)} labels ({', '.join(names)}), and a text has one in this task.",
                'Keep one, or make the task one of several labels: kind = "multi" under [task].',
            )
        if names:
            gold.setdefault(normalize_whitespace(file.texts[row]), task.index(names[0]))
    return _not_empty(gold, file)


def read_gold_label_sets(
    path: Path, options: LabelledFileOptions, task: Task, separator: Separator | None
) -> GoldLabels[tuple[int, ...]]:
    """The labels of each text of the file of a multi-label task; with one row a label those of all rows of a text."""
    file, gold = (
        _read_labels(read_labelled_table(path, options), options, task, separator),
        dict[str, tuple[int, ...]](),
    )
    for row, names in _rows(file, task):
        text, columns = normalize_whitespace(file.texts[row]), tuple(task.index(name) for name in names)
        known = gold.setdefault(text, columns)
        if file.one_label_a_row:
            gold[text] = tuple(dict.fromkeys((*known, *columns)))
    return _not_empty(gold, file)


def normalize_whitespace(text: str) -> str:
    """The text with each run of white space as one blank: the key under which texts are compared."""
    return " ".join(text.split())


def read_labelled_table(path: Path, options: LabelledFileOptions) -> Table:
    """A labelled file as a table. Raises BadData."""
    layout = Layout(**{name: getattr(options, name) for name in _LAYOUT})
    try:
        return read_table(path, encoding=options.encoding, layout=layout, on_bad=options.on_bad_row)
    except BadData as error:
        raise with_keys(error, "teacher") from None


def _not_empty(gold: dict[str, TruthT], file: LabelFile) -> GoldLabels[TruthT]:
    if not gold:
        raise BadData(f"{file.table.name} has no labelled text.", "Give a file with texts and their labels.")
    return GoldLabels(gold, file.sentences)


def _rows(file: LabelFile, task: Task) -> Iterator[tuple[int, tuple[str, ...]]]:
    """The number and the labels of each labelled row with a text; all labels are the task's."""
    for row, (text, names) in enumerate(zip(file.texts, file.names, strict=True)):
        unknown = next((name for name in names or () if name not in task.labels), None)
        if unknown is not None:
            raise unknown_label_error(file.place(row), unknown, task.labels)
        if text and names is not None:
            yield row, names


def _read_labels(table: Table, options: LabelledFileOptions, task: Task, separator: Separator | None) -> LabelFile:
    def named(column: str, default: str) -> str:
        return column if column in table.columns or column != default else ""

    text = named(options.text, "text") if task.kind != "pair" or options.text_b else ""
    reading = PoolOptions(
        text=text,
        text_b=options.text_b,
        label=named(options.label, "label"),
        kind=task.kind if task.kind != "text2text" else "single",
        label_separator=separator,
    )
    try:
        file = read_label_file(table, task.labels, reading)
    except BadData as error:
        raise with_keys(error, "teacher") from None
    if task.kind == "pair" and not any(map(is_pair, file.texts)):
        raise BadData(
            f"{table.name} has one column of texts, and the task is about pairs.",
            "Set text and text_b under [teacher].",
        )
    return file
