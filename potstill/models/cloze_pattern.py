"""Texts inside a pattern ("{text} Topic: ...") -> token ids, the same in training and in serving.

The pattern around the text is constant, so it is stored as token ids; only the text itself is tokenized. A student
chooses the pattern. Needs numpy and tokenizers only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from potstill.data.pairs import split_pair
from potstill.data.task import JsonObject
from potstill.errors import MissingExtra, RunNotFound

# A text is first cut at this many characters per token, so that a 50 MB text costs no more than a page.
CHARACTERS_PER_TOKEN = 40


@dataclass(frozen=True)
class PatternLayout:
    """A pattern as token ids around each text.

    Attributes:
        prefix_ids, suffix_ids: token ids before and after the text, or the two texts of a pair.
        text_prefix: put before a text's own characters: a space if a word precedes it in the pattern.
        max_length: tokens of a row, pattern included; longer texts lose their tail; of a pair, the longer text does.
        pad_id: id of the padding token.
        separator_ids: token ids between the two texts of a pair; None for single texts.
    """

    prefix_ids: tuple[int, ...]
    suffix_ids: tuple[int, ...]
    text_prefix: str
    max_length: int
    pad_id: int = 0
    separator_ids: tuple[int, ...] | None = None

    @property
    def max_text_tokens(self) -> int:
        """Tokens of a text at most, or of both texts of a pair."""
        return max(1, self.max_length - len(self.prefix_ids) - len(self.separator_ids or ()) - len(self.suffix_ids))

    def to_json(self) -> JsonObject:
        """JSON values; `from_json` reads them."""
        return asdict(self)

    @classmethod
    def from_json(cls, record: JsonObject) -> Self:
        """Read what `to_json` wrote."""
        separator = record.get("separator_ids")
        return cls(
            prefix_ids=tuple(map(int, record["prefix_ids"])),
            suffix_ids=tuple(map(int, record["suffix_ids"])),
            text_prefix=str(record["text_prefix"]),
            max_length=int(record["max_length"]),
            pad_id=int(record["pad_id"]),
            separator_ids=None if separator is None else tuple(map(int, separator)),
        )


@dataclass(frozen=True)
class EncodedPatterns:
    """N texts in the pattern: N arrays of (T_i,) int64, and the number of texts that were cut."""

    ids: list[NDArray[np.int64]]
    truncated: int


class PatternTokenizer:
    """A tokenizer and the pattern around each text.

    Args:
        tokenizer: the content of a `tokenizer.json` of the Hugging Face `tokenizers` library.
        layout: the pattern.

    Raises:
        RunNotFound: the tokenizer is damaged.
        MissingExtra: the tokenizers library is not installed.
    """

    def __init__(self, tokenizer: str, layout: PatternLayout) -> None:
        self.tokenizer = tokenizer
        self.layout = layout
        self._tokenizer: Any = tokenizer_from_json(tokenizer)
        self._tokenizer.enable_truncation(layout.max_text_tokens)

    def encode(self, texts: Sequence[str]) -> EncodedPatterns:
        """N texts -> the token ids of each in the pattern, line breaks as spaces; a long text keeps its head."""
        layout = self.layout
        if layout.separator_ids is None:
            ids, truncated = self._encode_texts(texts)
            rows = [[*layout.prefix_ids, *own, *layout.suffix_ids] for own in ids]
            return EncodedPatterns([np.array(row, dtype=np.int64) for row in rows], sum(truncated))
        pairs = [split_pair(text) for text in texts]
        firsts, first_cut = self._encode_texts([first for first, _ in pairs])
        seconds, second_cut = self._encode_texts([second for _, second in pairs])
        width = layout.max_text_tokens
        rows, n_truncated = [], 0
        for first, second, *cut in zip(firsts, seconds, first_cut, second_cut, strict=True):
            n_first = min(len(first), max(width // 2, width - len(second)))
            parts = (layout.prefix_ids, first[:n_first], layout.separator_ids, second[: width - n_first])
            rows.append([*chain(*parts, layout.suffix_ids)])
            n_truncated += any(cut) or len(first) + len(second) > width
        return EncodedPatterns([np.array(row, dtype=np.int64) for row in rows], n_truncated)

    def _encode_texts(self, texts: Sequence[str]) -> tuple[list[list[int]], list[bool]]:
        """The token ids of each text without the pattern, and whether it was cut."""
        limit = CHARACTERS_PER_TOKEN * self.layout.max_text_tokens
        lines = [_one_line(text[: 8 * limit]) for text in texts]
        prefixed = [self.layout.text_prefix + line[:limit] if line else "" for line in lines]
        encodings = self._tokenizer.encode_batch_fast(prefixed, add_special_tokens=False)
        cut = [bool(encoding.overflowing) or len(line) > limit for line, encoding in zip(lines, encodings, strict=True)]
        return [encoding.ids for encoding in encodings], cut


def tokenizer_from_json(text: str) -> Any:
    """The tokenizer of a `tokenizer.json`, without padding or truncation; special tokens in texts are plain text."""
    try:
        from tokenizers import Tokenizer
    except ModuleNotFoundError as error:
        raise MissingExtra(
            "Reading texts for a transformer needs tokenizers, which is not installed.",
            "Install it with: pip install tokenizers",
        ) from error
    try:
        tokenizer: Any = Tokenizer.from_str(text)
    except Exception as error:  # the library raises a bare Exception for everything
        raise RunNotFound("The tokenizer.json is not readable.", "Copy or export the folder again.") from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    # A "[MASK]" in a text is six characters, not a mask token.
    tokenizer.encode_special_tokens = True
    return tokenizer


def _one_line(text: str) -> str:
    """The text without line breaks, which could imitate the pattern, and without lone surrogates."""
    return " ".join(text.encode("utf-8", "replace").decode("utf-8").split())
