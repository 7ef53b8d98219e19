"""A bundle that answers in words as a served model: the sibling of `ServedModel`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from potstill.bundle.bundle import Text
from potstill.bundle.free_text_bundle import FreeTextBundle
from potstill.models.greedy_decoding import GeneratedAnswer
from potstill.serving.form_model import LoggedAnswer, ServedFormModel


@dataclass(frozen=True)
class ComputedAnswers:
    """What a batch of N texts gave.

    Attributes:
        answers: to each text.
        tokens: (N,) tokens that were read of each text with its prompt.
        tokenization_s: seconds for texts to token ids.
        inference_s: seconds for token ids to answers.
    """

    answers: tuple[GeneratedAnswer, ...]
    tokens: NDArray[np.int64]
    tokenization_s: float
    inference_s: float

    def rows(self, start: int, stop: int) -> ComputedAnswers:
        """The part of one request."""
        part = slice(start, stop)
        return ComputedAnswers(self.answers[part], self.tokens[part], self.tokenization_s, self.inference_s)

    @classmethod
    def joined(cls, parts: Sequence[ComputedAnswers]) -> ComputedAnswers:
        """The parts of one request in order, as one."""
        return cls(
            tuple(each for part in parts for each in part.answers),
            np.concatenate([part.tokens for part in parts]),
            sum(part.tokenization_s for part in parts),
            sum(part.inference_s for part in parts),
        )


class ServedFreeTextModel(ServedFormModel[FreeTextBundle]):
    """A bundle that answers in words, under a name; see `ServedModel`."""

    form = "free"
    bundle_type = FreeTextBundle
    task = "text_generation"

    def __init__(self, name: str, bundle: FreeTextBundle) -> None:
        super().__init__(name, bundle)
        self.max_tokens = bundle.preprocessor.prompt.layout.max_text_tokens

    def exceeds_limit(self, text: Text) -> bool:
        """Whether a text keeps only its beginning."""
        return isinstance(text, str) and self.bundle.preprocessor.is_cut(text)

    def compute(self, texts: Sequence[Text], *, embedding: bool = False) -> ComputedAnswers:
        """The answers to N texts; there are no embeddings.

        Raises:
            BadData: the graph gives no finite scores.
        """
        given = [text for text in texts if isinstance(text, str)]
        started = time.perf_counter()
        tokens = np.array([len(each) for each in self.bundle.preprocessor.encode(given)], dtype=np.int64)
        encoded = time.perf_counter()
        answers = tuple(self.bundle.generate(given))
        return ComputedAnswers(answers, tokens, encoded - started, time.perf_counter() - encoded)

    def answer(self, computed: ComputedAnswers, queue_s: float) -> FreeTextModelAnswer:
        """The answer to one request."""
        return FreeTextModelAnswer(self, computed, queue_s)


@dataclass(frozen=True)
class FreeTextModelAnswer:
    """The answer to one request of N texts; see `ModelAnswer`."""

    model: ServedFreeTextModel
    computed: ComputedAnswers
    queue_s: float

    def predictions(self) -> list[LoggedAnswer]:
        """For the log."""
        return [LoggedAnswer((each.text,), each.confidence) for each in self.computed.answers]
