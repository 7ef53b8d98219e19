"""The texts of a PGKD round: the teacher generates them, or labels real ones, and filters decide what is trained on.

Does not decide what a request says (`generation_request.py`), nor which student is the best (`recipe.py`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from potstill.data.pool import Subset
from potstill.data.task import Feedback, GenerationRequest, LabelledText
from potstill.errors import BadData, BadSpec, BudgetExceeded
from potstill.evaluation.calibration import Calibration
from potstill.ledger.prices import micros_to_usd
from potstill.procedures import query_strategies
from potstill.procedures.pgkd.filters import FilterResult, TextFilter, drop_disagreements, passes_pvi
from potstill.procedures.pgkd.generation_request import Floats, PgkdOptions, gold_examples
from potstill.procedures.pgkd.quote import BIAS_TEXTS, EXPLORE_EVERY
from potstill.procedures.pgkd.rounds import AcquiredTexts, FilteredTexts, RoundStudent, SourceName
from potstill.procedures.soft_labels import calibrate_teacher
from potstill.run import Answers
from potstill.run.few_shot import select_examples
from potstill.run.notes import NoteRecord
from potstill.run.run import Run
from potstill.teachers.base import Teacher
from potstill.teachers.generation_quotas import requests_for
from potstill.teachers.kinds import teacher_kind

SEED_STEP = 1_000_000_007  # between the seeds of a round's requests
MAX_CANDIDATE_TEXTS = 5000  # unlabelled texts that a choice is made from


@dataclass(frozen=True)
class SourceGain:
    """A finished round: where its texts came from, by how much the validation loss fell, and their price in USD."""

    source: SourceName
    loss_drop: float
    usd: float


@dataclass(frozen=True)
class RoundPrice(NoteRecord):
    """What the texts of a round cost when they were bought: a repeated run pays nothing for them."""

    name = "spent"
    usd: float


@dataclass(frozen=True)
class GeneratingTeacher:
    """A teacher that generates texts, and the calibration of its scores when it labels texts."""

    teacher: Teacher
    calibration: Calibration


class TextSource:
    """Buys the texts of a round: a teacher, the filters of its texts, and the unlabelled texts it was not asked about.

    Args:
        train: labelled texts that the student is trained on.
        teacher: the teacher that generates; None opens the run's.
        held_out: name -> texts that the teacher may not copy; None takes the pool's validation and test texts.

    Raises:
        BadSpec: the teacher cannot generate texts.
        BadData: the option `query_strategy` is set and there are no unlabelled texts.
    """

    def __init__(
        self,
        run: Run,
        train: Subset,
        options: PgkdOptions,
        *,
        teacher: GeneratingTeacher | None = None,
        held_out: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self._run, self._options = run, options
        self._unlabelled = list(run.pool.subset("pool").texts) if options.query_strategy != "none" else []
        if options.query_strategy != "none" and not self._unlabelled:
            raise BadData(
                f"The option query_strategy = {options.query_strategy!r} needs unlabelled texts and there are none.",
                "Give some with --pool FILE, or leave the option out.",
            )
        generating = teacher or _open_teacher(run, train, options)
        self.teacher, self._calibration = generating.teacher, generating.calibration
        self._filter = TextFilter(
            run.task.labels, train.texts, run.pool.held_out_texts() if held_out is None else held_out
        )
        self._gains: list[SourceGain] = []

    def acquire(self, request: GenerationRequest, probs: Floats, current: RoundStudent) -> AcquiredTexts:
        """Buy the texts of the next round.

        Args:
            request: what the teacher is asked to generate, if it generates in this round.
            probs: (N, K) the student's probabilities of its N training texts.
            current: the student.
        """
        charged = self._run.ledger.totals().charged
        if self._next_source() == "generate":
            acquired = self._generate(request, current)
        else:
            acquired = self._label(request.n, probs, current)
        return replace(acquired, seed=request.seed, charged_before=charged)

    def filter(self, acquired: AcquiredTexts, current: RoundStudent) -> FilteredTexts:
        """Drop copies, unusable texts and unconfirmed labels, ask again for as many (`top_up`), and price the round."""
        result, probs = FilterResult(acquired.texts), acquired.probs
        if acquired.source == "generate":
            result = self._accept(acquired, current)
            acquired, result = self._top_up(acquired, result, current)
            probs = self._relabel(result) if self._options.soft_labels else None
        ledger = self._run.ledger
        # Stored, because a repeated run pays nothing for the same texts and has to choose the same sources.
        price = self._run.compute_once(
            RoundPrice,
            lambda: RoundPrice(micros_to_usd(ledger.totals().charged - acquired.charged_before)),
            self.teacher.key,
            acquired.seed,
            len(current.train.texts),
        )
        return FilteredTexts(acquired, result, probs, price.usd)

    def record_gain(self, filtered: FilteredTexts, loss_drop: float) -> None:
        """Record by how much the validation loss fell with these texts; `source_schedule = "gain"` chooses by it."""
        self._gains.append(SourceGain(filtered.acquired.source, loss_drop, filtered.usd))

    def _next_source(self) -> SourceName:
        if not self._unlabelled:
            return "generate"
        if self._options.source_schedule == "alternate":
            return "label" if len(self._gains) % 2 else "generate"
        return better_source(self._gains)

    def _accept(self, acquired: AcquiredTexts, current: RoundStudent) -> FilterResult:
        return self._filter_by_agreement(self._filter(acquired.texts, acquired.shown), current)

    def _top_up(
        self, acquired: AcquiredTexts, result: FilterResult, current: RoundStudent
    ) -> tuple[AcquiredTexts, FilterResult]:
        """Ask for as many texts as are missing, as often as the option `top_up` and the money allow."""
        for turn in range(1, self._options.top_up + 1):
            again = ask_again(acquired, result, turn)
            if again is None or acquired.budget_exhausted:
                break
            more = self._generate(again, current)
            rest = self._accept(more, current)
            result = FilterResult((*result.accepted, *rest.accepted), (*result.rejected, *rest.rejected))
            acquired = replace(
                acquired,
                texts=(*acquired.texts, *more.texts),
                budget_exhausted=more.budget_exhausted,
                requests=(*acquired.requests, *more.requests),
            )
        return acquired, result

    def _generate(self, request: GenerationRequest, current: RoundStudent) -> AcquiredTexts:
        """Texts that the teacher generates; one label at a time if it does not read feedback."""
        run = self._run
        gold = gold_examples(run.task, current.train)
        requests = requests_for(self.teacher.capabilities, request, run.task.labels, gold)
        return generate_parts(run, self.teacher, request, requests)

    def _label(self, n: int, probs: Floats, current: RoundStudent) -> AcquiredTexts:
        """The teacher's labels of `n` unlabelled texts that the student needs."""
        run = self._run
        draw = np.random.default_rng([run.spec.seed, len(self._gains)])
        rows = query_strategies.random_sampling(np.arange(len(self._unlabelled)), MAX_CANDIDATE_TEXTS, draw)
        candidates = [self._unlabelled[i] for i in rows]
        selected = [candidates[i] for i in self._select(candidates, n, probs, current, draw)]
        with run.reserve_training():
            answers = run.ask(self.teacher, selected)
        asked = {text for text, state in zip(selected, answers.states, strict=True) if state != "unasked"}
        self._unlabelled = [text for text in self._unlabelled if text not in asked]
        answered = np.flatnonzero(answers.answered)
        teacher_probs = self._calibration.apply(answers.scores[answered]).astype(np.float32)
        labels = [run.task.labels[k] for k in teacher_probs.argmax(axis=1)]
        texts = tuple(LabelledText(selected[i], label) for i, label in zip(answered, labels, strict=True))
        return AcquiredTexts("label", texts, teacher_probs, "unasked" in answers.states)

    def _select(
        self, texts: Sequence[str], n: int, probs: Floats, current: RoundStudent, draw: np.random.Generator
    ) -> NDArray[np.int64]:
        """(n,) rows of the texts, by the option `query_strategy`."""
        student, train = current.student, current.train
        if self._options.query_strategy == "margin":
            return query_strategies.margin_sampling(student.predict_proba(texts), n)
        if self._options.query_strategy == "hard_negatives":
            rows = query_strategies.hard_negatives(train.gold, probs, n)
            if len(rows):
                anchors = student.embed([train.texts[i] for i in rows])
                return query_strategies.nearest_to_anchors(student.embed(texts), anchors, n)
        return query_strategies.random_sampling(np.arange(len(texts)), n, draw)

    def _relabel(self, filtered: FilterResult) -> NDArray[np.float32]:
        """(M, K) mean of the label a text was generated for and the teacher's probabilities of the text."""
        run = self._run
        texts = [each.text for each in filtered.accepted]
        with run.reserve_training():
            answers = run.ask(self.teacher, texts)
        intended = np.eye(run.task.n_labels)[[run.task.index(each.label) for each in filtered.accepted]]
        probs = intended.copy()
        probs[answers.answered] = self._calibration.apply(answers.scores[answers.answered])
        return np.asarray((intended + probs) / 2, dtype=np.float32)

    def _filter_by_agreement(self, filtered: FilterResult, current: RoundStudent) -> FilterResult:
        """Drop texts whose label the teacher or the student does not confirm, by the option `agree`.

        A student that has no training text of a label cannot confirm it: such texts pass.
        """
        run, agree, student = self._run, self._options.agree, current.student
        texts = [each.text for each in filtered.accepted]
        if agree == "none" or not texts:
            return filtered
        labels = np.array([run.task.index(each.label) for each in filtered.accepted])
        if agree == "teacher":
            with run.reserve_training():
                answers = run.ask(self.teacher, texts)
            scores = np.nan_to_num(answers.scores + np.array(self._calibration.offsets))
            predictions = np.where(answers.answered, scores.argmax(axis=1), -1)
            return drop_disagreements(filtered, list(predictions == labels))
        probs = student.predict_proba(texts)
        if agree == "pvi":
            validation = run.pool.subset("validation")
            validation_probs = student.predict_proba(validation.texts)
            confirmed = np.array(passes_pvi(probs, labels, validation_probs, validation.gold))
        else:
            confirmed = probs[np.arange(len(texts)), labels] >= 1 / run.task.n_labels
        untrained = np.isin(labels, current.train.untrained(run.task.n_labels))
        return drop_disagreements(filtered, [bool(each) for each in confirmed | untrained])


def generate_parts(
    run: Run, teacher: Teacher, request: GenerationRequest, parts: Sequence[GenerationRequest]
) -> AcquiredTexts:
    """What a teacher writes for the parts of a request, up to the one that the money left for training forbids."""
    texts: list[LabelledText] = []
    made: list[GenerationRequest] = []
    for part in parts:
        try:
            with run.reserve_training():
                texts += run.generate(teacher, part)
        except BudgetExceeded:
            break
        made.append(part)
    return AcquiredTexts(
        "generate",
        tuple(texts),
        budget_exhausted=len(made) < len(parts),
        requests=tuple(made),
        request=request,
        seed=request.seed,
    )


def ask_again(acquired: AcquiredTexts, result: FilterResult, turn: int) -> GenerationRequest | None:
    """The request for the texts that are missing after the filters; None if none is.

    It is the round's request with another seed. If that says how many texts of which label, or was split by label, this
    one asks for what is missing of each.

    Args:
        acquired: what was bought so far.
        result: what passed of it.
        turn: 1 for the first time that a round asks again.
    """
    request = acquired.request
    if request is None or request.n <= len(result.accepted):
        return None
    feedback, passed = request.feedback or Feedback(), Counter(each.label for each in result.accepted)
    left = {label: n - passed[label] for label, n in acquired.first_counts.items() if n > passed[label]}
    n = min(request.n - len(result.accepted), sum(left.values())) if left else request.n - len(result.accepted)
    return replace(request, n=n, seed=request.seed + turn * SEED_STEP, feedback=replace(feedback, label_counts=left))


def better_source(gains: Sequence[SourceGain]) -> SourceName:
    """Whether to generate or to label next: each once, then the one with the larger loss drop per dollar.

    Every fourth round it is the other one, because gains change as the student learns.
    """
    sources: tuple[SourceName, SourceName] = ("generate", "label")
    rates = []
    for source in sources:
        rounds = [each for each in gains if each.source == source]
        if not rounds:
            return source
        rates.append(sum(each.loss_drop for each in rounds) / max(sum(each.usd for each in rounds), 1e-9))
    best, other = sources if rates[0] >= rates[1] else sources[::-1]
    return other if (len(gains) + 1) % EXPLORE_EVERY == 0 else best


def _open_teacher(run: Run, train: Subset, options: PgkdOptions) -> GeneratingTeacher:
    """The spec's teacher and the calibration of its scores, if any are used."""
    named = run.spec.teacher
    if named is not None and not teacher_kind(named.kind).capabilities.generates:
        raise cannot_generate(named.name)
    teacher = run.teacher(select_examples(train, run.spec, run.task))
    if not teacher.capabilities.generates:
        raise cannot_generate(teacher.name)
    calibration = Calibration(tuple([0.0] * run.task.n_labels), 1.0)
    if teacher.needs_prior_correction and options.uses_answers:
        rows = np.random.default_rng(run.spec.seed).permutation(len(train))[:BIAS_TEXTS]
        with run.reserve_training():
            answers = run.ask(teacher, [train.texts[i] for i in rows])
        if answers.answered.any():
            calibration = calibrate_teacher(teacher, answers, answers, train.gold[rows], run)
    no_answers = Answers((), np.empty((0, run.task.n_labels)), (), ())
    run.record_teacher(teacher, calibration, no_answers)
    return GeneratingTeacher(teacher, calibration)


def cannot_generate(name: str) -> BadSpec:
    """The error about a teacher that writes no texts."""
    return BadSpec(
        f"The teacher {name!r} cannot generate texts, which PGKD trains on.",
        "Take an LLM (openai, anthropic or local), replay with generate_from, or --procedure kd.",
    )
