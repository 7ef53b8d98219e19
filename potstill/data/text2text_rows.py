"""Reads, cleans and splits the rows of a text-to-text task, whatever the form of its answers, and reports on it.

A form says where texts and answers are in a table, and writes an answer as a string. Cleaning, splits and leaks are
those of labels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from potstill.data.pool.assign_splits import (
    Splits,
    assign_splits,
    check_not_emptied,
    check_options,
    limit_rows,
    pool_leaks,
)
from potstill.data.pool.clean import (
    CleaningOptions,
    CleaningReport,
    RawRows,
    clean_rows,
    count_near_duplicates,
    format_rows,
)
from potstill.data.pool.options import PoolOptions
from potstill.data.pool.report import PoolReport, SourceReport
from potstill.data.pool.source_tables import SPLIT_OF_ROLE, Sources, read_splits, read_tables
from potstill.data.pool.splits import DEFAULT_VALIDATION_SHARE
from potstill.data.tables import Guess, Table
from potstill.data.task import SPLITS, JsonObject, Split
from potstill.errors import BadData

MAX_SHOWN = 5
SMALL_TEST = 100  # texts below which metrics have wide intervals


class UnreadableAnswerError(ValueError):
    """An answer that cannot be read; the message is the end of a sentence ("has an entity ...")."""


@dataclass(frozen=True)
class FormColumns:
    """A table with its texts and answers.

    Attributes:
        table: its columns as they are read.
        text: the column of the texts.
        answer: the column of the answers, or several, separated by commas; "" without any.
        split: the column of the splits; "" without any.
        read: row number and text -> the answer as a string, "" if there is none; raises UnreadableAnswerError.
        guesses: the columns that the user did not name.
        sentences: what was recognised.
    """

    table: Table
    text: str
    answer: str
    split: str
    read: Callable[[int, str], str]
    guesses: tuple[Guess, ...] = ()
    sentences: tuple[str, ...] = ()


class RowForm(Protocol):
    """How the answers of a form are read.

    Attributes:
        unreadable: what rows are that cannot be read, after their number ("with marks that ...").
        mend: what to do about them, in the imperative.
    """

    unreadable: str
    mend: str

    def find_columns(self, role: str, table: Table, options: PoolOptions) -> FormColumns:
        """Find texts and answers of a table of this role. Raises BadData if there are none and it needs some."""


@dataclass(frozen=True)
class FormRows:
    """The rows of all sources; a label is the answer as a string, "" if the row is unlabelled."""

    rows: RawRows
    sources: tuple[SourceReport, ...]
    unlabelled_dropped: int
    over_limit: int
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class SplitRows:
    """The rows that are left, all splits decided; the splits that were created here, and what was left out."""

    rows: RawRows
    splits: Splits
    cleaning: CleaningReport


def read_form_rows(sources: Sources, options: PoolOptions, form: RowForm) -> FormRows:
    """Read all sources.

    Raises:
        BadData: what `read_table` raises; answers that cannot be read, unless these rows are to be left out.
        BadSpec: an unknown role of a source, or a share outside [0, 1).
    """
    check_options(options)
    tables = read_tables(sources, options)
    names = Counter(table.name for table in tables.values())
    rows, reports, warnings = RawRows((), (), (), (), ()), [], list[str]()
    n_unlabelled = n_over_limit = 0
    for role, table in tables.items():
        found = form.find_columns(role, table, options)
        prefix = f"{role}/{table.name}" if names[table.name] > 1 else table.name
        new, n_bad, sentences = _read_rows(role, found, prefix, options, form)
        reports.append(_report(role, found, n_bad))
        warnings += (*found.table.warnings, *found.sentences, *sentences)
        limited = limit_rows(new, options)
        n_over_limit += len(new) - len(limited)
        unlabelled = np.array(
            [s in ("test", "validation") and not y for s, y in zip(limited.splits, limited.labels, strict=True)],
            dtype=np.bool_,
        )
        n_unlabelled += int(unlabelled.sum())
        rows = rows + limited.filter(~unlabelled)
    return FormRows(rows, tuple(reports), n_unlabelled, n_over_limit, tuple(warnings))


def _read_rows(
    role: str, found: FormColumns, prefix: str, options: PoolOptions, form: RowForm
) -> tuple[RawRows, int, tuple[str, ...]]:
    """The rows of a source, the number of those that were left out, and sentences about them."""
    table = found.table
    texts = [text or "" for text in table.column(found.text)]
    labels, bad = [], list[str]()
    keep = np.ones(len(table), dtype=np.bool_)
    for i, text in enumerate(texts):
        try:
            labels.append(found.read(i, text) if text.strip() else "")
        except UnreadableAnswerError as error:
            labels.append("")
            keep[i] = False
            bad.append(f"row {table.line_numbers[i]:,} {error}")
    counted = f"{format_rows(len(bad))} {form.unreadable}"
    if bad and options.on_bad_row == "error":
        raise BadData(
            f"{counted} of {table.name}: {listed(bad)}.", f"{form.mend}, or leave these rows out: --on-bad-row skip"
        )
    splits = read_splits(table, found.split) if found.split else [SPLIT_OF_ROLE[role]] * len(table)
    splits = ["pool" if s in ("", "train") and not y else s for s, y in zip(splits, labels, strict=True)]
    rows = RawRows(tuple(texts), tuple(labels), tuple(splits), tuple(table.ids(prefix)), (None,) * len(texts))
    said = (f"{counted} of {table.name} left out: {listed(bad)}.",) if bad else ()
    return rows.filter(keep), len(bad), said


def listed(parts: Sequence[str]) -> str:
    """The first parts, and how many more there are."""
    more = f" and {len(parts) - MAX_SHOWN:,} more" if len(parts) > MAX_SHOWN else ""
    return "; ".join(parts[:MAX_SHOWN]) + more


def split_form_rows(rows: RawRows, options: PoolOptions) -> SplitRows:
    """Clean the rows and decide their splits; a tenth is set aside for validation however few rows there are.

    Raises:
        BadData: nothing is left to learn from, or what `clean_rows` raises.
    """
    if options.validation_share is None:  # training ends by a metric on them
        options = replace(options, validation_share=DEFAULT_VALIDATION_SHARE)
    cleaning = CleaningOptions(options.on_duplicate, options.on_conflict or "drop", options.on_leak, options.seed)
    cleaned = clean_rows(rows, cleaning)
    check_not_emptied(Counter(rows.splits), cleaned)
    stratum = np.array([0 if label else -1 for label in cleaned.rows.labels], dtype=np.int64)
    splits = assign_splits(cleaned, stratum, 1, options, multi=False)
    kept, report = replace(cleaned.rows, splits=splits.names), cleaned.cleaning
    if splits.created and options.on_leak != "allow":
        leaks = pool_leaks(splits, cleaned.groups)
        kept = kept.filter(~leaks)
        report = replace(report, leaks_normalised=report.leaks_normalised + int(leaks.sum()))
    if options.on_leak != "allow":
        report = count_near_duplicates(kept, report)
    return SplitRows(kept, splits, report)


def pool_fields(rows: RawRows, decode: Callable[[str], object]) -> JsonObject:
    """The rows as the fields of a `Text2TextPool` but its labels; the gold of the split "pool" is hidden.

    Args:
        rows: the rows, with their splits.
        decode: a row's label -> its gold; None for the empty string.
    """
    gold = [decode(label) for label in rows.labels]
    hidden = [split == "pool" for split in rows.splits]
    return {
        "texts": rows.texts,
        "gold": tuple(None if hide else each for each, hide in zip(gold, hidden, strict=True)),
        "split": np.array(rows.splits, dtype="<U10"),
        "ids": rows.ids,
        "hidden": tuple(each if hide else None for each, hide in zip(gold, hidden, strict=True)),
    }


def form_report(
    read: FormRows, split: SplitRows, counts: Callable[[Split], Mapping[str, int]], warnings: Iterable[str]
) -> PoolReport:
    """How the pool was built.

    Args:
        read: what was read.
        split: what is left of it.
        counts: split -> what is counted in it.
        warnings: sentences about likely problems.
    """
    sizes = Counter(split.rows.splits)
    return PoolReport(
        sources=read.sources,
        cleaning=split.cleaning,
        counts={s: {"unlabelled": sizes[s]} if s == "pool" else counts(s) for s in SPLITS},
        sizes={name: sizes[name] for name in SPLITS},
        created_splits=split.splits.created,
        unlabelled_dropped=read.unlabelled_dropped,
        over_limit=read.over_limit,
        hidden=sum(s == "pool" and bool(y) for s, y in zip(split.rows.splits, split.rows.labels, strict=True)),
        warnings=(*read.warnings, *warnings),
    )


def small_test_warning(n_test: int) -> str:
    """What is to be said of the size of the test set; "" if it is large enough."""
    if not n_test:
        return "There is no test set: nothing will be measured."
    return f"The test set has only {format_rows(n_test)}: its metrics have wide intervals." * (n_test < SMALL_TEST)


def _report(role: str, found: FormColumns, n_bad: int) -> SourceReport:
    table = found.table
    columns: Mapping[str, str] = {"text": found.text, "label": found.answer, "split": found.split}
    return SourceReport(
        name=table.name,
        role=role,
        rows=len(table),
        skipped=table.skipped + n_bad,
        encoding=table.encoding,
        columns={option: name for option, name in columns.items() if name},
        guesses=(*table.guesses, *found.guesses),
        layout=table.layout,
    )
