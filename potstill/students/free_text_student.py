"""The interface of students that answer a text in words, and what they are trained on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, Self

from potstill.models.greedy_decoding import GeneratedAnswer
from potstill.students.base import Floats, TrainedModel


@dataclass(frozen=True)
class AnsweredTexts:
    """N texts and their references: answers each of which is right, one at least."""

    texts: Sequence[str] = ()
    references: Sequence[Sequence[str]] = ()

    def __len__(self) -> int:
        return len(self.texts)


@dataclass(frozen=True)
class FreeTextTrainingData:
    """What a student of free texts is fitted on.

    Attributes:
        train: the texts to train on; all references of a text are learnt.
        validation: texts whose metric says which weights are kept; without any, those of the last step are.
        seed: seeds initialisation, order and dropout.
        time_limit_s: seconds after which training stops cleanly.
        progress: called with (share done in [0, 1], a few words).
        will_export: False for a student that teaches another and becomes no bundle: it may be larger.
    """

    train: AnsweredTexts
    validation: AnsweredTexts = field(default_factory=AnsweredTexts)
    seed: int = 0
    time_limit_s: float | None = None
    progress: Callable[[float, str], None] | None = None
    will_export: bool = True


class FreeTextStudent(TrainedModel, Protocol):
    """A trainable writer of answers; it has no `labels`."""

    def fit(self, data: FreeTextTrainingData) -> Self:
        """Train from scratch. Equal data give equal students on a CPU.

        Raises:
            BadData: no texts, or no answer that fits into the limit of tokens.
        """

    def generate(self, texts: Sequence[str]) -> list[GeneratedAnswer]:
        """The answers to N texts, the most probable token each time."""

    def forced_logits(self, texts: Sequence[str], answers: Sequence[str]) -> list[Floats]:
        """N arrays (A_i, V) of scores of the tokens of given answers and their end, each after those before it."""
