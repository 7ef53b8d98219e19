"""A trie of the labels' tokens, so that common prefixes are computed once. Functions of token ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from potstill.errors import BadSpec


@dataclass(frozen=True)
class LabelTrie:
    """The labels' tokens as a trie; the root is the last token of the text.

    Attributes:
        tokens: (M,) token of each inner node, parents before children. Leaves are scored and are no input.
        parents: (M,) the parent of each inner node, -1 for the root.
        edges: E pairs (inner node or -1, next token) whose log-probabilities are needed, without duplicates.
        paths: per label, the edges from the root to its end; a label's log-probability is the sum over them.
    """

    tokens: tuple[int, ...]
    parents: tuple[int, ...]
    edges: tuple[tuple[int, int], ...]
    paths: tuple[tuple[int, ...], ...]

    @property
    def depths(self) -> list[int]:
        """(M,) number of nodes between the root and each inner node."""
        depths: list[int] = []
        for parent in self.parents:
            depths.append(0 if parent < 0 else depths[parent] + 1)
        return depths

    @property
    def ancestor_mask(self) -> NDArray[np.bool_]:
        """(M, M) bool, True where the column's node is the row's node or an ancestor of it."""
        mask = np.eye(len(self.tokens), dtype=bool)
        for node, parent in enumerate(self.parents):
            if parent >= 0:
                mask[node] |= mask[parent]
        return mask


def needs_end_token(labels: Sequence[Sequence[int]]) -> bool:
    """True if one label's tokens are a prefix of another's: then an end token must be scored too."""
    whole = {tuple(label) for label in labels}
    return any(tuple(label[:n]) in whole for label in labels for n in range(1, len(label)))


def build_label_trie(labels: Sequence[Sequence[int]], n_given: Sequence[int] = ()) -> LabelTrie:
    """The trie of K labels, each of one or more token ids.

    Args:
        labels: K token sequences.
        n_given: for each, how many of its first tokens are given and not scored: they stand before what is scored.

    Raises:
        BadSpec: two labels have the same tokens, or a label has none.
    """
    nodes: dict[tuple[int, ...], int] = {(): -1}
    parents: list[int] = []
    edges: dict[tuple[int, int], int] = {}
    paths: list[tuple[int, ...]] = []
    if any(not label for label in labels) or len({tuple(label) for label in labels}) < len(labels):
        raise BadSpec("Two labels have the same tokens, or one has none.", "Give them other `label_words`.")
    for label, given in zip(labels, n_given or [0] * len(labels), strict=True):
        path = []
        for depth, token in enumerate(label):
            prefix = tuple(label[:depth])
            if prefix not in nodes:
                nodes[prefix] = len(parents)
                parents.append(nodes[prefix[:-1]])
            if depth >= given:
                path.append(edges.setdefault((nodes[prefix], token), len(edges)))
        paths.append(tuple(path))
    return LabelTrie(tuple(key[-1] for key in nodes if key), tuple(parents), tuple(edges), tuple(paths))
