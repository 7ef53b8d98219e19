"""Reads the sources of a pool: finds the columns of each, and the split and the labels of each row."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from potstill.data.column_guess import ColumnGuess, format_values
from potstill.data.label_columns import (
    LIST,
    LabelColumn,
    check_separator,
    read_label_column,
    renamed,
    without_missing,
)
from potstill.data.label_sets import decode_label_set, encode_label_set
from potstill.data.label_values import MISSING_MARKERS, LabelMatcher, whole_numbers
from potstill.data.pool.assign_splits import limit_rows
from potstill.data.pool.clean import RawRows, format_rows
from potstill.data.pool.find_columns import label_cells, recognise_columns, row_texts
from potstill.data.pool.label_rows import RowLabels, encode_rows, is_one_row_a_label
from potstill.data.pool.options import PoolOptions
from potstill.data.pool.report import SourceReport
from potstill.data.pool.source_tables import SPLIT_OF_ROLE, Sources, read_splits, read_tables
from potstill.data.tables import Table
from potstill.data.task import TaskKind
from potstill.errors import BadData, BadSpec


@dataclass(frozen=True)
class SourceRows:
    """The rows of all sources.

    Attributes:
        rows: all rows; if `kind` is "multi", each label is an encoded set (`label_sets.encode_label_set`).
        sources: what was read.
        unlabelled_dropped: unlabelled rows of test and validation, left out.
        over_limit: rows left out because of the option `limit`.
        warnings: sentences about skipped rows and unusual headers.
        kind: the kind of task the columns show.
    """

    rows: RawRows
    sources: tuple[SourceReport, ...]
    unlabelled_dropped: int = 0
    over_limit: int = 0
    warnings: tuple[str, ...] = ()
    kind: TaskKind = "single"


@dataclass(frozen=True)
class _SourceLabels:
    """One source, read as far as possible before the kind of the task is known."""

    role: str
    table: Table
    columns: ColumnGuess
    prefix: str
    texts: list[str]
    splits: list[str]
    labels: LabelColumn
    sentences: tuple[str, ...]

    @property
    def several(self) -> bool:
        """Whether its labels show a task of several labels a text."""
        return self.labels.several or is_one_row_a_label(self.labels, self.table, self.texts)


def read_sources(sources: Sources, options: PoolOptions, named: Sequence[str] = ()) -> SourceRows:
    """Read every source. The columns of the first one are preferred in the others; `named` are the task's labels.

    Raises:
        BadData: see `build_pool`.
        BadSpec: an unknown role, a role given twice, or a split column for files that are splits already.
    """
    tables = read_tables(sources, options)
    read = list(_read_labels(tables, options, named))
    _check_offered(read, named)
    kind = _find_kind(read, options)
    rows = RawRows((), (), (), (), ())
    reports: list[SourceReport] = []
    warnings: list[str] = []
    n_unlabelled = n_over_limit = 0
    for source in read:
        encoded = encode_rows(source.labels, source.table, source.texts, source.splits, kind, options)
        new = _raw_rows(source, encoded).filter(encoded.keep)
        reports.append(_report(source, several=kind == "multi"))
        warnings += (*source.table.warnings, *source.sentences, *encoded.sentences)
        limited = limit_rows(new, options)
        n_over_limit += len(new) - len(limited)
        unlabelled = np.array(
            [s in ("test", "validation") and not y for s, y in zip(limited.splits, limited.labels, strict=True)],
            dtype=np.bool_,
        )
        n_unlabelled += int(unlabelled.sum())
        rows = rows + limited.filter(~unlabelled)
    rows, sentences = _merge_whole_numbers(rows, named, multi=kind == "multi")
    warnings += sentences
    return SourceRows(rows, tuple(reports), n_unlabelled, n_over_limit, tuple(warnings), kind)


def _read_labels(tables: Mapping[str, Table], options: PoolOptions, named: Sequence[str]) -> Iterator[_SourceLabels]:
    """The columns, texts, splits and labels of each source."""
    names = Counter(table.name for table in tables.values())
    first: ColumnGuess | None = None
    separator, seen = options.label_separator, list[str]()
    for role, given in tables.items():
        table, columns, sentences = recognise_columns(role, given, options, first, named)
        first = first or columns
        _check_pair(role, table, columns, first, options)
        cells, said = label_cells(table, columns, options, named)
        _check_separator(columns, options)
        kind = "pair" if columns.text_b else options.kind
        labels = read_label_column(cells, kind=kind, separator=separator, named=named)
        markers = set(MISSING_MARKERS if options.missing is None else options.missing) - set(named)
        labels, n_all = without_missing(labels, markers), sum(row is not None for row in labels.names)
        if n_missing := n_all - sum(row is not None for row in labels.names):
            said = (*said, f"{format_rows(n_missing)} of {table.name} with a list of words for a missing label only.")
        if separator is None and labels.separator not in ("", LIST):
            separator = labels.separator
        seen += cells
        if named:
            matcher = LabelMatcher(named)
            labels = renamed(labels, matcher.found)
            said = (*said, *matcher.sentences(table.name))
        if role != "data" and columns.split:
            said = (
                *said,
                f"The column {columns.split!r} of {table.name} has {format_values(table.column(columns.split))}; it is "
                f"not used, because the whole file is {role}.",
            )
        prefix = f"{role}/{table.name}" if names[table.name] > 1 else table.name
        splits = [SPLIT_OF_ROLE[role]] * len(table)
        if role == "data" and columns.split:
            splits = read_splits(table, columns.split)
        texts = row_texts(table, columns)
        yield _SourceLabels(role, table, columns, prefix, texts, splits, labels, (*sentences, *said))
    if options.label_separator:
        check_separator(seen, options.label_separator)


def _check_offered(read: Sequence[_SourceLabels], named: Sequence[str]) -> None:
    """Raise BadData if the only labels there are, are suggestions of a model that the user has not named."""
    offers = next((source for source in read if source.columns.offered), None)
    if offers is None or named or any(names for source in read for names in source.labels.names):
        return
    raise BadData(
        f"No row has a label: {offers.table.name} holds suggestions of a model, which are not read as labels.",
        f"To read the suggestions as labels: --label {shlex.quote(offers.columns.offered)}. To have the texts "
        "labelled, name the task's labels: --labels a,b,c",
    )


def _find_kind(read: Sequence[_SourceLabels], options: PoolOptions) -> TaskKind:
    """The kind of the task: as the user said, or as the columns and labels of all sources show."""
    if read and read[0].columns.text_b:
        return "pair"
    if options.kind or options.label_separator:
        return options.kind or "multi"
    guessed = options.on_conflict is None
    return "multi" if any(s.labels.several or (guessed and s.several) for s in read) else "single"


def _merge_whole_numbers(rows: RawRows, named: Sequence[str], *, multi: bool) -> tuple[RawRows, list[str]]:
    """The rows with "1.0" read as "1" where both forms are labels, and a sentence that says so."""
    distinct = {label: decode_label_set(label) if multi else (label,) for label in set(rows.labels) if label}
    forms = whole_numbers((name for names in distinct.values() for name in names), named)
    if not forms:
        return rows, []
    merged = {
        label: encode_label_set([forms.get(name, name) for name in names]) if multi else forms.get(label, label)
        for label, names in distinct.items()
    }
    labels = tuple(merged.get(label, label) for label in rows.labels)
    shares = tuple(row and {forms.get(name, name): share for name, share in row.items()} for row in rows.shares)
    n = sum(new != old for new, old in zip(labels, rows.labels, strict=True))
    shown = ", ".join(f"{old!r} as {new!r}" for old, new in sorted(forms.items())[:3])
    return replace(rows, labels=labels, shares=shares), [
        f"Labels of one number in two forms are one: {shown} ({n:,} rows)."
    ] * bool(n)


def _check_separator(columns: ColumnGuess, options: PoolOptions) -> None:
    """Raise BadSpec if labels are to be separated in a task of one label a text."""
    if options.label_separator and (columns.text_b or options.kind in ("single", "pair")):
        raise BadSpec(
            f"label_separator = {options.label_separator!r} splits labels, and a text has one in this task.",
            "If a text may have several labels: --kind multi; pairs of texts have one.",
        )


def _check_pair(role: str, table: Table, columns: ColumnGuess, first: ColumnGuess, options: PoolOptions) -> None:
    """Check that every source has the same number of texts a row, and as many as the task."""
    present = ", ".join(map(repr, table.columns))
    if options.kind == "pair" and not columns.text_b:
        raise BadData(
            f"The task is on pairs of texts, and {table.name} seems to have one column of texts; it has {present}.",
            "Name them both: --text COLUMN --text-b COLUMN",
        )
    if options.kind not in ("", "pair") and columns.text_b:
        raise BadSpec(
            f"A second text ({columns.text_b!r}) was named, but the task is of the kind {options.kind!r}.",
            "If two texts are compared: --kind pair; else leave the second column out.",
        )
    if bool(columns.text_b) != bool(first.text_b):
        here, expected = ("one text", "two") if first.text_b else ("two texts", "one")
        raise BadData(
            f"{table.name} ({role}) has {here} a row, and the first file {expected}; its columns are {present}.",
            "Give the columns the same names in every file, or name them: --text COLUMN --text-b COLUMN",
        )


def _raw_rows(source: _SourceLabels, encoded: RowLabels) -> RawRows:
    splits = ["pool" if s in ("", "train") and not y else s for s, y in zip(source.splits, encoded.labels, strict=True)]
    ids = tuple(source.table.ids(source.prefix))
    return RawRows(tuple(source.texts), tuple(encoded.labels), tuple(splits), ids, tuple(encoded.shares))


def _report(source: _SourceLabels, *, several: bool) -> SourceReport:
    table, columns = source.table, source.columns
    by_option = {
        "text": columns.text,
        "text_b": columns.text_b,
        "label": columns.label,
        "split": columns.split if source.role == "data" else None,
    }
    return SourceReport(
        name=table.name,
        role=source.role,
        rows=len(table),
        skipped=table.skipped,
        encoding=table.encoding,
        columns={option: name for option, name in by_option.items() if name},
        guesses=(*table.guesses, *columns.guesses),
        layout=table.layout,
        separator=source.labels.separator if several and columns.label else "",
    )
