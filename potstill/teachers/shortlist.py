"""Ranks labels and gold examples by similarity to a text, for prompts that cannot hold them all.

A label's score is the cosine to its name and description, plus the cosine to its most similar gold example. On
BANKING77, HWU64 and DBpedia-219 the sum beats each part, and the best example beats the mean of all.
Also combines the scores of several shortlists. Depends on no prompt and no server.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from potstill.data.task import LabelledText, Task, content_key
from potstill.errors import BadSpec
from potstill.models.features import NGramVectorizer, SparseFeatures, SubwordVectorizer
from potstill.models.static_embeddings import read_model2vec
from potstill.models.weights import find_weights
from potstill.teachers.label_parsing import MIN_PROBABILITY

Floats = NDArray[np.float64]
# Texts -> (N, D) rows of length one, sparse or dense.
Embedder = Callable[[Sequence[str]], Any]

# Number of gold texts that recall is measured on, at even distances.
RECALL_SAMPLE = 300
# Replaces the cosine of a text to itself, which would reveal its label.
SELF_SIMILARITY = -2.0
_CAMEL_CASE = re.compile(r"(?<=[a-z])(?=[A-Z])")
_SEPARATORS = re.compile(r"[\W_]+")


@dataclass(frozen=True)
class ShortlistRecall:
    """Recall of the shortlist: the share of `n` gold texts whose label is among the first `size` of the ranking."""

    size: int
    share: float
    n: int

    def __str__(self) -> str:
        return f"shortlist recall at {self.size}: {self.share:.0%} on {self.n} gold texts"


@dataclass(frozen=True)
class Similarities:
    """Similarities of one text to the labels and the examples.

    Attributes:
        label_similarities: (K,) cosines to the labels' names and descriptions.
        example_similarities: (M,) cosines to the examples; `SELF_SIMILARITY` to the text itself.
        columns: (M,) the labels of the examples.
        examples_pool: the M examples.
    """

    label_similarities: Floats
    example_similarities: Floats
    columns: NDArray[np.intp]
    examples_pool: tuple[LabelledText, ...]

    def ranked_labels(self) -> tuple[int, ...]:
        """All K columns, the most similar label first."""
        best = np.zeros(len(self.label_similarities))
        np.maximum.at(best, self.columns, self.example_similarities)
        return tuple(int(column) for column in np.argsort(-(self.label_similarities + best), kind="stable"))

    def nearest_examples(self, k: int, among: Sequence[int] | None = None) -> tuple[LabelledText, ...]:
        """The k examples most similar to the text, the nearest last; only of the labels `among`, if given."""
        eligible = self.example_similarities > SELF_SIMILARITY
        if among is not None:
            eligible &= np.isin(self.columns, among)
        order = np.argsort(-self.example_similarities, kind="stable")
        return tuple(self.examples_pool[i] for i in order[eligible[order]][:k][::-1])


class ShortlistIndex:
    """The labels of a task and its gold examples in one vector space. Thread-safe.

    Args:
        task: the K labels.
        examples: gold (text, label) pairs; a text is never compared with itself.
        embedding: "tfidf" (words and character n-grams), or static weights such as "potion-8m".

    Raises:
        BadSpec: weights of a kind that is not static vectors.
        MissingWeights: the weights are not on this machine.
    """

    def __init__(self, task: Task, examples: Sequence[LabelledText], embedding: str = "tfidf") -> None:
        self._examples = tuple(examples)
        names = [f"{split_label_name(label)} {task.descriptions.get(label, '')}".strip() for label in task.labels]
        texts = [example.text for example in self._examples]
        self._columns = np.array([task.index(example.label) for example in self._examples], dtype=np.intp)
        self._rows_of: dict[str, list[int]] = {}
        for row, text in enumerate(texts):
            self._rows_of.setdefault(text, []).append(row)
        self._embed, self.identity = _embedder(embedding, [*names, *texts])
        self._label_vectors = _transpose(self._embed(names))
        self._example_vectors = _transpose(self._embed(texts)) if texts else None

    def similarities(self, text: str) -> Similarities:
        """The text's similarities to all labels and examples."""
        vector = self._embed([text])
        to_labels = _products(vector, self._label_vectors)
        to_examples = np.zeros(0) if self._example_vectors is None else _products(vector, self._example_vectors)
        to_examples[self._rows_of.get(text, [])] = SELF_SIMILARITY
        return Similarities(to_labels, to_examples, self._columns, self._examples)

    def recall(self, size: int) -> ShortlistRecall | None:
        """Recall of the first `size` labels, leave-one-out on the examples; None without examples."""
        if not self._examples:
            return None
        count = min(RECALL_SAMPLE, len(self._examples))
        sampled = np.linspace(0, len(self._examples) - 1, count).astype(int)
        hits = [
            int(self._columns[i]) in self.similarities(self._examples[i].text).ranked_labels()[:size] for i in sampled
        ]
        return ShortlistRecall(size, sum(hits) / count, count)


def split_label_name(label: str) -> str:
    """A label's name as words: `card_arrival` and `CardArrival` are "card arrival"."""
    return _SEPARATORS.sub(" ", _CAMEL_CASE.sub(" ", label)).strip() or label


def _transpose(vectors: Any) -> Any:
    """(N, D) -> (D, N), once: scipy would convert a sparse matrix again for each product."""
    return vectors.T.tocsr() if hasattr(vectors, "tocsr") else vectors.T


def _products(vector: Any, transposed: Any) -> Floats:
    """(1, D) x (D, N) -> (N,)."""
    product = vector @ transposed
    dense = product.toarray() if hasattr(product, "toarray") else product
    return np.array(dense, dtype=np.float64).ravel()


def _embedder(embedding: str, texts: Sequence[str]) -> tuple[Embedder, str]:
    """A function texts -> vectors, and a hash of everything but the texts that it depends on."""
    if embedding == "tfidf":
        vectorizer = NGramVectorizer.fit(texts)
        return lambda batch: _sparse(vectorizer.transform(batch), vectorizer.width), "tfidf"
    found = find_weights(embedding.removeprefix("static:"))
    if found.kind != "static":
        raise BadSpec(
            f"embedding = {embedding!r} is of the kind {found.kind!r}, and static vectors are needed.",
            'Take "tfidf", or "potion-8m" after: potstill fetch potion-8m',
        )
    vectors = read_model2vec(found.path)
    tokens = SubwordVectorizer(vectors.tokenizer)

    def embed(batch: Sequence[str]) -> Any:
        means = _sparse(tokens.transform(batch), tokens.width) @ vectors.embeddings
        return means / np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-9)

    # A few rows suffice to distinguish two tables.
    return embed, content_key(
        vectors.embeddings.shape, vectors.embeddings[:: max(1, len(vectors.embeddings) // 16)].tolist()
    )


def _sparse(entries: SparseFeatures, width: int) -> Any:
    from scipy.sparse import csr_matrix

    return csr_matrix((entries.values, entries.ids, entries.starts), shape=(len(entries.starts) - 1, max(width, 1)))


@dataclass(frozen=True)
class ShortlistScores:
    """The scores of one shortlist.

    Attributes:
        columns: the labels on it.
        scores: (K + 1,) log-probabilities of all labels, and of "none of these" last.
    """

    columns: Sequence[int]
    scores: Sequence[float]


def predicts_none(scores: Sequence[float]) -> bool:
    """Whether the largest of (K + 1,) scores is the last, "none of these"."""
    return max(range(len(scores)), key=scores.__getitem__) == len(scores) - 1


def combine_shortlists(rounds: Sequence[ShortlistScores]) -> tuple[float, ...]:
    """(K,) log-probabilities from consecutive shortlists, by the chain rule.

    Each shortlist divides the probability that the earlier ones left to "none of these" and to labels they did not
    offer. Labels on no shortlist share what the last one left equally; each label gets at least `MIN_PROBABILITY`.
    """
    n_labels = len(rounds[0].scores) - 1
    probabilities = np.full(n_labels, MIN_PROBABILITY)
    offered = np.zeros(n_labels, dtype=bool)
    remaining = 1.0
    for shortlist in rounds:
        columns = list(shortlist.columns)
        probs = np.exp(np.array(shortlist.scores, dtype=np.float64))
        offered[columns] = True
        inside = probs[columns].sum()
        outside = 0.0 if offered.all() else probs.sum() - inside
        probabilities[columns] = remaining * probs[columns] / (inside + outside)
        remaining *= outside / (inside + outside)
    if not offered.all():
        probabilities[~offered] = remaining / (~offered).sum()
    probabilities = np.maximum(probabilities, MIN_PROBABILITY)
    return tuple(math.log(p) for p in probabilities / probabilities.sum())
