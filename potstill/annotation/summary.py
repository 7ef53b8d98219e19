"""What people said so far: who labelled how much and how fast, how far they agree, and where they do not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from math import isnan
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from potstill.annotation import agreement
from potstill.annotation.cross_validation import cross_val_probs
from potstill.data.task import Task
from potstill.ledger.store import Annotation, AnnotationStore

MAX_SHOWN = 10
MIN_RELIABLE_ALPHA = 0.667  # Krippendorff's own rule of thumb: below it, draw no conclusions


@dataclass(frozen=True)
class AnnotatorStats:
    """One annotator: labels given, how many of them unsure, the median seconds of those measured, and quality.

    `quality` is in [0, 1], None where nobody else labelled the same texts or cleanlab is not here.
    """

    name: str
    labels: int
    unsure: int
    seconds: float | None
    quality: float | None


@dataclass(frozen=True)
class Disagreement:
    """A text that people labelled differently, and the label that counts for most."""

    text: str
    labels: dict[str, str]
    consensus: str


@dataclass(frozen=True)
class AnnotationSummary:
    """What people said so far.

    Attributes:
        texts: asked about. full: of them with every label that was ordered.
        labels: given, unsure ones included.
        people: by how much they did.
        alpha: Krippendorff's alpha over the texts with two labels or more (`both` of them); None without such texts.
        kappa: Cohen's kappa of each two people who share texts, "ann, bob" -> kappa.
        splits: texts labelled differently; `by` says how the consensus was found.
    """

    texts: int
    complete: int
    labels: int
    annotators: tuple[AnnotatorStats, ...]
    alpha: float | None
    n_overlapping: int
    kappa: dict[str, float]
    disagreements: tuple[Disagreement, ...]
    consensus_method: str

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary."""
        return asdict(self)

    def to_text(self) -> str:
        """A page for a terminal."""
        return "\n".join(self._lines())

    def sentence(self) -> str:
        """One for a report."""
        people = f"{len(self.annotators)} people" if len(self.annotators) != 1 else "one person"
        timed = [person.seconds for person in self.annotators if person.seconds]
        pace = f", {median(timed):.1f} s each" if timed else ""
        told = f"{people.capitalize()} gave {self.labels} labels to {self.complete} texts{pace}."
        if self.alpha is not None:
            told += (
                f" Krippendorff's alpha is {self.alpha:.2f} on the {self.n_overlapping} texts with more than one label."
            )
        return told

    def _lines(self) -> Iterator[str]:
        yield f"{self.complete} of {self.texts} texts have every label that was ordered; {self.labels} labels in all."
        if self.annotators:
            yield ""
            yield f"  {'annotator':<24} {'labels':>7} {'unsure':>7} {'s/label':>8} {'quality':>8}"
        for person in self.annotators:
            pace = "-" if person.seconds is None else f"{person.seconds:.1f}"
            quality = "-" if person.quality is None else f"{person.quality:.0%}"
            yield f"  {person.name[:24]:<24} {person.labels:>7} {person.unsure:>7} {pace:>8} {quality:>8}"
        if self.alpha is None:
            return
        yield ""
        low = "" if self.alpha >= MIN_RELIABLE_ALPHA else "  (below 0.67: the labels or the guideline need work)"
        yield f"Krippendorff's alpha {self.alpha:.3f} on {self.n_overlapping} texts with more than one label{low}."
        for pair, kappa in self.kappa.items():
            yield f"Cohen's kappa of {pair}: {kappa:.3f}."
        yield f"{len(self.disagreements)} texts were labelled differently; consensus by {self.consensus_method}:"
        for split in self.disagreements[:MAX_SHOWN]:
            said = ", ".join(f"{who}: {label}" for who, label in split.labels.items())
            yield f"  {split.consensus}  ({said})  {' '.join(split.text.split())[:60]}"


def summarise(labels: AnnotationStore, task: Task) -> AnnotationSummary:
    """What people said so far. Several on one text are weighed by cleanlab where it is installed."""
    said = labels.annotations()
    questions = {each.id: each.text for each in labels.requests()}
    names = sorted({each.annotator for each in said})
    ids = [id for id in questions if id in {each.id for each in said if each.label}]
    given = _matrix(said, ids, names, task)
    several = (given >= 0).sum(axis=1) > 1
    consensus, quality, by = _consensus(given, [questions[id] for id in ids], task)
    alpha = agreement.krippendorff_alpha(given) if several.any() else float("nan")
    progress = labels.progress()
    return AnnotationSummary(
        texts=progress.texts,
        complete=progress.complete,
        labels=len(said),
        annotators=tuple(sorted(_people(said, names, quality), key=lambda person: -person.labels)),
        alpha=None if isnan(alpha) else alpha,
        n_overlapping=int(several.sum()),
        kappa=dict(_kappas(given, names)),
        disagreements=tuple(_splits(given, consensus, [questions[id] for id in ids], names, task)),
        consensus_method=by,
    )


def _matrix(said: Sequence[Annotation], ids: Sequence[str], names: Sequence[str], task: Task) -> NDArray[np.int64]:
    rows, columns = {id: i for i, id in enumerate(ids)}, {name: a for a, name in enumerate(names)}
    given = np.full((len(ids), len(names)), -1, dtype=np.int64)
    for each in said:
        if each.label in task.labels:
            given[rows[each.id], columns[each.annotator]] = task.index(each.label)
    return given


def _consensus(
    given: NDArray[np.int64], texts: Sequence[str], task: Task
) -> tuple[NDArray[np.int64], NDArray[np.float64], str]:
    """(N,) consensus columns, (A,) quality of the people (NaN where unknown), and how both were found."""
    simple = agreement.majority(given, task.n_labels)
    unknown = np.full(given.shape[1], np.nan)
    if not agreement.cleanlab_available() or not ((given >= 0).sum(axis=1) > 1).any():
        return simple, unknown, "majority"
    probs = cross_val_probs(texts, simple, task)
    commonest = np.bincount(simple, minlength=task.n_labels).max() / max(len(simple), 1)
    if probs is None or (probs.argmax(axis=1) == simple).mean() <= commonest:
        return simple, unknown, "majority"  # a model that knows nothing would outvote people who do
    found = agreement.consensus(given, probs)
    return (
        found.label,
        found.annotator_quality,
        "CROWDLAB (people weighed by how well they do, and a model beside them)",
    )


def _people(said: Sequence[Annotation], names: Sequence[str], quality: NDArray[np.float64]) -> Iterator[AnnotatorStats]:
    for column, name in enumerate(names):
        own = [each for each in said if each.annotator == name]
        timed = [each.seconds for each in own if each.seconds > 0]
        yield AnnotatorStats(
            name=name,
            labels=len(own),
            unsure=sum(not each.label for each in own),
            seconds=median(timed) if timed else None,
            quality=None if isnan(quality[column]) else float(quality[column]),
        )


def _kappas(given: NDArray[np.int64], names: Sequence[str]) -> Iterator[tuple[str, float]]:
    for one, other in combinations(range(len(names)), 2):
        kappa = agreement.cohen_kappa(given[:, one], given[:, other])
        if not isnan(kappa):
            yield f"{names[one]}, {names[other]}", kappa


def _splits(
    given: NDArray[np.int64], consensus: NDArray[np.int64], texts: Sequence[str], names: Sequence[str], task: Task
) -> Iterator[Disagreement]:
    for row, columns in enumerate(given):
        spoke = columns >= 0
        if len(set(columns[spoke].tolist())) > 1:
            said = {names[a]: task.labels[int(columns[a])] for a in np.flatnonzero(spoke).tolist()}
            yield Disagreement(texts[row], said, task.labels[int(consensus[row])])
