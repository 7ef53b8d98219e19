"""The labels of a task, and the label columns of each row."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from potstill.data.label_sets import decode_label_set
from potstill.data.pool.clean import RawRows, format_rows
from potstill.data.task import SPLITS
from potstill.errors import BadData, did_you_mean

_MAX_SHOWN, _MAX_LISTED = 5, 20
Ints = NDArray[np.int64]


def row_labels(label: str, *, multi: bool) -> tuple[str, ...]:
    """The labels of a row: those of an encoded set, or the one; () if unlabelled."""
    if not label:
        return ()
    return decode_label_set(label) if multi else (label,)


def encode_labels(labels: Sequence[str], names: Sequence[str], *, multi: bool) -> Ints:
    """(N,) label columns of N rows, or for multi-label tasks (N, K) of 0 and 1; -1 if unlabelled."""
    columns = {name: column for column, name in enumerate(names)}
    if not multi:
        return np.array([columns.get(label, -1) for label in labels], dtype=np.int64)
    encoded = np.full((len(labels), len(names)), -1, dtype=np.int64)
    for row, label in enumerate(labels):
        if label:
            encoded[row] = 0
            encoded[row, [columns[name] for name in decode_label_set(label) if name in columns]] = 1
    return encoded


def encode_shares(
    shares: Sequence[Mapping[str, float] | None], gold: Ints, names: Sequence[str]
) -> NDArray[np.float32]:
    """(N, K) soft labels of N rows; one-hot for rows with a plain label, zeros where `gold`, (N,), is -1.

    Shares of labels that are not the task's are left out, and the others add up to one.
    """
    columns = {name: column for column, name in enumerate(names)}
    soft = np.zeros((len(gold), len(names)), dtype=np.float64)
    for row, (given, label) in enumerate(zip(shares, gold.tolist(), strict=True)):
        if label < 0:
            continue
        for name, share in (given or {names[label]: 1.0}).items():
            if name in columns:
                soft[row, columns[name]] += share
        soft[row] /= soft[row].sum()
    return soft.astype(np.float32)


def strata(encoded: Ints) -> Ints:
    """(N,) stratum of each row: its label column, or the rarest of several; K without any label, -1 if unlabelled."""
    if encoded.ndim == 1:
        return encoded
    present = encoded == 1
    order = np.argsort(present.sum(axis=0), kind="stable")  # the rarest first
    first = present[:, order].argmax(axis=1)
    rarest = np.where(present.any(axis=1), order[first], encoded.shape[1])
    return np.where((encoded < 0).any(axis=1), -1, rarest).astype(np.int64)


def resolve_labels(rows: RawRows, named: tuple[str, ...], *, multi: bool = False) -> tuple[str, ...]:
    """The task's labels: those the user named, or those of the training rows (of all labelled rows if none).

    Args:
        rows: all rows.
        named: the user's labels, in order; empty to take those of the rows.
        multi: each row has a set of labels.

    Raises:
        BadData: labels that are not the task's, with counts; fewer than two labels.
    """
    counts_of: dict[str, Counter[str]] = {split: Counter() for split in ("", *SPLITS)}
    for split, label in zip(rows.splits, rows.labels, strict=True):
        counts_of[split].update(row_labels(label, multi=multi))
    gold = {split: counts for split, counts in counts_of.items() if split != "pool"}
    total: Counter[str] = sum(gold.values(), Counter())
    shared = Counter(name for row in rows.shares for name, share in (row or {}).items() if share > 0)
    names = named or _sorted((counts_of["train"] + counts_of[""] or total) + shared)
    for split, counts in gold.items() if not named else (*gold.items(), ("", shared)):
        unknown = Counter({label: n for label, n in counts.items() if label not in names})
        if unknown:
            raise _unknown_labels_error(split, unknown, names, bool(named))
    if not total and not named:
        raise BadData(
            "No row has a label and the task names none.",
            "Name the label column (--label COLUMN), or the labels themselves (--labels a,b,c).",
        )
    if (len(total) == 1 and not multi) or len(names) < 2:
        only = next(iter(total or names))
        raise BadData(
            f"All {format_rows(total.total())} with a label have the same, {only!r}; at least two labels are needed.",
            "Name another label column (--label COLUMN), or add rows of another label.",
        )
    return names


def _sorted(labels: Counter[str]) -> tuple[str, ...]:
    try:
        return tuple(sorted(labels, key=lambda label: (float(label), label)))
    except ValueError:
        return tuple(sorted(labels))


def _unknown_labels_error(split: str, unknown: Counter[str], names: tuple[str, ...], named: bool) -> BadData:
    shown = ", ".join(f"{label!r} ({format_rows(n)})" for label, n in unknown.most_common(_MAX_SHOWN))
    more = f" and {len(unknown) - _MAX_SHOWN:,} more" if len(unknown) > _MAX_SHOWN else ""
    one = len(unknown) == 1
    task = "the task" if named else "the task, whose labels are those of the training rows"
    near = did_you_mean(unknown.most_common(1)[0][0], names, otherwise="")
    every = list(dict.fromkeys([*names, *unknown]))
    listed = ",".join(every) if len(every) <= _MAX_LISTED and not any("," in label for label in every) else "a,b,c"
    return BadData(
        f"{split.capitalize() or 'The data'} has {'a label that is' if one else 'labels that are'} not in {task}: "
        f"{shown}{more}.",
        f"{near} Correct {'it' if one else 'them'}, or name every label: --labels {shlex.quote(listed)}".lstrip(),
    )
