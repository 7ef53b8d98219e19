"""The pool of a task of entities: texts, their gold entities and splits, and the subsets of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from potstill.data.task import Split, content_key
from potstill.evaluation.text2text.entities import Entities

GoldEntities = tuple[Entities | None, ...]  # of N texts; None if unlabelled


@dataclass(frozen=True)
class EntitySubset:
    """Some rows of a pool of entities.

    Attributes:
        texts: n texts.
        gold: their entities; None if unlabelled.
        ids: n origins, "file:line".
        rows: (n,) row numbers in the pool.
    """

    texts: tuple[str, ...]
    gold: GoldEntities
    ids: tuple[str, ...]
    rows: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def entities(self) -> tuple[Entities, ...]:
        """The entities of n texts; an unlabelled one has none."""
        return tuple(each or () for each in self.gold)


@dataclass(frozen=True, eq=False)
class EntityPool:
    """N texts with their gold entities and splits.

    Attributes:
        labels: the K types.
        texts: N texts, as in the file, since entities are places in them.
        gold: N sorted tuples of entities; None if unlabelled. Rows of the split "pool" are always unlabelled.
        split: (N,) of "train", "validation", "test" or "pool".
        ids: N origins, "file:line".
        hidden: like `gold`, the entities that the file has for rows of the split "pool", None elsewhere. Nothing learns
            from them.
    """

    labels: tuple[str, ...]
    texts: tuple[str, ...]
    gold: GoldEntities
    split: NDArray[np.str_]
    ids: tuple[str, ...]
    hidden: GoldEntities

    def __post_init__(self) -> None:
        n = len(self.texts)
        if not len(self.gold) == len(self.split) == len(self.ids) == len(self.hidden) == n:
            raise ValueError("texts, gold, split, ids and hidden must be equally long")
        self.split.setflags(write=False)

    def __len__(self) -> int:
        return len(self.texts)

    @cached_property
    def key(self) -> str:
        """A content hash over types, texts, entities and split, in order; equal files give equal keys."""
        gold, hidden = (
            [None if row is None else [[e.start, e.end, e.type] for e in row] for row in rows]
            for rows in (self.gold, self.hidden)
        )
        return content_key("entity pool", 1, self.labels, self.texts, gold, self.split.tolist(), hidden)

    def subset(self, split: Split) -> EntitySubset:
        """All rows of a split, in the order of the files."""
        return self.take(np.flatnonzero(self.split == split))

    def take(self, rows: NDArray[np.integer[Any]]) -> EntitySubset:
        """The rows with these numbers, in this order."""
        numbers = rows.tolist()
        return EntitySubset(
            texts=tuple(self.texts[i] for i in numbers),
            gold=tuple(self.gold[i] for i in numbers),
            ids=tuple(self.ids[i] for i in numbers),
            rows=rows.astype(np.int64),
        )

    def counts(self, split: Split) -> dict[str, int]:
        """Type -> gold entities of a split, in the order of the types, including zeros."""
        found = Counter(entity.type for row in self.subset(split).entities for entity in row)
        return {name: found[name] for name in self.labels}
