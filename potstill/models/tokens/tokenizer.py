"""Texts into token ids and padded batches, the same way while learning and while serving.

Covers: reading `tokenizer.json`, pairs of texts, what is read of a text that is too long, batches of similar length
under a token budget. Does not cover chat templates. Needs numpy and tokenizers, nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from potstill.data.pairs import split_pair
from potstill.errors import BadData, MissingExtra, RunNotFound
from potstill.models.tokens.cached import CachedEncoding, cached_tokenizer

Ids = NDArray[np.int64]
# What is read of a text that is too long: its head; its head and its tail (Sun et al. 2019); or all of it, in windows.
LongTextMode = Literal["head", "head+tail", "windows"]
LONG_TEXT_MODES: tuple[LongTextMode, ...] = get_args(LongTextMode)
HEAD_FRACTION = 0.5  # of the tokens that are read, where head and tail are
# Windows of a text at most, and how much of one is in the next as well; more text is read with gaps.
MAX_WINDOWS, WINDOW_OVERLAP = 8, 0.125

# A text is first cut at this many characters a token, so that a 50 MB cell costs no more than a page.
CHARACTERS_PER_TOKEN = 40
# What encoders call their padding token: BERT, then RoBERTa and XLM-R, then ELECTRA-likes that say it in lower case.
_PADS = ("[PAD]", "<pad>", "[pad]")


@dataclass(frozen=True)
class EncodedTexts:
    """N texts as token ids.

    Attributes:
        ids: M arrays of (T_i,) int64, each at most `max_length` long and never empty; M is N unless in windows.
        truncated: how many of the N texts are not read as a whole.
        rows: (M,) which text each array is of, ascending.
    """

    ids: list[Ids]
    truncated: int
    text_index: NDArray[np.int64]

    def mean_over_windows(self, outputs: NDArray[np.float32]) -> NDArray[np.float32]:
        """(M, ...) outputs -> (N, ...), the mean over a text's windows."""
        return mean_by_row(self.text_index, outputs)


class TextTokenizer:
    """A `tokenizer.json` and a length limit.

    Args:
        file: the `tokenizer.json` of the Hugging Face `tokenizers` library.
        max_length: how many tokens of a text are read, special tokens included; the rest is cut off.
        pairs: the texts are pairs, to be joined as the tokenizer joins two texts; the longer one is cut first.
        long: what is read of a single text that has more tokens.

    Raises:
        NotARun: the file is not there or is damaged.
        MissingExtra: the tokenizers library is not installed.
    """

    def __init__(self, file: Path, max_length: int, *, pairs: bool = False, long: LongTextMode = "head") -> None:
        try:
            from tokenizers import Tokenizer
        except ModuleNotFoundError as error:
            raise MissingExtra(
                "Reading texts for an encoder needs tokenizers, which is not installed.",
                "Install it with: pip install tokenizers",
            ) from error
        try:
            tokenizer: Any = Tokenizer.from_file(str(file))
        except Exception as error:  # the library raises a bare Exception for everything
            raise RunNotFound(
                f"{file} is not a readable tokenizer.", "Copy or export the folder again; the file is damaged."
            ) from error
        tokenizer.no_padding()
        self._words = None if pairs or long != "head" else cached_tokenizer(tokenizer)
        if pairs or long == "head":
            tokenizer.enable_truncation(max_length)
        else:
            tokenizer.no_truncation()
        self._tokenizer = tokenizer
        self.file = Path(file)
        self.max_length = max_length
        self.pairs = pairs
        self.long: LongTextMode = "head" if pairs else long
        known = (tokenizer.token_to_id(pad) for pad in _PADS)
        self.pad_id: int = next((pad for pad in known if pad is not None), 0)

    @cached_property
    def segment_separator_id(self) -> int | None:
        """The id of the token after which the second text of a pair begins, where the weights tell the two apart."""
        joined = self._tokenizer.encode("a", "a")
        return int(joined.ids[joined.type_ids.index(1) - 1]) if 1 in joined.type_ids else None

    def encode(self, texts: Sequence[str]) -> EncodedTexts:
        """N texts -> their token ids; those that are not read as a whole are counted.

        Raises:
            BadData: a text is not a string.
        """
        check_texts(texts)
        if self.long != "head":
            return self._encode_long(texts)
        limit = CHARACTERS_PER_TOKEN * self.max_length
        given: list[Any] = [split_pair(text) for text in texts] if self.pairs else list(texts)
        longest = [max(map(len, each)) for each in given] if self.pairs else list(map(len, given))
        for row, size in enumerate(longest):
            if size > limit:
                each = given[row]
                given[row] = tuple(one[:limit] for one in each) if self.pairs else each[:limit]
        found: list[CachedEncoding | None] = [None] * len(given)
        if self._words is not None:
            found = self._words.ids(given, self.max_length)
        others = [row for row, own in enumerate(found) if own is None]
        cut = [size > limit or (own is not None and own.truncated) for size, own in zip(longest, found, strict=True)]
        ids = [np.array(own.ids if own is not None else (), dtype=np.int64) for own in found]
        for row, encoding in zip(others, self._encodings([given[row] for row in others]), strict=True):
            ids[row] = np.array(encoding.ids or [self.pad_id], dtype=np.int64)
            cut[row] |= bool(len(ids[row]) == self.max_length and encoding.overflowing)
        return EncodedTexts(ids, sum(cut), np.arange(len(ids)))

    def _encodings(self, texts: Sequence[Any]) -> list[Any]:
        try:
            return list(self._tokenizer.encode_batch_fast(texts))
        except (UnicodeEncodeError, TypeError):  # lone surrogates, which UTF-8 cannot hold
            whole = [_scalars(text) if isinstance(text, str) else tuple(map(_scalars, text)) for text in texts]
            return list(self._tokenizer.encode_batch_fast(whole))

    def _encode_long(self, texts: Sequence[str]) -> EncodedTexts:
        """All that `max_length` tokens, or `WINDOWS` times as many, can hold of each text."""
        limit = CHARACTERS_PER_TOKEN * self.max_length * (MAX_WINDOWS if self.long == "windows" else 1)
        cut = [text if len(text) <= 2 * limit else f"{text[:limit]} {text[-limit:]}" for text in texts]
        before, after = self._around
        room = max(self.max_length - len(before) - len(after), 1)
        ids, rows, truncated = [], [], 0
        for row, (text, encoding) in enumerate(zip(texts, self._encodings(cut), strict=True)):
            own = np.array(encoding.ids or [self.pad_id], dtype=np.int64)
            if len(own) <= self.max_length:
                ids.append(own)
                rows.append(row)
                truncated += len(text) > 2 * limit
                continue
            content = own[len(before) : len(own) - len(after)]
            parts = self._parts(content, room)
            truncated += len(text) > 2 * limit or sum(map(len, parts)) < len(content)
            ids += [np.concatenate([before, part, after]) for part in parts]
            rows += [row] * len(parts)
        return EncodedTexts(ids, truncated, np.array(rows, dtype=np.int64))

    def _parts(self, content: Ids, room: int) -> list[Ids]:
        if self.long == "head+tail":
            head = int(room * HEAD_FRACTION)
            return [np.concatenate([content[:head], content[len(content) - (room - head) :]])]
        step = room - int(room * WINDOW_OVERLAP)
        n = min(MAX_WINDOWS, 1 + -(-(len(content) - room) // step))
        starts = np.linspace(0, len(content) - room, n).astype(np.int64)
        return [content[start : start + room] for start in starts]

    @cached_property
    def _around(self) -> tuple[Ids, Ids]:
        """The special tokens that go before and after a text."""
        bare = self._tokenizer.encode("a", add_special_tokens=False).ids
        framed = self._tokenizer.encode("a").ids
        start = next(i for i in range(len(framed)) if framed[i : i + len(bare)] == bare)
        return np.array(framed[:start], dtype=np.int64), np.array(framed[start + len(bare) :], dtype=np.int64)


def mean_by_row(rows: NDArray[np.integer[Any]], outputs: NDArray[np.float32]) -> NDArray[np.float32]:
    """(M, ...) outputs of ascending `rows` -> (N, ...) their mean for each row."""
    if not len(rows):
        return outputs
    starts = np.flatnonzero(np.append(True, rows[1:] != rows[:-1]))
    if len(starts) == len(rows):
        return outputs
    counts = np.diff(np.append(starts, len(rows))).reshape(-1, *[1] * (outputs.ndim - 1))
    return np.asarray(np.add.reduceat(outputs, starts, axis=0) / counts, dtype=np.float32)


def _scalars(text: str) -> str:
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def check_texts(texts: Sequence[str]) -> None:
    """Raise BadData, naming the row, unless every text is a string."""
    if isinstance(texts, str):
        raise BadData("One text was given where a list of texts is expected.", "Wrap it in a list: [text].")
    for row, text in enumerate(texts):
        if not isinstance(text, str):
            raise BadData(
                f"Text {row + 1} is {type(text).__name__}, not a string.", 'Give every text as a str; "" for none.'
            )


def length_batches(lengths: Sequence[int], token_budget: int = 8192, rows: int = 64) -> Iterator[NDArray[np.intp]]:
    """Row numbers in batches of similar length, longest first; padding included none passes `token_budget` tokens.

    A single text longer than the budget is a batch of its own. At most `rows` rows a batch. Longest first, so that
    what does not fit into memory fails at once, and workers that share the batches end together.
    """
    sizes = np.asarray(lengths, dtype=np.int64)
    order = np.argsort(-sizes, kind="stable")
    start = 0
    while start < len(order):
        width = max(int(sizes[order[start]]), 1)
        end = start + max(1, min(rows, token_budget // width))
        yield order[start:end]
        start = end


def pad_batch(ids: Sequence[Ids], pad_id: int) -> tuple[Ids, Ids]:
    """B arrays of token ids -> (B, T) ids and (B, T) mask, 1 for a token and 0 for padding."""
    width = max(len(row) for row in ids)
    filled = np.full((len(ids), width), pad_id, dtype=np.int64)
    mask = np.zeros((len(ids), width), dtype=np.int64)
    for row, own in enumerate(ids):
        filled[row, : len(own)] = own
        mask[row, : len(own)] = 1
    return filled, mask
