"""Decides the split of each row, and checks that rows are left; for labels and for marks alike."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray

from potstill.data.near_duplicates import hash_texts
from potstill.data.pool.clean import CleaningResult, RawRows, format_rows
from potstill.data.pool.options import PoolOptions
from potstill.data.pool.splits import DEFAULT_VALIDATION_SHARE, balanced_sample, few_labels, stratified_sample
from potstill.errors import BadData, BadSpec

# A larger test set adds no certainty worth the labels: +-1.4 points at 5,000 rows.
_MAX_TEST, _MAX_VALIDATION, _MAX_PER_LABEL = 5_000, 2_000, 20
_MIN_GROUPS_TEST, _MIN_GROUPS_VALIDATION = 4, 10  # a label with as many texts is in the split


def check_options(options: PoolOptions) -> None:
    """Raise BadSpec for a share outside [0, 1) or a negative limit."""
    for name in ("test_share", "validation_share"):
        share = getattr(options, name)
        if share is not None and not 0 <= share < 1:
            raise BadSpec(f"{name} is {share:g}; a share of at least 0 and below 1 is expected.", "Try 0.2.")
    if options.limit < 0:
        raise BadSpec(f"limit is {options.limit}; a number of rows is expected.", "Leave it out to take all rows.")


def check_not_emptied(before: Counter[str], cleaned: CleaningResult) -> None:
    """Raise if cleaning left no row of the training or test set; the hint is for what took most rows."""
    after, cleaning = Counter(cleaned.rows.splits), cleaned.cleaning
    text_mend = "Name the column of the texts: --text COLUMN"
    for split in ("train", ""):
        if before[split] and not after[""] and not after["train"]:
            reasons = (
                (
                    cleaning.conflicting_rows,
                    "with different labels for one text",
                    "Keep one of them: --on-conflict first",
                ),
                (
                    cleaning.leaks_exact + cleaning.leaks_normalised,
                    "in test or validation as well",
                    "Give other texts for test than for train, or keep them in both: --on-leak allow",
                ),
                (cleaning.empty, "without text", text_mend),
                (cleaning.duplicates, "that repeat a text", "Keep them: --on-duplicate keep"),
            )
            found = sorted((each for each in reasons if each[0]), reverse=True)
            left_out = ", ".join(f"{format_rows(n)} {what}" for n, what, _ in found)
            raise BadData(
                f"Nothing is left of the {format_rows(before[split])} to learn from; left out: {left_out}.", found[0][2]
            )
    if before["test"] and not after["test"]:
        raise BadData(f"Nothing is left of the {format_rows(before['test'])} of test: none has a text.", text_mend)


@dataclass(frozen=True)
class Splits:
    """The split of each row, the splits that were created here, and `PoolReport.few_labels`."""

    names: tuple[str, ...]
    created: tuple[str, ...]
    few_labels: int = 0


def assign_splits(
    cleaned: CleaningResult, stratum: NDArray[np.int64], n_labels: int, options: PoolOptions, *, multi: bool
) -> Splits:
    """Decide the split of undecided rows, and set aside test and validation if they were not given."""
    splits = np.array(cleaned.rows.splits, dtype="<U10")
    splits[splits == ""] = "train"
    splits[(splits == "train") & (stratum < 0)] = "pool"
    created, few = [], 0
    for name, share, n_max, min_groups in (
        ("test", options.test_share, _MAX_TEST, _MIN_GROUPS_TEST),
        ("validation", options.validation_share, _MAX_VALIDATION, _MIN_GROUPS_VALIDATION),
    ):
        if name == "validation" and options.gold:
            train = np.flatnonzero(splits == "train")
            splits[train[~balanced_sample(stratum[train], cleaned.groups[train], options.gold)]] = "pool"
        rows = np.flatnonzero(splits == "train")
        if (splits == name).any() or share == 0:
            continue
        if share is None:
            share = DEFAULT_VALIDATION_SHARE
            if len(rows) < few_labels(n_labels, multi=multi):
                few = few_labels(n_labels, multi=multi) if len(rows) else 0
                continue
        total = min(ceil(share * len(rows)), max(n_max, _MAX_PER_LABEL * n_labels))
        sample = rows[stratified_sample(stratum[rows], cleaned.groups[rows], total, min_groups=min_groups)]
        if len(sample):
            splits[sample] = name
            created.append(name)
    return Splits(tuple(splits.tolist()), tuple(created), few)


def pool_leaks(splits: Splits, groups: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """(N,) True for rows of the pool whose normalised text is in a split created here.

    Labelled rows of one group are in one split; an unlabelled row of the group may still be in the pool.
    """
    names = np.array(splits.names)
    return np.asarray(np.isin(groups, groups[np.isin(names, splits.created)]) & (names == "pool"))


def limit_rows(rows: RawRows, options: PoolOptions) -> RawRows:
    """At most `options.limit` of the rows, drawn by content."""
    if not options.limit or len(rows) <= options.limit:
        return rows
    order = np.argsort(hash_texts(rows.texts, options.seed), kind="stable")
    keep = np.zeros(len(rows), dtype=np.bool_)
    keep[order[: options.limit]] = True
    return rows.filter(keep)
