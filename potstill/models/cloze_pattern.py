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
from potstill.errors import MissingExtra, NotARun

# A text is first cut at this many characters a token, so that a 50 MB cell costs no more than a page.
CHARACTERS_PER_TOKEN = 40


@dataclass(frozen=True)
class Surroundings:
    """What stands around each text.

    Attributes:
        begin, end: token ids before and after the text, or the two texts of a pair.
        glue: what is put before a text's own characters: a space where a word stands before it.
        max_length: tokens of a row, surroundings included; a longer text loses its tail; of a pair, the longer.
        pad_id: fills short rows.
        between: token ids between the two texts of a pair; None where a row is one text.
    """

    begin: tuple[int, ...]
    end: tuple[int, ...]
    glue: str
    max_length: int
    pad_id: int = 0
    between: tuple[int, ...] | None = None

    @property
    def room(self) -> int:
        """How many tokens of a text are read."""
        return max(1, self.max_length - len(self.begin) - len(self.between or ()) - len(self.end))

    def to_json(self) -> dict[str, Any]:
        """Plain values; `of_json` reads them."""
        return asdict(self)

    @classmethod
    def of_json(cls, record: Mapping[str, Any]) -> Self:
        """What `to_json` wrote."""
        begin, end, between = (_ids(record.get(name)) for name in ("begin", "end", "between"))
        max_length, pad_id = int(record["max_length"]), int(record["pad_id"])
        return cls(begin or (), end or (), str(record["glue"]), max_length, pad_id, between)


@dataclass(frozen=True)
class Wrapped:
    """N texts in the pattern: N arrays of (T_i,) int64, and how many texts lost their tail."""

    ids: list[NDArray[np.int64]]
    truncated: int


class PatternIds:
    """A tokenizer and what stands around each text.

    Args:
        tokenizer: the text of a `tokenizer.json` of the Hugging Face `tokenizers` library.
        around: the pattern.

    Raises:
        NotARun: the tokenizer is damaged.
        MissingExtra: the tokenizers library is not installed.
    """

    def __init__(self, tokenizer: str, around: Surroundings) -> None:
        self.tokenizer = tokenizer
        self.around = around
        own: Any = read_tokenizer(tokenizer)
        own.enable_truncation(around.room)
        self._own = own

    def encode(self, texts: Sequence[str]) -> Wrapped:
        """N strings -> token ids of each, on one line, with its surroundings; a long text keeps its head."""
        around = self.around
        if around.between is None:
            own, cut = self._own_ids(texts)
            rows = [[*around.begin, *ids, *around.end] for ids in own]
            return Wrapped([np.array(row, dtype=np.int64) for row in rows], sum(cut))
        pairs = [split_pair(text) for text in texts]
        firsts, cut = self._own_ids([first for first, _ in pairs])
        seconds, cut_too = self._own_ids([second for _, second in pairs])
        rows, lost = [], 0
        for first, second, *cuts in zip(firsts, seconds, cut, cut_too, strict=True):
            kept = min(len(first), max(around.room // 2, around.room - len(second)))
            rows.append([*around.begin, *first[:kept], *around.between, *second[: around.room - kept], *around.end])
            lost += any(cuts) or len(first) + len(second) > around.room
        return Wrapped([np.array(row, dtype=np.int64) for row in rows], lost)

    def _own_ids(self, texts: Sequence[str]) -> tuple[list[list[int]], list[bool]]:
        """Each text's own token ids, and whether it was cut."""
        limit = CHARACTERS_PER_TOKEN * self.around.room
        cut = [_one_line(text[: 8 * limit]) for text in texts]
        glued = [self.around.glue + text[:limit] if text else "" for text in cut]
        encodings = self._own.encode_batch_fast(glued, add_special_tokens=False)
        lost = [bool(found.overflowing) or len(text) > limit for text, found in zip(cut, encodings, strict=True)]
        return [found.ids for found in encodings], lost


def read_tokenizer(text: str) -> Any:
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
        raise NotARun("The tokenizer.json is not readable.", "Copy or export the folder again.") from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    # A "[MASK]" that somebody typed is six characters, not a second place to answer at.
    tokenizer.encode_special_tokens = True
    return tokenizer


def _ids(given: Any) -> tuple[int, ...] | None:
    return None if given is None else tuple(int(each) for each in given)


def _one_line(text: str) -> str:
    """Without line breaks, which could forge the pattern, and without lone surrogates, which UTF-8 cannot hold."""
    return " ".join(text.encode("utf-8", "replace").decode("utf-8").split())
