"""Which labels and which gold examples are near a text, where a prompt cannot hold them all.

A text is compared with each label's name and description, and with the gold examples of the label; their sum ranks the
labels. Measured on BANKING77, HWU64 and DBpedia-219 the sum beats each part, and the best example beats their mean.
Also joins what several shortlists brought into one row of scores. Knows no prompt and no server.
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
Space = Callable[[Sequence[str]], Any]

# On how many gold texts recall is measured, evenly spread over those given.
RECALL_SAMPLE = 300
# In place of the cosine of a text to itself, which would give its label away.
SELF_SIMILARITY = -2.0
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")
_GLUE = re.compile(r"[\W_]+")


@dataclass(frozen=True)
class ShortlistRecall:
    """How often the right label is among the first `size` of the ranking: a share, on `n` gold texts."""

    size: int
    share: float
    n: int

    def __str__(self) -> str:
        return f"shortlist recall at {self.size}: {self.share:.0%} on {self.n} gold texts"


@dataclass(frozen=True)
class Similarities:
    """How like one text the labels and the examples are.

    Attributes:
        to_names: (K,) cosines to the labels' names and descriptions.
        to_gold: (M,) cosines to the examples; `ITSELF` to the text itself.
        columns: (M,) the labels of the examples.
        written: the M examples.
    """

    label_similarities: Floats
    example_similarities: Floats
    columns: NDArray[np.intp]
    examples_pool: tuple[LabelledText, ...]

    def ranked_labels(self) -> tuple[int, ...]:
        """All K columns, the likeliest label first."""
        best = np.zeros(len(self.label_similarities))
        np.maximum.at(best, self.columns, self.example_similarities)
        return tuple(int(column) for column in np.argsort(-(self.label_similarities + best), kind="stable"))

    def nearest_examples(self, k: int, among: Sequence[int] | None = None) -> tuple[LabelledText, ...]:
        """The k examples most like the text, the most like it last; only of the labels `among`, if given."""
        others = self.example_similarities > SELF_SIMILARITY
        if among is not None:
            others &= np.isin(self.columns, among)
        order = np.argsort(-self.example_similarities, kind="stable")
        return tuple(self.examples_pool[i] for i in order[others[order]][:k][::-1])


class ShortlistIndex:
    """The labels of a task and its gold examples in one space. Safe to use from many threads.

    Args:
        task: the K labels.
        examples: gold (text, label) pairs; a text is never compared with itself.
        embedding: "tfidf" (words and character n-grams), or static weights such as "potion-8m".

    Raises:
        BadSpec: weights of a kind that cannot embed.
        MissingWeights: they are not on this machine.
    """

    def __init__(self, task: Task, examples: Sequence[LabelledText], embedding: str = "tfidf") -> None:
        self._examples = tuple(examples)
        names = [f"{split_label_name(label)} {task.descriptions.get(label, '')}".strip() for label in task.labels]
        texts = [example.text for example in self._examples]
        self._columns = np.array([task.index(example.label) for example in self._examples], dtype=np.intp)
        self._places: dict[str, list[int]] = {}
        for place, text in enumerate(texts):
            self._places.setdefault(text, []).append(place)
        self._space, self.identity = _space(embedding, [*names, *texts])
        self._names = _turned(self._space(names))
        self._gold = _turned(self._space(texts)) if texts else None

    def similarities(self, text: str) -> Similarities:
        """How like the text all labels and examples are."""
        row = self._space([text])
        to_names = _row(row, self._names)
        to_gold = np.zeros(0) if self._gold is None else _row(row, self._gold)
        to_gold[self._places.get(text, [])] = SELF_SIMILARITY
        return Similarities(to_names, to_gold, self._columns, self._examples)

    def recall(self, size: int) -> ShortlistRecall | None:
        """How often the right label is among the first `size`, with each text left out; None without examples."""
        if not self._examples:
            return None
        count = min(RECALL_SAMPLE, len(self._examples))
        chosen = np.linspace(0, len(self._examples) - 1, count).astype(int)
        hits = [
            int(self._columns[i]) in self.similarities(self._examples[i].text).ranked_labels()[:size] for i in chosen
        ]
        return ShortlistRecall(size, sum(hits) / count, count)


def split_label_name(label: str) -> str:
    """A label's name as words: `card_arrival` and `CardArrival` are "card arrival"."""
    return _GLUE.sub(" ", _CAMEL.sub(" ", label)).strip() or label


def _turned(table: Any) -> Any:
    """(D, N) so that one row is multiplied quickly: scipy would turn a sparse table anew each time."""
    return table.T.tocsr() if hasattr(table, "tocsr") else table.T


def _row(row: Any, turned: Any) -> Floats:
    product = row @ turned
    dense = product.toarray() if hasattr(product, "toarray") else product
    return np.array(dense, dtype=np.float64).ravel()


def _space(embedding: str, texts: Sequence[str]) -> tuple[Space, str]:
    """The space, and a hash of what else than the texts it depends on."""
    if embedding == "tfidf":
        grams = NGramVectorizer.fit(texts)
        return lambda given: _sparse(grams.transform(given), grams.width), "tfidf"
    found = find_weights(embedding.removeprefix("static:"))
    if found.kind != "static":
        raise BadSpec(
            f"embedding = {embedding!r} is of the kind {found.kind!r}, and static vectors are needed.",
            'Take "tfidf", or "potion-8m" after: potstill fetch potion-8m',
        )
    vectors = read_model2vec(found.path)
    tokens = SubwordVectorizer(vectors.tokenizer)

    def embed(given: Sequence[str]) -> Any:
        means = _sparse(tokens.transform(given), tokens.width) @ vectors.embeddings
        return means / np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-9)

    # A few rows tell two tables apart.
    return embed, content_key(
        vectors.embeddings.shape, vectors.embeddings[:: max(1, len(vectors.embeddings) // 16)].tolist()
    )


def _sparse(entries: SparseFeatures, width: int) -> Any:
    from scipy.sparse import csr_matrix

    return csr_matrix((entries.values, entries.ids, entries.starts), shape=(len(entries.starts) - 1, max(width, 1)))


@dataclass(frozen=True)
class ShortlistScores:
    """What one shortlist brought.

    Attributes:
        columns: the labels that were offered.
        scores: (K + 1,) log-probabilities of all labels, and of "none of these" last.
    """

    columns: Sequence[int]
    scores: Sequence[float]


def predicts_none(scores: Sequence[float]) -> bool:
    """Whether (K + 1,) scores say "none of these", which is last."""
    return max(range(len(scores)), key=scores.__getitem__) == len(scores) - 1


def combine_shortlists(rounds: Sequence[ShortlistScores]) -> tuple[float, ...]:
    """(K,) log-probabilities from one shortlist after the other, by the chain rule.

    Each shortlist shares what the ones before it left to "none of these" and to labels they did not offer. What the
    last one left is the floor: the labels that were not offered share it equally, and each label gets at least `LEAST`.
    """
    n_labels = len(rounds[0].scores) - 1
    probabilities = np.full(n_labels, MIN_PROBABILITY)
    offered = np.zeros(n_labels, dtype=bool)
    left = 1.0
    for scored in rounds:
        columns = list(scored.columns)
        own = np.exp(np.array(scored.scores, dtype=np.float64))
        offered[columns] = True
        inside = own[columns].sum()
        outside = 0.0 if offered.all() else own.sum() - inside
        probabilities[columns] = left * own[columns] / (inside + outside)
        left *= outside / (inside + outside)
    if not offered.all():
        probabilities[~offered] = left / (~offered).sum()
    probabilities = np.maximum(probabilities, MIN_PROBABILITY)
    return tuple(math.log(p) for p in probabilities / probabilities.sum())
