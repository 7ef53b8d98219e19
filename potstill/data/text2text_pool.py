"""The pool of a text-to-text task, whatever the form of its answers: texts, gold, splits, and the subsets of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from potstill.data.task import JsonObject, Split, content_key

GoldT = TypeVar("GoldT")  # the gold of one text


@dataclass(frozen=True)
class Text2TextSubset(Generic[GoldT]):
    """Some rows of a pool.

    Attributes:
        texts: n texts.
        gold: of each; None if unlabelled.
        ids: n origins, "file:line".
        rows: (n,) row numbers in the pool.
    """

    texts: tuple[str, ...]
    gold: tuple[GoldT | None, ...]
    ids: tuple[str, ...]
    rows: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.texts)


@dataclass(frozen=True, eq=False)
class Text2TextPool(Generic[GoldT]):
    """N texts with their gold and splits.

    Attributes:
        labels: the K types of entities; none in other forms.
        texts: N texts, as in the file.
        gold: of each text; None if unlabelled. Rows of the split "pool" are always unlabelled.
        split: (N,) of "train", "validation", "test" or "pool".
        ids: N origins, "file:line".
        hidden: like `gold`, what the file has for rows of the split "pool", None elsewhere. Nothing learns from it.
    """

    labels: tuple[str, ...]
    texts: tuple[str, ...]
    gold: tuple[GoldT | None, ...]
    split: NDArray[np.str_]
    ids: tuple[str, ...]
    hidden: tuple[GoldT | None, ...]
    key_name: ClassVar[str]

    def __post_init__(self) -> None:
        n = len(self.texts)
        if not len(self.gold) == len(self.split) == len(self.ids) == len(self.hidden) == n:
            raise ValueError("texts, gold, split, ids and hidden must be equally long")
        self.split.setflags(write=False)

    def __len__(self) -> int:
        return len(self.texts)

    @cached_property
    def key(self) -> str:
        """A content hash over labels, texts, gold and split, in order; equal files give equal keys."""
        gold, hidden = ([None if row is None else self.plain(row) for row in rows] for rows in (self.gold, self.hidden))
        return content_key(self.key_name, 1, self.labels, self.texts, gold, self.split.tolist(), hidden)

    def plain(self, gold: GoldT) -> Sequence[Any]:
        """The gold of a text as JSON values."""
        raise NotImplementedError

    def rows_of(self, split: Split) -> NDArray[np.int64]:
        """The rows of a split, in the order of the files."""
        return np.flatnonzero(self.split == split).astype(np.int64)

    def columns(self, rows: NDArray[np.integer[Any]]) -> JsonObject:
        """The rows with these numbers, in this order, as the fields of a `Text2TextSubset`."""
        numbers = rows.tolist()
        return {
            "texts": tuple(self.texts[i] for i in numbers),
            "gold": tuple(self.gold[i] for i in numbers),
            "ids": tuple(self.ids[i] for i in numbers),
            "rows": rows.astype(np.int64),
        }
