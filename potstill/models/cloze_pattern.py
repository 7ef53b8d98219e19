"""A text inside a pattern ("{text} Topic: ...") as token ids, the same way while learning and while serving.

What stands around the text is constant, so it is kept as token ids; only the text itself is tokenised. Does not decide
what the pattern is or what is read from it (a student does). Needs numpy and tokenizers, nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from potstill.data.pairs import split_pair
from potstill.errors import MissingExtra, RunNotFound

# A text is first cut at this many characters a token, so that a 50 MB cell costs no more than a page.
CHARACTERS_PER_TOKEN = 40


@dataclass(frozen=True)
class PatternLayout:
    """What stands around each text.

    Attributes:
        begin, end: token ids before and after the text, or the two texts of a pair.
        glue: what is put before a text's own characters: a space where a word stands before it.
        max_length: tokens of a row, surroundings included; a longer text loses its tail; of a pair, the longer.
        pad_id: fills short rows.
        between: token ids between the two texts of a pair; None where a row is one text.
    """

    prefix_ids: tuple[int, ...]
    suffix_ids: tuple[int, ...]
    text_prefix: str
    max_length: int
    pad_id: int = 0
    separator_ids: tuple[int, ...] | None = None

    @property
    def max_text_tokens(self) -> int:
        """How many tokens of a text are read."""
        return max(1, self.max_length - len(self.prefix_ids) - len(self.separator_ids or ()) - len(self.suffix_ids))

    def to_json(self) -> dict[str, Any]:
        """Plain values; `of_json` reads them."""
        return asdict(self)

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Self:
        """What `to_json` wrote."""
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
    """N texts in the pattern: N arrays of (T_i,) int64, and how many texts lost their tail."""

    ids: list[NDArray[np.int64]]
    truncated: int


class PatternTokenizer:
    """A tokenizer and what stands around each text.

    Args:
        tokenizer: the text of a `tokenizer.json` of the Hugging Face `tokenizers` library.
        around: the pattern.

    Raises:
        NotARun: the tokenizer is damaged.
        MissingExtra: the tokenizers library is not installed.
    """

    def __init__(self, tokenizer: str, around: PatternLayout) -> None:
        self.tokenizer = tokenizer
        self.layout = around
        own: Any = tokenizer_from_json(tokenizer)
        own.enable_truncation(around.max_text_tokens)
        self._own = own

    def encode(self, texts: Sequence[str]) -> EncodedPatterns:
        """N strings -> token ids of each, on one line, with its surroundings; a long text keeps its head."""
        around = self.layout
        if around.separator_ids is None:
            own, cut = self._own_ids(texts)
            rows = [[*around.prefix_ids, *ids, *around.suffix_ids] for ids in own]
            return EncodedPatterns([np.array(row, dtype=np.int64) for row in rows], sum(cut))
        pairs = [split_pair(text) for text in texts]
        firsts, cut = self._own_ids([first for first, _ in pairs])
        seconds, cut_too = self._own_ids([second for _, second in pairs])
        rows, lost = [], 0
        for first, second, *cuts in zip(firsts, seconds, cut, cut_too, strict=True):
            kept = min(len(first), max(around.max_text_tokens // 2, around.max_text_tokens - len(second)))
            rows.append(
                [
                    *around.prefix_ids,
                    *first[:kept],
                    *around.separator_ids,
                    *second[: around.max_text_tokens - kept],
                    *around.suffix_ids,
                ]
            )
            lost += any(cuts) or len(first) + len(second) > around.max_text_tokens
        return EncodedPatterns([np.array(row, dtype=np.int64) for row in rows], lost)

    def _own_ids(self, texts: Sequence[str]) -> tuple[list[list[int]], list[bool]]:
        """Each text's own token ids, and whether it was cut."""
        limit = CHARACTERS_PER_TOKEN * self.layout.max_text_tokens
        cut = [_one_line(text[: 8 * limit]) for text in texts]
        glued = [self.layout.text_prefix + text[:limit] if text else "" for text in cut]
        encodings = self._own.encode_batch_fast(glued, add_special_tokens=False)
        lost = [bool(found.overflowing) or len(text) > limit for text, found in zip(cut, encodings, strict=True)]
        return [found.ids for found in encodings], lost


def tokenizer_from_json(text: str) -> Any:
    """The tokenizer in the text of a `tokenizer.json`, which takes all text for text and never pads."""
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
    # A "[MASK]" that somebody typed is six characters, not a second place to answer at.
    tokenizer.encode_special_tokens = True
    return tokenizer


def _one_line(text: str) -> str:
    """Without line breaks, which could forge the pattern, and without lone surrogates, which UTF-8 cannot hold."""
    return " ".join(text.encode("utf-8", "replace").decode("utf-8").split())
