"""Subwords of a `tokenizers` tokenizer as a bag, for students of static vectors."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Self

import numpy as np

from potstill.models.features.base import PaddedFeatures, SparseFeatures

TOKENIZER_FILE = "tokenizer.json"
WEIGHTS_FILE = "token_weights.json"


class SubwordVectorizer:
    """Subwords of a `tokenizers` tokenizer; each counts 1/length, or its weight/length. Unknown subwords are left out.

    Args:
        tokenizer: the text of a `tokenizer.json`.
        max_length: subwords kept of a text.
        weights: (V,) one weight a subword; None means 1.
    """

    def __init__(self, tokenizer: str, max_length: int = 512, weights: Iterable[float] | None = None) -> None:
        from tokenizers import Tokenizer

        self._tokenizer = Tokenizer.from_str(tokenizer)
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(max_length)
        self.max_length = max_length
        self.weights = None if weights is None else np.asarray(list(weights), dtype=np.float32)
        self.width = int(self._tokenizer.get_vocab_size())
        unknown = json.loads(tokenizer).get("model", {}).get("unk_token")
        self._unknown = self._tokenizer.token_to_id(unknown) if isinstance(unknown, str) else None

    @property
    def settings(self) -> dict[str, Any]:
        """JSON values for `load`."""
        return {"reader": "tokens", "max_length": self.max_length, "weighted": self.weights is not None}

    def transform(self, texts: Sequence[str]) -> SparseFeatures:
        """N texts -> one entry a known subword, in order; a text without any has none."""
        # 20 characters a subword bound the work without ever reaching the cut in a written language.
        most = self.max_length * 20
        readable = [_encodable(text[:most]) for text in texts]
        found = self._tokenizer.encode_batch_fast(readable, add_special_tokens=False)
        encoded = [e.ids for e in found]
        # Asking each encoding what it lost is dear; only one that is full can have lost something.
        full = (len(own) == self.max_length and bool(e.overflowing) for own, e in zip(encoded, found, strict=True))
        truncated = sum(lost or len(text) > most for lost, text in zip(full, texts, strict=True))
        lengths = np.fromiter(map(len, encoded), dtype=np.int64, count=len(encoded))
        ids = np.fromiter(chain.from_iterable(encoded), dtype=np.int64, count=int(lengths.sum()))
        if self._unknown is not None:
            known = ids != self._unknown
            if not known.all():
                rows = np.repeat(np.arange(len(texts)), lengths)[known]
                lengths = np.bincount(rows, minlength=len(texts)).astype(np.int64)
                ids = ids[known]
        values = np.repeat(1.0 / np.maximum(lengths, 1), lengths).astype(np.float32)
        if self.weights is not None:
            values *= self.weights[ids]
        starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        return SparseFeatures(starts, ids, values, truncated=truncated)

    def __call__(self, texts: Sequence[str]) -> PaddedFeatures:
        """N texts -> (N, T) bag."""
        return self.transform(texts).pad()

    def save(self, folder: Path) -> None:
        """Write `tokenizer.json`, and `token_weights.json` if there are weights."""
        self._tokenizer.save(str(folder / TOKENIZER_FILE))
        if self.weights is not None:
            weights = json.dumps([float(x) for x in self.weights])
            (folder / WEIGHTS_FILE).write_text(weights, encoding="utf-8")

    @classmethod
    def load(cls, folder: Path, settings: Mapping[str, Any]) -> Self:
        """The reader that `save` wrote."""
        weights = None
        if settings.get("weighted"):
            weights = json.loads((folder / WEIGHTS_FILE).read_text(encoding="utf-8"))
        text = (folder / TOKENIZER_FILE).read_text(encoding="utf-8")
        return cls(text, int(settings["max_length"]), weights)


def _encodable(text: str) -> str:
    """The text as Unicode scalar values: lone surrogates, which a lenient decoder leaves behind, become '?'."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")
