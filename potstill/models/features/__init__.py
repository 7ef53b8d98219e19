"""Texts into a padded bag of (id, value) pairs: the one reader that a bag student is trained and served with.

`NGrams` is TF-IDF over words and over characters within words; `Tokens` is a subword tokenizer; `PairGrams` and
`PairTokens` are both of them for two texts. All are plain data (JSON), and run without torch or scikit-learn, so that
training and serving cannot differ. Does NOT cover the readers of transformers (ids and mask): see `tokens.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from potstill.models.features.base import PaddedFeatures, SparseFeatures, Vectorizer
from potstill.models.features.ngrams import MAX_CHARS, NGramVectorizer
from potstill.models.features.pairs import PairNGramVectorizer, PairSubwordVectorizer
from potstill.models.features.subwords import SubwordVectorizer

VECTORIZERS: dict[str, type[Vectorizer]] = {
    "ngrams": NGramVectorizer,
    "tokens": SubwordVectorizer,
    "pair-ngrams": PairNGramVectorizer,
    "pair-tokens": PairSubwordVectorizer,
}

__all__ = [
    "MAX_CHARS",
    "VECTORIZERS",
    "NGramVectorizer",
    "PaddedFeatures",
    "PairNGramVectorizer",
    "PairSubwordVectorizer",
    "SparseFeatures",
    "SubwordVectorizer",
    "Vectorizer",
    "load_vectorizer",
]


def load_vectorizer(folder: Path, settings: Mapping[str, Any]) -> Vectorizer:
    """The reader that `settings["reader"]` names, from what it saved in `folder`."""
    return VECTORIZERS[settings["reader"]].load(folder, settings)
