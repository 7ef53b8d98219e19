"""Summarises people's answers in a text-to-text task: counts and pace of each annotator, and how far they agree."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from statistics import fmean

from potstill.annotation.summary import MAX_SHOWN, AnnotatorStats, Disagreement, annotator_stats
from potstill.data.form_annotations import AnswerConsensus, FormAnnotations, find_consensus, form_annotations
from potstill.data.task import JsonObject, Task
from potstill.ledger.store import Annotation, AnnotationStore


@dataclass(frozen=True)
class FormAnswerSummary:
    """The answers of a run so far.

    Attributes:
        texts: texts to answer; `complete` of them have every answer that was ordered.
        labels: number of answers, unsure ones included.
        annotators: the busiest first.
        n_overlapping: texts with two answers or more, unsure ones left out.
        n_identical: those of them whose answers are all identical; of words without regard to case and white space.
        n_first: those on which no answer was given by more people than any other, so that the first counts.
        mean_f1: F1 of two people's answers to a text, mean over pairs: of entities, or of words; None without a pair.
        pairwise_f1: "ann, bob" -> the same for two annotators.
        disagreements: texts with different answers; the consensus is the answer that is learnt.
    """

    texts: int
    complete: int
    labels: int
    annotators: tuple[AnnotatorStats, ...]
    n_overlapping: int
    n_identical: int
    n_first: int
    mean_f1: float | None
    pairwise_f1: dict[str, float]
    disagreements: tuple[Disagreement, ...]

    def to_json(self) -> JsonObject:
        """A JSON object."""
        return asdict(self)

    def to_text(self) -> str:
        """A page for a terminal."""
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        yield f"{self.complete} of {self.texts} texts have every answer that was ordered; {self.labels} answers in all."
        if self.annotators:
            yield ""
            yield f"  {'annotator':<24} {'answers':>7} {'unsure':>7} {'s/answer':>8}"
        for each in self.annotators:
            pace = "-" if each.seconds is None else f"{each.seconds:.1f}"
            yield f"  {each.name[:24]:<24} {each.labels:>7} {each.unsure:>7} {pace:>8}"
        if not self.n_overlapping:
            return
        yield ""
        yield agreement_sentence(self)
        for pair, f1 in self.pairwise_f1.items():
            yield f"Mean F1 of {pair}: {f1:.3f}."
        for text in self.disagreements[:MAX_SHOWN]:
            answers = "; ".join(f"{annotator}: {answer}" for annotator, answer in text.labels.items())
            yield f"  {text.consensus}  ({answers})  {' '.join(text.text.split())[:60]}"


def agreement_sentence(summary: FormAnswerSummary) -> str:
    """How far people agree, and what is learnt where they do not."""
    f1 = "" if summary.mean_f1 is None else f"; two answers to a text have a mean F1 of {summary.mean_f1:.3f}"
    words = f"{summary.n_identical} of {summary.n_overlapping} texts with more than one answer have identical ones{f1}."
    if summary.n_identical == summary.n_overlapping:
        return words
    first = f"; on {summary.n_first} texts there is no such answer, and the first one counts" * bool(summary.n_first)
    return f"{words} Where they differ the answer that most people gave is learnt{first}."


def summarise_answers(store: AnnotationStore, task: Task) -> FormAnswerSummary:
    """Summarise the answers of a run.

    Args:
        store: the run's answers.
        task: its text-to-text task.
    """
    form, annotations, progress = form_annotations(task), store.annotations(), store.progress()
    texts = {request.id: request.text for request in store.requests()}
    names = sorted({each.annotator for each in annotations})
    given: dict[str, list[Annotation]] = {}
    for each in annotations:
        if each.label:
            given.setdefault(each.id, []).append(each)
    several = {id: own for id, own in given.items() if len(own) > 1}
    consensus = {id: find_consensus(form, [each.label for each in own]) for id, own in several.items()}
    pairs = _pairs(form, several)
    values = [f1 for own in pairs.values() for f1 in own]
    return FormAnswerSummary(
        texts=progress.texts,
        complete=progress.complete,
        labels=len(annotations),
        annotators=tuple(sorted(annotator_stats(annotations, names, {}), key=lambda each: -each.labels)),
        n_overlapping=len(several),
        n_identical=sum(each.n_same == each.n_answers for each in consensus.values()),
        n_first=sum(not each.is_most for each in consensus.values()),
        mean_f1=fmean(values) if values else None,
        pairwise_f1={pair: fmean(own) for pair, own in sorted(pairs.items())},
        disagreements=tuple(_disagreements(form, texts, several, consensus)),
    )


def _pairs(form: FormAnnotations, several: Mapping[str, Sequence[Annotation]]) -> dict[str, list[float]]:
    """Two names, as in "ann, bob" -> F1 of their answers to each text that both answered."""
    found: dict[str, list[float]] = {}
    for own in several.values():
        for one, other in combinations(sorted(own, key=lambda each: each.annotator), 2):
            pair = f"{one.annotator}, {other.annotator}"
            found.setdefault(pair, []).append(form.similarity(one.label, other.label))
    return found


def _disagreements(
    form: FormAnnotations,
    texts: Mapping[str, str],
    several: Mapping[str, Sequence[Annotation]],
    consensus: Mapping[str, AnswerConsensus],
) -> Iterator[Disagreement]:
    for id, own in several.items():
        found, text = consensus[id], texts[id]
        if found.n_same < found.n_answers:
            shown = {each.annotator: form.shown(text, each.label) for each in own}
            yield Disagreement(text, shown, form.shown(text, found.answer))
