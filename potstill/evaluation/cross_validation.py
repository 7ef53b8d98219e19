"""k-fold cross-validation: the splits, out-of-fold scores, and the selection of a method by its out-of-fold loss.

Functions of arrays. How rows are assigned to folds, and what is fitted, is the caller's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
GoldT = TypeVar("GoldT", bound=np.generic)


class FittedScaling(Protocol):
    """A fitted map from logits to probabilities, and the name of its method."""

    @property
    def method(self) -> str:
        """The method's name."""

    def apply(self, logits: NDArray[np.floating]) -> Floats:
        """(M, K) logits -> (M, K) probabilities."""


ScalingT = TypeVar("ScalingT", bound=FittedScaling)


def random_folds(n: int, n_folds: int, seed: int | Sequence[int]) -> Ints:
    """(N,) fold numbers drawn at random, in parts that differ by at most one row."""
    return np.random.default_rng(seed).permutation(n) % n_folds


def stratified_folds(gold: NDArray[np.integer], n_folds: int, seed: int | Sequence[int]) -> Ints:
    """(N,) fold numbers of rows with (N,) columns as gold: each label's rows are dealt out in random order.

    A label begins where the one before it ended, so that labels with fewer rows than folds fill all folds alike.
    """
    order = np.random.default_rng(seed).permutation(len(gold))
    order = order[np.argsort(np.asarray(gold)[order], kind="stable")]
    fold = np.empty(len(gold), dtype=np.int64)
    fold[order] = np.arange(len(gold)) % n_folds
    return fold


@dataclass(frozen=True)
class OutOfFoldScores:
    """Scores of N labelled texts, each by a student that was trained without it, in the same way as another student.

    Attributes:
        logits: (N, K) logits.
        gold: (N,) gold columns, or (N, K) of 0 and 1 in a multi-label task.
        n_folds: number of students, each of which scored its part of the texts.
    """

    logits: NDArray[np.float32]
    gold: Ints
    n_folds: int


def fold_splits(fold: NDArray[np.integer]) -> Iterator[tuple[Ints, Ints]]:
    """The rows to train on and the held-out rows of each fold, for (N,) fold numbers."""
    for number in np.unique(fold):
        yield np.flatnonzero(fold != number), np.flatnonzero(fold == number)


@dataclass(frozen=True)
class SelectedScaling(Generic[ScalingT]):
    """A method that was selected by cross-validation.

    Attributes:
        scaling: fitted on all rows.
        log_loss: method -> mean out-of-fold loss.
        probs: (N, K) out-of-fold probabilities of the selected method.
    """

    scaling: ScalingT
    log_loss: Mapping[str, float]
    probs: Floats


def select_scaling_by_loss(
    methods: Sequence[Callable[[Floats, NDArray[GoldT]], ScalingT]],
    logits: Floats,
    gold: NDArray[GoldT],
    fold: NDArray[np.integer],
    losses_of: Callable[[Floats], Floats],
) -> SelectedScaling[ScalingT]:
    """The simplest method whose out-of-fold loss no richer one lowers by more than a standard error.

    Args:
        methods: fit a scaling to (M, K) logits and M gold rows; the simplest first.
        logits: (N, K) logits.
        gold: N gold rows.
        fold: (N,) fold numbers.
        losses_of: (N, K) probabilities -> (N,) losses.
    """
    losses: list[Floats] = []
    probs: list[Floats] = []
    names: list[str] = []
    for fit in methods:
        out, name = np.empty_like(logits), ""
        for train, held_out in fold_splits(fold):
            scaling = fit(logits[train], gold[train])
            out[held_out], name = scaling.apply(logits[held_out]), scaling.method
        probs.append(out)
        losses.append(losses_of(out))
        names.append(name)
    best = 0
    for i in range(1, len(methods)):
        gain = losses[best] - losses[i]
        if gain.mean() > gain.std(ddof=1) / np.sqrt(len(gain)):
            best = i
    means = {name: float(loss.mean()) for name, loss in zip(names, losses, strict=True)}
    return SelectedScaling(methods[best](logits, gold), means, probs[best])
