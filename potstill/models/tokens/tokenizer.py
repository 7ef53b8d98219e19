"""Texts -> token ids and padded batches, the same in training and in serving.

Covers: reading `tokenizer.json`, pairs of texts, truncation of long texts, batches of similar length under a token
budget. Does not cover chat templates. Needs numpy and tokenizers only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self, get_args

import numpy as np
from numpy.typing import NDArray

from potstill.data.pairs import split_pair
from potstill.data.task import JsonObject
from potstill.errors import BadData, MissingExtra, RunNotFound
from potstill.models.tokens.cached import CachedEncoding, cached_tokenizer

Ids = NDArray[np.int64]
# What is read of a text that is too long: its head; its head and tail (Sun et al. 2019); or all of it, in windows.
LongTextMode = Literal["head", "head+tail", "windows"]
LONG_TEXT_MODES: tuple[LongTextMode, ...] = get_args(LongTextMode)
HEAD_FRACTION = 0.5  # of the tokens that are read under "head+tail"
# Windows per text at most, and the overlap of neighbouring windows; longer texts are read with gaps.
MAX_WINDOWS, WINDOW_OVERLAP = 8, 0.125

# A text is first cut at this many characters per token, so that a 50 MB text costs no more than a page.
CHARACTERS_PER_TOKEN = 40
# Names of the padding token: BERT; RoBERTa and XLM-R; some ELECTRA models.
_PAD_TOKENS = ("[PAD]", "<pad>", "[pad]")
# Names of the token that stands for what the vocabulary lacks. A text of which more than this share is such is counted.
_UNKNOWN_TOKENS = ("[UNK]", "<unk>", "[unk]")
MAX_UNKNOWN_SHARE = 0.5


@dataclass(frozen=True)
class TokenizerConfig:
    """What tokenizing for an exported transformer needs beside `tokenizer.json`.

    Attributes:
        max_length: tokens of a text at most, special tokens included.
        pad_id: id of the padding token.
        long: what is read of longer texts.
        pairs: whether the texts are pairs.
    """

    max_length: int
    pad_id: int
    long: LongTextMode = "head"
    pairs: bool = False

    def to_json(self) -> JsonObject:
        """JSON values; `from_json` reads them."""
        return asdict(self)

    @classmethod
    def from_json(cls, record: JsonObject) -> Self:
        """Read what `to_json` wrote.

        Raises:
            KeyError, ValueError: it is damaged.
        """
        long = record.get("long", "head")
        if long not in LONG_TEXT_MODES:
            raise ValueError(f"unknown mode for long texts: {long!r}")
        return cls(int(record["max_length"]), int(record["pad_id"]), long, bool(record.get("pairs")))


@dataclass(frozen=True)
class EncodedTexts:
    """N texts as token ids.

    Attributes:
        ids: M arrays of (T_i,) int64, each at most `max_length` long and never empty; M is N unless in windows.
        truncated: number of the N texts that are not read as a whole.
        text_index: (M,) the text each array belongs to, ascending.
        unknown: number of arrays that are mostly unknown tokens.
    """

    ids: list[Ids]
    truncated: int
    text_index: NDArray[np.int64]
    unknown: int = 0

    def mean_over_windows(self, outputs: NDArray[np.float32]) -> NDArray[np.float32]:
        """(M, ...) outputs -> (N, ...) means over the windows of each text."""
        return mean_by_row(self.text_index, outputs)


class TextTokenizer:
    """A `tokenizer.json` and a length limit.

    Args:
        file: the `tokenizer.json` of the Hugging Face `tokenizers` library.
        max_length: tokens of a text at most, special tokens included.
        pairs: the texts are pairs, joined as the tokenizer joins two texts; the longer one is cut first.
        long: what is read of a single text that has more tokens.

    Raises:
        RunNotFound: the file does not exist or is damaged.
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
        self._cached = None if pairs or long != "head" else cached_tokenizer(tokenizer)
        if pairs or long == "head":
            tokenizer.enable_truncation(max_length)
        else:
            tokenizer.no_truncation()
        self._tokenizer = tokenizer
        self.file = Path(file)
        self.max_length = max_length
        self.pairs = pairs
        self.long: LongTextMode = "head" if pairs else long
        pad_ids = (tokenizer.token_to_id(token) for token in _PAD_TOKENS)
        self.pad_id: int = next((pad_id for pad_id in pad_ids if pad_id is not None), 0)
        unknown_ids = (tokenizer.token_to_id(token) for token in _UNKNOWN_TOKENS)
        self.unknown_id: int | None = next((each for each in unknown_ids if each is not None), None)

    @property
    def config(self) -> TokenizerConfig:
        """What serving needs beside the file."""
        return TokenizerConfig(self.max_length, self.pad_id, self.long, self.pairs)

    @cached_property
    def segment_separator_id(self) -> int | None:
        """Id of the token before the second text of a pair; None if the tokenizer has no token types."""
        joined = self._tokenizer.encode("a", "a")
        return int(joined.ids[joined.type_ids.index(1) - 1]) if 1 in joined.type_ids else None

    def encode(self, texts: Sequence[str]) -> EncodedTexts:
        """N texts -> their token ids, and the number of texts that are not read as a whole.

        Raises:
            BadData: a text is not a string.
        """
        check_texts(texts)
        if self.long != "head":
            return self._encode_long(texts)
        limit = CHARACTERS_PER_TOKEN * self.max_length
        given: list[Any] = [split_pair(text) for text in texts] if self.pairs else list(texts)
        n_chars = [max(map(len, pair)) for pair in given] if self.pairs else list(map(len, given))
        for row, size in enumerate(n_chars):
            if size > limit:
                given[row] = tuple(text[:limit] for text in given[row]) if self.pairs else given[row][:limit]
        encodings: list[CachedEncoding | None] = [None] * len(given)
        if self._cached is not None:
            encodings = self._cached.ids(given, self.max_length)
        truncated = [
            size > limit or (encoding is not None and encoding.truncated)
            for size, encoding in zip(n_chars, encodings, strict=True)
        ]
        ids = [np.array(encoding.ids if encoding is not None else (), dtype=np.int64) for encoding in encodings]
        uncached = [row for row, encoding in enumerate(encodings) if encoding is None]
        for row, encoding in zip(uncached, self._encode_batch([given[row] for row in uncached]), strict=True):
            ids[row] = np.array(encoding.ids or [self.pad_id], dtype=np.int64)
            truncated[row] |= bool(len(ids[row]) == self.max_length and encoding.overflowing)
        return EncodedTexts(ids, sum(truncated), np.arange(len(ids)), self._count_unknown(ids))

    def _encode_batch(self, texts: Sequence[Any]) -> list[Any]:
        try:
            return list(self._tokenizer.encode_batch_fast(texts))
        except (UnicodeEncodeError, TypeError):  # lone surrogates, which UTF-8 cannot hold
            valid = [_scalars(text) if isinstance(text, str) else tuple(map(_scalars, text)) for text in texts]
            return list(self._tokenizer.encode_batch_fast(valid))

    def _encode_long(self, texts: Sequence[str]) -> EncodedTexts:
        """Up to `max_length` tokens of each text, or `MAX_WINDOWS` windows of them."""
        limit = CHARACTERS_PER_TOKEN * self.max_length * (MAX_WINDOWS if self.long == "windows" else 1)
        cut = [text if len(text) <= 2 * limit else f"{text[:limit]} {text[-limit:]}" for text in texts]
        prefix, suffix = self.special_ids
        width = max(self.max_length - len(prefix) - len(suffix), 1)
        ids, text_index, truncated = [], [], 0
        for row, (text, encoding) in enumerate(zip(texts, self._encode_batch(cut), strict=True)):
            whole = np.array(encoding.ids or [self.pad_id], dtype=np.int64)
            if len(whole) <= self.max_length:
                ids.append(whole)
                text_index.append(row)
                truncated += len(text) > 2 * limit
                continue
            content = whole[len(prefix) : len(whole) - len(suffix)]
            parts = self._split_long(content, width)
            truncated += len(text) > 2 * limit or sum(map(len, parts)) < len(content)
            ids += [np.concatenate([prefix, part, suffix]) for part in parts]
            text_index += [row] * len(parts)
        return EncodedTexts(ids, truncated, np.array(text_index, dtype=np.int64), self._count_unknown(ids))

    def _count_unknown(self, ids: Sequence[Ids]) -> int:
        if self.unknown_id is None or not ids:
            return 0
        counts = np.array([np.count_nonzero(each == self.unknown_id) for each in ids])
        if not counts.any():
            return 0
        n_special = sum(map(len, self.special_ids)) + self.pairs
        return int((counts > MAX_UNKNOWN_SHARE * (np.array(list(map(len, ids))) - n_special)).sum())

    def _split_long(self, content: Ids, width: int) -> list[Ids]:
        """Head and tail of a text's tokens, or windows of `width` tokens."""
        if self.long == "head+tail":
            head = int(width * HEAD_FRACTION)
            return [np.concatenate([content[:head], content[len(content) - (width - head) :]])]
        step = width - int(width * WINDOW_OVERLAP)
        n = min(MAX_WINDOWS, 1 + -(-(len(content) - width) // step))
        starts = np.linspace(0, len(content) - width, n).astype(np.int64)
        return [content[start : start + width] for start in starts]

    @property
    def library_tokenizer(self) -> Any:
        """The tokenizer of the tokenizers library."""
        return self._tokenizer

    @cached_property
    def special_ids(self) -> tuple[Ids, Ids]:
        """The special tokens before and after a text."""
        bare = self._tokenizer.encode("a", add_special_tokens=False).ids
        whole = self._tokenizer.encode("a").ids
        start = next(i for i in range(len(whole)) if whole[i : i + len(bare)] == bare)
        return np.array(whole[:start], dtype=np.int64), np.array(whole[start + len(bare) :], dtype=np.int64)


def mean_by_row(rows: NDArray[np.integer[Any]], outputs: NDArray[np.float32]) -> NDArray[np.float32]:
    """(M, ...) outputs of ascending (M,) `rows` -> (N, ...) their mean for each row."""
    if not len(rows):
        return outputs
    starts = np.flatnonzero(np.append(True, rows[1:] != rows[:-1]))
    if len(starts) == len(rows):
        return outputs
    counts = np.diff(np.append(starts, len(rows))).reshape(-1, *[1] * (outputs.ndim - 1))
    return np.asarray(np.add.reduceat(outputs, starts, axis=0) / counts, dtype=np.float32)


def _scalars(text: str) -> str:
    """The text without lone surrogates."""
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


def length_batches(
    lengths: Sequence[int], token_budget: int = 8192, rows: int = 64, start_tokens: int = 0
) -> Iterator[NDArray[np.intp]]:
    """Batches of row numbers of similar length, each of at most `token_budget` tokens including padding.

    A single text longer than the budget is a batch of its own. At most `rows` rows per batch. Longest first: an
    out-of-memory error then comes at once, and workers that share the batches finish together.

    Args:
        lengths: tokens of each text.
        token_budget: of a batch.
        rows: of a batch at most.
        start_tokens: what a batch costs beside its tokens, in tokens: a batch is parted where that saves more padding.
            0 parts none.
    """
    sizes = np.asarray(lengths, dtype=np.int64)
    order = np.argsort(-sizes, kind="stable")
    start = 0
    while start < len(order):
        width = max(int(sizes[order[start]]), 1)
        end = start + max(1, min(rows, token_budget // width))
        if start_tokens:
            end = start + _rows_of_one_batch(sizes[order[start:end]], start_tokens)
        yield order[start:end]
        start = end


def _rows_of_one_batch(sizes: NDArray[np.int64], start_tokens: int) -> int:
    """How many of (B,) descending lengths make a batch of which no part should be a batch of its own."""
    n = len(sizes)
    while n > 1:
        saved = np.arange(n, 0, -1) * (sizes[0] - sizes[:n])  # padding, if the batch ended before each row
        cut = int(saved.argmax())
        if saved[cut] <= start_tokens:
            break
        n = cut
    return n


def pad_batch(ids: Sequence[Ids], pad_id: int) -> tuple[Ids, Ids]:
    """B arrays of token ids -> (B, T) int64 ids and mask; the mask is 1 for a token and 0 for padding."""
    width = max(len(row) for row in ids)
    padded = np.full((len(ids), width), pad_id, dtype=np.int64)
    mask = np.zeros((len(ids), width), dtype=np.int64)
    for i, row in enumerate(ids):
        padded[i, : len(row)] = row
        mask[i, : len(row)] = 1
    return padded, mask
