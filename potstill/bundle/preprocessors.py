"""Texts -> batches of a graph's inputs: one preprocessor for each kind of graph that students export.

Needs numpy, and tokenizers if the kind uses one. Does not run graphs; `bundle` does.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from potstill.data.task import JsonObject
from potstill.models.answer_prompt import AnswerPrompt, AnswerTokenizer
from potstill.models.cloze_pattern import PatternLayout, PatternTokenizer
from potstill.models.features import VectorizerConfig, load_vectorizer
from potstill.models.greedy_decoding import pad_left
from potstill.models.tokens.tokenizer import (
    EncodedTexts,
    Ids,
    TextTokenizer,
    TokenizerConfig,
    check_texts,
    length_batches,
    pad_batch,
)
from potstill.models.word_units import EncodedUnits, UnitConfig, UnitTokenizer

Feeds = dict[str, NDArray[Any]]
# Tokens and texts a batch of a transformer: with more tokens the widest layer's values fall out of a core's cache, with
# fewer the fixed cost of a step dominates (docs/log.md).
MAX_BATCH_TOKENS, MAX_BATCH_ROWS = 480, 64
# The fixed cost of a step in tokens, by the figures of MiniLM in int8 (docs/log.md): few texts of different lengths are
# read in more steps with less padding.
START_TOKENS = 20


class Preprocessor(Protocol):
    """Texts -> batches of a graph's inputs.

    Attributes:
        truncated: number of texts so far that were not read as a whole.
        unknown: number of texts so far that are mostly tokens which the vocabulary lacks.
    """

    truncated: int
    unknown: int

    def feeds(self, texts: Sequence[str]) -> Iterator[tuple[NDArray[np.intp], Feeds]]:
        """Batches that cover N texts once: the (B,) row numbers, and the inputs by name.

        A text that is read in several windows has its row several times, one after the other, in one batch.

        Raises:
            BadData: a text is not a string.
        """


class TokenPreprocessor:
    """Token ids and mask, for transformers."""

    def __init__(self, folder: Path, record: JsonObject) -> None:
        config = TokenizerConfig.from_json(record)
        self._tokens = TextTokenizer(folder / "tokenizer.json", config.max_length, pairs=config.pairs, long=config.long)
        self._pad_id = config.pad_id
        self._lock = threading.Lock()
        self.truncated = self.unknown = 0

    def feeds(self, texts: Sequence[str]) -> Iterator[tuple[NDArray[np.intp], Feeds]]:
        """(B, T) `input_ids` and `attention_mask`, batches sorted by length."""
        encoded = self._tokens.encode(texts)
        with self._lock:
            self.truncated += encoded.truncated
            self.unknown += encoded.unknown
        ids = encoded.ids
        for units in _length_batches(encoded):
            filled, mask = pad_batch([ids[unit] for unit in units], self._pad_id)
            yield encoded.text_index[units], {"input_ids": filled, "attention_mask": mask}


def _length_batches(encoded: EncodedTexts) -> Iterator[NDArray[np.intp]]:
    """Batches of (B,) arrays of similar length; all windows of a text, which are equally long, in one batch."""
    windows = np.bincount(encoded.text_index)
    single = np.flatnonzero(windows[encoded.text_index] == 1)
    pending: list[NDArray[np.intp]] = []
    for row in np.flatnonzero(windows > 1):
        pending.append(np.flatnonzero(encoded.text_index == row))
        if sum(len(encoded.ids[unit]) for units in pending for unit in units) >= MAX_BATCH_TOKENS:
            yield np.concatenate(pending)
            pending = []
    if pending:
        yield np.concatenate(pending)
    lengths = [len(encoded.ids[unit]) for unit in single]
    for batch in length_batches(lengths, MAX_BATCH_TOKENS, MAX_BATCH_ROWS, START_TOKENS):
        yield single[batch]


class FeaturePreprocessor:
    """Ids and values of sparse features, for linear models and static embeddings."""

    def __init__(self, folder: Path, record: JsonObject) -> None:
        self._vectorizer = load_vectorizer(folder, VectorizerConfig.from_json(record))
        self._lock = threading.Lock()
        self.truncated = self.unknown = 0

    def feeds(self, texts: Sequence[str]) -> Iterator[tuple[NDArray[np.intp], Feeds]]:
        """(B, T) `ids` and `values`, and `second` for pairs of vectors; batches sorted by length."""
        check_texts(texts)
        if not texts:
            return
        ragged = self._vectorizer.transform(texts)
        with self._lock:
            self.truncated += ragged.truncated
            self.unknown += ragged.unknown
        starts = ragged.starts
        for rows in length_batches(np.maximum(np.diff(starts), 1).tolist(), rows=128):
            bag = ragged.take(rows).pad()
            feeds: Feeds = {"ids": bag.ids, "values": bag.values}
            yield rows, feeds if bag.second is None else feeds | {"second": bag.second}


class PatternPreprocessor:
    """Token ids and mask of texts in a pattern, for language models."""

    def __init__(self, folder: Path, record: JsonObject) -> None:
        text = (folder / "tokenizer.json").read_text(encoding="utf-8")
        self._ids = PatternTokenizer(text, PatternLayout.from_json(record))
        self._lock = threading.Lock()
        self.truncated = self.unknown = 0

    def feeds(self, texts: Sequence[str]) -> Iterator[tuple[NDArray[np.intp], Feeds]]:
        """(B, T) `input_ids` and `attention_mask`, batches sorted by length."""
        check_texts(texts)
        wrapped = self._ids.encode(texts)
        with self._lock:
            self.truncated += wrapped.truncated
        for rows in length_batches([len(ids) for ids in wrapped.ids], MAX_BATCH_TOKENS, MAX_BATCH_ROWS):
            filled, mask = pad_batch([wrapped.ids[row] for row in rows], self._ids.layout.pad_id)
            yield rows, {"input_ids": filled, "attention_mask": mask}


class UnitPreprocessor:
    """Token ids and mask of windows, and the words that tokens stand for, for students that find entities."""

    def __init__(self, folder: Path, record: JsonObject) -> None:
        config = UnitConfig.from_json(record)
        self._tokens = UnitTokenizer(folder / "tokenizer.json", config.max_length)
        self._pad_id = config.pad_id
        self.truncated = self.unknown = 0

    def encode(self, texts: Sequence[str]) -> EncodedUnits:
        """The windows and words of N texts. Raises BadData if a text is not a string."""
        return self._tokens.encode(texts)

    def feeds(self, texts: Sequence[str]) -> Iterator[tuple[NDArray[np.intp], Feeds]]:
        """(B, T) `input_ids` and `attention_mask` with the (B,) numbers of the windows, batches sorted by length."""
        yield from self.batches(self.encode(texts).ids)

    def batches(self, ids: Sequence[Ids]) -> Iterator[tuple[NDArray[np.intp], Feeds]]:
        """As `feeds`, of windows."""
        for rows in length_batches([len(each) for each in ids], MAX_BATCH_TOKENS, MAX_BATCH_ROWS):
            filled, mask = pad_batch([ids[row] for row in rows], self._pad_id)
            yield rows, {"input_ids": filled, "attention_mask": mask}


class PromptPreprocessor:
    """Prompts of token ids, and answers as texts, for students that answer in words."""

    def __init__(self, folder: Path, record: JsonObject) -> None:
        text = (folder / "tokenizer.json").read_text(encoding="utf-8")
        self._tokens = AnswerTokenizer(text, AnswerPrompt.from_json(record))
        self._lock = threading.Lock()
        self.truncated = self.unknown = 0

    @property
    def prompt(self) -> AnswerPrompt:
        """The token ids around a text, and when an answer ends."""
        return self._tokens.prompt

    def encode(self, texts: Sequence[str]) -> list[Ids]:
        """The prompts of N texts. Raises BadData if a text is not a string."""
        check_texts(texts)
        encoded = self._tokens.encode(texts)
        with self._lock:
            self.truncated += encoded.truncated
        return encoded.ids

    def is_cut(self, text: str) -> bool:
        """Whether a text keeps only its beginning."""
        return bool(self._tokens.encode([text]).truncated)

    def encode_answers(self, answers: Sequence[str]) -> list[Ids]:
        """The token ids of N answers and their ends."""
        return self._tokens.encode_answers(answers)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of an answer's tokens."""
        return self._tokens.decode(ids)

    def feeds(self, texts: Sequence[str]) -> Iterator[tuple[NDArray[np.intp], Feeds]]:
        """(B, T) `input_ids` and `attention_mask` of the prompts, padded on the left, batches sorted by length."""
        ids = self.encode(texts)
        for rows in length_batches([len(each) for each in ids], MAX_BATCH_TOKENS, MAX_BATCH_ROWS):
            filled, mask = pad_left([ids[row] for row in rows], self.prompt.layout.pad_id)
            yield rows, {"input_ids": filled, "attention_mask": mask}


PREPROCESSORS: dict[str, Callable[[Path, JsonObject], Preprocessor]] = {
    "tokens": TokenPreprocessor,
    "features": FeaturePreprocessor,
    "pattern": PatternPreprocessor,
    "units": UnitPreprocessor,
    "prompts": PromptPreprocessor,
}
