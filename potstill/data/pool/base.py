"""The pool: texts, gold labels and splits, and the subsets of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from potstill.data.task import Split, TaskKind, content_key
from potstill.evaluation.calibration import one_hot


@dataclass(frozen=True)
class Subset:
    """Some rows of a pool.

    Attributes:
        texts: n texts.
        gold: (n,) label columns, -1 if unlabelled; in a multi-label task (n, K) of 0 and 1, a row of -1 if unlabelled.
        ids: n origins, "file:line".
        rows: (n,) row numbers in the pool.
        soft: (n, K) shares of the labels, zeros if unlabelled; None if no label of the pool is soft.
    """

    texts: tuple[str, ...]
    gold: NDArray[np.int64]
    ids: tuple[str, ...]
    rows: NDArray[np.int64]
    soft: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.texts)

    def targets(self, n_labels: int) -> NDArray[np.float32]:
        """(n, K) target probabilities of the gold labels, soft ones as they are; every row must be labelled."""
        if self.soft is not None:
            return self.soft
        if self.gold.ndim == 2:
            return self.gold.astype(np.float32)
        return one_hot(self.gold, n_labels)


def is_labelled(gold: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(N,) True where a row of `gold`, (N,) or (N, K), is labelled."""
    return np.asarray(gold >= 0) if gold.ndim == 1 else np.asarray((gold >= 0).all(axis=1))


@dataclass(frozen=True, eq=False)
class Pool:
    """N texts with their gold labels and splits.

    Attributes:
        labels: the K label names.
        texts: N texts; the two of a pair as `pairs.join_pair` joins them.
        gold: (N,) label columns, -1 if unlabelled; in a multi-label task (N, K) of 0 and 1, a row of -1 if unlabelled.
            Rows of the split "pool" are always unlabelled.
        split: (N,) of "train", "validation", "test" or "pool".
        ids: N origins, "file:line".
        hidden_labels: like `gold`, the labels that the file has for rows of the split "pool", -1 elsewhere. Nothing
            learns from them; replaying teachers and simulated annotators answer with them.
        kind: one text with one label (`single`), two texts (`pair`), or one text with several labels (`multi`).
        soft: (N, K) shares of the labels where the data score them, zeros if unlabelled; `gold` is the highest. None if
            the data have no soft labels.
    """

    labels: tuple[str, ...]
    texts: tuple[str, ...]
    gold: NDArray[np.int64]
    split: NDArray[np.str_]
    ids: tuple[str, ...]
    hidden_labels: NDArray[np.int64]
    kind: TaskKind = "single"
    soft: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        n = len(self.texts)
        if not len(self.gold) == len(self.split) == len(self.ids) == len(self.hidden_labels) == n:
            raise ValueError("texts, gold, split, ids and hidden_labels must be equally long")
        for array in (self.gold, self.split, self.hidden_labels):
            array.setflags(write=False)

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def n_labels(self) -> int:
        """K, the number of labels."""
        return len(self.labels)

    @cached_property
    def key(self) -> str:
        """A content hash over labels, texts, gold and split, in order; equal files give equal keys."""
        rows = (self.labels, self.texts, self.gold.tolist(), self.split.tolist(), self.hidden_labels.tolist())
        soft = [] if self.soft is None else [np.round(self.soft, 6).tolist()]
        return content_key("pool", 1, *rows, *([] if self.kind == "single" else [self.kind]), *soft)

    def subset(self, split: Split) -> Subset:
        """All rows of a split, in the order of the files."""
        return self.take(np.flatnonzero(self.split == split))

    def labelled(self, split: Split = "train") -> Subset:
        """The labelled rows of a split."""
        return self.take(np.flatnonzero((self.split == split) & is_labelled(self.gold)))

    def held_out_texts(self) -> dict[str, tuple[str, ...]]:
        """The texts of validation and test, without labels: for comparison only (see pgkd/filters.py)."""
        return {"validation": self.subset("validation").texts, "test": self.subset("test").texts}

    def take(self, rows: NDArray[np.integer[Any]]) -> Subset:
        """The rows with these numbers, in this order."""
        numbers = rows.tolist()
        return Subset(
            texts=tuple(self.texts[i] for i in numbers),
            gold=self.gold[rows],
            ids=tuple(self.ids[i] for i in numbers),
            rows=rows.astype(np.int64),
            soft=None if self.soft is None else self.soft[rows],
        )

    def without(self, rows: NDArray[np.integer[Any]]) -> Pool:
        """The pool less the rows with these numbers."""
        kept = np.setdiff1d(np.arange(len(self)), rows)
        return replace(
            self,
            texts=tuple(self.texts[row] for row in kept.tolist()),
            gold=self.gold[kept],
            split=self.split[kept],
            ids=tuple(self.ids[row] for row in kept.tolist()),
            hidden_labels=self.hidden_labels[kept],
            soft=None if self.soft is None else self.soft[kept],
        )

    def counts(self, split: Split) -> dict[str, int]:
        """Label -> rows of a split with this label, in the order of the labels, including zeros."""
        gold = self.gold[(self.split == split) & is_labelled(self.gold)]
        counts = (gold.sum(axis=0) if gold.ndim == 2 else np.bincount(gold, minlength=self.n_labels)).tolist()
        return dict(zip(self.labels, counts, strict=True))
