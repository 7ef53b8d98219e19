"""The pool of a task of entities: texts, their gold entities and splits, and the subsets of it."""

from __future__ import annotations

from collections import Counter
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from potstill.data.task import Split
from potstill.data.text2text_pool import Text2TextPool, Text2TextSubset
from potstill.evaluation.text2text.entities import Entities

GoldEntities = tuple[Entities | None, ...]  # of N texts; None if unlabelled


class EntitySubset(Text2TextSubset[Entities]):
    """Some rows of a pool of entities; `gold` is a text's sorted entities."""

    @property
    def entities(self) -> tuple[Entities, ...]:
        """The entities of n texts; an unlabelled one has none."""
        return tuple(each or () for each in self.gold)


class EntityPool(Text2TextPool[Entities]):
    """N texts with their gold entities and splits; the texts are as in the file, since entities are places in them."""

    key_name: ClassVar[str] = "entity pool"

    def plain(self, gold: Entities) -> list[list[Any]]:
        """Start, end and type of each entity."""
        return [[e.start, e.end, e.type] for e in gold]

    def subset(self, split: Split) -> EntitySubset:
        """All rows of a split, in the order of the files."""
        return self.take(self.rows_of(split))

    def take(self, rows: NDArray[np.integer[Any]]) -> EntitySubset:
        """The rows with these numbers, in this order."""
        return EntitySubset(**self.columns(rows))

    def counts(self, split: Split) -> dict[str, int]:
        """Type -> gold entities of a split, in the order of the types, including zeros."""
        found = Counter(entity.type for row in self.subset(split).entities for entity in row)
        return {name: found[name] for name in self.labels}
