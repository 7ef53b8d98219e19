"""Subwords of a `tokenizers` tokenizer as features, for students with static embeddings."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import Self

import numpy as np

from potstill.models.features.base import PaddedFeatures, SparseFeatures, VectorizerConfig

TOKENIZER_FILE = "tokenizer.json"
WEIGHTS_FILE = "token_weights.json"
MAX_LENGTH = 512
MAX_UNKNOWN_SHARE = 0.5  # a text of which more than this share is unknown subwords is counted


class SubwordVectorizer:
    """Subwords of a text; the value of each is its weight divided by their number. Unknown subwords are left out.

    Args:
        tokenizer: the content of a `tokenizer.json`.
        max_length: subwords kept of a text.
        weights: (V,) weight of each subword; None means 1.
    """

    def __init__(self, tokenizer: str, max_length: int = MAX_LENGTH, weights: Iterable[float] | None = None) -> None:
        from tokenizers import Tokenizer

        self._tokenizer = Tokenizer.from_str(tokenizer)
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(max_length)
        self.max_length = max_length
        self.weights = None if weights is None else np.asarray(list(weights), dtype=np.float32)
        self.width = int(self._tokenizer.get_vocab_size())
        unknown = json.loads(tokenizer).get("model", {}).get("unk_token")
        self._unknown_id = self._tokenizer.token_to_id(unknown) if isinstance(unknown, str) else None

    @property
    def config(self) -> VectorizerConfig:
        """What `load` needs beside the folder."""
        return VectorizerConfig("subwords", self.max_length, weighted=self.weights is not None)

    def transform(self, texts: Sequence[str]) -> SparseFeatures:
        """N texts -> one entry per known subword, in order; a text without any has none."""
        # Bounds the work; written languages have fewer characters per subword.
        max_chars = self.max_length * 20
        readable = [_encodable(text[:max_chars]) for text in texts]
        encodings = self._tokenizer.encode_batch_fast(readable, add_special_tokens=False)
        token_ids = [encoding.ids for encoding in encodings]
        # `overflowing` is slow; only an encoding of full length can have any.
        cut = (
            len(own) == self.max_length and bool(encoding.overflowing)
            for own, encoding in zip(token_ids, encodings, strict=True)
        )
        truncated = sum(is_cut or len(text) > max_chars for is_cut, text in zip(cut, texts, strict=True))
        lengths = np.fromiter(map(len, token_ids), dtype=np.int64, count=len(token_ids))
        ids = np.fromiter(chain.from_iterable(token_ids), dtype=np.int64, count=int(lengths.sum()))
        unknown = 0
        if self._unknown_id is not None:
            is_known = ids != self._unknown_id
            if not is_known.all():
                rows = np.repeat(np.arange(len(texts)), lengths)[is_known]
                known = np.bincount(rows, minlength=len(texts)).astype(np.int64)
                unknown = int((lengths - known > MAX_UNKNOWN_SHARE * lengths).sum())
                lengths, ids = known, ids[is_known]
        values = np.repeat(1.0 / np.maximum(lengths, 1), lengths).astype(np.float32)
        if self.weights is not None:
            values *= self.weights[ids]
        starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        return SparseFeatures(starts, ids, values, truncated=truncated, unknown=unknown)

    def __call__(self, texts: Sequence[str]) -> PaddedFeatures:
        """N texts -> padded (N, T) arrays."""
        return self.transform(texts).pad()

    def save(self, folder: Path) -> None:
        """Write `tokenizer.json`, and `token_weights.json` if there are weights."""
        self._tokenizer.save(str(folder / TOKENIZER_FILE))
        if self.weights is not None:
            weights = json.dumps([float(x) for x in self.weights])
            (folder / WEIGHTS_FILE).write_text(weights, encoding="utf-8")

    @classmethod
    def load(cls, folder: Path, config: VectorizerConfig) -> Self:
        """Load what `save` wrote."""
        weights = None
        if config.weighted:
            weights = json.loads((folder / WEIGHTS_FILE).read_text(encoding="utf-8"))
        tokenizer = (folder / TOKENIZER_FILE).read_text(encoding="utf-8")
        return cls(tokenizer, config.max_length or MAX_LENGTH, weights)


def _encodable(text: str) -> str:
    """The text with lone surrogates, which UTF-8 cannot encode, replaced by '?'."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")
