"""Texts -> what a graph eats, in batches: one reader for each kind of graph a student exports.

Needs numpy (and tokenizers, where the kind uses one). Does not run graphs; `bundle.py` does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from potstill.features import load_reader
from potstill.tokens import TokenIds, batches, check_texts, padded

Feeds = dict[str, NDArray[Any]]
# Texts a batch of a transformer: measured on two cores, 16 of like length are faster than 8, and than 64.
ROWS = 16


class Reader(Protocol):
    """Texts -> batches of a graph's inputs."""

    def feeds(self, texts: Sequence[str]) -> Iterator[tuple[NDArray[np.intp], Feeds]]:
        """Batches that cover N texts once: the (B,) row numbers, and the inputs by name.

        Raises:
            BadData: a text is not a string.
        """


class Tokenised:
    """Token ids and mask, for transformers: settings `max_length` and `pad_id`."""

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self._tokens = TokenIds(folder / "tokenizer.json", int(settings["max_length"]))
        self._pad_id = int(settings["pad_id"])

    def feeds(self, texts: Sequence[str]) -> Iterator[tuple[NDArray[np.intp], Feeds]]:
        """(B, T) `input_ids` and `attention_mask`, batches sorted by length."""
        ids = self._tokens.encode(texts).ids
        for rows in batches([len(own) for own in ids], rows=ROWS):
            filled, mask = padded([ids[row] for row in rows], self._pad_id)
            yield rows, {"input_ids": filled, "attention_mask": mask}


class Bagged:
    """Ids and values of a bag, for the linear and the static student: settings as their reader wrote them."""

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self._reader = load_reader(folder, settings)

    def feeds(self, texts: Sequence[str]) -> Iterator[tuple[NDArray[np.intp], Feeds]]:
        """(B, T) `ids` and `values`, and `second` for pairs of vectors; batches sorted by length."""
        check_texts(texts)
        if not texts:
            return
        ragged = self._reader.ragged(texts)
        starts = ragged.starts
        for rows in batches(np.maximum(np.diff(starts), 1).tolist(), rows=128):
            bag = ragged.at(rows).pad()
            feeds: Feeds = {"ids": bag.ids, "values": bag.values}
            yield rows, feeds if bag.second is None else feeds | {"second": bag.second}


READERS: dict[str, Callable[[Path, Mapping[str, Any]], Reader]] = {"encoder": Tokenised, "bag": Bagged}
