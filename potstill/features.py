"""Texts into a padded bag of (id, value) pairs: the one reader that a bag student is trained and served with.

`NGrams` is TF-IDF over words and over characters within words; `Tokens` is a subword tokenizer. Both are plain data
(JSON), and both run without torch or scikit-learn, so that training and serving cannot differ.
Does NOT cover the readers of transformers (ids and mask): those live with the bundle.
"""

from __future__ import annotations

import json
import re
import unicodedata
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

NGRAMS_FILE = "ngrams.json"
TOKENIZER_FILE = "tokenizer.json"
WEIGHTS_FILE = "token_weights.json"
MAX_CHARS = 20_000  # what lies beyond is not read: a 50 MB cell must not stop a server
MAX_CACHE = 200_000
WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Bag:
    """What a bag graph eats. Padding has id 0 and value 0.

    Attributes:
        ids: (N, T) int64, rows of the weight table.
        values: (N, T) float32, how much each row counts.
    """

    ids: NDArray[np.int64]
    values: NDArray[np.float32]


@dataclass(frozen=True)
class Ragged:
    """The same without padding: text i owns entries starts[i]:starts[i + 1], the layout of a CSR matrix.

    Attributes:
        starts: (N + 1,) int64.
        ids: (E,) int64.
        values: (E,) float32.
    """

    starts: NDArray[np.int64]
    ids: NDArray[np.int64]
    values: NDArray[np.float32]

    def pad(self) -> Bag:
        """The (N, T) bag, T being the longest text's entries and at least 1."""
        lengths = np.diff(self.starts)
        width = max(int(lengths.max(initial=0)), 1)
        filled = np.arange(width) < lengths[:, None]
        ids = np.zeros(filled.shape, dtype=np.int64)
        values = np.zeros(filled.shape, dtype=np.float32)
        ids[filled] = self.ids
        values[filled] = self.values
        return Bag(ids, values)


class Reader(Protocol):
    """Texts -> bag."""

    width: int

    @property
    def settings(self) -> dict[str, Any]:
        """What `load` needs beside the folder; JSON values only, with the key `reader`."""

    def ragged(self, texts: Sequence[str]) -> Ragged:
        """N texts -> their entries, unpadded."""

    def __call__(self, texts: Sequence[str]) -> Bag:
        """N texts -> the padded (N, T) bag."""

    def save(self, folder: Path) -> None:
        """Write what `load` reads."""

    @classmethod
    def load(cls, folder: Path, settings: Mapping[str, Any]) -> Self:
        """The reader that `save` wrote."""


class NGrams:
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
            tokens = _clean(text).split()
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

    def ragged(self, texts: Sequence[str]) -> Ragged:
        """N texts -> TF-IDF entries, ids ascending within a text; a text without a known n-gram has none."""
        found: array[int] = array("q")
        lengths = np.zeros(len(texts), dtype=np.int64)
        lookup, pieces = self._word_id.get, self._pieces
        for i, text in enumerate(texts):
            before, last = len(found), None
            for token in _clean(text).split():
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
        return Ragged(starts, ids, values)

    def __call__(self, texts: Sequence[str]) -> Bag:
        """N texts -> (N, T) bag."""
        return self.ragged(texts).pad()

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


class Tokens:
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

    def ragged(self, texts: Sequence[str]) -> Ragged:
        """N texts -> one entry a known subword, in order; a text without any has none."""
        # 20 characters a subword bound the work without ever reaching the cut in a written language.
        readable = [_encodable(text[: self.max_length * 20]) for text in texts]
        encoded = [e.ids for e in self._tokenizer.encode_batch_fast(readable, add_special_tokens=False)]
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
        return Ragged(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64), ids, values)

    def __call__(self, texts: Sequence[str]) -> Bag:
        """N texts -> (N, T) bag."""
        return self.ragged(texts).pad()

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


READERS: dict[str, type[NGrams] | type[Tokens]] = {"ngrams": NGrams, "tokens": Tokens}


def load_reader(folder: Path, settings: Mapping[str, Any]) -> NGrams | Tokens:
    """The reader that `settings["reader"]` names, from what it saved in `folder`."""
    return READERS[settings["reader"]].load(folder, settings)


def _clean(text: str) -> str:
    """Lower case, compatibility forms unified, cut at MAX_CHARS."""
    text = text[:MAX_CHARS]
    return text.lower() if text.isascii() else unicodedata.normalize("NFKC", text).lower()


def _encodable(text: str) -> str:
    """The text as Unicode scalar values: lone surrogates, which a lenient decoder leaves behind, become '?'."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def _char_grams(token: str) -> list[str]:
    """The 3-, 4- and 5-character pieces of a token with a blank on either side, shorter tokens whole."""
    padded = f" {token} "
    size = len(padded)
    grams = [padded[i : i + n] for n in (3, 4, 5) if n <= size for i in range(size - n + 1)]
    return grams or [padded]
