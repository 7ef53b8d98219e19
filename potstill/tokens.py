"""Texts into token ids and padded batches, the same way while learning and while serving.

Covers: reading `tokenizer.json`, cutting long texts at their head, batches of similar length under a token budget.
Does not cover pairs of texts, chat templates, or windows over long texts. Needs numpy and tokenizers, nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from potstill.errors import BadData, MissingExtra, NotARun

Ids = NDArray[np.int64]

# A text is first cut at this many characters a token, so that a 50 MB cell costs no more than a page.
CHARACTERS_PER_TOKEN = 40
# What encoders call their padding token: BERT, then RoBERTa and XLM-R, then ELECTRA-likes that say it in lower case.
_PADS = ("[PAD]", "<pad>", "[pad]")


@dataclass(frozen=True)
class Encoded:
    """N texts as token ids.

    Attributes:
        ids: N arrays of (T_i,) int64, each at most `max_length` long and never empty.
        truncated: how many of the N texts lost their tail.
    """

    ids: list[Ids]
    truncated: int


class TokenIds:
    """A `tokenizer.json` and a length limit.

    Args:
        file: the `tokenizer.json` of the Hugging Face `tokenizers` library.
        max_length: how many tokens of a text are read, special tokens included; the rest is cut off.

    Raises:
        NotARun: the file is not there or is damaged.
        MissingExtra: the tokenizers library is not installed.
    """

    def __init__(self, file: Path, max_length: int) -> None:
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
            raise NotARun(
                f"{file} is not a readable tokenizer.", "Copy or export the folder again; the file is damaged."
            ) from error
        tokenizer.no_padding()
        tokenizer.enable_truncation(max_length)
        self._tokenizer = tokenizer
        self.file = Path(file)
        self.max_length = max_length
        known = (tokenizer.token_to_id(pad) for pad in _PADS)
        self.pad_id: int = next((pad for pad in known if pad is not None), 0)

    def encode(self, texts: Sequence[str]) -> Encoded:
        """N texts -> their token ids; a long text keeps its head and is counted.

        Raises:
            BadData: a text is not a string.
        """
        limit = CHARACTERS_PER_TOKEN * self.max_length
        check_texts(texts)
        cut = [text if len(text) <= limit else text[:limit] for text in texts]
        try:
            encodings = self._tokenizer.encode_batch_fast(cut)
        except (UnicodeEncodeError, TypeError):  # lone surrogates, which UTF-8 cannot hold
            whole = [text.encode("utf-16", "surrogatepass").decode("utf-16", "replace") for text in cut]
            encodings = self._tokenizer.encode_batch_fast(whole)
        ids = [np.array(encoding.ids or [self.pad_id], dtype=np.int64) for encoding in encodings]
        truncated = sum(
            len(text) > limit or bool(len(own) == self.max_length and encoding.overflowing)
            for text, own, encoding in zip(texts, ids, encodings, strict=True)
        )
        return Encoded(ids, truncated)


def check_texts(texts: Sequence[str]) -> None:
    """Raise BadData, naming the row, unless every text is a string."""
    if isinstance(texts, str):
        raise BadData("One text was given where a list of texts is expected.", "Wrap it in a list: [text].")
    for row, text in enumerate(texts):
        if not isinstance(text, str):
            raise BadData(
                f"Text {row + 1} is {type(text).__name__}, not a string.", 'Give every text as a str; "" for none.'
            )


def batches(lengths: Sequence[int], token_budget: int = 8192, rows: int = 64) -> Iterator[NDArray[np.intp]]:
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


def padded(ids: Sequence[Ids], pad_id: int) -> tuple[Ids, Ids]:
    """B arrays of token ids -> (B, T) ids and (B, T) mask, 1 for a token and 0 for padding."""
    width = max(len(row) for row in ids)
    filled = np.full((len(ids), width), pad_id, dtype=np.int64)
    mask = np.zeros((len(ids), width), dtype=np.int64)
    for row, own in enumerate(ids):
        filled[row, : len(own)] = own
        mask[row, : len(own)] = 1
    return filled, mask
