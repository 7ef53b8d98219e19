"""Where the texts of a round come from: a teacher writes them, or labels real ones, and what of them passes.

Does not decide what a brief says (`brief.py`), nor which student is the best.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from potstill.data.pool import Part
from potstill.data.task import Brief, Written
from potstill.errors import BadData, BadSpec, OverBudget
from potstill.evaluation.calibration import Calibration
from potstill.ledger.prices import to_usd
from potstill.procedures import query_strategies as choose
from potstill.procedures.kd import read_scores
from potstill.procedures.pgkd.brief import Floats, PgkdOptions, gold_of
from potstill.procedures.pgkd.cost import ASKED_FOR_BIAS, OTHER_WAY
from potstill.procedures.pgkd.filters import Gate, Sorted, agreeing, informative
from potstill.procedures.pgkd.rounds import Bought, Round
from potstill.run import Answers
from potstill.run.few_shot import offered_examples
from potstill.run.run import Run
from potstill.teachers.base import Teacher, can_write, takes_guides
from potstill.teachers.writing import one_label_each

MOST_LOOKED_AT = 5000  # unlabelled texts that a choice is made from
Way = Literal["write", "label"]


@dataclass(frozen=True)
class Gained:
    """What a round brought: by how much the validation loss fell, and what its texts cost in USD."""

    way: Way
    loss_drop: float
    usd: float


@dataclass(frozen=True)
class Writer:
    """Who writes, and how its scores are read where it is asked about texts."""

    teacher: Teacher
    reading: Calibration


class Supply:
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
        gold: Part,
        options: PgkdOptions,
        *,
        writer: Writer | None = None,
        guarded: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self._run, self._options = run, options
        self._left = list(run.pool.part("pool").texts) if options.real != "none" else []
        if options.real != "none" and not self._left:
            raise BadData(
                f"The option real = {options.real!r} needs unlabelled texts and there are none.",
                "Give some with --pool FILE, or leave the option out.",
            )
        writer = writer or _open_writer(run, gold)
        self.teacher, self._reading = writer.teacher, writer.reading
        self._gate = Gate(run.task.labels, gold.texts, run.pool.guarded() if guarded is None else guarded)
        self._gained: list[Gained] = []

    def buy(self, brief: Brief, probs: Floats, now: Round) -> Bought:
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
        spent = self._run.decide(
            "spent",
            lambda: {"usd": to_usd(totals().charged - before)},
            self.teacher.key,
            brief.seed,
            len(now.rows.texts),
        )
        return Bought(way, bought.texts, bought.passed, bought.soft, spent["usd"], bought.money_ended)

    def told(self, bought: Bought, loss_drop: float) -> None:
        """By how much the validation loss fell with what was bought."""
        self._gained.append(Gained("label" if bought.way == "label" else "write", loss_drop, bought.usd))

    def _way(self) -> Way:
        if not self._left:
            return "write"
        if self._options.mix == "turns":
            return "label" if len(self._gained) % 2 else "write"
        return better_way(self._gained)

    def _written(self, brief: Brief, now: Round) -> Bought:
        """What the teacher writes; one label at a time if it cannot take the whole brief."""
        run, briefs = self._run, [brief]
        if not takes_guides(self.teacher):
            draw = np.random.default_rng(brief.seed)
            briefs = one_label_each(brief, run.task.labels, gold_of(run.task, now.rows), draw)
        texts: list[Written] = []
        ended = False
        for each in briefs:
            try:
                texts += run.write(self.teacher, each, leave_micros=run.training_reserve)
            except OverBudget:
                ended = True
                break
        passed = self._agreed(now, self._gate(texts))
        soft = self._opinion([each.text for each in passed.accepted], passed) if self._options.soft else None
        return Bought("write", tuple(texts), passed, soft, 0.0, ended)

    def _labelled(self, n: int, probs: Floats, now: Round) -> Bought:
        """What the teacher says of n unlabelled texts that the student needs."""
        run = self._run
        draw = np.random.default_rng([run.spec.seed, len(self._gained)])
        some = choose.at_random(np.arange(len(self._left)), MOST_LOOKED_AT, draw)
        texts = [self._left[i] for i in some]
        chosen = [texts[i] for i in self._needed(texts, n, probs, now, draw)]
        answers = run.ask(self.teacher, chosen, leave_micros=run.training_reserve)
        gone = {text for text, state in zip(chosen, answers.states, strict=True) if state != "unasked"}
        self._left = [text for text in self._left if text not in gone]
        there = answers.answered
        soft = self._reading.probs(answers.scores[there]).astype(np.float32)
        labels = [run.task.labels[k] for k in soft.argmax(axis=1)]
        found = tuple(
            Written(text, label) for text, label in zip(np.array(chosen, dtype=object)[there], labels, strict=True)
        )
        return Bought("label", found, Sorted(found), soft, 0.0, "unasked" in answers.states)

    def _needed(
        self, texts: Sequence[str], n: int, probs: Floats, now: Round, draw: np.random.Generator
    ) -> NDArray[np.int64]:
        if self._options.real == "margin":
            return choose.by_margin(now.student.predict_proba(texts), n)
        if self._options.real == "near":
            hard = choose.hard_negatives(now.rows.gold, probs, n)
            if len(hard):
                anchors = now.student.embed([now.rows.texts[i] for i in hard])
                return choose.nearest(now.student.embed(texts), anchors, n)
        return choose.at_random(np.arange(len(texts)), n, draw)

    def _opinion(self, texts: Sequence[str], passed: Sorted) -> NDArray[np.float32]:
        """(M, K) what the teacher says of what it wrote, half and half with the label it wrote it for."""
        run = self._run
        answers = run.ask(self.teacher, texts, leave_micros=run.training_reserve)
        meant = np.eye(run.task.n_labels)[[run.task.index(each.label) for each in passed.accepted]]
        said = meant.copy()
        said[answers.answered] = self._reading.probs(answers.scores[answers.answered])
        return np.asarray((meant + said) / 2, dtype=np.float32)

    def _agreed(self, now: Round, found: Sorted) -> Sorted:
        """`found` less what the teacher, or the student, would not label so."""
        run, agree = self._run, self._options.agree
        texts = [each.text for each in found.accepted]
        if agree == "nobody" or not texts:
            return found
        columns = np.array([run.task.index(each.label) for each in found.accepted])
        if agree == "teacher":
            answers = run.ask(self.teacher, texts, leave_micros=run.training_reserve)
            scores = np.nan_to_num(answers.scores + np.array(self._reading.offsets))
            return agreeing(found, list(np.where(answers.answered, scores.argmax(axis=1), -1) == columns))
        probs = now.student.predict_proba(texts)
        if agree == "pvi":
            held = run.pool.part("validation")
            return agreeing(found, informative(probs, columns, now.student.predict_proba(held.texts), held.gold))
        return agreeing(found, list(probs[np.arange(len(texts)), columns] >= 1 / run.task.n_labels))


def better_way(gained: Sequence[Gained]) -> Way:
    """Whether to write or to label next: each once, then what has lowered the loss more a dollar.

    Every fourth round it is the other one, for what a way gains changes as the student learns.
    """
    ways: tuple[Way, Way] = ("write", "label")
    for way in ways:
        if not any(each.way == way for each in gained):
            return way
    rate = {}
    for way in ways:
        own = [each for each in gained if each.way == way]
        rate[way] = sum(each.loss_drop for each in own) / max(sum(each.usd for each in own), 1e-9)
    best, other = ("write", "label") if rate["write"] >= rate["label"] else ("label", "write")
    return ways[ways.index(other if (len(gained) + 1) % OTHER_WAY == 0 else best)]  # type: ignore[arg-type]


def _open_writer(run: Run, gold: Part) -> Writer:
    """The spec's teacher, if it can write, and how its scores are read."""
    named = run.spec.teacher
    if named is not None and named.kind == "trained":
        raise _cannot_write(named.name)
    teacher = run.teacher(offered_examples(gold, run.spec, run.task))
    if not can_write(teacher):
        raise _cannot_write(teacher.name)
    nothing = Answers((), np.empty((0, run.task.n_labels)), (), ())
    reading = Calibration(tuple([0.0] * run.task.n_labels), 1.0)
    if teacher.scores_need_prior:
        rows = np.random.default_rng(run.spec.seed).permutation(len(gold))[:ASKED_FOR_BIAS]
        asked = run.ask(teacher, [gold.texts[i] for i in rows], leave_micros=run.training_reserve)
        if asked.answered.any():
            reading = read_scores(teacher, asked, asked, gold.gold[rows], run)
    run.taught_by(teacher, reading, nothing)
    return Writer(teacher, reading)


def _cannot_write(name: str) -> BadSpec:
    return BadSpec(
        f"The teacher {name!r} cannot write texts, and PGKD is made of what a teacher writes.",
        "Take an LLM (openai, anthropic, or local with a GGUF file), replay with held_back, or --procedure kd.",
    )
