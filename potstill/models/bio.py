"""Scores of labels a unit -> entities: the labels of BIO, decoding, and confidences. Functions of arrays.

The 2 K + 1 labels of K types are O, then B and I of the first type, B and I of the second, and so on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from potstill.evaluation.text2text.entities import Entities, Entity

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
OUTSIDE = 0
_IMPOSSIBLE = -1e9


@dataclass(frozen=True)
class ScoredEntities:
    """The entities of a text, and the confidence in each, in [0, 1]."""

    entities: Entities
    confidences: tuple[float, ...]


def bio_labels(types: Sequence[str]) -> tuple[str, ...]:
    """The 2 K + 1 labels of K types, in the order of every (U, 2 K + 1) array."""
    return ("O", *(f"{prefix}-{name}" for name in types for prefix in "BI"))


def log_softmax(scores: Floats) -> Floats:
    """(..., L) scores -> (..., L) natural logarithms of probabilities."""
    shifted = scores - scores.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)), dtype=np.float32)


def encode_bio(starts: Ints, ends: Ints, entities: Entities, types: Sequence[str]) -> tuple[Ints, int]:
    """The (U,) labels of a text's units that mark its entities, and how many entities begin or end inside a unit.

    An entity that does not begin and end with a unit marks the units it touches; one that touches none, or only units
    that another entity has, is counted and marks nothing.

    Args:
        starts: (U,) the characters that units begin with.
        ends: (U,) the characters that they end before.
        entities: sorted, without overlaps.
        types: the K types.
    """
    labels = np.zeros(len(starts), dtype=np.int64)
    column = {name: 2 * k + 1 for k, name in enumerate(types)}
    n_inexact = 0
    for entity in entities:
        first = int(np.searchsorted(ends, entity.start, side="right"))
        last = int(np.searchsorted(starts, entity.end, side="left"))
        while first < last and labels[first] != OUTSIDE:
            first += 1
        exact = first < last and starts[first] == entity.start and ends[last - 1] == entity.end
        n_inexact += not exact
        if first < last:
            labels[first] = column[entity.type]
            labels[first + 1 : last] = column[entity.type] + 1
    return labels, n_inexact


def decode_bio(log_probs: Sequence[Floats]) -> list[Ints]:
    """The likeliest labels of N texts in which each I follows a B or an I of its type (Viterbi 1967).

    Args:
        log_probs: N arrays (U_i, 2 K + 1).

    Returns:
        N arrays (U_i,).
    """
    if not log_probs:
        return []
    lengths = np.array([len(each) for each in log_probs])
    n, width, n_labels = len(log_probs), int(lengths.max()), log_probs[0].shape[1]
    scores = np.zeros((n, width, n_labels), dtype=np.float64)
    for row, each in enumerate(log_probs):
        scores[row, : len(each)] = each
    inside = np.arange(2, n_labels, 2)
    best = scores[:, 0] if width else np.zeros((n, n_labels))
    best = best.copy()
    best[:, inside] = _IMPOSSIBLE
    came_from = np.zeros((n, width, n_labels), dtype=np.int64)
    kept = [best]
    for at in range(1, width):
        top = best.argmax(axis=1)
        source = np.repeat(top[:, None], n_labels, axis=1)
        # An I comes from the B or the I of its type.
        source[:, inside] = np.where(best[:, inside] > best[:, inside - 1], inside, inside - 1)
        came_from[:, at] = source
        best = np.take_along_axis(best, source, axis=1) + scores[:, at]
        kept.append(best)
    return [_trace(row, int(length), kept, came_from) for row, length in enumerate(lengths)]


def _trace(row: int, length: int, kept: Sequence[NDArray[np.float64]], came_from: Ints) -> Ints:
    labels = np.zeros(length, dtype=np.int64)
    if length:
        labels[-1] = kept[length - 1][row].argmax()
    for at in range(length - 1, 0, -1):
        labels[at - 1] = came_from[row, at, labels[at]]
    return labels


def read_bio(labels: Ints, log_probs: Floats, starts: Ints, ends: Ints, types: Sequence[str]) -> ScoredEntities:
    """The entities that (U,) labels mark. The confidence of one is the geometric mean of its units' probabilities.

    Args:
        labels: as `decode_bio` returns them.
        log_probs: (U, 2 K + 1).
        starts: (U,) the characters that units begin with.
        ends: (U,) the characters that they end before.
        types: the K types.
    """
    begins = np.flatnonzero(labels % 2 == 1)
    if not len(begins):
        return ScoredEntities((), ())
    entities, confidences = [], []
    for first in begins.tolist():
        label = int(labels[first])
        last = first + 1
        while last < len(labels) and labels[last] == label + 1:
            last += 1
        own = np.append(log_probs[first, label], log_probs[first + 1 : last, label + 1])
        entities.append(Entity(int(starts[first]), int(ends[last - 1]), types[label // 2]))
        confidences.append(float(np.exp(own.mean())))
    return ScoredEntities(tuple(entities), tuple(confidences))
