"""Is a lesson fit to learn from? One check for every kind of student, and the carving of rows to stop early by.

Does not look at the texts' content: pools do (duplicates, leaks, encodings).
"""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from potstill.data.task import TaskKind
from potstill.errors import BadData, BadSpec, did_you_mean
from potstill.evaluation.calibration import sigmoid, softmax
from potstill.models.tokens.tokenizer import check_texts
from potstill.students.base import Floats, TrainingData

SUM_TOLERANCE = 1e-3  # what float16 storage and rounding to three places leave behind


@dataclass(frozen=True)
class TrainValidationSplit:
    """Rows to learn from and rows to judge by: two (N,) masks that cover every row once."""

    train: NDArray[np.bool_]
    validation: NDArray[np.bool_]


def check_training_data(data: TrainingData, n_labels: int, kind: TaskKind = "single") -> TrainingData:
    """The same lesson with float32 targets whose rows sum to one and a weight for every row.

    Args:
        lesson: N texts with (N, K) targets.
        n_labels: K.
        kind: of the task; with `multi` a row is K probabilities of their own, which sum to anything.

    Raises:
        BadData: a text that is no string; no rows; targets that are not (N, K), not finite, negative, or do not sum to
            one (`multi`: above one); weights that are not (N,), not finite, negative or all zero; targets that all say
            the same.
    """
    check_texts(data.texts)
    n = len(data.texts)
    if n == 0:
        raise BadData("There are no rows to learn from.", "Give the student at least one text a label.")
    targets = np.asarray(data.targets)
    if targets.shape != (n, n_labels):
        raise BadData(
            f"The targets have the shape {targets.shape}, and {n} texts of {n_labels} labels need {(n, n_labels)}.",
            "Give one row a text and one column a label.",
        )
    targets = targets.astype(np.float32)
    odd = np.asarray(~np.isfinite(targets).all(axis=1))
    if odd.any():
        raise BadData(f"The target of row {_first(odd)} holds NaN or infinity.", "Drop or answer that row.")
    if (targets < 0).any():
        row = _first(np.asarray((targets < 0).any(axis=1)))
        raise BadData(f"The target of row {row} is negative.", "Give probabilities, not scores: apply a softmax first.")
    sums = targets.sum(axis=1)
    off = (targets.max(axis=1) > 1 + SUM_TOLERANCE) if kind == "multi" else np.abs(sums - 1) > SUM_TOLERANCE
    if off.any() and kind == "multi":
        row = _first(off)
        raise BadData(f"The target of row {row} is {targets[row].max():.4g}, above 1.", "Give probabilities in [0, 1].")
    if off.any():
        row = _first(off)
        raise BadData(f"The target of row {row} sums to {sums[row]:.4g}, not to 1.", "Divide each row by its sum.")
    weights = _check_weights(data.sample_weight, n)
    if data.noisy is not None and np.shape(data.noisy) != (n,):
        raise BadData(f"doubtful has the shape {np.shape(data.noisy)} for {n} texts.", "Give one truth value a text.")
    if kind == "multi":
        if (np.abs(targets - targets[0]) < SUM_TOLERANCE).all():
            raise BadData("Every row has the same labels.", "Add rows of others: nothing can be learnt from one set.")
        return replace(data, targets=np.minimum(targets, 1), sample_weight=weights)
    likeliest = targets.argmax(axis=1)
    if (likeliest == likeliest[0]).all():
        if (targets[:, likeliest[0]] > 1 - SUM_TOLERANCE).all():
            raise BadData(
                f"Every row has the same label (column {likeliest[0]} of {n_labels}).",
                "Add rows of another label: nothing can be learnt from one.",
            )
        warnings.warn(
            f"column {likeliest[0]} is the likeliest label of all {n} rows; the student may never say another",
            stacklevel=3,
        )
    return replace(data, targets=(targets / sums[:, None]).astype(np.float32), sample_weight=weights)


def hash_split(texts: Sequence[str], seed: int, share: float = 0.15) -> TrainValidationSplit:
    """Put about `share` of N texts aside by their content: neither their order nor a duplicate crosses the line."""
    cut = int(share * 0x1_0000)
    judge = np.array([zlib.crc32(f"{seed} {text}".encode("utf-8", "replace")) & 0xFFFF < cut for text in texts])
    return TrainValidationSplit(~judge, judge)


def content_order(texts: Sequence[str]) -> NDArray[np.int64]:
    """An order of N texts that does not depend on the one they came in."""
    return np.array(sorted(range(len(texts)), key=lambda i: texts[i]), dtype=np.int64)


def probabilities(logits: Floats, kind: TaskKind) -> Floats:
    """(N, K) scores -> (N, K) probabilities: of one label among all, or with `multi` of each by itself."""
    return (sigmoid(logits) if kind == "multi" else softmax(logits)).astype(np.float32)


def apply_class_weights(
    targets: Floats, weights: Floats | None, class_weights: object, labels: Sequence[str], *, multi: bool = False
) -> Floats | None:
    """The (N,) row weights with those of the labels in them: a row weighs what its labels weigh on average.

    Args:
        targets: (N, K).
        weights: (N,) of the rows as they are; None means one each.
        wish: None for no label weights; "balanced" for ones that make every label count as much as any other (as in
            scikit-learn, soft counts included), the sum of the row weights staying as it is; or label -> weight, one
            where nothing is said.
        labels: the K label names.
        multi: a row may have several labels; one without any keeps its weight.

    Raises:
        BadSpec: the wish is none of these, names no label of the task, or has a weight that is not above zero.
    """
    if class_weights is None:
        return weights
    rows = np.ones(len(targets), dtype=np.float64) if weights is None else np.asarray(weights, dtype=np.float64)
    if class_weights == "balanced":
        mass = rows @ targets
        there = mass > 0
        each = np.where(there, mass.sum() / (max(int(there.sum()), 1) * np.where(there, mass, 1.0)), 1.0)
    else:
        each = _given_weights(class_weights, labels)
    of_row = np.asarray(targets, dtype=np.float64) @ each
    if multi:
        said = np.asarray(targets).sum(axis=1)
        of_row = np.where(said > 1e-6, of_row / np.maximum(said, 1e-6), 1.0)
    return np.asarray(rows * of_row, dtype=np.float32)


def _given_weights(wish: object, labels: Sequence[str]) -> NDArray[np.float64]:
    if not isinstance(wish, Mapping):
        raise BadSpec(
            f"class_weights = {wish!r} cannot be.", 'Write class_weights = "balanced", or a table of label = weight.'
        )
    for label, weight in wish.items():
        if label not in labels:
            raise BadSpec(f"class_weights names {label!r}, which is no label.", did_you_mean(str(label), labels))
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight < float("inf"):
            raise BadSpec(f"class_weights gives {label!r} the weight {weight!r}.", "Give a number above zero.")
    return np.array([float(wish.get(label, 1.0)) for label in labels])


def sort_by_content(data: TrainingData) -> TrainingData:
    """The lesson with its rows in an order that does not depend on the one they came in."""
    order = content_order(data.texts)
    return replace(
        data,
        texts=[data.texts[i] for i in order],
        targets=data.targets[order],
        sample_weight=None if data.sample_weight is None else data.sample_weight[order],
        noisy=None if data.noisy is None else data.noisy[order],
    )


def reject_feature_hint(data: TrainingData, kind: str) -> None:
    """Raise BadSpec where the lesson asks a kind to match vectors that learns none."""
    if data.hint is not None:
        raise BadSpec(f"The student {kind!r} has no vectors of its own to match.", "Take an encoder, or match = 0.")


def _check_weights(weights: Floats | None, n: int) -> Floats:
    if weights is None:
        return np.ones(n, dtype=np.float32)
    checked = np.asarray(weights)
    if checked.shape != (n,):
        raise BadData(f"The weights have the shape {checked.shape}, and {n} texts need {(n,)}.", "Give one a text.")
    checked = checked.astype(np.float32)
    bad = ~np.isfinite(checked) | (checked < 0)
    if bad.any():
        raise BadData(f"The weight of row {_first(bad)} is {checked[_first(bad)]}.", "Give weights of zero or more.")
    if not (checked > 0).any():
        raise BadData("Every row weighs nothing.", "Give at least one row a weight above zero.")
    return checked


def _first(mask: NDArray[np.bool_]) -> int:
    return int(np.flatnonzero(mask)[0])
