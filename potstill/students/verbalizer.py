"""Verbalizers: the words that stand for a label in a pattern, and how logits of labels are computed from their tokens.

A label may have several words, a word several tokens (Schick and Schuetze 2021). Functions of token ids and scores; no
model. Soft verbalizers, with trained vectors for words, are not covered.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from potstill.data.task import JsonObject
from potstill.errors import BadSpec
from potstill.models.label_trie import build_label_trie, needs_end_token

TokenAggregation = Literal["sum", "mean", "blend"]
LabelWords = tuple[tuple[str, ...], ...]
_STOP_WORDS = frozenset(
    "a about also an and any are as at be by can do does for from has have how if in into is it its more no not of on "
    "one or other some such text texts than that the their them there these they this to user was what when where "
    "which who why with would asks asking wants question questions customer label message something".split()
)
TokenIds = Sequence[int]
LabelTokens = Sequence[Sequence[TokenIds]]  # label -> words -> token ids


@dataclass(frozen=True)
class VerbalizerSpec:
    """How K label logits are computed from a model's log-probabilities at P positions.

    Attributes:
        tokens: (M,) tokens appended to the text, parents before children; empty for masked models.
        parents: (M,) position before each of them, -1 for the first position.
        edges: E pairs (position in [0, P), token) whose log-probabilities are needed.
        edge_weights: (E, K) weight of each edge in each label's logit.
        normalised: whether log-probabilities over the whole vocabulary are needed; else logits give the same ranking.
    """

    tokens: tuple[int, ...]
    parents: tuple[int, ...]
    edges: tuple[tuple[int, int], ...]
    edge_weights: NDArray[np.float32]
    normalised: bool

    @property
    def n_positions(self) -> int:
        """P, the number of positions of the model's output that are used."""
        return 1 + max(position for position, _ in self.edges)

    def to_json(self) -> JsonObject:
        """JSON values; `from_json` reads them."""
        return {**asdict(self), "edge_weights": self.edge_weights.tolist()}

    @classmethod
    def from_json(cls, record: JsonObject) -> Self:
        """Read what `to_json` wrote."""
        edges = tuple((int(position), int(token)) for position, token in record["edges"])
        weights = np.array(record["edge_weights"], dtype=np.float32)
        return cls(tuple(record["tokens"]), tuple(record["parents"]), edges, weights, bool(record["normalised"]))


def causal_verbalizer(words: LabelTokens, token_aggregation: TokenAggregation, end: int) -> VerbalizerSpec:
    """The verbalizer of a causal model, for K labels of one or more words of one or more tokens each.

    Args:
        words: label -> words -> token ids.
        token_aggregation: "sum" or "mean" of a word's log-probabilities, each token given those before it; "blend": the
            mean of its tokens' logits at the first position, which appends no tokens and costs nothing.
        end: token appended to words of which one is a prefix of another.

    Raises:
        BadSpec: two labels have the same tokens, or a label has none.
    """
    if token_aggregation == "blend":
        return _parallel_verbalizer(words, "blend")
    flat = [list(word) for label in words for word in label]
    if needs_end_token(flat):
        flat = [[*word, end] for word in flat]
    trie = build_label_trie(flat)
    weights = np.zeros((len(trie.edges), len(words)), dtype=np.float32)
    paths = iter(trie.paths)
    for label, label_words in enumerate(words):
        for _ in label_words:
            path = next(paths)
            n_tokens = len(path) if token_aggregation == "mean" else 1
            weights[list(path), label] += 1 / len(label_words) / n_tokens
    edges = tuple((node + 1, token) for node, token in trie.edges)
    return VerbalizerSpec(trie.tokens, trie.parents, edges, weights, normalised=bool(trie.tokens))


def masked_verbalizer(words: LabelTokens, token_aggregation: TokenAggregation) -> VerbalizerSpec:
    """The verbalizer of a masked model: a word's i-th token is scored at the i-th mask, all masks in one pass.

    That is the parallel approximation of Schick and Schuetze (2021), with as many masks as the longest word has tokens.
    """
    return _parallel_verbalizer(words, token_aggregation)


def _parallel_verbalizer(words: LabelTokens, token_aggregation: TokenAggregation) -> VerbalizerSpec:
    label_of: dict[tuple[tuple[int, ...], ...], int] = {}
    for label, label_words in enumerate(words):
        if not label_words or any(not word for word in label_words):
            raise BadSpec(f"Label {label + 1} has no word with tokens of this model.", "Set one in `label_words`.")
        if label_of.setdefault(tuple(sorted(map(tuple, label_words))), label) != label:
            raise BadSpec("Two labels have the same tokens.", "Set other `label_words`.")
    edges: dict[tuple[int, int], int] = {}
    entries: list[tuple[int, int, float]] = []
    for label, label_words in enumerate(words):
        for word in label_words:
            for i, token in enumerate(word):
                edge = edges.setdefault((0 if token_aggregation == "blend" else i, token), len(edges))
                n_tokens = 1 if token_aggregation == "sum" else len(word)
                entries.append((edge, label, 1 / len(label_words) / n_tokens))
    weights = np.zeros((len(edges), len(words)), dtype=np.float32)
    for edge, label, weight in entries:
        weights[edge, label] += weight
    max_tokens = max(len(word) for label_words in words for word in label_words)
    return VerbalizerSpec((), (), tuple(edges), weights, normalised=token_aggregation != "blend" and max_tokens > 1)


def label_phrase(label: str) -> str:
    """A label's name as words: "card_arrival" is "card arrival", "cardArrival" is "card Arrival"."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", label.replace("_", " ").replace("-", " "))
    return " ".join(spaced.split()) or label


def default_label_words(labels: Sequence[str], given: Mapping[str, str | Sequence[str]]) -> LabelWords:
    """The words the user gave, else each label's name.

    Raises:
        BadSpec: words for an unknown label, or no words.
    """
    unknown = sorted(set(given) - set(labels))
    if unknown:
        raise BadSpec(
            f"`label_words` names {unknown[0]!r}, which is not a label of the task.", "Name the task's labels."
        )
    words = []
    for label in labels:
        own = given.get(label, label_phrase(label))
        label_words = (own,) if isinstance(own, str) else tuple(own)
        if not label_words or not all(isinstance(word, str) and word.strip() for word in label_words):
            raise BadSpec(f"`label_words` has no word for {label!r}.", "Give a word, or a list of words.")
        words.append(tuple(word.strip() for word in label_words))
    return tuple(words)


def salient_words(labels: Sequence[str], descriptions: Mapping[str, str]) -> list[list[str]]:
    """For each of K labels the words of its name and description, sorted by the number of labels that have them."""
    texts = [f"{label_phrase(label)} {descriptions.get(label, '')}" for label in labels]
    words = [
        list(dict.fromkeys(word for word in re.findall(r"[^\W\d_]{3,}", text.lower()) if word not in _STOP_WORDS))
        for text in texts
    ]
    n_labels = Counter(word for own in words for word in own)
    return [sorted(own, key=lambda word: n_labels[word]) for own in words]


def first_token_collisions(words: LabelTokens) -> list[int]:
    """The labels whose first word has no token, or the same first token as another label's."""
    first = [own[0][0] if own and own[0] else -1 for own in words]
    counts = Counter(first)
    return [label for label, token in enumerate(first) if counts[token] > 1 or token < 0]


def resolve_collisions(
    words: LabelWords, labels: Sequence[str], descriptions: Mapping[str, str], encode: Callable[[str], Sequence[int]]
) -> LabelWords:
    """Replace words of labels with equal first tokens by a salient single-token word of their description, if any."""
    tokens = [[list(encode(word)) for word in own] for own in words]
    colliding = first_token_collisions(tokens)
    used = {own[0][0] for label, own in enumerate(tokens) if label not in colliding and own[0]}
    resolved = list(words)
    for label, candidates in enumerate(salient_words(labels, descriptions)):
        if label not in colliding or labels[label] not in descriptions:
            continue
        for word in candidates:
            ids = list(encode(word))
            if len(ids) == 1 and ids[0] not in used:
                used.add(ids[0])
                resolved[label] = (word,)
                break
    return tuple(resolved)


def find_label_tokens(
    log_probs: NDArray[np.floating], gold: NDArray[np.integer], n_labels: int, allowed: NDArray[np.bool_]
) -> list[list[int]]:
    """For each label the 20 tokens of the highest likelihood ratio between its texts and the others, best first.

    Among the 2,000 likeliest tokens on its texts. The search of Schick et al. (2020, "Automatically identifying words
    that can serve as labels for few-shot text classification").

    Args:
        log_probs: (N, V) log-probabilities at the label's position, before training.
        gold: (N,) label columns.
        n_labels: K.
        allowed: (V,) bool, tokens that may stand for a label.
    """
    tokens: list[list[int]] = []
    for label in range(n_labels):
        own = gold == label
        if not own.any() or own.all():
            tokens.append([])
            continue
        likelihood = log_probs[own].mean(axis=0)
        ratio = likelihood - log_probs[~own].mean(axis=0)
        n_likely = min(2000, len(likelihood))
        candidates = allowed & (likelihood >= np.partition(likelihood, -n_likely)[-n_likely])
        tokens.append(np.argsort(-np.where(candidates, ratio, -np.inf))[:20].tolist())
    return tokens
