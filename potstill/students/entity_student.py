"""The interface of students that find entities, and what they are trained on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, Self

from potstill.evaluation.text2text.entities import Entities
from potstill.models.bio import ScoredEntities
from potstill.students.base import Floats, TrainedModel


@dataclass(frozen=True)
class MarkedTexts:
    """N texts and their entities, each sorted and without overlaps."""

    texts: Sequence[str] = ()
    entities: Sequence[Entities] = ()

    def __len__(self) -> int:
        return len(self.texts)


@dataclass(frozen=True)
class EntityTrainingData:
    """What a student of entities is fitted on.

    Attributes:
        train: the texts to train on.
        validation: texts that early stopping measures entity F1 on; without any, a part of `train` if there are enough.
        seed: seeds initialisation, order and dropout.
        time_limit_s: seconds after which training stops cleanly.
        progress: called with (share done in [0, 1], a few words).
    """

    train: MarkedTexts
    validation: MarkedTexts = field(default_factory=MarkedTexts)
    seed: int = 0
    time_limit_s: float | None = None
    progress: Callable[[float, str], None] | None = None


class EntityStudent(TrainedModel, Protocol):
    """A trainable finder of entities; `labels` are the K types."""

    def fit(self, data: EntityTrainingData) -> Self:
        """Train from scratch. Equal data give equal students on a CPU.

        Raises:
            BadData: no texts, or no entity in them.
        """

    def unit_scores(self, texts: Sequence[str]) -> list[Floats]:
        """N arrays (U_i, 2 K + 1) of scores in nats, a row a word, in the order of `models.bio.bio_labels`."""

    def find_entities(self, texts: Sequence[str]) -> list[ScoredEntities]:
        """The entities of N texts, with the confidence in each."""
