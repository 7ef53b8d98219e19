"""Texts -> token ids with the words they belong to: for models with a label a word.

A unit is a word that begins with a token of its own: letters and digits, or a mark by itself, whatever the tokenizer
splits at; words that share their first token are one unit. A text of any length is read as a whole, in windows that
overlap; of the windows that hold a unit, the one in which it is nearest to the middle decides. Needs numpy and
tokenizers.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from potstill.data.task import JsonObject
from potstill.models.tokens.tokenizer import Ids, TextTokenizer, check_texts

Ints = NDArray[np.int64]
OVERLAP = 0.25  # of neighbouring windows
_WORD = re.compile(r"[^\W_]+|[^\w\s]|_")


@dataclass(frozen=True)
class UnitConfig:
    """What reading units needs beside `tokenizer.json`.

    Attributes:
        max_length: tokens of a window at most, special tokens included.
        pad_id: id of the padding token.
    """

    max_length: int
    pad_id: int

    def to_json(self) -> JsonObject:
        """JSON values; `from_json` reads them."""
        return asdict(self)

    @classmethod
    def from_json(cls, record: JsonObject) -> Self:
        """Read what `to_json` wrote.

        Raises:
            KeyError, ValueError: it is damaged.
        """
        return cls(int(record["max_length"]), int(record["pad_id"]))


@dataclass(frozen=True)
class UnitText:
    """One text's units.

    Attributes:
        starts, ends: (U,) the characters that each unit begins with, and ends before.
        window: (U,) the window, counted over all texts, that each unit is read in.
        position: (U,) the token in that window that stands for it.
    """

    starts: Ints
    ends: Ints
    window: Ints
    position: Ints

    def __len__(self) -> int:
        return len(self.starts)


@dataclass(frozen=True)
class EncodedUnits:
    """N texts: M windows of token ids, special tokens included, and the units of each text."""

    ids: list[Ids]
    texts: list[UnitText]


class UnitTokenizer:
    """A `tokenizer.json` that also says where the words of a text are.

    Args:
        file: the `tokenizer.json` of the Hugging Face `tokenizers` library.
        max_length: tokens of a window at most, special tokens included.

    Raises:
        RunNotFound: the file does not exist or is damaged.
        MissingExtra: the tokenizers library is not installed.
    """

    def __init__(self, file: Path, max_length: int) -> None:
        tokens = TextTokenizer(file, max_length)
        self.file, self.max_length, self.pad_id = tokens.file, max_length, tokens.pad_id
        self._tokenizer: Any = tokens.library_tokenizer
        self._tokenizer.no_truncation()
        self._prefix, self._suffix = tokens.special_ids
        self._width = max(max_length - len(self._prefix) - len(self._suffix), 1)

    @property
    def config(self) -> UnitConfig:
        """What serving needs beside the file."""
        return UnitConfig(self.max_length, self.pad_id)

    def encode(self, texts: Sequence[str]) -> EncodedUnits:
        """N texts -> their windows and units.

        Raises:
            BadData: a text is not a string.
        """
        check_texts(texts)
        valid = [text if text.isascii() else _without_surrogates(text) for text in texts]
        ids: list[Ids] = []
        found = []
        for text, encoding in zip(valid, self._tokenizer.encode_batch(valid, add_special_tokens=False), strict=True):
            tokens = np.array(encoding.ids, dtype=np.int64)
            offsets = np.array(encoding.offsets, dtype=np.int64).reshape(-1, 2)
            first, starts, ends = _units(text, offsets)
            begins = _window_starts(len(tokens), self._width)
            found.append(self._place(first, starts, ends, begins, len(ids)))
            ids += [np.concatenate([self._prefix, tokens[at : at + self._width], self._suffix]) for at in begins]
        return EncodedUnits(ids, found)

    def _place(self, first: Ints, starts: Ints, ends: Ints, begins: Ints, n_before: int) -> UnitText:
        """The units with their windows; `first` are their first tokens in the text."""
        middle = begins + self._width / 2
        nearest = np.abs(first[:, None] - middle[None, :]).argmin(axis=1) if len(begins) > 1 else np.zeros_like(first)
        return UnitText(starts, ends, nearest + n_before, first - begins[nearest] + len(self._prefix))


def _window_starts(n_tokens: int, width: int) -> Ints:
    """The first tokens of the windows that cover n tokens; one window for an empty text."""
    if n_tokens <= width:
        return np.zeros(1, dtype=np.int64)
    step = max(width - int(width * OVERLAP), 1)
    n = 1 + -(-(n_tokens - width) // step)
    return np.linspace(0, n_tokens - width, n).astype(np.int64)


def _units(text: str, offsets: Ints) -> tuple[Ints, Ints, Ints]:
    """(T, 2) offsets of the tokens -> (U,) first tokens, starts and ends of the units."""
    words = np.array([found.span() for found in _WORD.finditer(text)], dtype=np.int64).reshape(-1, 2)
    if not len(words) or not len(offsets):
        return (np.zeros(0, dtype=np.int64),) * 3
    # The word of a token is the first one that ends after the token begins; blanks in front belong to no word.
    word = np.searchsorted(words[:, 1], offsets[:, 0], side="right")
    real = (offsets[:, 1] > offsets[:, 0]) & (word < len(words))
    real &= words[np.minimum(word, len(words) - 1), 0] < offsets[:, 1]
    tokens = np.flatnonzero(real)
    own = np.append(True, word[tokens][1:] != word[tokens][:-1]) if len(tokens) else np.zeros(0, dtype=np.bool_)
    first = tokens[own]
    starts = words[word[first], 0]
    # A unit ends where its last word ends: words without a token of their own belong to the unit before.
    next_word = np.append(word[first][1:], len(words))
    ends = words[next_word - 1, 1]
    return first, starts, ends


def _without_surrogates(text: str) -> str:
    """The text with each lone surrogate, which UTF-8 cannot hold, as one other character, so that places stay."""
    return "".join("\ufffd" if "\ud800" <= mark <= "\udfff" else mark for mark in text)
