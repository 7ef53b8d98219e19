"""Features of pairs of texts.

`PairNGramVectorizer` is for a linear student, which cannot compare two texts by itself: its features are the n-grams
that both texts have, those of one alone, and measures of overlap. `PairSubwordVectorizer` keeps the two texts apart,
for a student that compares their mean vectors. Products of a word of one text with a word of the other are not used:
they are too many for few rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from potstill.data.pairs import split_pair
from potstill.models.features.base import PaddedFeatures, SparseFeatures, VectorizerConfig
from potstill.models.features.ngrams import NGramVectorizer
from potstill.models.features.subwords import SubwordVectorizer

Floats = NDArray[np.float32]
# Overlaps x enter as hinge functions max(x - knot, 0), so that a linear student can fit a threshold.
OVERLAP_KNOTS = (0.0, 0.25, 0.5, 0.75)
N_OVERLAP_FEATURES = 7
SCALE = 0.5  # of the overlaps; the n-grams of a text have norm one


class PairNGramVectorizer:
    """N-grams of two texts: shared by both, in the first alone, in the second alone; and measures of overlap.

    The ids are three blocks of n-gram ids, then the overlaps: cosine and the share of each text that is in the other,
    by words and by characters, and the ratio of the lengths, each at several `OVERLAP_KNOTS`.

    Args:
        grams: the n-grams of single texts.
    """

    def __init__(self, grams: NGramVectorizer) -> None:
        self.grams = grams
        self.width = 3 * grams.width + N_OVERLAP_FEATURES * len(OVERLAP_KNOTS)

    @classmethod
    def fit(cls, texts: Sequence[str], max_features: int = 60_000, min_df: int | None = None) -> Self:
        """Select the n-grams of N pairs; `max_features` counts all three ids of each."""
        both = [text for pair in map(split_pair, texts) for text in pair]
        return cls(NGramVectorizer.fit(both, max_features=max(1, max_features // 3), min_df=min_df))

    @property
    def config(self) -> VectorizerConfig:
        """What `load` needs beside the folder."""
        return VectorizerConfig("pair-ngrams")

    def transform(self, texts: Sequence[str]) -> SparseFeatures:
        """N pairs -> their entries, ids ascending within a pair."""
        pairs = [split_pair(text) for text in texts]
        n, width = len(pairs), max(self.grams.width, 1)
        first, second = (self.grams.transform([pair[side] for pair in pairs]) for side in (0, 1))
        one, two = (_cells(side, width) for side in (first, second))
        _, in_one, in_two = np.intersect1d(one, two, assume_unique=True, return_indices=True)
        shared = np.minimum(first.values[in_one], second.values[in_two])
        only_one, only_two = (
            np.setdiff1d(np.arange(len(cells)), in_both, assume_unique=True)
            for cells, in_both in ((one, in_one), (two, in_two))
        )
        overlaps = np.concatenate([self._overlaps(first, second, in_one, in_two, n), _ratio(pairs)], axis=1)
        hinges = np.maximum(overlaps[:, :, None] - np.array(OVERLAP_KNOTS), 0).reshape(n, -1) * SCALE
        rows = np.concatenate([one[in_one] // width, one[only_one] // width, two[only_two] // width])
        ids = np.concatenate([one[in_one] % width, one[only_one] % width + width, two[only_two] % width + 2 * width])
        values = np.concatenate([shared, first.values[only_one], second.values[only_two]])
        at_rows, at_columns = np.nonzero(hinges)
        rows = np.concatenate([rows, at_rows])
        ids = np.concatenate([ids, at_columns + 3 * self.grams.width])
        values = np.concatenate([values, hinges[at_rows, at_columns]]).astype(np.float32)
        order = np.lexsort((ids, rows))
        starts = np.searchsorted(rows[order], np.arange(n + 1)).astype(np.int64)
        return SparseFeatures(
            starts, ids[order].astype(np.int64), values[order], truncated=first.truncated + second.truncated
        )

    def _overlaps(
        self, first: SparseFeatures, second: SparseFeatures, in_one: NDArray[np.intp], in_two: NDArray[np.intp], n: int
    ) -> NDArray[np.float64]:
        """(N, 6) cosine, share of the first in the second, and the reverse; by words, then by characters."""
        found = []
        for view in (False, True):
            u, v = (
                np.where((side.ids >= len(self.grams.words)) == view, side.values.astype(np.float64), 0.0)
                for side in (first, second)
            )
            rows_u, rows_v = (np.repeat(np.arange(n), np.diff(side.starts)) for side in (first, second))
            norm_u, norm_v = np.bincount(rows_u, u**2, n), np.bincount(rows_v, v**2, n)
            shared_rows = rows_u[in_one]
            dot = np.bincount(shared_rows, u[in_one] * v[in_two], n)
            found += [
                dot / np.sqrt(np.maximum(norm_u * norm_v, 1e-12)),
                np.bincount(shared_rows, u[in_one] ** 2, n) / np.maximum(norm_u, 1e-12),
                np.bincount(shared_rows, v[in_two] ** 2, n) / np.maximum(norm_v, 1e-12),
            ]
        return np.stack(found, axis=1)

    def __call__(self, texts: Sequence[str]) -> PaddedFeatures:
        """N pairs -> padded (N, T) arrays."""
        return self.transform(texts).pad()

    def save(self, folder: Path) -> None:
        """Write what `load` reads."""
        self.grams.save(folder)

    @classmethod
    def load(cls, folder: Path, config: VectorizerConfig) -> Self:
        """Load what `save` wrote."""
        return cls(NGramVectorizer.load(folder, config))


class PairSubwordVectorizer:
    """Subwords of two texts in one list of entries, each with its weight in the first and in the second text.

    Args:
        subwords: the vectorizer of single texts.
    """

    def __init__(self, subwords: SubwordVectorizer) -> None:
        self.subwords = subwords
        self.width = subwords.width

    @property
    def config(self) -> VectorizerConfig:
        """What `load` needs beside the folder."""
        return replace(self.subwords.config, vectorizer="pair-subwords")

    def transform(self, texts: Sequence[str]) -> SparseFeatures:
        """N pairs -> the entries of the first text, then those of the second."""
        pairs = [split_pair(text) for text in texts]
        first, second = (self.subwords.transform([pair[side] for pair in pairs]) for side in (0, 1))
        rows = np.concatenate([np.repeat(np.arange(len(pairs)), np.diff(side.starts)) for side in (first, second)])
        order = np.argsort(rows, kind="stable")
        none_one, none_two = np.zeros_like(first.values), np.zeros_like(second.values)
        return SparseFeatures(
            first.starts + second.starts,
            np.concatenate([first.ids, second.ids])[order],
            np.concatenate([first.values, none_two])[order],
            np.concatenate([none_one, second.values])[order],
            first.truncated + second.truncated,
            first.unknown + second.unknown,
        )

    def __call__(self, texts: Sequence[str]) -> PaddedFeatures:
        """N pairs -> padded (N, T) arrays."""
        return self.transform(texts).pad()

    def save(self, folder: Path) -> None:
        """Write what `load` reads."""
        self.subwords.save(folder)

    @classmethod
    def load(cls, folder: Path, config: VectorizerConfig) -> Self:
        """Load what `save` wrote."""
        return cls(SubwordVectorizer.load(folder, config))


def _cells(side: SparseFeatures, width: int) -> NDArray[np.int64]:
    """(E,) row * width + id of each entry, ascending."""
    return np.asarray(np.repeat(np.arange(len(side.starts) - 1), np.diff(side.starts)) * width + side.ids)


def _ratio(pairs: Sequence[tuple[str, str]]) -> NDArray[np.float64]:
    """(N, 1) length of the shorter text over that of the longer, in characters."""
    sizes = np.array([[len(one), len(two)] for one, two in pairs], dtype=np.float64).reshape(-1, 2)
    return np.asarray((sizes.min(axis=1) / np.maximum(sizes.max(axis=1), 1))[:, None])
