"""Texts -> prompts of token ids, and token ids of answers -> texts, the same in training and in serving.

A prompt is the task's instruction in a line, the text in the next, and an arrow in the last. The answer follows after a
blank, and the token that ends a document ends it. Needs numpy and tokenizers only.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np

from potstill.data.task import JsonObject
from potstill.errors import BadSpec
from potstill.models.cloze_pattern import EncodedPatterns, PatternLayout, PatternTokenizer, tokenizer_from_json
from potstill.models.greedy_decoding import DecodingLimits
from potstill.models.tokens.tokenizer import Ids

ARROW = "\n->"
MIN_TEXT_TOKENS = 8
MAX_ANSWER_TOKENS = 100_000  # of any bundle


@dataclass(frozen=True)
class AnswerPrompt:
    """The token ids around a text, and when its answer ends.

    Attributes:
        layout: the prompt.
        stop_id: id of the token that ends an answer.
        max_tokens: tokens of an answer at most.
        start_id: id of the token that an answer begins behind, of an encoder-decoder; None if it follows the prompt.
    """

    layout: PatternLayout
    stop_id: int
    max_tokens: int
    start_id: int | None = None

    @property
    def limits(self) -> DecodingLimits:
        """When decoding ends."""
        return DecodingLimits((self.stop_id,), self.max_tokens, self.layout.pad_id)

    def to_json(self) -> JsonObject:
        """JSON values; `from_json` reads them."""
        start = {} if self.start_id is None else {"start_id": self.start_id}
        return {**self.layout.to_json(), "stop_id": self.stop_id, "max_tokens": self.max_tokens, **start}

    @classmethod
    def from_json(cls, record: JsonObject) -> Self:
        """Read what `to_json` wrote. Raises ValueError for a number of tokens that no answer has."""
        max_tokens = int(record["max_tokens"])
        if not 0 < max_tokens <= MAX_ANSWER_TOKENS:
            raise ValueError(f"max_tokens is {max_tokens}")
        start = record.get("start_id")
        layout, start_id = PatternLayout.from_json(record), None if start is None else int(start)
        return cls(layout, int(record["stop_id"]), max_tokens, start_id)


class AnswerTokenizer:
    """A tokenizer, and the prompt around each text.

    Args:
        tokenizer: the content of a `tokenizer.json` of the Hugging Face `tokenizers` library.
        prompt: the prompt.

    Raises:
        RunNotFound: the tokenizer is damaged.
        MissingExtra: the tokenizers library is not installed.
    """

    def __init__(self, tokenizer: str, prompt: AnswerPrompt) -> None:
        self.prompt = prompt
        self.tokenizer = tokenizer
        self._patterns = PatternTokenizer(tokenizer, prompt.layout)
        self._plain: Any = tokenizer_from_json(tokenizer)

    @property
    def key(self) -> str:
        """See `tokenizer_key`."""
        return tokenizer_key(self.tokenizer, self.prompt.stop_id)

    def with_end(self, ids: Sequence[int]) -> Ids:
        """The token ids of an answer, and its end."""
        return np.array([*ids, self.prompt.stop_id], dtype=np.int64)

    def encode(self, texts: Sequence[str]) -> EncodedPatterns:
        """N texts -> the token ids of their prompts, line breaks as spaces; a long text keeps its head."""
        return self._patterns.encode(texts)

    def encode_answers(self, answers: Sequence[str]) -> list[Ids]:
        """N answers -> their token ids and the end; nothing is cut."""
        # Behind a prompt a blank comes first, which belongs to the first word.
        before = " " if self.prompt.start_id is None else ""
        written = [(before + answer.strip()).encode("utf-8", "replace").decode("utf-8") for answer in answers]
        encodings = self._plain.encode_batch_fast(written, add_special_tokens=False)
        return [self.with_end(each.ids) for each in encodings]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of an answer's tokens."""
        return str(self._plain.decode(list(ids), skip_special_tokens=True)).strip()

    def with_max_tokens(self, max_tokens: int) -> AnswerTokenizer:
        """The same, with answers of at most so many tokens."""
        return AnswerTokenizer(self.tokenizer, replace(self.prompt, max_tokens=max_tokens))


def tokenizer_key(tokenizer: str, stop_id: int) -> str:
    """A hash of what texts become as token ids: equal keys mean that ids can be compared.

    Args:
        tokenizer: the content of a `tokenizer.json`.
        stop_id: id of the token that ends an answer.
    """
    record = json.loads(tokenizer)
    parts = [record.get(name) for name in ("model", "normalizer", "pre_tokenizer", "added_tokens")]
    return hashlib.sha256(json.dumps([*parts, stop_id], sort_keys=True).encode()).hexdigest()


def make_prompt(
    tokenizer: str, instruction: str, prefix_ids: Sequence[int], stop_id: int, *, max_length: int, max_tokens: int
) -> AnswerPrompt:
    """The prompt of a task.

    Args:
        tokenizer: the content of a `tokenizer.json`.
        instruction: of the task; may be empty.
        prefix_ids: what the model begins a document with.
        stop_id: what it ends one with.
        max_length: tokens of a prompt at most.
        max_tokens: tokens of an answer at most.

    Raises:
        BadSpec: no room is left for a text.
    """
    encoder = tokenizer_from_json(tokenizer)

    def ids(text: str) -> tuple[int, ...]:
        return tuple(encoder.encode(text, add_special_tokens=False).ids) if text else ()

    instruction = " ".join(instruction.split())
    before = ids(f"{instruction}\n") if instruction else ()
    layout = PatternLayout((*prefix_ids, *before), ids(ARROW), "", max_length)
    check_room(layout)
    return AnswerPrompt(layout, stop_id, max_tokens)


def check_room(layout: PatternLayout) -> None:
    """Raise BadSpec if no room is left for a text."""
    if layout.max_length - len(layout.prefix_ids) - len(layout.suffix_ids) < MIN_TEXT_TOKENS:
        raise BadSpec(
            f"A prompt of {layout.max_length} tokens has no room for a text beside the instruction.",
            "Set a larger max_length under [student], or a shorter instruction.",
        )
