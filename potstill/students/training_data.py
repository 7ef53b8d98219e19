"""Checks of training data, splits, class weights and output probabilities, for all kinds of student.

Does not check the content of texts: `data.pool` does (duplicates, leaks, encodings).
"""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from potstill.data.task import TaskKind
from potstill.errors import BadData, BadSpec, did_you_mean
from potstill.evaluation.calibration import sigmoid, softmax
from potstill.models.tokens.tokenizer import check_texts
from potstill.students.base import Floats, TrainingData

SUM_TOLERANCE = 1e-3  # error of float16 storage, or of rounding to three places


@dataclass(frozen=True)
class TrainValidationSplit:
    """Two (N,) masks: every row is in one of them."""

    train: NDArray[np.bool_]
    validation: NDArray[np.bool_]


def check_training_data(data: TrainingData, n_labels: int, kind: TaskKind = "single") -> TrainingData:
    """The data with float32 targets whose rows sum to one, and a weight for every row.

    Args:
        data: N texts with (N, K) targets.
        n_labels: K.
        kind: of the task; with `multi` a row has K independent probabilities.

    Raises:
        BadData: a text that is not a string; no rows; targets that are not (N, K), not finite, negative, or do not sum
            to one (`multi`: above one); weights that are not (N,), not finite, negative or all zero; the same label, or
            set of labels, in every row.
    """
    check_texts(data.texts)
    n = len(data.texts)
    if n == 0:
        raise BadData("There are no rows to train on.", "Give at least one text per label.")
    targets = _check_targets(np.asarray(data.targets), (n, n_labels), multi=kind == "multi")
    weights = _check_weights(data.sample_weight, n)
    if data.noisy is not None and np.shape(data.noisy) != (n,):
        raise BadData(f"noisy has the shape {np.shape(data.noisy)} for {n} texts.", "Give one bool per text.")
    if kind == "multi":
        if (np.abs(targets - targets[0]) < SUM_TOLERANCE).all():
            raise BadData("Every row has the same labels.", "Add rows with other labels.")
        return replace(data, targets=np.minimum(targets, 1), sample_weight=weights)
    top = targets.argmax(axis=1)
    if (top == top[0]).all():
        if (targets[:, top[0]] > 1 - SUM_TOLERANCE).all():
            raise BadData(
                f"Every row has the same label (column {top[0]} of {n_labels}).", "Add rows of another label."
            )
        warnings.warn(
            f"column {top[0]} is the likeliest label of all {n} rows; the student may never predict another",
            stacklevel=3,
        )
    normalised = (targets / targets.sum(axis=1)[:, None]).astype(np.float32)
    return replace(data, targets=normalised, sample_weight=weights)


def _check_targets(targets: NDArray[Any], shape: tuple[int, int], *, multi: bool) -> Floats:
    """The targets as float32, if they are probabilities of this shape."""
    if targets.shape != shape:
        raise BadData(
            f"The targets have the shape {targets.shape}, and {shape[0]} texts of {shape[1]} labels need {shape}.",
            "Give one row per text and one column per label.",
        )
    targets = targets.astype(np.float32)
    not_finite = np.asarray(~np.isfinite(targets).all(axis=1))
    if not_finite.any():
        raise BadData(f"The target of row {_first(not_finite)} holds NaN or infinity.", "Drop or correct that row.")
    negative = np.asarray((targets < 0).any(axis=1))
    if negative.any():
        row = _first(negative)
        raise BadData(f"The target of row {row} is negative.", "Give probabilities, not logits: apply a softmax first.")
    sums, largest = targets.sum(axis=1), targets.max(axis=1)
    bad = largest > 1 + SUM_TOLERANCE if multi else np.abs(sums - 1) > SUM_TOLERANCE
    if bad.any() and multi:
        row = _first(bad)
        raise BadData(f"The target of row {row} is {largest[row]:.4g}, above 1.", "Give probabilities in [0, 1].")
    if bad.any():
        row = _first(bad)
        raise BadData(f"The target of row {row} sums to {sums[row]:.4g}, not to 1.", "Divide each row by its sum.")
    return targets


def hash_split(texts: Sequence[str], seed: int, share: float = 0.15) -> TrainValidationSplit:
    """Hold out about `share` of N texts by a hash of their content: independent of their order, duplicates together."""
    limit = int(share * 0x1_0000)
    held_out = np.array([zlib.crc32(f"{seed} {text}".encode("utf-8", "replace")) & 0xFFFF < limit for text in texts])
    return TrainValidationSplit(~held_out, held_out)


def content_order(texts: Sequence[str]) -> NDArray[np.int64]:
    """(N,) row numbers that sort N texts, so that training does not depend on their order."""
    return np.array(sorted(range(len(texts)), key=lambda i: texts[i]), dtype=np.int64)


def probabilities(logits: Floats, kind: TaskKind) -> Floats:
    """(N, K) logits -> (N, K) probabilities: their softmax, or for `multi` their sigmoid."""
    return (sigmoid(logits) if kind == "multi" else softmax(logits)).astype(np.float32)


def apply_class_weights(
    targets: Floats, weights: Floats | None, class_weights: object, labels: Sequence[str], *, multi: bool = False
) -> Floats | None:
    """(N,) row weights times the mean class weight of each row's labels.

    Args:
        targets: (N, K).
        weights: (N,) row weights; None means ones.
        class_weights: None; "balanced", under which all labels have the same total weight (as in scikit-learn, with
            soft counts) and the sum of the row weights stays as it is; or label -> weight, with one as the default.
        labels: the K label names.
        multi: a row may have several labels; one without any keeps its weight.

    Raises:
        BadSpec: class weights of another type, of an unknown label, or not above zero.
    """
    if class_weights is None:
        return weights
    row_weights = np.ones(len(targets), dtype=np.float64) if weights is None else np.asarray(weights, dtype=np.float64)
    if class_weights == "balanced":
        mass = row_weights @ targets
        seen = mass > 0
        per_label = np.where(seen, mass.sum() / (max(int(seen.sum()), 1) * np.where(seen, mass, 1.0)), 1.0)
    else:
        per_label = _label_weights(class_weights, labels)
    factors = np.asarray(targets, dtype=np.float64) @ per_label
    if multi:
        n_labels = np.asarray(targets).sum(axis=1)
        factors = np.where(n_labels > 1e-6, factors / np.maximum(n_labels, 1e-6), 1.0)
    return np.asarray(row_weights * factors, dtype=np.float32)


def _label_weights(class_weights: object, labels: Sequence[str]) -> NDArray[np.float64]:
    if not isinstance(class_weights, Mapping):
        raise BadSpec(
            f"class_weights = {class_weights!r} is invalid.",
            'Write class_weights = "balanced", or a table of label = weight.',
        )
    for label, weight in class_weights.items():
        if label not in labels:
            raise BadSpec(f"class_weights names {label!r}, which is not a label.", did_you_mean(str(label), labels))
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight < float("inf"):
            raise BadSpec(f"class_weights gives {label!r} the weight {weight!r}.", "Give a number above zero.")
    return np.array([float(class_weights.get(label, 1.0)) for label in labels])


def sort_by_content(data: TrainingData) -> TrainingData:
    """The data with its rows sorted by text, so that training does not depend on their order."""
    order = content_order(data.texts)
    return replace(
        data,
        texts=[data.texts[i] for i in order],
        targets=data.targets[order],
        sample_weight=None if data.sample_weight is None else data.sample_weight[order],
        noisy=None if data.noisy is None else data.noisy[order],
    )


def reject_feature_hint(data: TrainingData, kind: str) -> None:
    """Raise BadSpec if the data have a feature hint, for kinds without trained embeddings."""
    if data.hint is not None:
        raise BadSpec(
            f"The student {kind!r} has no embeddings of its own to match.", "Use an encoder, or hint_weight = 0."
        )


def _check_weights(weights: Floats | None, n: int) -> Floats:
    if weights is None:
        return np.ones(n, dtype=np.float32)
    checked = np.asarray(weights)
    if checked.shape != (n,):
        raise BadData(f"The weights have the shape {checked.shape}, and {n} texts need {(n,)}.", "Give one per text.")
    checked = checked.astype(np.float32)
    bad = ~np.isfinite(checked) | (checked < 0)
    if bad.any():
        raise BadData(f"The weight of row {_first(bad)} is {checked[_first(bad)]}.", "Give weights of zero or more.")
    if not (checked > 0).any():
        raise BadData("All weights are zero.", "Give at least one row a weight above zero.")
    return checked


def _first(mask: NDArray[np.bool_]) -> int:
    return int(np.flatnonzero(mask)[0])
