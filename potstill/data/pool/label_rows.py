"""The labels of a source's rows in a task of one kind, with a sentence on each decision.

One label a text: a row with several is a text with different labels. Several labels a text: rows of one text with a
label each become one row.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from potstill.data.label_columns import LabelColumn
from potstill.data.label_sets import encode_label_set
from potstill.data.pool.clean import format_rows
from potstill.data.pool.options import PoolOptions
from potstill.data.tables import Table
from potstill.data.task import TaskKind
from potstill.errors import BadData

LONG_SHARE = 0.1  # of the texts have rows with different labels: the file has one row a label
# A file with one of these columns has one row an annotator, whose labels may differ.
_ANNOTATORS = frozenset(
    "annotator annotator_id annotator_name worker worker_id workerid rater rater_id coder labeler labeller "
    "completed_by user_id _annotator_id _session_id".split()
)
_MAX_SHOWN = 3


@dataclass(frozen=True)
class RowLabels:
    """The labels of N rows.

    Attributes:
        labels: N labels, or encoded sets (`label_sets.encode_label_set`); "" if unlabelled.
        shares: N mappings label -> share of a soft label; None if the row has none.
        keep: (N,) False for rows that are left out.
        sentences: what was decided, and what was left out.
    """

    labels: list[str]
    shares: list[Mapping[str, float] | None]
    keep: NDArray[np.bool_]
    sentences: tuple[str, ...]


def is_one_row_a_label(column: LabelColumn, table: Table, texts: Sequence[str]) -> bool:
    """Whether many texts stand in several rows with different labels, and not because of several annotators."""
    if column.separator or column.n_lists or column.scale:
        return False
    if any(name.casefold() in _ANNOTATORS and len({*table.column(name)}) > 1 for name in table.columns):
        return False
    labels = _labels_by_text(column, texts)
    n_several = sum(len(names) > 1 for names in labels.values())
    return n_several > 1 and n_several >= LONG_SHARE * len(labels)


def _labels_by_text(column: LabelColumn, texts: Sequence[str]) -> dict[str, set[str]]:
    labels: dict[str, set[str]] = {}
    for text, names in zip(texts, column.names, strict=True):
        if text and names:
            labels.setdefault(text, set()).update(names)
    return labels


def encode_rows(
    column: LabelColumn, table: Table, texts: Sequence[str], splits: Sequence[str], kind: TaskKind, options: PoolOptions
) -> RowLabels:
    """The labels of the N rows of a table.

    Raises:
        BadData: a cell that cannot be read, or several labels in a task of one, if the options say so.
    """
    keep = np.ones(len(table), dtype=np.bool_)
    sentences = list(_check_problems(column, table, keep, options))
    if column.unused:
        shown = ", ".join(map(repr, column.unused[:_MAX_SHOWN]))
        more = f" and {len(column.unused) - _MAX_SHOWN:,} more" if len(column.unused) > _MAX_SHOWN else ""
        sentences.append(f"No row of {table.name} has the label {shown}{more}, although it is scored.")
    if column.paired:
        sentences.append(
            f"The label cells of {table.name} are read as names with their scores; --label-separator CHARACTER reads "
            "what is between such characters as names."
        )
    if kind == "multi":
        names = list(column.names)
        if not (column.separator or column.n_lists or column.scale) and options.on_conflict is None:
            sentences += _merge_rows(names, table, texts, splits, keep)
        sentences += _say_several(column, table, guessed=not options.kind)
        labels = ["" if row is None else encode_label_set(row) for row in names]
        return RowLabels(labels, [None] * len(table), keep, tuple(sentences))
    sentences += _say_one(column, table, guessed=not options.kind and kind == "single")
    sentences += _check_one(column, table, keep, options, kind)
    labels = [row[0] if row else "" for row in column.names]
    return RowLabels(labels, list(column.scores or [None] * len(table)), keep, tuple(sentences))


def _check_problems(column: LabelColumn, table: Table, keep: NDArray[np.bool_], options: PoolOptions) -> Iterator[str]:
    """Refuse cells that cannot be read, or leave their rows out."""
    if not column.problems:
        return
    first: dict[str, int] = {}
    for row in sorted(column.problems):
        first.setdefault(column.problems[row], table.line_numbers[row])
    shown = "; ".join(f"line {line:,}: {problem}" for problem, line in list(first.items())[:_MAX_SHOWN])
    more = f", and {len(first) - _MAX_SHOWN:,} other cells" if len(first) > _MAX_SHOWN else ""
    what = f"{format_rows(len(column.problems))} of {table.name}"
    if options.on_bad_row == "error":
        raise BadData(
            f"The label of {what} cannot be read: {shown}{more}.",
            "Correct the cells, or leave these rows out: --on-bad-row skip",
        )
    keep[list(column.problems)] = False
    yield f"{what} left out, because the label cannot be read: {shown}{more}."


def _check_one(
    column: LabelColumn, table: Table, keep: NDArray[np.bool_], options: PoolOptions, kind: TaskKind
) -> Iterator[str]:
    """Rows with several labels in a task of one label a text, as `on_conflict` says."""
    several = [row for row, names in enumerate(column.names) if names and len(names) > 1]
    empty = [row for row, names in enumerate(column.names) if names == ()]
    if empty:
        yield f"{format_rows(len(empty))} of {table.name} with an empty list or no score count as unlabelled."
    if not several:
        return
    lines = ", ".join(f"{table.line_numbers[row]:,}" for row in several[:_MAX_SHOWN])
    end = "" if kind == "pair" else "; --kind multi reads all"
    what = f"{format_rows(len(several))} of {table.name} with several labels in a task of one (first: line {lines})"
    if options.on_conflict == "first":
        yield f"{what}: the first label is taken{end}."
        return
    if options.on_conflict == "error" or len(several) == sum(map(bool, column.names)):  # or no label would be left
        mend = "Take the first one: --on-conflict first"
        mend = mend if kind == "pair" else f"Read several labels a text: --kind multi; or t{mend[1:]}"
        raise BadData(f"There are {what}.", mend)
    keep[several] = False
    yield f"{what}: left out; --on-conflict first takes the first label{end}."


def _merge_rows(
    names: list[tuple[str, ...] | None],
    table: Table,
    texts: Sequence[str],
    splits: Sequence[str],
    keep: NDArray[np.bool_],
) -> Iterator[str]:
    """Give the first row of a text the labels of all its rows, and leave the others out."""
    first: dict[tuple[str, str], int] = {}
    merged: set[int] = set()
    n = 0
    for row, (text, split) in enumerate(zip(texts, splits, strict=True)):
        labels = names[row]
        if not text or not labels or not keep[row]:
            continue
        start = first.setdefault((text, split), row)
        if start != row:
            names[start] = tuple(dict.fromkeys((*(names[start] or ()), *labels)))
            keep[row] = False
            merged.add(start)
            n += 1
    if merged:
        line = table.line_numbers[min(merged)]
        yield (
            f"{len(merged):,} texts of {table.name} have several rows (first: line {line:,}), each with a label: read "
            f"as the labels of one text; {format_rows(n)} joined to the first. --kind single reads one label a text."
        )


def _say_several(column: LabelColumn, table: Table, *, guessed: bool) -> Iterator[str]:
    several = [row for row, names in enumerate(column.names) if names and len(names) > 1]
    if column.scale == "independent":
        yield (
            f"The labels of {table.name} are scores: a text has each label with a score of at least 0.5"
            + ("; --kind single takes the highest." if guessed else ".")
        )
    if guessed and several and (column.n_lists or column.scale == "flags"):
        line = table.line_numbers[several[0]]
        yield (
            f"{format_rows(len(several))} of {table.name} {'have' if len(several) > 1 else 'has'} several labels "
            f"(first: line {line:,}), so this is a task of several labels a text; --kind single leaves them out."
        )
    n_none = sum(names == () for names in column.names)
    if n_none and column.n_lists:
        yield (
            f"{format_rows(n_none)} of {table.name} with an empty list: no label fits; if they are unlabelled: "
            "--missing '[]'"
        )
    elif n_none and column.scale:
        end = "; --kind single counts them as unlabelled" if guessed and not several else ""
        yield f"{format_rows(n_none)} of {table.name} without any label: no label fits{end}."


def _say_one(column: LabelColumn, table: Table, *, guessed: bool) -> Iterator[str]:
    end = "; --kind multi reads several, each with a score of at least 0.5." if guessed else "."
    if column.soft:
        what = "counts" if column.scale == "votes" else "scores that sum to one"
        yield f"The labels of {table.name} are {what}: read as soft labels, the highest is the label{end}"
    elif column.scale == "independent":
        yield f"The labels of {table.name} are scores: the highest is the label."
    elif guessed and column.scale == "flags":
        yield f"Each row of {table.name} scores one label with 1: one label a text; --kind multi reads several."
    elif guessed and column.n_lists:
        yield f"Each list of labels in {table.name} has one: read as one label a text; --kind multi reads several."
