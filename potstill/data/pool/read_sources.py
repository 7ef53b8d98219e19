"""Sources -> rows: read each, find its columns, say which part each row belongs to. Cleans and splits nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from potstill.data.column_guess import SPLIT_ALIASES, ColumnGuess, ColumnNames, format_values, guess_columns
from potstill.data.label_sets import SEPARATORS, Separator, encode_label_set, guess_separator, parse_labels
from potstill.data.near_duplicates import hash_texts
from potstill.data.pairs import join_pair
from potstill.data.pool.clean import RawRows
from potstill.data.pool.options import PoolOptions
from potstill.data.pool.report import SourceReport
from potstill.data.tables import Table, read_table
from potstill.data.task import TaskKind
from potstill.errors import BadData, BadSpec, did_you_mean

Source = str | Path | Table
Sources = Source | Mapping[str, Source]
_PARTS = {"data": "", "train": "train", "validation": "validation", "test": "test", "pool": "pool"}
_ALSO = {"unlabelled": "pool", "unlabeled": "pool"}


@dataclass(frozen=True)
class SourceRows:
    """All rows of all sources, what was read, how many rows were left out so far, and what to beware of.

    `kind`: what a row is. Where it may have several labels, each of `rows.labels` is a set (`labelcells.canonical`).
    """

    rows: RawRows
    sources: tuple[SourceReport, ...]
    unlabelled_dropped: int = 0
    over_limit: int = 0
    warnings: tuple[str, ...] = ()
    kind: TaskKind = "single"


def read_sources(sources: Sources, options: PoolOptions) -> SourceRows:
    """Read every source. The first of "data", "train", ... settles the columns for the others.

    Raises:
        BadData: see `build_pool`.
        BadSpec: an unknown part, the same part twice, or a split column for files that are split already.
    """
    tables = _read(sources, options)
    names = Counter(table.name for table in tables.values())
    rows = RawRows((), (), (), ())
    reports: list[SourceReport] = []
    warnings: list[str] = []
    dropped = limited = 0
    first: ColumnGuess | None = None
    separator: Separator | None = None
    for role, table in tables.items():
        columns = _columns(role, table, options, first)
        first = first or columns
        _check_pair(role, table, columns, first, options)
        prefix = f"{role}/{table.name}" if names[table.name] > 1 else table.name
        if separator is None and columns.label:
            separator = _separator(table, columns, options)
        mine = _rows(role, table, columns, prefix, separator)
        reports.append(_report(role, table, columns, separator))
        warnings += table.warnings
        if options.limit and len(mine) > options.limit:
            order = np.argsort(hash_texts(mine.texts, options.seed), kind="stable")
            chosen = np.zeros(len(mine), dtype=np.bool_)
            chosen[order[: options.limit]] = True
            limited += len(mine) - options.limit
            mine = mine.filter(chosen)
        judged = np.array(
            [p in ("test", "validation") and not y for p, y in zip(mine.splits, mine.labels, strict=True)]
        )
        dropped += int(judged.sum())
        rows = rows + mine.filter(~judged)
    kind: TaskKind = "pair" if first and first.text_b else "multi" if separator else "single"
    return SourceRows(rows, tuple(reports), dropped, limited, tuple(warnings), kind)


def _separator(table: Table, columns: ColumnGuess, options: PoolOptions) -> Separator | None:
    """What stands between the labels of a cell; None where each holds one."""
    if columns.text_b or options.kind in ("single", "pair"):
        if options.label_separator:
            raise BadSpec(
                f"label_separator = {options.label_separator!r} splits labels, and a text has one in this task.",
                'Write kind = "multi" under [task]; pairs of texts have one label.',
            )
        return None
    if options.label_separator:
        return options.label_separator
    cells = table.column(columns.label or "")
    if options.kind == "multi":
        return guess_separator(cells, SEPARATORS[-1:] + SEPARATORS[:-1]) or "|"
    return guess_separator(cells)


def _check_pair(role: str, table: Table, columns: ColumnGuess, first: ColumnGuess, options: PoolOptions) -> None:
    """Every source has the same number of texts a row, and as many as the task says."""
    there = ", ".join(map(repr, table.columns))
    if options.kind == "pair" and not columns.text_b:
        raise BadData(
            f"The task compares two texts, and {table.name} shows one column of texts; it has {there}.",
            "Name them both: --text COLUMN --text-b COLUMN",
        )
    if options.kind not in ("", "pair") and columns.text_b:
        raise BadSpec(
            f"A second text ({columns.text_b!r}) was named, but the task is of the kind {options.kind!r}.",
            'Write kind = "pair" under [task], or leave the column out.',
        )
    if bool(columns.text_b) != bool(first.text_b):
        few, many = ("one text", "two") if first.text_b else ("two texts", "one")
        raise BadData(
            f"{table.name} ({role}) has {few} a row where the first file has {many}; its columns are {there}.",
            "Name the columns alike in every file, or say them: --text COLUMN --text-b COLUMN",
        )


def _read(sources: Sources, options: PoolOptions) -> dict[str, Table]:
    given = sources if isinstance(sources, Mapping) else {"data": sources}
    roles: dict[str, Source] = {}
    for name, source in given.items():
        role = _ALSO.get(name, name)
        if role not in _PARTS:
            raise BadSpec(f"There is no part called {name!r}.", did_you_mean(name, (*_PARTS, *_ALSO)))
        if role in roles:
            raise BadSpec(f"The part {role!r} is given twice.", "Give each part one file.")
        roles[role] = source
    if not roles:
        raise BadSpec("No data was given.", "Name at least one file.")
    if options.split and "data" not in roles:
        raise BadSpec(
            f"A split column ({options.split!r}) was named, but every file is a part already.",
            "Give one file with the split column, or leave the column out.",
        )
    read = {
        role: s if isinstance(s, Table) else read_table(s, encoding=options.encoding, on_bad=options.on_bad_row)
        for role in _PARTS
        if (s := roles.get(role)) is not None
    }
    empty = next((table for table in read.values() if not len(table)), None)
    if empty is not None:
        raise BadData(f"{empty.name} has no rows.", "Give it at least one row.")
    return read


def _columns(role: str, table: Table, options: PoolOptions, first: ColumnGuess | None) -> ColumnGuess:
    there = set(table.columns)

    def like_first(name: str | None) -> str:
        return name if name in there and name else ""

    text = options.text or (like_first(first.text) if first else "")
    text_b = options.text_b or (like_first(first.text_b) if first else "")
    label = options.label or (like_first(first.label) if first else "")
    if role == "pool" and label not in there:
        label = ""  # a pool needs none
    split = options.split if role == "data" else ""
    named = ColumnNames(text, text_b, label, split)
    found = guess_columns(table, named, unlabelled=role == "pool", pairs=options.kind in ("", "pair"))
    if role != "pool" and role != "data" and not found.label:
        columns = ", ".join(map(repr, table.columns))
        raise BadData(
            f"No column of {table.name} ({role}) looks like a label; it has {columns}.", "Name it: --label COLUMN"
        )
    return found


def _rows(role: str, table: Table, columns: ColumnGuess, prefix: str, separator: Separator | None) -> RawRows:
    texts = [(t or "").strip() for t in table.column(columns.text)]
    if columns.text_b:
        seconds = [(t or "").strip() for t in table.column(columns.text_b)]
        texts = [join_pair(a, b) if a and b else "" for a, b in zip(texts, seconds, strict=True)]
    labels = [(y or "").strip() for y in table.column(columns.label)] if columns.label else [""] * len(table)
    if separator:
        labels = [_set(cell, separator, table, row) for row, cell in enumerate(labels)]
    parts = [_PARTS[role]] * len(table)
    if role == "data" and columns.split:
        parts = _parts(table, columns.split)
    parts = ["pool" if p in ("", "train") and not y else p for p, y in zip(parts, labels, strict=True)]
    ids = [f"{prefix}:{line}" for line in table.line_numbers]
    return RawRows(tuple(texts), tuple(labels), tuple(parts), tuple(ids))


def _set(cell: str, separator: Separator, table: Table, row: int) -> str:
    try:
        found = parse_labels(cell, separator)
    except BadData as error:
        raise BadData(f"{table.name}, line {table.line_numbers[row]:,}: {error.message}", error.hint) from None
    return "" if found is None else encode_label_set(found)


def _parts(table: Table, column: str) -> list[str]:
    cells = table.column(column)
    named = [(c or "").strip().casefold() for c in cells]
    strangers = [i for i, name in enumerate(named) if name and name not in SPLIT_ALIASES]
    if strangers:
        lines = ", ".join(f"{table.line_numbers[i]:,}" for i in strangers[:3])
        raise BadData(
            f"The split column {column!r} of {table.name} has values that are no split: "
            f"{format_values([cells[i] for i in strangers])}; first on line {lines}.",
            "Use train, validation, test and pool.",
        )
    # where some rows say "train", a blank one is undecided no more than they are
    blank = "train" if any(named) else ""
    return [SPLIT_ALIASES[name] if name else blank for name in named]


def _report(role: str, table: Table, columns: ColumnGuess, separator: Separator | None) -> SourceReport:
    found: Sequence[tuple[str, str | None]] = (
        ("text", columns.text),
        ("second text", columns.text_b),
        ("label", columns.label),
        ("split", columns.split if role == "data" else None),
    )
    return SourceReport(
        name=table.name,
        role=role,
        rows=len(table),
        skipped=table.skipped,
        encoding=table.encoding,
        columns={what: name for what, name in found if name},
        reasons=columns.reasons,
        separator=(separator or "") if columns.label else "",
    )
