"""Verbalizers: the words that stand for a label in a pattern, and how a label's score is read from their tokens.

A label may have several words, a word several tokens (Schick and Schuetze 2021). Knows token ids, no model, no texts
of the lesson: `candidates` is told what a model thought of them. Does not learn words as free vectors.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from potstill.errors import BadSpec
from potstill.models.label_trie import build_label_trie, needs_end_token

TokenAggregation = Literal["sum", "mean", "blend"]
LabelWords = tuple[tuple[str, ...], ...]
# Words that say nothing about a label, in descriptions.
_EMPTY = frozenset(
    "a about also an and any are as at be by can do does for from has have how if in into is it its more no not of on "
    "one or other some such text texts than that the their them there these they this to user was what when where "
    "which who why with would asks asking wants question questions customer label message something".split()
)


@dataclass(frozen=True)
class VerbalizerSpec:
    """How K scores are read from a model's log-probabilities at P places.

    Attributes:
        tokens: (M,) tokens that are fed behind the text, parents before children; none where a mask takes their place.
        parents: (M,) the place before each of them, -1 for the first place.
        edges: E pairs (place in [0, P), token) whose log-probability is wanted.
        shares: (E, K), how much an edge counts for a label.
        normalised: whether log-probabilities over the whole vocabulary are needed, or the logits rank alike.
    """

    tokens: tuple[int, ...]
    parents: tuple[int, ...]
    edges: tuple[tuple[int, int], ...]
    edge_weights: NDArray[np.float32]
    normalised: bool

    @property
    def n_positions(self) -> int:
        """P: how many places of the model's output are read."""
        return 1 + max(place for place, _ in self.edges)

    def to_json(self) -> dict[str, Any]:
        """JSON values; `from_json` reads them."""
        return {**asdict(self), "edge_weights": self.edge_weights.tolist()}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Self:
        """What `to_json` wrote."""
        edges = tuple((int(place), int(token)) for place, token in record["edges"])
        weights = np.array(record["edge_weights"], dtype=np.float32)
        return cls(tuple(record["tokens"]), tuple(record["parents"]), edges, weights, bool(record["normalised"]))


def causal_verbalizer(
    words: Sequence[Sequence[Sequence[int]]], token_aggregation: TokenAggregation, end: int
) -> VerbalizerSpec:
    """A causal model's reading of K labels of one or more words of one or more tokens each.

    Args:
        words: label -> words -> token ids.
        several: "sum" or "mean" of a word's log-probabilities, each token read after those before it; "blend": the mean
            of its tokens' logits at the first place, which feeds no label and costs nothing.
        end: the token that must follow a word which begins another one.

    Raises:
        BadSpec: two labels have the same tokens, or a label has none.
    """
    if token_aggregation == "blend":
        return _side_by_side(words, "blend")
    flat = [list(word) for label in words for word in label]
    if needs_end_token(flat):
        flat = [[*word, end] for word in flat]
    tree = build_label_trie(flat)
    shares = np.zeros((len(tree.edges), len(words)), dtype=np.float32)
    word = 0
    for label, own in enumerate(words):
        for _ in own:
            path = tree.paths[word]
            shares[list(path), label] += 1 / len(own) / (len(path) if token_aggregation == "mean" else 1)
            word += 1
    edges = tuple((node + 1, token) for node, token in tree.edges)
    return VerbalizerSpec(tree.tokens, tree.parents, edges, shares, normalised=bool(tree.tokens))


def masked_verbalizer(words: Sequence[Sequence[Sequence[int]]], token_aggregation: TokenAggregation) -> VerbalizerSpec:
    """A masked model's reading: a word's i-th token at the i-th mask, all masks at once.

    That is the parallel approximation of Schick and Schuetze (2021), with as many masks as the longest word has tokens.
    """
    return _side_by_side(words, token_aggregation)


def _side_by_side(words: Sequence[Sequence[Sequence[int]]], token_aggregation: TokenAggregation) -> VerbalizerSpec:
    seen: dict[tuple[tuple[int, ...], ...], int] = {}
    for label, own in enumerate(words):
        if not own or any(not word for word in own):
            raise BadSpec(f"Label {label + 1} has no word that this model can read.", "Give it one under `words`.")
        if seen.setdefault(tuple(sorted(map(tuple, own))), label) != label:
            raise BadSpec("Two labels read the same to this model.", "Give them other `words`.")
    edges: dict[tuple[int, int], int] = {}
    cells: list[tuple[int, int, float]] = []
    for label, own in enumerate(words):
        for word in own:
            for i, token in enumerate(word):
                edge = edges.setdefault((0 if token_aggregation == "blend" else i, token), len(edges))
                cells.append((edge, label, 1 / len(own) / (1 if token_aggregation == "sum" else len(word))))
    shares = np.zeros((len(edges), len(words)), dtype=np.float32)
    for edge, label, share in cells:
        shares[edge, label] += share
    longest = max(len(word) for own in words for word in own)
    return VerbalizerSpec((), (), tuple(edges), shares, normalised=token_aggregation != "blend" and longest > 1)


def label_phrase(label: str) -> str:
    """A label's name as words: "card_arrival" and "cardArrival" are "card arrival"."""
    parted = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", label.replace("_", " ").replace("-", " "))
    return " ".join(parted.split()) or label


def default_label_words(labels: Sequence[str], given: Mapping[str, str | Sequence[str]]) -> LabelWords:
    """The words the user gave, else each label's name.

    Raises:
        BadSpec: words for something that is no label, or none at all.
    """
    strangers = sorted(set(given) - set(labels))
    if strangers:
        raise BadSpec(f"`words` names {strangers[0]!r}, which is no label of the task.", "Name the task's labels.")
    found = []
    for label in labels:
        own = given.get(label, label_phrase(label))
        several = (own,) if isinstance(own, str) else tuple(own)
        if not several or not all(isinstance(word, str) and word.strip() for word in several):
            raise BadSpec(f"`words` has no word for {label!r}.", "Give a word, or a list of words.")
        found.append(tuple(word.strip() for word in several))
    return tuple(found)


def salient_words(labels: Sequence[str], descriptions: Mapping[str, str]) -> list[list[str]]:
    """For each of K labels the words of its description, those that the fewest other descriptions have first."""
    texts = [f"{label_phrase(label)} {descriptions.get(label, '')}" for label in labels]
    words = [
        list(dict.fromkeys(word for word in re.findall(r"[^\W\d_]{3,}", text.lower()) if word not in _EMPTY))
        for text in texts
    ]
    spread = Counter(word for own in words for word in own)
    return [sorted(own, key=lambda word: spread[word]) for own in words]


def first_token_collisions(words: Sequence[Sequence[Sequence[int]]]) -> list[int]:
    """The labels whose first word begins with the same token as another label's."""
    first = [own[0][0] if own and own[0] else -1 for own in words]
    often = Counter(first)
    return [label for label, token in enumerate(first) if often[token] > 1 or token < 0]


def resolve_collisions(
    words: LabelWords, labels: Sequence[str], descriptions: Mapping[str, str], encode: Callable[[str], Sequence[int]]
) -> LabelWords:
    """`words`, with colliding labels named by a salient single-token word of their description, where there is one."""
    tokens = [[list(encode(word)) for word in own] for own in words]
    bad = first_token_collisions(tokens)
    taken = {own[0][0] for label, own in enumerate(tokens) if label not in bad and own[0]}
    better = list(words)
    for label, choices in enumerate(salient_words(labels, descriptions)):
        if label not in bad or labels[label] not in descriptions:
            continue
        for word in choices:
            ids = list(encode(word))
            if len(ids) == 1 and ids[0] not in taken:
                taken.add(ids[0])
                better[label] = (word,)
                break
    return tuple(better)


def find_label_tokens(
    scores: NDArray[np.floating], gold: NDArray[np.integer], n_labels: int, allowed: NDArray[np.bool_]
) -> list[list[int]]:
    """For each label the tokens that a model finds likelier on its texts than on the others, best first.

    The likelihood-ratio search of Schick et al. (2020, "Automatically identifying words that can serve as labels").

    Args:
        scores: (N, V) log-probabilities at the place of the label, before learning.
        gold: (N,) label columns.
        n_labels: K.
        allowed: (V,) tokens that may stand for a label.
    """
    found: list[list[int]] = []
    for label in range(n_labels):
        own = gold == label
        if not own.any() or own.all():
            found.append([])
            continue
        ratio = scores[own].mean(axis=0) - scores[~own].mean(axis=0)
        likely = scores[own].mean(axis=0)
        common = allowed & (likely >= np.partition(likely, -min(2000, len(likely)))[-min(2000, len(likely))])
        found.append(np.argsort(-np.where(common, ratio, -np.inf))[:20].tolist())
    return found
