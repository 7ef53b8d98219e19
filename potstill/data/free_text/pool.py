"""The pool of a task whose answers are free texts: texts, their references and splits, and the subsets of it."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from potstill.data.task import Split
from potstill.data.text2text_pool import Text2TextPool, Text2TextSubset

References = tuple[str, ...]  # the answers to one text, each of which is right; one at least


class FreeTextSubset(Text2TextSubset[References]):
    """Some rows of a pool of free texts; `gold` is a text's references."""

    @property
    def references(self) -> tuple[References, ...]:
        """The references of n texts; an unanswered one has none."""
        return tuple(each or () for each in self.gold)


class FreeTextPool(Text2TextPool[References]):
    """N texts with their references and splits."""

    key_name: ClassVar[str] = "free text pool"

    def plain(self, gold: References) -> list[Any]:
        """The references."""
        return list(gold)

    def subset(self, split: Split) -> FreeTextSubset:
        """All rows of a split, in the order of the files."""
        return self.take(self.rows_of(split))

    def take(self, rows: NDArray[np.integer[Any]]) -> FreeTextSubset:
        """The rows with these numbers, in this order."""
        return FreeTextSubset(**self.columns(rows))

    def counts(self, split: Split) -> dict[str, int]:
        """How many texts of a split have an answer, and their references."""
        found = self.subset(split).references
        return {"answered": sum(map(bool, found)), "references": sum(map(len, found))}
