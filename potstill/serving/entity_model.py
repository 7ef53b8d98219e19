"""A bundle of entities as a served model: the sibling of `ServedModel`, whose answers are spans with a type."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from potstill.bundle.bundle import Text
from potstill.bundle.entity_bundle import EntityBundle, PredictedEntity
from potstill.bundle.preprocessors import Feeds, UnitPreprocessor
from potstill.models.word_units import EncodedUnits
from potstill.serving.form_model import LoggedAnswer, ServedFormModel


@dataclass(frozen=True)
class ComputedEntities:
    """What a batch of N texts gave.

    Attributes:
        entities: of each text.
        tokens: (N,) tokens that were read of each text, those of overlapping windows counted for each.
        tokenization_s: seconds for texts to token ids.
        inference_s: seconds for token ids to entities.
    """

    entities: tuple[tuple[PredictedEntity, ...], ...]
    tokens: NDArray[np.int64]
    tokenization_s: float
    inference_s: float

    def rows(self, start: int, stop: int) -> ComputedEntities:
        """The part of one request."""
        part = slice(start, stop)
        return ComputedEntities(self.entities[part], self.tokens[part], self.tokenization_s, self.inference_s)

    @classmethod
    def joined(cls, parts: Sequence[ComputedEntities]) -> ComputedEntities:
        """The parts of one request in order, as one."""
        return cls(
            tuple(each for part in parts for each in part.entities),
            np.concatenate([part.tokens for part in parts]),
            sum(part.tokenization_s for part in parts),
            sum(part.inference_s for part in parts),
        )


class UnitCounter:
    """The bundle's preprocessor, which counts the tokens of each text and the time they take, for each thread.

    Args:
        inner: the bundle's own.

    Attributes:
        truncated, unknown: 0, as of `inner`.
    """

    def __init__(self, inner: UnitPreprocessor) -> None:
        self._inner = inner
        self._last = threading.local()
        self.truncated = self.unknown = 0

    @property
    def seconds(self) -> float:
        """What this thread's last texts took."""
        return float(getattr(self._last, "seconds", 0.0))

    @property
    def tokens(self) -> NDArray[np.int64]:
        """(N,) tokens of this thread's last texts."""
        found: NDArray[np.int64] = getattr(self._last, "tokens", np.zeros(0, dtype=np.int64))
        return found

    def encode(self, texts: Sequence[str]) -> EncodedUnits:
        """The windows and words of N texts."""
        started = time.perf_counter()
        encoded = self._inner.encode(texts)
        windows = [np.unique(text.window).tolist() for text in encoded.texts]
        self._last.tokens = np.array([sum(len(encoded.ids[w]) for w in own) for own in windows], dtype=np.int64)
        self._last.seconds = time.perf_counter() - started
        return encoded

    def batches(self, ids: Sequence[Any]) -> Iterator[tuple[NDArray[np.intp], Feeds]]:
        """The bundle's own batches."""
        return self._inner.batches(ids)


class ServedEntityModel(ServedFormModel[EntityBundle]):
    """A bundle of entities under a name; see `ServedModel`. A text of any length is read as a whole."""

    form = "entities"
    bundle_type = EntityBundle
    task = "token_classification"

    def __init__(self, name: str, bundle: EntityBundle) -> None:
        super().__init__(name, bundle)
        self._counter = UnitCounter(bundle.preprocessor)
        bundle.preprocessor = self._counter  # type: ignore[assignment]

    def compute(self, texts: Sequence[Text], *, embedding: bool = False) -> ComputedEntities:
        """The entities of N texts; there are no embeddings.

        Raises:
            BadData: a text has no finite score.
        """
        started = time.perf_counter()
        found = tuple(self.bundle.predict([text for text in texts if isinstance(text, str)]))
        elapsed, counter = time.perf_counter() - started, self._counter
        return ComputedEntities(found, counter.tokens, counter.seconds, elapsed - counter.seconds)

    def answer(self, computed: ComputedEntities, queue_s: float) -> EntityModelAnswer:
        """The answer to one request."""
        return EntityModelAnswer(self, computed, queue_s)


@dataclass(frozen=True)
class EntityModelAnswer:
    """The answer to one request of N texts; see `ModelAnswer`."""

    model: ServedEntityModel
    computed: ComputedEntities
    queue_s: float

    def predictions(self) -> list[LoggedAnswer]:
        """For the log."""
        return [
            LoggedAnswer(
                tuple(f"{each.text} [{each.type}]" for each in own), min((each.confidence for each in own), default=1.0)
            )
            for own in self.computed.entities
        ]
