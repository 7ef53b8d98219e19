"""What a run's store has of a trained student, and the digest of training data that its key is made of."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from potstill.data.task import JsonObject


@dataclass(frozen=True)
class LearnRecord:
    """What the store has of a trained student: its name, the number of texts, and the seconds of training."""

    student: str
    n: int
    seconds: float

    def to_json(self) -> JsonObject:
        """The fields."""
        return asdict(self)

    @classmethod
    def from_json(cls, record: JsonObject) -> LearnRecord:
        """The record that `to_json` wrote."""
        return cls(record["student"], record["n"], record["seconds"])


def training_digest(texts: Sequence[str], *arrays: NDArray[Any] | None) -> str:
    """A digest of texts and arrays; equal content gives equal digests, and arrays that are None do not count."""
    digest = hashlib.sha256()
    for text in texts:
        encoded = text.encode("utf-8", "surrogatepass")
        digest.update(len(encoded).to_bytes(8, "little") + encoded)
    for array in arrays:
        if array is not None:
            digest.update(str((array.dtype, array.shape)).encode() + np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:32]
