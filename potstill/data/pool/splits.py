"""Which rows are set aside: stratified, decided by content and not by row order, never cutting a group of like texts.

Functions of arrays. Knows no files and no label names.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


def stratified_sample(gold: Ints, groups: NDArray[np.uint64], total: int, *, min_groups: int) -> NDArray[np.bool_]:
    """Choose about `total` of N labelled rows so that every label gives its share.

    Rows of one group go together, so that texts that differ only in case or punctuation cannot end up on two sides.
    Within a label the groups with the smallest numbers are taken: with hashes of the texts for numbers, the choice
    depends on the content alone.

    Args:
        gold: (N,) label of each row, from 0.
        groups: (N,) a number for each row's content.
        total: how many rows to take.
        sure: a label with at least so many groups gives at least one.

    Returns:
        (N,) True where taken. A label never gives its last group.
    """
    taken = np.zeros(len(gold), dtype=np.bool_)
    if not len(gold) or total <= 0:
        return taken
    numbers, inverse, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    label = np.full(len(numbers), np.iinfo(np.int64).max, dtype=np.int64)
    np.minimum.at(label, inverse, gold)  # a group with two labels counts for the smaller, in any row order
    n_labels = int(gold.max()) + 1
    rows_of = np.bincount(label, weights=sizes, minlength=n_labels).astype(np.int64)
    groups_of = np.bincount(label, minlength=n_labels)
    quota = apportion(rows_of, total, minimum=(groups_of >= min_groups).astype(np.int64), most=groups_of - 1)
    chosen = np.zeros(len(numbers), dtype=np.bool_)
    for k in range(n_labels):
        mine = np.flatnonzero(label == k)  # in the order of their numbers, as np.unique sorts
        before = np.cumsum(sizes[mine]) - sizes[mine]
        first = mine[:-1][before[:-1] < quota[k]]
        chosen[first] = True
    result: NDArray[np.bool_] = chosen[inverse]
    return result


def apportion(counts: Ints, total: int, *, minimum: Ints, most: Ints) -> Ints:
    """Share `total` among K counts in proportion, by largest remainder; ties go to the smaller index.

    Args:
        counts: (K,) rows of each label.
        total: how many to hand out; more are handed out if `least` asks for it, fewer if `most` forbids it.
        least: (K,) lower bounds; `most` wins where they contradict.
        most: (K,) upper bounds; negative counts as 0.

    Returns:
        (K,) integers.
    """
    most = np.maximum(most, 0)
    exact = counts * (total / max(int(counts.sum()), 1))
    given: Ints = np.clip(np.floor(exact).astype(np.int64), minimum, most).clip(max=most)
    for k in np.argsort(-(exact - given), kind="stable"):
        if given.sum() >= total:
            break
        if given[k] < most[k] and exact[k] > given[k]:
            given[k] += 1
    return given


def balanced_sample(gold: Ints, groups: NDArray[np.uint64], total: int) -> NDArray[np.bool_]:
    """Choose `total` of N labelled rows, class by class in turn and within a class in the order of `groups`.

    Nested: what is chosen for a smaller total is chosen for a larger one.

    Args:
        gold: (N,) label indices.
        groups: (N,) hashes of the texts.
        total: how many; at most N are chosen.

    Returns:
        (N,) True where chosen.
    """
    chosen = np.zeros(len(gold), dtype=bool)
    turn = np.empty(len(gold), dtype=np.int64)
    order = np.lexsort((groups, gold))
    starts = np.searchsorted(gold[order], gold[order], side="left")
    turn[order] = np.arange(len(gold)) - starts
    chosen[np.lexsort((groups, turn))[:total]] = True
    return chosen
