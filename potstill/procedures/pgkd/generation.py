"""Where the texts of a round come from: a teacher writes them, or labels real ones, and what of them passes.

Does not decide what a brief says (`brief.py`), nor which student is the best.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from potstill.data.pool import Subset
from potstill.data.task import GenerationRequest, LabelledText
from potstill.errors import BadData, BadSpec, BudgetExceeded
from potstill.evaluation.calibration import Calibration
from potstill.ledger.prices import micros_to_usd
from potstill.procedures import query_strategies as choose
from potstill.procedures.kd import calibrate_teacher
from potstill.procedures.pgkd.filters import FilterResult, TextFilter, drop_disagreements, passes_pvi
from potstill.procedures.pgkd.generation_request import Floats, PgkdOptions, gold_examples
from potstill.procedures.pgkd.quote import BIAS_TEXTS, EXPLORE_EVERY
from potstill.procedures.pgkd.rounds import AcquiredTexts, RoundStudent
from potstill.run import Answers
from potstill.run.few_shot import select_examples
from potstill.run.run import Run
from potstill.teachers.base import Teacher
from potstill.teachers.generation_quotas import split_by_label

MAX_CANDIDATE_TEXTS = 5000  # unlabelled texts that a choice is made from
TextSource = Literal["write", "label"]


@dataclass(frozen=True)
class SourceGain:
    """What a round brought: by how much the validation loss fell, and what its texts cost in USD."""

    source: TextSource
    loss_drop: float
    usd: float


@dataclass(frozen=True)
class GeneratingTeacher:
    """Who writes, and how its scores are read where it is asked about texts."""

    teacher: Teacher
    calibration: Calibration


class TextAcquisition:
    """A teacher, the gate before what it writes, and the unlabelled texts it was not asked about yet.

    Args:
        gold: labelled texts that the student learns.
        writer: who writes; None opens the run's teacher.
        guarded: name -> texts that must not come back; None takes the pool's validation and test texts.

    Raises:
        BadSpec: the teacher cannot write.
        BadData: real texts are wanted and there are none.
    """

    def __init__(
        self,
        run: Run,
        gold: Subset,
        options: PgkdOptions,
        *,
        writer: GeneratingTeacher | None = None,
        guarded: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self._run, self._options = run, options
        self._left = list(run.pool.subset("pool").texts) if options.real != "none" else []
        if options.real != "none" and not self._left:
            raise BadData(
                f"The option real = {options.real!r} needs unlabelled texts and there are none.",
                "Give some with --pool FILE, or leave the option out.",
            )
        writer = writer or _open_writer(run, gold)
        self.teacher, self._reading = writer.teacher, writer.calibration
        self._gate = TextFilter(run.task.labels, gold.texts, run.pool.held_out_texts() if guarded is None else guarded)
        self._gained: list[SourceGain] = []

    def acquire(self, brief: GenerationRequest, probs: Floats, now: RoundStudent) -> AcquiredTexts:
        """The texts of the next round, bought and sorted.

        Args:
            brief: what the teacher is asked to write, if it is.
            probs: (N, K) what the student thinks of its training texts.
            now: the student.
        """
        totals = self._run.ledger.totals
        before, way = totals().charged, self._way()
        bought = self._labelled(brief.n, probs, now) if way == "label" else self._written(brief, now)
        # Remembered, for on a second run the same texts cost nothing, and the same way has to be taken.
        spent = self._run.remember_decision(
            "spent",
            lambda: {"usd": micros_to_usd(totals().charged - before)},
            self.teacher.key,
            brief.seed,
            len(now.train.texts),
        )
        return AcquiredTexts(way, bought.texts, bought.filtered, bought.probs, spent["usd"], bought.budget_exhausted)

    def record_gain(self, bought: AcquiredTexts, loss_drop: float) -> None:
        """By how much the validation loss fell with what was bought."""
        self._gained.append(SourceGain("label" if bought.source == "label" else "write", loss_drop, bought.usd))

    def _way(self) -> TextSource:
        if not self._left:
            return "write"
        if self._options.mix == "turns":
            return "label" if len(self._gained) % 2 else "write"
        return better_source(self._gained)

    def _written(self, brief: GenerationRequest, now: RoundStudent) -> AcquiredTexts:
        """What the teacher writes; one label at a time if it cannot take the whole brief."""
        run, briefs = self._run, [brief]
        if not self.teacher.capabilities.reads_feedback:
            draw = np.random.default_rng(brief.seed)
            briefs = split_by_label(brief, run.task.labels, gold_examples(run.task, now.train), draw)
        texts: list[LabelledText] = []
        ended = False
        for each in briefs:
            try:
                texts += run.write(self.teacher, each, reserve_micros=run.training_reserve)
            except BudgetExceeded:
                ended = True
                break
        passed = self._agreed(now, self._gate(texts))
        soft = self._opinion([each.text for each in passed.accepted], passed) if self._options.soft_labels else None
        return AcquiredTexts("write", tuple(texts), passed, soft, 0.0, ended)

    def _labelled(self, n: int, probs: Floats, now: RoundStudent) -> AcquiredTexts:
        """What the teacher says of n unlabelled texts that the student needs."""
        run = self._run
        draw = np.random.default_rng([run.spec.seed, len(self._gained)])
        some = choose.random_sampling(np.arange(len(self._left)), MAX_CANDIDATE_TEXTS, draw)
        texts = [self._left[i] for i in some]
        chosen = [texts[i] for i in self._needed(texts, n, probs, now, draw)]
        answers = run.ask(self.teacher, chosen, reserve_micros=run.training_reserve)
        gone = {text for text, state in zip(chosen, answers.states, strict=True) if state != "unasked"}
        self._left = [text for text in self._left if text not in gone]
        there = answers.answered
        soft = self._reading.apply(answers.scores[there]).astype(np.float32)
        labels = [run.task.labels[k] for k in soft.argmax(axis=1)]
        found = tuple(
            LabelledText(text, label) for text, label in zip(np.array(chosen, dtype=object)[there], labels, strict=True)
        )
        return AcquiredTexts("label", found, FilterResult(found), soft, 0.0, "unasked" in answers.states)

    def _needed(
        self, texts: Sequence[str], n: int, probs: Floats, now: RoundStudent, draw: np.random.Generator
    ) -> NDArray[np.int64]:
        if self._options.real == "margin":
            return choose.margin_sampling(now.student.predict_proba(texts), n)
        if self._options.real == "near":
            hard = choose.hard_negatives(now.train.gold, probs, n)
            if len(hard):
                anchors = now.student.embed([now.train.texts[i] for i in hard])
                return choose.nearest_to_anchors(now.student.embed(texts), anchors, n)
        return choose.random_sampling(np.arange(len(texts)), n, draw)

    def _opinion(self, texts: Sequence[str], passed: FilterResult) -> NDArray[np.float32]:
        """(M, K) what the teacher says of what it wrote, half and half with the label it wrote it for."""
        run = self._run
        answers = run.ask(self.teacher, texts, reserve_micros=run.training_reserve)
        meant = np.eye(run.task.n_labels)[[run.task.index(each.label) for each in passed.accepted]]
        said = meant.copy()
        said[answers.answered] = self._reading.apply(answers.scores[answers.answered])
        return np.asarray((meant + said) / 2, dtype=np.float32)

    def _agreed(self, now: RoundStudent, found: FilterResult) -> FilterResult:
        """`found` less what the teacher, or the student, would not label so."""
        run, agree = self._run, self._options.agree
        texts = [each.text for each in found.accepted]
        if agree == "nobody" or not texts:
            return found
        columns = np.array([run.task.index(each.label) for each in found.accepted])
        if agree == "teacher":
            answers = run.ask(self.teacher, texts, reserve_micros=run.training_reserve)
            scores = np.nan_to_num(answers.scores + np.array(self._reading.offsets))
            return drop_disagreements(found, list(np.where(answers.answered, scores.argmax(axis=1), -1) == columns))
        probs = now.student.predict_proba(texts)
        if agree == "pvi":
            held = run.pool.subset("validation")
            return drop_disagreements(
                found, passes_pvi(probs, columns, now.student.predict_proba(held.texts), held.gold)
            )
        return drop_disagreements(found, list(probs[np.arange(len(texts)), columns] >= 1 / run.task.n_labels))


def better_source(gained: Sequence[SourceGain]) -> TextSource:
    """Whether to write or to label next: each once, then what has lowered the loss more a dollar.

    Every fourth round it is the other one, for what a way gains changes as the student learns.
    """
    ways: tuple[TextSource, TextSource] = ("write", "label")
    for way in ways:
        if not any(each.source == way for each in gained):
            return way
    rate = {}
    for way in ways:
        own = [each for each in gained if each.source == way]
        rate[way] = sum(each.loss_drop for each in own) / max(sum(each.usd for each in own), 1e-9)
    best, other = ("write", "label") if rate["write"] >= rate["label"] else ("label", "write")
    return ways[ways.index(other if (len(gained) + 1) % EXPLORE_EVERY == 0 else best)]  # type: ignore[arg-type]


def _open_writer(run: Run, gold: Subset) -> GeneratingTeacher:
    """The spec's teacher, if it can write, and how its scores are read."""
    named = run.spec.teacher
    if named is not None and named.kind == "trained":
        raise _cannot_write(named.name)
    teacher = run.teacher(select_examples(gold, run.spec, run.task))
    if not teacher.capabilities.generates:
        raise _cannot_write(teacher.name)
    nothing = Answers((), np.empty((0, run.task.n_labels)), (), ())
    reading = Calibration(tuple([0.0] * run.task.n_labels), 1.0)
    if teacher.needs_prior_correction:
        rows = np.random.default_rng(run.spec.seed).permutation(len(gold))[:BIAS_TEXTS]
        asked = run.ask(teacher, [gold.texts[i] for i in rows], reserve_micros=run.training_reserve)
        if asked.answered.any():
            reading = calibrate_teacher(teacher, asked, asked, gold.gold[rows], run)
    run.record_teacher(teacher, reading, nothing)
    return GeneratingTeacher(teacher, reading)


def _cannot_write(name: str) -> BadSpec:
    return BadSpec(
        f"The teacher {name!r} cannot write texts, and PGKD is made of what a teacher writes.",
        "Take an LLM (openai, anthropic, or local with a GGUF file), replay with generate_from, or --procedure kd.",
    )
