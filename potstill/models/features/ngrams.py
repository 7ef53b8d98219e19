"""TF-IDF over words and over characters within words, as plain data (JSON)."""

from __future__ import annotations

import json
from array import array
from collections import Counter
from collections.abc import Sequence
from itertools import chain, pairwise
from pathlib import Path
from typing import Self

import numpy as np

from potstill.data.unicode_forms import normalise_unicode
from potstill.errors import RunNotFound
from potstill.models.features.base import PaddedFeatures, SparseFeatures, VectorizerConfig
from potstill.models.features.words import SPLITTINGS

NGRAMS_FILE = "ngrams.json"
FORMAT = max(SPLITTINGS)
MAX_CHARS = 20_000  # of a text; more is not read, so that a 50 MB text cannot stop a server
MAX_CACHED_TOKENS, MAX_CACHED_TOKEN_LENGTH = 200_000, 32


class NGramVectorizer:
    """TF-IDF over words (1-2) and over characters between blanks (3-5), sublinear in the counts.

    In scripts without blanks each character is a word, so that the word n-grams are those of one and two characters; an
    emoji is a word, too (`words`). The two parts are scaled to equal L2 norm, and a text's features to norm one.

    Args:
        words: the word n-grams, in the order of their ids.
        chars: the character n-grams, whose ids follow.
        idf: (V,) inverse document frequency of each.
        version: a key of `SPLITTINGS`.
    """

    def __init__(self, words: Sequence[str], chars: Sequence[str], idf: Sequence[float], version: int = FORMAT) -> None:
        self.version, self._split = version, SPLITTINGS[version]
        self.words, self.chars = list(words), list(chars)
        self.idf = np.asarray(idf, dtype=np.float32)
        self.width = len(self.words) + len(self.chars)
        self._word_id = {gram: i for i, gram in enumerate(self.words)}
        self._char_id = {gram: len(self.words) + i for i, gram in enumerate(self.chars)}
        self._cache: dict[str, tuple[array[int], list[str]]] = {}

    @classmethod
    def fit(cls, texts: Sequence[str], max_features: int = 60_000, min_df: int | None = None) -> Self:
        """Select the n-grams of the highest document frequency, with smoothed inverse document frequencies.

        Args:
            texts: N training texts; above 20,000 an even stride of them is counted.
            max_features: number of n-grams to keep.
            min_df: number of texts an n-gram must be in; None takes 1 below 2,000 texts, else 2.
        """
        counted = texts[:: max(1, len(texts) // 20_000)]
        min_count = min_df if min_df is not None else (1 if len(counted) < 2_000 else 2)
        split = SPLITTINGS[FORMAT]
        in_words: Counter[str] = Counter()
        in_chars: Counter[str] = Counter()
        for text in counted:
            tokens = normalize_text(text).split()
            words = split.words(" ".join(tokens))
            in_words.update(set(words) | {f"{a} {b}" for a, b in pairwise(words)})
            in_chars.update(set(chain.from_iterable(map(split.grams, set(tokens)))))
        # Ties are broken by the n-gram itself, so that the order of the texts does not matter.
        frequency = {(0, gram): n for gram, n in in_words.items() if n >= min_count}
        frequency |= {(1, gram): n for gram, n in in_chars.items() if n >= min_count}
        features = sorted(frequency, key=lambda key: (-frequency[key], key))[:max_features]
        features.sort(key=lambda key: (key[0], -frequency[key], key[1]))
        idf = [float(np.log((1 + len(counted)) / (1 + frequency[key])) + 1) for key in features]
        return cls([g for view, g in features if view == 0], [g for view, g in features if view == 1], idf)

    @property
    def config(self) -> VectorizerConfig:
        """What `load` needs beside the folder."""
        return VectorizerConfig("ngrams")

    def transform(self, texts: Sequence[str]) -> SparseFeatures:
        """N texts -> TF-IDF entries, ids ascending within a text; a text without a known n-gram has none."""
        token_ids: array[int] = array("q")
        lengths = np.zeros(len(texts), dtype=np.int64)
        word_id, cache = self._word_id.get, self._cache
        for i, text in enumerate(texts):
            start, previous = len(token_ids), None
            for token in normalize_text(text).split():
                ids_of_token, words = cache.get(token) or self._look_up(token)
                token_ids.extend(ids_of_token)
                for word in words:
                    if previous is not None and (bigram := word_id(f"{previous} {word}")) is not None:
                        token_ids.append(bigram)
                    previous = word
            lengths[i] = len(token_ids) - start
        rows = np.repeat(np.arange(len(texts), dtype=np.int64), lengths)
        width = max(self.width, 1)
        cells, counts = np.unique(rows * width + np.frombuffer(token_ids, dtype=np.int64), return_counts=True)
        rows, ids = np.divmod(cells, width)
        values = ((1.0 + np.log(counts)) * self.idf[ids]).astype(np.float32)
        # Words and characters are scaled to equal norm: there are ten times as many of the latter.
        view = rows * 2 + (ids >= len(self.words))
        norms = np.sqrt(np.bincount(view, weights=values.astype(np.float64) ** 2, minlength=2 * len(texts)))
        views = np.maximum((norms.reshape(-1, 2) > 0).sum(axis=1), 1)
        values = (values / (norms[view] * np.sqrt(views[rows]))).astype(np.float32)
        starts = np.searchsorted(rows, np.arange(len(texts) + 1)).astype(np.int64)
        return SparseFeatures(starts, ids, values, truncated=sum(len(text) > MAX_CHARS for text in texts))

    def __call__(self, texts: Sequence[str]) -> PaddedFeatures:
        """N texts -> padded (N, T) arrays."""
        return self.transform(texts).pad()

    def _look_up(self, token: str) -> tuple[array[int], list[str]]:
        """The ids of a token's n-grams of characters and of single words, and its words; cached."""
        words = self._split.words(token)
        ids = [self._char_id[gram] for gram in self._split.grams(token) if gram in self._char_id]
        ids += [self._word_id[word] for word in words if word in self._word_id]
        entry = (array("q", ids), words)
        if len(self._cache) < MAX_CACHED_TOKENS and len(token) <= MAX_CACHED_TOKEN_LENGTH:
            self._cache[token] = entry
        return entry

    def save(self, folder: Path) -> None:
        """Write `ngrams.json`."""
        record = {"format": self.version, "words": self.words, "chars": self.chars, "idf": [float(x) for x in self.idf]}
        (folder / NGRAMS_FILE).write_text(json.dumps(record, ensure_ascii=True), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path, config: VectorizerConfig) -> Self:
        """Load what `save` wrote, in this format or an earlier one.

        Raises:
            RunNotFound: the file is of a newer format.
        """
        record = json.loads((folder / NGRAMS_FILE).read_text(encoding="utf-8"))
        if record["format"] not in SPLITTINGS:
            raise RunNotFound(
                f"{folder / NGRAMS_FILE} has format {record['format']}, and this potstill reads up to {FORMAT}.",
                "Upgrade with: pip install --upgrade potstill",
            )
        return cls(record["words"], record["chars"], record["idf"], record["format"])


def normalize_text(text: str) -> str:
    """The text in lower case and Unicode form NFKC, cut at MAX_CHARS."""
    text = text[:MAX_CHARS]
    return text.lower() if text.isascii() else normalise_unicode("NFKC", text).lower()
