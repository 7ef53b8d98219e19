"""Samples rows for a split: stratified, by content and not by row order, never dividing a group of equal texts.

Functions of arrays.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
DEFAULT_VALIDATION_SHARE = 0.1
# A tenth of fewer labels than this is less than 50 texts, on which nothing can be calibrated.
FEW_LABELS, FEW_PER_LABEL = 500, 20


def few_labels(n_labels: int, *, multi: bool = False) -> int:
    """The number of labelled texts below which none is set aside for validation: each is worth more for training.

    500, or 20 for each of the K labels of a task with one label a text if that is more.
    """
    return FEW_LABELS if multi else max(FEW_LABELS, FEW_PER_LABEL * n_labels)


def stratified_sample(gold: Ints, groups: NDArray[np.uint64], total: int, *, min_groups: int) -> NDArray[np.bool_]:
    """Sample about `total` of N labelled rows, stratified by label.

    Rows of one group are sampled together, so that texts that differ only in case or punctuation are on the same side.
    Within a label the groups with the smallest numbers are sampled: if the numbers are hashes of the texts, the sample
    depends on the content alone.

    Args:
        gold: (N,) label of each row, from 0.
        groups: (N,) a number for each row's content.
        total: how many rows to sample.
        min_groups: a label with at least this many groups contributes at least one.

    Returns:
        (N,) True where sampled. The last group of a label is never sampled.
    """
    if not len(gold) or total <= 0:
        return np.zeros(len(gold), dtype=np.bool_)
    numbers, inverse, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    label = np.full(len(numbers), np.iinfo(np.int64).max, dtype=np.int64)
    np.minimum.at(label, inverse, gold)  # a group with two labels counts for the smaller one
    n_labels = int(gold.max()) + 1
    rows_of = np.bincount(label, weights=sizes, minlength=n_labels).astype(np.int64)
    groups_of = np.bincount(label, minlength=n_labels)
    quota = apportion(rows_of, total, minimum=(groups_of >= min_groups).astype(np.int64), maximum=groups_of - 1)
    chosen = np.zeros(len(numbers), dtype=np.bool_)
    for k in range(n_labels):
        of_label = np.flatnonzero(label == k)  # sorted by number, as np.unique returns them
        before = np.cumsum(sizes[of_label]) - sizes[of_label]
        chosen[of_label[:-1][before[:-1] < quota[k]]] = True
    result: NDArray[np.bool_] = chosen[inverse]
    return result


def apportion(counts: Ints, total: int, *, minimum: Ints, maximum: Ints) -> Ints:
    """Distribute `total` over K counts in proportion, by largest remainder; ties go to the smaller index.

    Args:
        counts: (K,) rows of each label.
        total: how many to distribute; more if the minima need it, fewer if the maxima forbid it.
        minimum: (K,) lower bounds; the maximum wins if they conflict.
        maximum: (K,) upper bounds; negative counts as 0.

    Returns:
        (K,) integers.
    """
    maximum = np.maximum(maximum, 0)
    exact = counts * (total / max(int(counts.sum()), 1))
    quota: Ints = np.clip(np.floor(exact).astype(np.int64), minimum, maximum).clip(max=maximum)
    for k in np.argsort(-(exact - quota), kind="stable"):
        if quota.sum() >= total:
            break
        if quota[k] < maximum[k] and exact[k] > quota[k]:
            quota[k] += 1
    return quota


def balanced_sample(gold: Ints, groups: NDArray[np.uint64], total: int) -> NDArray[np.bool_]:
    """Sample `total` of N labelled rows, one of each class in turn, within a class in the order of `groups`.

    Nested: the sample of a smaller total is part of that of a larger one.

    Args:
        gold: (N,) label columns.
        groups: (N,) hashes of the texts.
        total: how many; at most N are sampled.

    Returns:
        (N,) True where sampled.
    """
    chosen = np.zeros(len(gold), dtype=bool)
    turn = np.empty(len(gold), dtype=np.int64)
    order = np.lexsort((groups, gold))
    starts = np.searchsorted(gold[order], gold[order], side="left")
    turn[order] = np.arange(len(gold)) - starts
    chosen[np.lexsort((groups, turn))[:total]] = True
    return chosen
