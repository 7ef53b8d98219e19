"""TF-IDF over words and over characters within words, as plain data (JSON)."""

from __future__ import annotations

import json
import re
import unicodedata
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import chain, pairwise
from pathlib import Path
from typing import Any, Self

import numpy as np

from potstill.models.features.base import PaddedFeatures, SparseFeatures

NGRAMS_FILE = "ngrams.json"
MAX_CHARS = 20_000  # what lies beyond is not read: a 50 MB cell must not stop a server
MAX_CACHE = 200_000
WORD = re.compile(r"\w+")


class NGramVectorizer:
    """TF-IDF over words (1-2) and over characters within words (3-5): sublinear, each of the two views of equal length.

    Args:
        words: the word n-grams, in the order of their ids.
        chars: the character n-grams, whose ids follow.
        idf: (V,) weight of each.
    """

    def __init__(self, words: Sequence[str], chars: Sequence[str], idf: Sequence[float]) -> None:
        self.words, self.chars = list(words), list(chars)
        self.idf = np.asarray(idf, dtype=np.float32)
        self.width = len(self.words) + len(self.chars)
        self._word_id = {gram: i for i, gram in enumerate(self.words)}
        self._char_id = {gram: len(self.words) + i for i, gram in enumerate(self.chars)}
        self._pieces: dict[str, tuple[array[int], list[str]]] = {}

    @classmethod
    def fit(cls, texts: Sequence[str], max_features: int = 60_000, min_df: int | None = None) -> Self:
        """Choose the n-grams that most of the N texts share, with smooth inverse document frequencies.

        Args:
            texts: training texts; above 20,000 an even stride of them is counted.
            max_features: how many n-grams to keep, by document frequency.
            min_df: fewest texts an n-gram must be in; None takes 1 below 2,000 texts, else 2.
        """
        counted = texts[:: max(1, len(texts) // 20_000)]
        least = min_df if min_df is not None else (1 if len(counted) < 2_000 else 2)
        in_words: Counter[str] = Counter()
        in_chars: Counter[str] = Counter()
        for text in counted:
            tokens = normalize_text(text).split()
            words = WORD.findall(" ".join(tokens))
            in_words.update(set(words) | {f"{a} {b}" for a, b in pairwise(words)})
            in_chars.update(set(chain.from_iterable(map(_char_grams, set(tokens)))))
        # Ties are broken by the n-gram itself, so that the order of the texts does not matter.
        frequency = {(0, gram): n for gram, n in in_words.items() if n >= least}
        frequency |= {(1, gram): n for gram, n in in_chars.items() if n >= least}
        kept = sorted(frequency, key=lambda key: (-frequency[key], key))[:max_features]
        kept.sort(key=lambda key: (key[0], -frequency[key], key[1]))
        idf = [float(np.log((1 + len(counted)) / (1 + frequency[key])) + 1) for key in kept]
        return cls([g for view, g in kept if view == 0], [g for view, g in kept if view == 1], idf)

    @property
    def settings(self) -> dict[str, Any]:
        """JSON values for `load`."""
        return {"reader": "ngrams"}

    def transform(self, texts: Sequence[str]) -> SparseFeatures:
        """N texts -> TF-IDF entries, ids ascending within a text; a text without a known n-gram has none."""
        found: array[int] = array("q")
        lengths = np.zeros(len(texts), dtype=np.int64)
        lookup, pieces = self._word_id.get, self._pieces
        for i, text in enumerate(texts):
            before, last = len(found), None
            for token in normalize_text(text).split():
                piece = pieces.get(token) or self._look_up(token)
                found.extend(piece[0])
                for word in piece[1]:
                    if last is not None and (pair := lookup(f"{last} {word}")) is not None:
                        found.append(pair)
                    last = word
            lengths[i] = len(found) - before
        rows = np.repeat(np.arange(len(texts), dtype=np.int64), lengths)
        width = max(self.width, 1)
        cells, counts = np.unique(rows * width + np.frombuffer(found, dtype=np.int64), return_counts=True)
        rows, ids = np.divmod(cells, width)
        values = ((1.0 + np.log(counts)) * self.idf[ids]).astype(np.float32)
        # Words and characters are scaled to equal length: there are ten times as many of the latter.
        view = rows * 2 + (ids >= len(self.words))
        norms = np.sqrt(np.bincount(view, weights=values.astype(np.float64) ** 2, minlength=2 * len(texts)))
        views = np.maximum((norms.reshape(-1, 2) > 0).sum(axis=1), 1)
        values = (values / (norms[view] * np.sqrt(views[rows]))).astype(np.float32)
        starts = np.searchsorted(rows, np.arange(len(texts) + 1)).astype(np.int64)
        return SparseFeatures(starts, ids, values, truncated=sum(len(text) > MAX_CHARS for text in texts))

    def __call__(self, texts: Sequence[str]) -> PaddedFeatures:
        """N texts -> (N, T) bag."""
        return self.transform(texts).pad()

    def _look_up(self, token: str) -> tuple[array[int], list[str]]:
        """The ids of a token's characters and words, and its words; remembered, as texts repeat their words."""
        words = WORD.findall(token)
        ids = [self._char_id[gram] for gram in _char_grams(token) if gram in self._char_id]
        ids += [self._word_id[word] for word in words if word in self._word_id]
        piece = (array("q", ids), words)
        if len(self._pieces) < MAX_CACHE and len(token) <= 32:
            self._pieces[token] = piece
        return piece

    def save(self, folder: Path) -> None:
        """Write `ngrams.json`."""
        record = {"format": 1, "words": self.words, "chars": self.chars, "idf": [float(x) for x in self.idf]}
        (folder / NGRAMS_FILE).write_text(json.dumps(record, ensure_ascii=True), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path, settings: Mapping[str, Any]) -> Self:
        """The reader that `save` wrote."""
        record = json.loads((folder / NGRAMS_FILE).read_text(encoding="utf-8"))
        return cls(record["words"], record["chars"], record["idf"])


def normalize_text(text: str) -> str:
    """Lower case, compatibility forms unified, cut at MAX_CHARS."""
    text = text[:MAX_CHARS]
    return text.lower() if text.isascii() else unicodedata.normalize("NFKC", text).lower()


def _char_grams(token: str) -> list[str]:
    """The 3-, 4- and 5-character pieces of a token with a blank on either side, shorter tokens whole."""
    padded = f" {token} "
    size = len(padded)
    grams = [padded[i : i + n] for n in (3, 4, 5) if n <= size for i in range(size - n + 1)]
    return grams or [padded]
