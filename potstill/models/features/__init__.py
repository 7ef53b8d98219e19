"""Vectorizers: texts -> sparse (id, value) features, the same in training and in serving.

`NGramVectorizer` is TF-IDF over words and over characters within words; `SubwordVectorizer` is a subword tokenizer;
`PairNGramVectorizer` and `PairSubwordVectorizer` do the same for pairs of texts. All are stored as JSON and run without
torch or scikit-learn. The inputs of transformers (token ids and mask) are in `models.tokens`.
"""

from __future__ import annotations

from pathlib import Path

from potstill.models.features.base import PaddedFeatures, SparseFeatures, Vectorizer, VectorizerConfig
from potstill.models.features.ngrams import MAX_CHARS, NGramVectorizer
from potstill.models.features.pairs import PairNGramVectorizer, PairSubwordVectorizer
from potstill.models.features.subwords import SubwordVectorizer

VECTORIZERS: dict[str, type[Vectorizer]] = {
    "ngrams": NGramVectorizer,
    "subwords": SubwordVectorizer,
    "pair-ngrams": PairNGramVectorizer,
    "pair-subwords": PairSubwordVectorizer,
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
    "VectorizerConfig",
    "load_vectorizer",
]


def load_vectorizer(folder: Path, config: VectorizerConfig) -> Vectorizer:
    """Load the vectorizer that was saved in `folder`.

    Raises:
        KeyError: `config` names none of `VECTORIZERS`.
    """
    return VECTORIZERS[config.vectorizer].load(folder, config)
