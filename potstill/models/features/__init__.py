"""Texts into a padded bag of (id, value) pairs: the one reader that a bag student is trained and served with.

`NGrams` is TF-IDF over words and over characters within words; `Tokens` is a subword tokenizer; `PairGrams` and
`PairTokens` are both of them for two texts. All are plain data (JSON), and run without torch or scikit-learn, so that
training and serving cannot differ. Does NOT cover the readers of transformers (ids and mask): see `tokens.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from potstill.models.features.base import Bag, Ragged, Reader
from potstill.models.features.ngrams import MAX_CHARS, NGrams
from potstill.models.features.pairs import PairGrams, PairTokens
from potstill.models.features.tokens import Tokens

READERS: dict[str, type[Reader]] = {
    "ngrams": NGrams,
    "tokens": Tokens,
    "pair-ngrams": PairGrams,
    "pair-tokens": PairTokens,
}

__all__ = [
    "MAX_CHARS",
    "READERS",
    "Bag",
    "NGrams",
    "PairGrams",
    "PairTokens",
    "Ragged",
    "Reader",
    "Tokens",
    "load_reader",
]


def load_reader(folder: Path, settings: Mapping[str, Any]) -> Reader:
    """The reader that `settings["reader"]` names, from what it saved in `folder`."""
    return READERS[settings["reader"]].load(folder, settings)
