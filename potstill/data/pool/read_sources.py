"""Reads the sources of a pool: finds the columns of each, and the split and the labels of each row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from potstill.data.column_guess import (
    NO_COLUMN,
    SPLIT_ALIASES,
    ColumnGuess,
    ColumnNames,
    format_values,
    guess_columns,
)
from potstill.data.label_sets import (
    SEPARATORS,
    Separator,
    decode_label_set,
    encode_label_set,
    guess_separator,
    parse_labels,
)
from potstill.data.label_values import clean_cells, whole_numbers
from potstill.data.near_duplicates import hash_texts
from potstill.data.pairs import join_pair
from potstill.data.pool.clean import RawRows
from potstill.data.pool.options import PoolOptions
from potstill.data.pool.prodigy_answers import apply_answers, find_answer_column
from potstill.data.pool.report import SourceReport
from potstill.data.tables import HEADER_MEND, Table, read_table
from potstill.data.task import TaskKind
from potstill.errors import BadData, BadSpec, did_you_mean

Source = str | Path | Sequence[str | Path] | Table
Sources = Source | Mapping[str, Source]
_SPLIT_OF_ROLE = {"data": "", "train": "train", "validation": "validation", "test": "test", "pool": "pool"}
_ROLE_ALIASES = {"unlabelled": "pool", "unlabeled": "pool"}


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


def read_sources(sources: Sources, options: PoolOptions, named: Sequence[str] = ()) -> SourceRows:
    """Read every source. The columns of the first one are preferred in the others; `named` are the task's labels.

    Raises:
        BadData: see `build_pool`.
        BadSpec: an unknown role, a role given twice, or a split column for files that are splits already.
    """
    tables = _read_tables(sources, options)
    names = Counter(table.name for table in tables.values())
    rows = RawRows((), (), (), ())
    reports: list[SourceReport] = []
    warnings: list[str] = []
    n_unlabelled = n_over_limit = 0
    first: ColumnGuess | None = None
    separator: Separator | None = None
    for role, table in tables.items():
        columns = _find_columns(role, table, options, first)
        first = first or columns
        _check_pair(role, table, columns, first, options)
        prefix = f"{role}/{table.name}" if names[table.name] > 1 else table.name
        labels = clean_cells(
            table.column(columns.label) if columns.label else [None] * len(table),
            table.name,
            missing=options.missing,
            named=named,
        )
        if answer := find_answer_column(table, options.answer):
            answered = apply_answers(labels.cells, table, answer)
            labels = replace(labels, cells=answered.cells, sentences=(*labels.sentences, *answered.sentences))
        if separator is None and columns.label:
            separator = _find_separator(labels.cells, columns, options)
        new = _extract_rows(role, table, columns, prefix, labels.cells, separator)
        reports.append(_report(role, table, columns, separator))
        warnings += (*table.warnings, *labels.sentences)
        if role != "data" and columns.split:
            warnings.append(
                f"The column {columns.split!r} of {table.name} has {format_values(table.column(columns.split))}; it is "
                f"not used, because the whole file is {role}."
            )
        limited = _limit(new, options)
        n_over_limit += len(new) - len(limited)
        unlabelled = np.array(
            [s in ("test", "validation") and not y for s, y in zip(limited.splits, limited.labels, strict=True)]
        )
        n_unlabelled += int(unlabelled.sum())
        rows = rows + limited.filter(~unlabelled)
    kind: TaskKind = "pair" if first and first.text_b else "multi" if separator else "single"
    rows, sentences = _merge_whole_numbers(rows, named, multi=kind == "multi")
    warnings += sentences
    return SourceRows(rows, tuple(reports), n_unlabelled, n_over_limit, tuple(warnings), kind)


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
    n = sum(new != old for new, old in zip(labels, rows.labels, strict=True))
    shown = ", ".join(f"{old!r} as {new!r}" for old, new in sorted(forms.items())[:3])
    return replace(rows, labels=labels), [f"Labels of one number in two forms are one: {shown} ({n:,} rows)."] * bool(n)


def _limit(rows: RawRows, options: PoolOptions) -> RawRows:
    """At most `options.limit` of the rows, drawn by content."""
    if not options.limit or len(rows) <= options.limit:
        return rows
    order = np.argsort(hash_texts(rows.texts, options.seed), kind="stable")
    keep = np.zeros(len(rows), dtype=np.bool_)
    keep[order[: options.limit]] = True
    return rows.filter(keep)


def _find_separator(cells: Sequence[str], columns: ColumnGuess, options: PoolOptions) -> Separator | None:
    """The separator of the labels in a cell; None if each cell holds one label."""
    if columns.text_b or options.kind in ("single", "pair"):
        if options.label_separator:
            raise BadSpec(
                f"label_separator = {options.label_separator!r} splits labels, and a text has one in this task.",
                'Write kind = "multi" under [task]; pairs of texts have one label.',
            )
        return None
    if options.label_separator:
        return options.label_separator
    if options.kind == "multi":
        return guess_separator(cells, SEPARATORS[-1:] + SEPARATORS[:-1]) or "|"
    return guess_separator(cells)


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
            'Write kind = "pair" under [task], or leave the column out.',
        )
    if bool(columns.text_b) != bool(first.text_b):
        here, expected = ("one text", "two") if first.text_b else ("two texts", "one")
        raise BadData(
            f"{table.name} ({role}) has {here} a row, and the first file {expected}; its columns are {present}.",
            "Give the columns the same names in every file, or name them: --text COLUMN --text-b COLUMN",
        )


def _read_tables(sources: Sources, options: PoolOptions) -> dict[str, Table]:
    given = sources if isinstance(sources, Mapping) else {"data": sources}
    roles: dict[str, Source] = {}
    for name, source in given.items():
        role = _ROLE_ALIASES.get(name, name)
        if role not in _SPLIT_OF_ROLE:
            known = (*_SPLIT_OF_ROLE, *_ROLE_ALIASES)
            raise BadSpec(f"There is no source called {name!r}.", did_you_mean(name, known))
        if role in roles:
            raise BadSpec(f"The source {role!r} is given twice.", "Give each split one file.")
        roles[role] = source
    if not roles:
        raise BadSpec("No data was given.", "Name at least one file.")
    if options.split not in ("", NO_COLUMN) and "data" not in roles:
        raise BadSpec(
            f"A split column ({options.split!r}) was named, but every file is a split already.",
            "Give one file with the split column, or leave the column out.",
        )
    tables = {
        role: s
        if isinstance(s, Table)
        else read_table(s, encoding=options.encoding, on_bad=options.on_bad_row, layout=options.layout)
        for role in _SPLIT_OF_ROLE
        if (s := roles.get(role)) is not None
    }
    empty = next((table for table in tables.values() if not len(table)), None)
    if empty is not None:
        raise BadData(f"{empty.name} has no rows.", "Give it at least one row.")
    doubtful = next((table for table in tables.values() if table.header_doubt), None)
    if doubtful is not None and not (options.text or options.label):
        first = ", ".join(map(repr, doubtful.columns))
        raise BadData(
            f"{doubtful.header_doubt}; the names of the columns would be {first[:200]}.",
            HEADER_MEND,
        )
    return tables


def _find_columns(role: str, table: Table, options: PoolOptions, first: ColumnGuess | None) -> ColumnGuess:
    present = set(table.columns)

    def like_first(name: str | None) -> str:
        return name if name in present and name else ""

    text = options.text or (like_first(first.text) if first else "")
    text_b = options.text_b or (like_first(first.text_b) if first else "")
    label = options.label or (like_first(first.label) if first else "")
    if role == "pool" and label not in present:
        label = ""  # a pool needs no labels
    split = options.split if role == "data" else ""
    named = ColumnNames(text, text_b, label, split)
    if (answer := find_answer_column(table, options.answer)) not in ("", text, text_b, label, split):
        table = replace(table, columns=tuple(column for column in table.columns if column != answer))
    guess = guess_columns(table, named, unlabelled=role == "pool", pairs=options.kind in ("", "pair"))
    if role not in {"pool", "data"} and not guess.label:
        columns = ", ".join(map(repr, table.columns))
        raise BadData(
            f"No column of {table.name} ({role}) looks like a label; it has {columns}.", "Name it: --label COLUMN"
        )
    return guess


def _extract_rows(
    role: str, table: Table, columns: ColumnGuess, prefix: str, labels: list[str], separator: Separator | None
) -> RawRows:
    texts = [(t or "").strip() for t in table.column(columns.text)]
    if columns.text_b:
        seconds = [(t or "").strip() for t in table.column(columns.text_b)]
        texts = [join_pair(a, b) if a and b else "" for a, b in zip(texts, seconds, strict=True)]
    if separator:
        labels = [_encode_cell(cell, separator, table, row) for row, cell in enumerate(labels)]
    splits = [_SPLIT_OF_ROLE[role]] * len(table)
    if role == "data" and columns.split:
        splits = _read_splits(table, columns.split)
    splits = ["pool" if s in ("", "train") and not y else s for s, y in zip(splits, labels, strict=True)]
    return RawRows(tuple(texts), tuple(labels), tuple(splits), tuple(table.ids(prefix)))


def _encode_cell(cell: str, separator: Separator, table: Table, row: int) -> str:
    try:
        labels = parse_labels(cell, separator)
    except BadData as error:
        raise BadData(f"{table.name}, line {table.line_numbers[row]:,}: {error.message}", error.hint) from None
    return "" if labels is None else encode_label_set(labels)


def _read_splits(table: Table, column: str) -> list[str]:
    cells = table.column(column)
    names = [(c or "").strip().casefold() for c in cells]
    unknown = [i for i, name in enumerate(names) if name and name not in SPLIT_ALIASES]
    if unknown:
        lines = ", ".join(f"{table.line_numbers[i]:,}" for i in unknown[:3])
        read = {split: [a for a in SPLIT_ALIASES if SPLIT_ALIASES[a] == split] for split in SPLIT_ALIASES.values()}
        understood = "; ".join(f"{split} ({', '.join(words[1:])})" for split, words in read.items())
        raise BadData(
            f"The split column {column!r} of {table.name} has values that are not splits: "
            f"{format_values([cells[i] for i in unknown])}; first on line {lines}. "
            f"In all it has {format_values(cells)}.",
            f"Understood are {understood}. Rename the others, name another column (--split COLUMN), "
            f"or say that there is none: --split={NO_COLUMN}",
        )
    # If any row has a split, an empty cell means train; otherwise the splits are still to be decided.
    empty = "train" if any(names) else ""
    return [SPLIT_ALIASES[name] if name else empty for name in names]


def _report(role: str, table: Table, columns: ColumnGuess, separator: Separator | None) -> SourceReport:
    by_option = {
        "text": columns.text,
        "text_b": columns.text_b,
        "label": columns.label,
        "split": columns.split if role == "data" else None,
    }
    return SourceReport(
        name=table.name,
        role=role,
        rows=len(table),
        skipped=table.skipped,
        encoding=table.encoding,
        columns={option: name for option, name in by_option.items() if name},
        guesses=(*table.guesses, *columns.guesses),
        layout=table.layout,
        separator=(separator or "") if columns.label else "",
    )
