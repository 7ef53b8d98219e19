"""Which labels a task has, and which of them each row was given: one, several, or nobody said."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from potstill.data.label_sets import decode_label_set
from potstill.data.pool.base import SPLITS
from potstill.data.pool.clean import RawRows, format_rows
from potstill.errors import BadData, did_you_mean

_SHOWN = 5
Ints = NDArray[np.int64]


def row_labels(label: str, *, multi: bool) -> tuple[str, ...]:
    """The labels of a row: those of a set, or the one; none where nobody said."""
    if not label:
        return ()
    return decode_label_set(label) if multi else (label,)


def encode_labels(labels: Sequence[str], names: Sequence[str], *, multi: bool) -> Ints:
    """What N rows were said to be: (N,) columns, or (N, K) of 0 and 1; -1 where nobody said."""
    columns = {name: column for column, name in enumerate(names)}
    if not multi:
        return np.array([columns.get(label, -1) for label in labels], dtype=np.int64)
    said = np.full((len(labels), len(names)), -1, dtype=np.int64)
    for row, label in enumerate(labels):
        if label:
            said[row] = 0
            said[row, [columns[name] for name in decode_label_set(label) if name in columns]] = 1
    return said


def strata(said: Ints) -> Ints:
    """(N,) what to stratify by: the column, or of several the rarest; K where no label fits, -1 where nobody said."""
    if said.ndim == 1:
        return said
    there = said == 1
    order = np.argsort(there.sum(axis=0), kind="stable")  # the rarest first
    first = there[:, order].argmax(axis=1)
    rarest = np.where(there.any(axis=1), order[first], said.shape[1])
    return np.where((said < 0).any(axis=1), -1, rarest).astype(np.int64)


def resolve_labels(rows: RawRows, named: tuple[str, ...], *, multi: bool = False) -> tuple[str, ...]:
    """The task's labels; those named, or those found where one learns (in all gold if nothing there has a label).

    Raises:
        BadData: labels that are not the task's, with counts; fewer than two labels.
    """
    of: dict[str, Counter[str]] = {part: Counter() for part in ("", *SPLITS)}
    for part, label in zip(rows.splits, rows.labels, strict=True):
        of[part].update(row_labels(label, multi=multi))
    gold = {part: counts for part, counts in of.items() if part != "pool"}
    every: Counter[str] = sum(gold.values(), Counter())
    learnt = of["train"] + of[""]
    names = named or _sorted(learnt or every)
    for part, counts in gold.items():
        strangers = Counter({label: n for label, n in counts.items() if label not in names})
        if strangers:
            raise _strangers(part, strangers, names, bool(named))
    if not every and not named:
        raise BadData(
            "No row has a label and the task names none.",
            "Name the label column (--label COLUMN), or the labels themselves (--labels a,b,c).",
        )
    if (len(every) == 1 and not multi) or len(names) < 2:
        only = next(iter(every or names))
        raise BadData(
            f"All {format_rows(every.total())} with a label have the same one, {only!r}; two labels are the least.",
            "Check the label column, or add rows of another label.",
        )
    return names


def _sorted(labels: Counter[str]) -> tuple[str, ...]:
    try:
        return tuple(sorted(labels, key=lambda label: (float(label), label)))
    except ValueError:
        return tuple(sorted(labels))


def _strangers(part: str, strangers: Counter[str], names: tuple[str, ...], named: bool) -> BadData:
    shown = ", ".join(f"{label!r} ({format_rows(n)})" for label, n in strangers.most_common(_SHOWN))
    more = f" and {len(strangers) - _SHOWN:,} more" if len(strangers) > _SHOWN else ""
    one = len(strangers) == 1
    task = "the task" if named else "the task, whose labels are those of the training rows"
    near = did_you_mean(strangers.most_common(1)[0][0], names)
    hint = f" {near}" if near.startswith("Did") else ""
    return BadData(
        f"{part.capitalize() or 'The data'} has {'a label that is' if one else 'labels that are'} not in {task}: "
        f"{shown}{more}.",
        f"Correct {'it' if one else 'them'}, or name every label: --labels{hint}",
    )
