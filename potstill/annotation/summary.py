"""Summarises the labels of a run: counts and pace of each annotator, agreement, and texts labelled differently."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from math import isnan
from statistics import median

import numpy as np
from numpy.typing import NDArray

from potstill.annotation import agreement
from potstill.annotation.cross_validation import cross_val_probs
from potstill.data.task import JsonObject, Task
from potstill.ledger.store import Annotation, AnnotationStore

MAX_SHOWN = 10
MIN_RELIABLE_ALPHA = 0.667  # Krippendorff's rule of thumb: below it, draw no conclusions


@dataclass(frozen=True)
class AnnotatorStats:
    """One annotator.

    Attributes:
        name: the annotator's name.
        labels: number of labels; `unsure` of them say "unsure".
        seconds: median time of a label; None if no time was measured.
        quality: in [0, 1]; None if it was not measured, or no text has labels of others, too.
    """

    name: str
    labels: int
    unsure: int
    seconds: float | None
    quality: float | None


@dataclass(frozen=True)
class Disagreement:
    """A text that annotators labelled differently: annotator -> label, and the consensus label."""

    text: str
    labels: dict[str, str]
    consensus: str


@dataclass(frozen=True)
class AnnotationSummary:
    """The labels of a run so far.

    Attributes:
        texts: texts to label; `complete` of them have every label that was ordered.
        labels: number of labels, unsure ones included.
        annotators: the busiest first.
        alpha: Krippendorff's alpha over the `n_overlapping` texts with two labels or more; None without such texts.
        n_overlapping: texts with two labels or more.
        kappa: "ann, bob" -> Cohen's kappa, for each two annotators who labelled texts in common.
        disagreements: texts labelled differently.
        consensus_method: how the consensus labels were found.
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

    def to_json(self) -> JsonObject:
        """A JSON object."""
        return asdict(self)

    def to_text(self) -> str:
        """A page for a terminal."""
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        yield f"{self.complete} of {self.texts} texts have every label that was ordered; {self.labels} labels in all."
        if self.annotators:
            yield ""
            yield f"  {'annotator':<24} {'labels':>7} {'unsure':>7} {'s/label':>8} {'quality':>8}"
        for each in self.annotators:
            pace = "-" if each.seconds is None else f"{each.seconds:.1f}"
            quality = "-" if each.quality is None else f"{each.quality:.0%}"
            yield f"  {each.name[:24]:<24} {each.labels:>7} {each.unsure:>7} {pace:>8} {quality:>8}"
        if self.alpha is None:
            return
        yield ""
        low = "" if self.alpha >= MIN_RELIABLE_ALPHA else "  (below 0.67: the labels or the guideline need work)"
        yield f"Krippendorff's alpha {self.alpha:.3f} on {self.n_overlapping} texts with more than one label{low}."
        for pair, kappa in self.kappa.items():
            yield f"Cohen's kappa of {pair}: {kappa:.3f}."
        yield f"{len(self.disagreements)} texts were labelled differently; consensus by {self.consensus_method}:"
        for text in self.disagreements[:MAX_SHOWN]:
            labels = ", ".join(f"{annotator}: {label}" for annotator, label in text.labels.items())
            yield f"  {text.consensus}  ({labels})  {' '.join(text.text.split())[:60]}"


def summarise(store: AnnotationStore, task: Task, *, quality: bool = False) -> AnnotationSummary:
    """Summarise the labels of a run.

    Args:
        store: the run's labels.
        task: its task.
        quality: measure each annotator's quality and weight the labels by it (cleanlab): with some thousand labels that
            takes a minute. Otherwise the majority is the consensus.

    Raises:
        MissingExtra: quality without cleanlab.
    """
    annotations = store.annotations()
    texts = {request.id: request.text for request in store.requests()}
    names = sorted({each.annotator for each in annotations})
    labelled = {each.id for each in annotations if each.label}
    ids = [id for id in texts if id in labelled]
    labels = _label_matrix(annotations, ids, names, task)
    labelled_texts = [texts[id] for id in ids]
    overlapping = (labels >= 0).sum(axis=1) > 1
    consensus, by_annotator, method = _consensus(labels, labelled_texts, task, quality=quality)
    alpha = agreement.krippendorff_alpha(labels) if overlapping.any() else float("nan")
    progress = store.progress()
    measured = {name: float(value) for name, value in zip(names, by_annotator, strict=True) if not isnan(value)}
    return AnnotationSummary(
        texts=progress.texts,
        complete=progress.complete,
        labels=len(annotations),
        annotators=tuple(sorted(annotator_stats(annotations, names, measured), key=lambda each: -each.labels)),
        alpha=None if isnan(alpha) else alpha,
        n_overlapping=int(overlapping.sum()),
        kappa=dict(_pairwise_kappa(labels, names)),
        disagreements=tuple(_disagreements(labels, consensus, labelled_texts, names, task)),
        consensus_method=method,
    )


def _label_matrix(
    annotations: Sequence[Annotation], ids: Sequence[str], names: Sequence[str], task: Task
) -> NDArray[np.int64]:
    """(N, A) label columns: a row for each id, a column for each name, -1 if unlabelled."""
    rows, columns = {id: i for i, id in enumerate(ids)}, {name: a for a, name in enumerate(names)}
    labels = np.full((len(ids), len(names)), -1, dtype=np.int64)
    for each in annotations:
        if each.label in task.labels:
            labels[rows[each.id], columns[each.annotator]] = task.index(each.label)
    return labels


def _consensus(
    labels: NDArray[np.int64], texts: Sequence[str], task: Task, *, quality: bool
) -> tuple[NDArray[np.int64], NDArray[np.float64], str]:
    """(N,) consensus columns, (A,) annotator quality (NaN if unknown), and the method's name."""
    by_majority = agreement.majority(labels, task.n_labels)
    unknown = np.full(labels.shape[1], np.nan)
    if not quality:
        return by_majority, unknown, "majority"
    agreement.require_cleanlab("The quality of annotators")
    if not ((labels >= 0).sum(axis=1) > 1).any():
        return by_majority, unknown, "majority"
    probs = cross_val_probs(texts, by_majority, task)
    base_rate = np.bincount(by_majority, minlength=task.n_labels).max() / max(len(by_majority), 1)
    if probs is None or (probs.argmax(axis=1) == by_majority).mean() <= base_rate:
        return by_majority, unknown, "majority"  # CROWDLAB needs a model that is better than the most frequent label
    found = agreement.consensus(labels, probs)
    return found.label, found.annotator_quality, "CROWDLAB (annotators and a model, weighted by their quality)"


def annotator_stats(
    annotations: Sequence[Annotation], names: Sequence[str], quality: Mapping[str, float]
) -> Iterator[AnnotatorStats]:
    """The figures of each annotator.

    Args:
        annotations: of all of them.
        names: theirs.
        quality: annotator -> quality in [0, 1], as far as it was measured.
    """
    for name in names:
        own = [each for each in annotations if each.annotator == name]
        seconds = [each.seconds for each in own if each.seconds > 0]
        yield AnnotatorStats(
            name=name,
            labels=len(own),
            unsure=sum(not each.label for each in own),
            seconds=median(seconds) if seconds else None,
            quality=quality.get(name),
        )


def _pairwise_kappa(labels: NDArray[np.int64], names: Sequence[str]) -> Iterator[tuple[str, float]]:
    for a, b in combinations(range(len(names)), 2):
        kappa = agreement.cohen_kappa(labels[:, a], labels[:, b])
        if not isnan(kappa):
            yield f"{names[a]}, {names[b]}", kappa


def _disagreements(
    labels: NDArray[np.int64], consensus: NDArray[np.int64], texts: Sequence[str], names: Sequence[str], task: Task
) -> Iterator[Disagreement]:
    for row, columns in enumerate(labels):
        labelled = np.flatnonzero(columns >= 0).tolist()
        if len({int(columns[a]) for a in labelled}) > 1:
            by_annotator = {names[a]: task.labels[int(columns[a])] for a in labelled}
            yield Disagreement(texts[row], by_annotator, task.labels[int(consensus[row])])
