"""Files -> a pool: gather, clean, settle the labels, split, and say what may disappoint."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from math import ceil

import numpy as np
from numpy.typing import NDArray

from potstill.data.pool.base import SPLITS, Pool, is_labelled
from potstill.data.pool.clean import (
    CleaningOptions,
    CleaningResult,
    RawRows,
    clean_rows,
    count_near_duplicates,
    format_rows,
)
from potstill.data.pool.labels import encode_labels, resolve_labels, strata
from potstill.data.pool.options import PoolOptions
from potstill.data.pool.read_sources import Sources, read_sources
from potstill.data.pool.report import PoolBuild, PoolReport
from potstill.data.pool.splits import balanced_sample, stratified_sample
from potstill.errors import BadData, BadSpec

# A test set beyond this adds no certainty worth the labels: +-1.4 points at 5,000 rows.
_MOST_TEST, _MOST_VALIDATION, _MOST_A_LABEL = 5_000, 2_000, 20
_SURE_TEST, _SURE_VALIDATION = 4, 10
_FEW_TEST, _FEW_TRAIN = 100, 2
_SHOWN = 5


def build_pool(
    sources: Sources,
    *,
    labels: Sequence[str] = (),
    options: PoolOptions = PoolOptions(),  # noqa: B008 - frozen
) -> PoolBuild:
    """Read, check, clean and split.

    Args:
        sources: one file or table ("data": rows with a label are gold, rows without are the pool, a split column is
            honoured, else validation and test are set aside), or a mapping of "data", "train", "pool" (or
            "unlabelled"), "validation" and "test" to files or tables.
        labels: the task's labels, in order; none takes those found, sorted (numbers by value).
        options: columns, encoding, and what becomes of bad rows, duplicates, conflicts and leaks.

    Raises:
        BadData: whatever `read_table` raises; a missing column; labels that are not the task's, with counts;
            fewer than two labels; nothing left to learn from.
        BadSpec: an unknown part, or a share outside [0, 1).
    """
    _check(options)
    gathered = read_sources(sources, options)
    rules = CleaningOptions(options.on_duplicate, options.on_conflict, options.on_leak, options.seed)
    had = Counter(gathered.rows.splits)
    done = clean_rows(gathered.rows, rules)
    _survived(had, done.rows)
    multi = gathered.kind == "multi"
    names = resolve_labels(done.rows, tuple(label.strip() for label in labels), multi=multi)
    said = encode_labels(done.rows.labels, names, multi=multi)
    parts, carved = _split(done, strata(said), len(names), options)
    rows, cleaned = replace(done.rows, splits=parts), done.cleaning
    if carved and options.on_leak != "allow":
        # Labelled twins ("Great!" beside "great") went together; an unlabelled one may still be in the pool.
        split = np.array(parts)
        told = np.isin(done.groups, done.groups[np.isin(split, carved)]) & (split == "pool")
        rows, said = rows.filter(~told), said[~told]
        cleaned = replace(cleaned, leaks_normalised=cleaned.leaks_normalised + int(told.sum()))
    split = np.array(rows.splits, dtype="<U10")
    in_pool = split == "pool"
    pool = Pool(
        labels=names,
        texts=rows.texts,
        gold=np.where(in_pool[:, None] if multi else in_pool, -1, said),
        split=split,
        ids=rows.ids,
        hidden_labels=np.where(in_pool[:, None] if multi else in_pool, said, -1),
        kind=gathered.kind,
    )
    cleaned = count_near_duplicates(rows, cleaned) if options.on_leak != "allow" else cleaned
    report = PoolReport(
        sources=gathered.sources,
        cleaning=cleaned,
        counts={s: ({"unlabelled": int(in_pool.sum())} if s == "pool" else pool.counts(s)) for s in SPLITS},
        created_splits=carved,
        unlabelled_dropped=gathered.unlabelled_dropped,
        over_limit=gathered.over_limit,
        hidden=int(is_labelled(pool.hidden_labels).sum()),
        warnings=(*gathered.warnings, *_warnings(pool)),
    )
    return PoolBuild(pool, report)


def _check(options: PoolOptions) -> None:
    for name in ("test_share", "validation_share"):
        share = getattr(options, name)
        if not 0 <= share < 1:
            raise BadSpec(f"{name} is {share:g}; a share from 0 up to, not including, 1 is expected.", "Try 0.2.")
    if options.limit < 0:
        raise BadSpec(f"limit is {options.limit}; a number of rows is expected.", "Leave it out to take all rows.")


def _survived(had: Counter[str], rows: RawRows) -> None:
    """A part that was given must not vanish unsaid."""
    left = Counter(rows.splits)
    for part in ("train", ""):
        if had[part] and not left[part] and not left["train"]:
            raise BadData(
                f"Nothing is left of the {format_rows(had[part])} to learn from: each is without text, contradicted, "
                "or in test or validation as well.",
                "Check that train and test are not the same file.",
            )
    if had["test"] and not left["test"]:
        raise BadData(f"Nothing is left of the {format_rows(had['test'])} of test.", "Check its texts and labels.")


def _split(
    done: CleaningResult, said: NDArray[np.int64], n_labels: int, options: PoolOptions
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Each row's final part, and which parts were set aside here."""
    parts = np.array(done.rows.splits, dtype="<U10")
    parts[(parts == "") | (parts == "train")] = "train"
    parts[(parts == "train") & (said < 0)] = "pool"
    carved = []
    for part, share, most, sure in (
        ("test", options.test_share, _MOST_TEST, _SURE_TEST),
        ("validation", options.validation_share, _MOST_VALIDATION, _SURE_VALIDATION),
    ):
        if part == "validation" and options.gold:
            train = np.flatnonzero(parts == "train")
            parts[train[~balanced_sample(said[train], done.groups[train], options.gold)]] = "pool"
        if (parts == part).any() or not share:
            continue
        rows = np.flatnonzero(parts == "train")
        total = min(ceil(share * len(rows)), max(most, _MOST_A_LABEL * n_labels))
        taken = rows[stratified_sample(said[rows], done.groups[rows], total, min_groups=sure)]
        if len(taken):
            parts[taken] = part
            carved.append(part)
    return tuple(parts.tolist()), tuple(carved)


def _warnings(pool: Pool) -> list[str]:
    told = []
    test, validation, train = (pool.counts(s) for s in ("test", "validation", "train"))
    n_test, n_train = sum(test.values()), sum(train.values())
    if not n_test:
        told.append("There is no test set: nothing will be measured.")
    elif n_test < _FEW_TEST:
        told.append(f"The test set has only {format_rows(n_test)}: its figures are wide guesses.")
    if n_train and not sum(validation.values()):
        told.append("There is no validation set.")
    for split, counts in (("train", train), ("validation", validation), ("test", test)):
        lacking = [label for label, n in counts.items() if not n]
        if lacking and sum(counts.values()):
            told.append(f"No row of {split} has the label {_listed(lacking)}.")
    few = [label for label, n in train.items() if 0 < n < _FEW_TRAIN]
    if few:
        told.append(f"Only one row of train has the label {_listed(few)}.")
    plain: dict[str, list[str]] = {}
    for label in pool.labels:
        plain.setdefault(" ".join(label.casefold().split()), []).append(label)
    alike = [same for same in plain.values() if len(same) > 1]
    if alike:
        told.append(f"Labels differ only in case or white space: {' and '.join(map(repr, alike[0]))}.")
    return told


def _listed(labels: Sequence[str]) -> str:
    more = f" and {len(labels) - _SHOWN:,} others" if len(labels) > _SHOWN else ""
    return ", ".join(map(repr, labels[:_SHOWN])) + more
