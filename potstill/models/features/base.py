"""The records of a bag reader: what a graph eats, padded and not, and what a reader is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class PaddedFeatures:
    """What a bag graph eats. Padding has id 0 and value 0.

    Attributes:
        ids: (N, T) int64, rows of the weight table.
        values: (N, T) float32, how much each row counts.
        second: (N, T) float32, how much it counts for the second text of a pair; None where the graph reads one bag.
    """

    ids: NDArray[np.int64]
    values: NDArray[np.float32]
    second: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class SparseFeatures:
    """The same without padding: text i owns entries starts[i]:starts[i + 1], the layout of a CSR matrix.

    Attributes:
        starts: (N + 1,) int64.
        ids: (E,) int64.
        values: (E,) float32.
        second: (E,) float32, what each entry counts for the second text of a pair; None for one text.
        truncated: how many of the N texts were longer than the reader reads.
    """

    starts: NDArray[np.int64]
    ids: NDArray[np.int64]
    values: NDArray[np.float32]
    second: NDArray[np.float32] | None = None
    truncated: int = 0

    def take(self, rows: NDArray[np.intp]) -> SparseFeatures:
        """The texts at these places, in this order."""
        lengths = self.starts[rows + 1] - self.starts[rows]
        ends = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        entries = np.arange(ends[-1]) + np.repeat(self.starts[rows] - ends[:-1], lengths)
        second = None if self.second is None else self.second[entries]
        return SparseFeatures(ends, self.ids[entries], self.values[entries], second)

    def pad(self) -> PaddedFeatures:
        """The (N, T) bag, T being the longest text's entries and at least 1."""
        lengths = np.diff(self.starts)
        width = max(int(lengths.max(initial=0)), 1)
        filled = np.arange(width) < lengths[:, None]
        ids = np.zeros(filled.shape, dtype=np.int64)
        values = np.zeros(filled.shape, dtype=np.float32)
        ids[filled] = self.ids
        values[filled] = self.values
        if self.second is None:
            return PaddedFeatures(ids, values)
        second = np.zeros(filled.shape, dtype=np.float32)
        second[filled] = self.second
        return PaddedFeatures(ids, values, second)


class Vectorizer(Protocol):
    """Texts -> bag."""

    width: int

    @property
    def settings(self) -> dict[str, Any]:
        """What `load` needs beside the folder; JSON values only, with the key `reader`."""

    def transform(self, texts: Sequence[str]) -> SparseFeatures:
        """N texts -> their entries, unpadded."""

    def __call__(self, texts: Sequence[str]) -> PaddedFeatures:
        """N texts -> the padded (N, T) bag."""

    def save(self, folder: Path) -> None:
        """Write what `load` reads."""

    @classmethod
    def load(cls, folder: Path, settings: Mapping[str, Any]) -> Self:
        """The reader that `save` wrote."""
