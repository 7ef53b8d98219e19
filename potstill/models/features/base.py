"""The interface of vectorizers, and their output: sparse features, and the padded arrays a graph takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from potstill.data.task import JsonObject


@dataclass(frozen=True)
class VectorizerConfig:
    """What loading a vectorizer needs beside its files.

    Attributes:
        vectorizer: a key of `VECTORIZERS`.
        max_length: subwords kept of a text; None for n-grams.
        weighted: whether subwords have weights.
    """

    vectorizer: str
    max_length: int | None = None
    weighted: bool = False

    def to_json(self) -> JsonObject:
        """JSON values without what does not apply; `from_json` reads them."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @classmethod
    def from_json(cls, record: JsonObject) -> Self:
        """Read what `to_json` wrote."""
        length = record.get("max_length")
        return cls(str(record["vectorizer"]), None if length is None else int(length), bool(record.get("weighted")))


@dataclass(frozen=True)
class PaddedFeatures:
    """Inputs of a graph that sums embeddings. Padding has id 0 and value 0.

    Attributes:
        ids: (N, T) int64, rows of the embedding or weight matrix.
        values: (N, T) float32, the weight of each row.
        second: (N, T) float32, the weight of each row in the second text of a pair; None for single texts and n-grams.
    """

    ids: NDArray[np.int64]
    values: NDArray[np.float32]
    second: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class SparseFeatures:
    """The same without padding: text i has the entries starts[i]:starts[i + 1], the layout of a CSR matrix.

    Attributes:
        starts: (N + 1,) int64.
        ids: (E,) int64.
        values: (E,) float32.
        second: (E,) float32, the weight of each entry in the second text of a pair; None for single texts and n-grams.
        truncated: how many of the N texts were too long and were cut.
        unknown: how many are mostly subwords that the vocabulary lacks.
    """

    starts: NDArray[np.int64]
    ids: NDArray[np.int64]
    values: NDArray[np.float32]
    second: NDArray[np.float32] | None = None
    truncated: int = 0
    unknown: int = 0

    def take(self, rows: NDArray[np.intp]) -> SparseFeatures:
        """The features of these texts, in this order."""
        lengths = self.starts[rows + 1] - self.starts[rows]
        ends = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        entries = np.arange(ends[-1]) + np.repeat(self.starts[rows] - ends[:-1], lengths)
        second = None if self.second is None else self.second[entries]
        return SparseFeatures(ends, self.ids[entries], self.values[entries], second)

    def pad(self) -> PaddedFeatures:
        """Padded (N, T) arrays; T is the number of entries of the longest text, and at least 1."""
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
    """Texts -> features.

    Attributes:
        width: number of different ids.
    """

    width: int

    @property
    def config(self) -> VectorizerConfig:
        """What `load` needs beside the folder."""

    def transform(self, texts: Sequence[str]) -> SparseFeatures:
        """N texts -> their features, unpadded."""

    def __call__(self, texts: Sequence[str]) -> PaddedFeatures:
        """N texts -> padded (N, T) arrays."""

    def save(self, folder: Path) -> None:
        """Write what `load` reads."""

    @classmethod
    def load(cls, folder: Path, config: VectorizerConfig) -> Self:
        """Load what `save` wrote."""
