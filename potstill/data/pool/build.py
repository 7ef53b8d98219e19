"""Builds a pool from files or tables: read, clean, resolve the labels, split, and warn of likely problems."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from potstill.data.label_values import normalise_label
from potstill.data.pool.assign_splits import Splits, assign_splits, check_not_emptied, check_options, pool_leaks
from potstill.data.pool.base import Pool, is_labelled
from potstill.data.pool.clean import (
    CleaningOptions,
    CleaningResult,
    RawRows,
    clean_rows,
    count_near_duplicates,
    format_rows,
)
from potstill.data.pool.labels import encode_labels, encode_shares, resolve_labels, strata
from potstill.data.pool.options import PoolOptions
from potstill.data.pool.read_sources import read_sources
from potstill.data.pool.report import PoolBuild, PoolReport
from potstill.data.pool.source_tables import Sources
from potstill.data.task import SPLITS, TaskKind

_SMALL_TEST, _SMALL_TRAIN_LABEL = 100, 2
_MAX_SHOWN = 5
_MANY_LABELS = 20  # with one row each are no labels, if most rows have such


def build_pool(
    sources: Sources,
    *,
    labels: Sequence[str] = (),
    options: PoolOptions = PoolOptions(),  # noqa: B008 - frozen
) -> PoolBuild:
    """Read, check, clean and split.

    Args:
        sources: one file or table ("data": labelled rows are gold, unlabelled rows are the pool; a split column is
            used, otherwise validation and test are set aside), or a mapping of "data", "train", "pool" (or
            "unlabelled"), "validation" and "test" to files or tables.
        labels: the task's labels, in order; empty to take those of the data, sorted (numbers by value).
        options: columns, encoding, and what to do with bad rows, duplicates, conflicts and leaks.

    Raises:
        BadData: what `read_table` raises; a missing column; labels that are not the task's, with counts; fewer than two
            labels; no rows left to learn from.
        BadSpec: an unknown role of a source, or a share outside [0, 1).
    """
    check_options(options)
    named = tuple(map(normalise_label, labels))
    read = read_sources(sources, options, named)
    cleaned = clean_rows(
        read.rows, CleaningOptions(options.on_duplicate, options.on_conflict or "drop", options.on_leak, options.seed)
    )
    check_not_emptied(Counter(read.rows.splits), cleaned)
    multi = read.kind == "multi"
    names = resolve_labels(cleaned.rows, named, multi=multi)
    encoded = encode_labels(cleaned.rows.labels, names, multi=multi)
    splits = assign_splits(cleaned, strata(encoded), len(names), options, multi=multi)
    rows, report = replace(cleaned.rows, splits=splits.names), cleaned.cleaning
    if splits.created and options.on_leak != "allow":
        leaks = pool_leaks(splits, cleaned.groups)
        rows, encoded = rows.filter(~leaks), encoded[~leaks]
        report = replace(report, leaks_normalised=report.leaks_normalised + int(leaks.sum()))
    pool = _make_pool(rows, names, encoded, read.kind)
    if options.on_leak != "allow":
        report = count_near_duplicates(rows, report)
    n_unlabelled = int((pool.split == "pool").sum())
    return PoolBuild(
        pool,
        PoolReport(
            sources=read.sources,
            cleaning=report,
            counts={s: {"unlabelled": n_unlabelled} if s == "pool" else pool.counts(s) for s in SPLITS},
            sizes={split: int((pool.split == split).sum()) for split in SPLITS},
            created_splits=splits.created,
            few_labels=splits.few_labels,
            unlabelled_dropped=read.unlabelled_dropped,
            over_limit=read.over_limit,
            hidden=int(is_labelled(pool.hidden_labels).sum()),
            warnings=(*read.warnings, *_conflicts(cleaned, read.kind, options), *_warnings(pool, splits)),
        ),
    )


def _conflicts(cleaned: CleaningResult, kind: TaskKind, options: PoolOptions) -> list[str]:
    """What decides about texts with different labels, unless the user did."""
    if kind != "single" or options.on_conflict is not None or not cleaned.cleaning.conflicting_texts:
        return []
    several = "" if options.kind else ", and --kind multi reads them as several labels of one text"
    return [f"Of texts with different labels --on-conflict first keeps the first{several}."]


def _make_pool(rows: RawRows, labels: tuple[str, ...], encoded: NDArray[np.int64], kind: TaskKind) -> Pool:
    """The pool of these rows; the labels of the split "pool" are hidden."""
    split = np.array(rows.splits, dtype="<U10")
    in_pool = (split == "pool")[:, None] if kind == "multi" else split == "pool"
    return Pool(
        labels=labels,
        texts=rows.texts,
        gold=np.where(in_pool, -1, encoded),
        split=split,
        ids=rows.ids,
        hidden_labels=np.where(in_pool, encoded, -1),
        kind=kind,
        soft=encode_shares(rows.shares, np.where(in_pool, -1, encoded), labels) if any(rows.shares) else None,
    )


def _warnings(pool: Pool, splits: Splits) -> list[str]:
    warnings = []
    test, validation, train = (pool.counts(s) for s in ("test", "validation", "train"))
    n_test, n_validation, n_train = (len(pool.labelled(s)) for s in ("test", "validation", "train"))
    if not n_test:
        warnings.append("There is no test set: nothing will be measured.")
    elif n_test < _SMALL_TEST:
        warnings.append(f"The test set has only {format_rows(n_test)}: its metrics have wide intervals.")
    if n_train and not n_validation and not splits.few_labels:
        warnings.append("There is no validation set.")
    for split, counts in (("train", train), ("validation", validation), ("test", test)):
        missing = [label for label, n in counts.items() if not n]
        if missing and sum(counts.values()):
            warnings.append(f"No row of {split} has the label {_listed(missing)}.")
    rare = [label for label, n in train.items() if 0 < n < _SMALL_TRAIN_LABEL]
    if rare:
        warnings.append(f"Only one row of train has the label {_listed(rare)}.")
    by_normalised: dict[str, list[str]] = {}
    for label in pool.labels:
        by_normalised.setdefault(" ".join(label.casefold().split()), []).append(label)
    alike = [labels for labels in by_normalised.values() if len(labels) > 1]
    if alike:
        shown = "; ".join(" and ".join(map(repr, labels)) for labels in alike[:_MAX_SHOWN])
        more = f" and {len(alike) - _MAX_SHOWN:,} more" if len(alike) > _MAX_SHOWN else ""
        warnings.append(
            f"Labels differ only in case or white space: {shown}{more}. Each is a label of its own; write those that "
            "mean the same alike."
        )
    n_once = sum(train[label] + validation[label] + test[label] == 1 for label in pool.labels)
    if n_once > _MANY_LABELS and 2 * n_once > n_train + n_test + n_validation:
        warnings.append(
            f"{n_once:,} labels have one row each, as numbers or texts would: if the column holds no labels, name "
            "another (--label COLUMN), or answers in words with --form free"
        )
    return warnings


def _listed(labels: Sequence[str]) -> str:
    more = f" and {len(labels) - _MAX_SHOWN:,} others" if len(labels) > _MAX_SHOWN else ""
    return ", ".join(map(repr, labels[:_MAX_SHOWN])) + more
