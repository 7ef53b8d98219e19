"""The interface of students that answer a text in words, and what they are trained on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, Self

from potstill.data.free_text.token_scores import TokenScores
from potstill.errors import BadSpec
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
class TokenTargets:
    """What a teacher thinks of the tokens of its answers, for token-level distillation.

    Attributes:
        scores: for each training text; None learns its references instead. Empty for all None.
        temperature: T of the loss T^2 KL(teacher / T || student / T).
    """

    scores: Sequence[TokenScores | None] = ()
    temperature: float = 1.0

    def of(self, row: int) -> TokenScores | None:
        """The scores of a training text."""
        return self.scores[row] if self.scores else None

    def take(self, rows: Sequence[int]) -> Self:
        """Those of some training texts."""
        return replace(self, scores=[self.scores[row] for row in rows] if self.scores else ())


@dataclass(frozen=True)
class FreeTextTrainingData:
    """What a student of free texts is fitted on.

    Attributes:
        train: the texts to train on; all references of a text are learnt.
        validation: texts whose metric says which weights are kept; without any, those of the last step are.
        token_targets: what a teacher thinks of the tokens of `train`; for a `TokenScoringStudent`.
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
    token_targets: TokenTargets = field(default_factory=TokenTargets)


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


@dataclass(frozen=True)
class ScoredAnswer:
    """An answer, and what the student thinks of its tokens; None if that was not asked for."""

    answer: GeneratedAnswer
    scores: TokenScores | None = None


class TokenScoringStudent(FreeTextStudent, Protocol):
    """A writer of answers that says how probable other tokens were, and learns it of another one."""

    def generate_scored(self, texts: Sequence[str], k: int) -> list[ScoredAnswer]:
        """The answers to N texts, with the k most probable tokens at each token of theirs."""

    def tokenizer_key(self) -> str:
        """A hash of its tokenizer and of the token that ends an answer; loads no weights.

        Raises:
            MissingWeights, UnknownName, MissingExtra, BadInput: the tokenizer is not there, or not readable.
        """


def other_tokenizer(student: str, teacher: str = "its teacher") -> BadSpec:
    """The error for token-level distillation between tokenizers."""
    return BadSpec(
        f"{student} has another tokenizer than {teacher}, so that their tokens cannot be compared.",
        'Take weights of one family for both, or level = "sequence" under [procedure].',
    )
