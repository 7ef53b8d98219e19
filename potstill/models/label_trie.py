"""Labels as a tree of tokens, so that what two labels begin with is computed once. Functions of token ids, no model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from potstill.errors import BadSpec


@dataclass(frozen=True)
class LabelTrie:
    """The labels' tokens as a tree; the root is the last token of the text.

    Attributes:
        tokens: (M,) the token of each inner node, parents before children. Leaves are scored and never fed.
        parents: (M,) the inner node before it, -1 for the root.
        edges: E pairs (inner node or -1, next token) whose log-probability is wanted, without duplicates.
        paths: per label, the edges from the root to its end; a label's score is the sum over them.
    """

    tokens: tuple[int, ...]
    parents: tuple[int, ...]
    edges: tuple[tuple[int, int], ...]
    paths: tuple[tuple[int, ...], ...]

    @property
    def depths(self) -> list[int]:
        """(M,) how many tokens after the text each inner node is, from 0."""
        depths: list[int] = []
        for parent in self.parents:
            depths.append(0 if parent < 0 else depths[parent] + 1)
        return depths

    @property
    def ancestor_mask(self) -> NDArray[np.bool_]:
        """(M, M), True where the column is the row's node itself or before it."""
        sees = np.eye(len(self.tokens), dtype=bool)
        for node, parent in enumerate(self.parents):
            if parent >= 0:
                sees[node] |= sees[parent]
        return sees


def needs_end_token(labels: Sequence[Sequence[int]]) -> bool:
    """True if one label's tokens begin another's: then only what follows a label tells the two apart."""
    known = {tuple(label) for label in labels}
    return any(tuple(label[:n]) in known for label in labels for n in range(1, len(label)))


def build_label_trie(labels: Sequence[Sequence[int]]) -> LabelTrie:
    """The tree over K labels of token ids, each at least one token long.

    Raises:
        BadSpec: two labels have the same tokens, or a label has none.
    """
    nodes: dict[tuple[int, ...], int] = {(): -1}
    parents: list[int] = []
    edges: dict[tuple[int, int], int] = {}
    paths: list[tuple[int, ...]] = []
    if any(not label for label in labels) or len({tuple(label) for label in labels}) < len(labels):
        raise BadSpec("Two labels read the same to this model, or one is empty.", "Give them other `label_words`.")
    for label in labels:
        path = []
        for depth, token in enumerate(label):
            before = tuple(label[:depth])
            if before not in nodes:
                nodes[before] = len(parents)
                parents.append(nodes[before[:-1]])
            path.append(edges.setdefault((nodes[before], token), len(edges)))
        paths.append(tuple(path))
    return LabelTrie(tuple(key[-1] for key in nodes if key), tuple(parents), tuple(edges), tuple(paths))
