"""A bundle of entities as a served model: the sibling of `ServedModel`, whose answers are spans with a type."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from potstill.bundle.bundle import Text
from potstill.bundle.entity_bundle import EntityBundle, PredictedEntity, load_entities
from potstill.bundle.layout import precision_of
from potstill.bundle.preprocessors import Feeds, UnitPreprocessor
from potstill.errors import RequestRefused
from potstill.models.word_units import EncodedUnits
from potstill.serving.model import CHARACTERS_PER_TOKEN, PADDING, SPECIAL_TOKENS, WARM_TEXTS, ServedFacts


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


@dataclass(frozen=True)
class LoggedEntities:
    """The entities of a text as the log has labels: words with their type, and the least confidence."""

    labels: tuple[str, ...]
    probability: float
    confident: bool | None = None
    in_scope: bool = True


class ServedEntityModel:
    """A bundle of entities under a name; see `ServedModel`."""

    finds_entities = True
    max_tokens: int | None = None  # a text of any length is read as a whole

    def __init__(self, name: str, bundle: EntityBundle) -> None:
        self.name = name
        self.bundle = bundle
        self.threads, bundle.threads = bundle.threads, 1
        self.labels = bundle.labels
        self.version = bundle.record.files[bundle.graph].sha256[:12]
        self._counter = UnitCounter(bundle.preprocessor)
        bundle.preprocessor = self._counter  # type: ignore[assignment]

    @classmethod
    def load(cls, name: str, folder: Path, threads: int | None = None) -> ServedEntityModel:
        """Load and warm a bundle; see `ServedModel.load`."""
        model = cls(name, load_entities(folder, threads=threads))
        model.compute(list(WARM_TEXTS))
        return model

    @property
    def facts(self) -> ServedFacts:
        """What the server says of it."""
        return ServedFacts("token_classification", precision_of(self.bundle.graph))

    def cost(self, text: Text) -> int:
        """About how many padded tokens a text adds to a batch; at least one."""
        characters = len(text) if isinstance(text, str) else len(text[0]) + len(text[1])
        return -(-(characters // CHARACTERS_PER_TOKEN + SPECIAL_TOKENS) // PADDING) * PADDING

    def check_task(self, texts: Sequence[Text], *, embedding: bool = False) -> None:
        """Raise RequestRefused for a pair. The protocol of embeddings refuses this kind of model itself."""
        wrong = next((row for row, text in enumerate(texts) if not isinstance(text, str)), None)
        if wrong is not None:
            raise RequestRefused(
                "task",
                f"Text {wrong + 1} is a pair, and {self.name} finds entities in one text.",
                'Two strings in an array are a pair; a batch is an array of arrays: [["first"], ["second"]].',
            )

    def exceeds_limit(self, text: Text) -> bool:
        """False: a text of any length is read as a whole."""
        return False

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

    def predictions(self) -> list[LoggedEntities]:
        """For the log."""
        return [
            LoggedEntities(
                tuple(f"{each.text} [{each.type}]" for each in own), min((each.confidence for each in own), default=1.0)
            )
            for own in self.computed.entities
        ]
