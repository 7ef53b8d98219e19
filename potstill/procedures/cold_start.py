"""Which texts to label first, before labels of two classes exist: those that cover the pool in the student's space.

Max herding (Bae et al. 2024) on the embeddings of the student's pretrained weights, in which the names of the labels
count as covering already: the student knows them. Of the strategies that ask no label in between it gained most on the
validation texts of `bench/label_choice.py`, over both data sets. The best few texts come first, so that labelling may
end at any of them. A student without embeddings of its own gets those of latent semantic analysis (LSA). Choices with
a trained student are in `query_strategies` and `coverage_sampling`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from potstill.data.task import content_key
from potstill.errors import BudgetExceeded, MissingExtra, MissingWeights
from potstill.ledger.prices import Purchase
from potstill.procedures.coverage_sampling import max_herding
from potstill.run.notes import NoteRecord
from potstill.run.run import Run
from potstill.students.base import Floats, StudentConfig
from potstill.students.kinds import student_kind
from potstill.students.label_names import LabelTexts, label_texts

ColdStart = Literal["max_herding", "random"]
DEFAULT_COLD_START: ColdStart = "max_herding"
# Texts that cover, and may be chosen: at least so many and so many for each text that is wanted, within the last.
MIN_CANDIDATES, CANDIDATES_PER_TEXT, MAX_CANDIDATES = 2000, 4, 5000
MAX_COVERING = 1000  # texts chosen to cover the pool; more are drawn at random
MONEY_SHARE = 0.1  # of the money that is free, for embedding at most
CHUNK_SIZE = 256  # texts embedded between two looks at the deadline
LSA_DIMS = 64
LSA = "LSA"
EMBEDDING = "embed"  # the first word of its purchase in the ledger


@dataclass(frozen=True)
class FirstTexts(NoteRecord):
    """The texts that are labelled first were chosen.

    Attributes:
        rows: of the texts that were given, the best few first.
        strategy: a `ColdStart`.
        space: the student whose embeddings were covered, or "LSA"; empty at random.
        n_candidates: texts that were covered.
    """

    name = "first_texts"
    rows: tuple[int, ...]
    strategy: str
    space: str
    n_candidates: int

    def sentence(self) -> str:
        """How the texts were chosen."""
        if not self.space:
            return f"The first {len(self.rows)} texts to label were drawn at random."
        return (
            f"The first {len(self.rows)} texts to label cover {self.n_candidates:,} texts of the pool "
            f"({self.strategy} on {self.space} embeddings)."
        )


def select_first_texts(run: Run, texts: Sequence[str], n: int, strategy: ColdStart) -> list[int]:
    """Rows of n of the texts, the best few first; chosen once, then read from the run's store.

    The time of embedding is charged as compute. If the weights or the money for it are missing, LSA takes its place.
    """

    def choose() -> FirstTexts:
        return _choose(run, texts, n, strategy)

    key = content_key(list(texts))
    return list(run.compute_once(FirstTexts, choose, key, n, strategy, run.spec.student.name, run.spec.seed).rows)


def embedding_micros(run: Run) -> int:
    """Micro-dollars that choosing the first texts has cost."""
    return sum(call.charged for call in run.store.calls() if call.description.startswith(f"{EMBEDDING} "))


def _choose(run: Run, texts: Sequence[str], n: int, strategy: ColdStart) -> FirstTexts:
    order = np.random.default_rng(run.spec.seed).permutation(len(texts))
    if strategy == "random" or n < 1 or len(texts) <= 1:
        return FirstTexts(tuple(order[:n].tolist()), strategy, "", 0)
    n_candidates = min(max(MIN_CANDIDATES, CANDIDATES_PER_TEXT * n), MAX_CANDIDATES)
    candidates = order[:n_candidates]
    embedded = _embed(run, [texts[row] for row in candidates])
    if embedded is None:
        vectors = lsa_features([texts[row] for row in candidates]).astype(np.float32)
        embedded = _Embedded(vectors, vectors[:0], LSA)
        run.reporter.info(
            f"The first texts to label are chosen on {LSA} features: {run.spec.student.name} has no embeddings yet."
        )
    candidates = candidates[: len(embedded.texts)]  # fewer if the money for embedding ended
    covering = candidates[max_herding(embedded.texts, min(n, MAX_COVERING), covered_by=embedded.names)]
    chosen = np.concatenate([covering, order[~np.isin(order, covering)]])[:n]
    return FirstTexts(tuple(chosen.tolist()), strategy, embedded.space, len(candidates))


@dataclass(frozen=True)
class _Embedded:
    """(M, D) embeddings of texts and (L, D) of label names and descriptions, and whose they are."""

    texts: Floats
    names: Floats
    space: str


def _embed(run: Run, texts: Sequence[str]) -> _Embedded | None:
    """Embeddings of the first M texts by the student's pretrained weights; None if it has none here."""
    named, task = run.spec.student, run.task
    if not student_kind(named.kind).capabilities.vectors:
        return None
    student = student_kind(named.kind)(
        StudentConfig(task.labels, named.model, task.descriptions, named.options, task.kind)
    )
    purchase = Purchase("compute", "plan", f"{EMBEDDING} {len(texts)} texts by {named.name}", len(texts), mode="train")
    chunks: list[Floats] = []
    try:
        micros = max(int(run.ledger.available * MONEY_SHARE), 1)
        with run.ledger.hold_compute(micros, run.spec.compute_rates, purchase) as hold:
            deadline = time.monotonic() + hold.deadline_s
            if not student.load_pretrained():
                return None
            known = label_texts(task.labels, task.descriptions) if task.kind == "single" else LabelTexts((), ())
            names = student.embed(known.texts)
            for start in range(0, len(texts), CHUNK_SIZE):
                if chunks and time.monotonic() >= deadline:
                    break
                chunks.append(student.embed(texts[start : start + CHUNK_SIZE]))
                run.reporter.progress("choosing texts to label", start / len(texts), 1.0, f"embedding by {named.name}")
    except (BudgetExceeded, MissingExtra, MissingWeights):
        return None
    return _Embedded(np.concatenate(chunks), names, named.name)


def lsa_features(texts: Sequence[str]) -> NDArray[np.float64]:
    """(N, D) latent semantic analysis of N texts: TF-IDF vectors reduced to at most 64 dimensions."""
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.preprocessing import normalize

    counts = TfidfVectorizer(sublinear_tf=True, min_df=1, max_features=20_000).fit_transform(texts)
    dims = min(LSA_DIMS, min(counts.shape) - 1)
    if dims < 1:
        return np.asarray(counts.todense())
    return np.asarray(normalize(TruncatedSVD(dims, random_state=0).fit_transform(counts)))
