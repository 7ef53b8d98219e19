"""What `allocate` can buy: labels of people, answers of a language model, texts distilled from a large student.

Knows what each costs here and how to buy it through the run; decides nothing.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from potstill.data.pool import Part
from potstill.errors import BadSpec, UnknownPrice
from potstill.evaluation.calibration import Calibration, one_hot, softmax
from potstill.ledger.prices import Purchase, Usage, to_usd
from potstill.procedures.allocate.learning_curves import DRAWS
from potstill.procedures.allocate.strategies import Costs
from potstill.procedures.kd import gold_weight, read_scores
from potstill.procedures.pgkd.brief import read_options
from potstill.run import Answers
from potstill.run.few_shot import offered_examples
from potstill.run.run import Run
from potstill.run.spec import Named
from potstill.run.training_time import forecast
from potstill.students import MENU as STUDENTS
from potstill.students.base import Floats, Make, Student
from potstill.teachers.base import Teacher
from potstill.teachers.options import Options

PEOPLE = ("human", "trained")  # teachers of the spec that are no language model
PROBE = 64  # texts that the large student is timed on
PROBE_S = 30.0  # seconds that timing a transformer takes, about


class AllocateOptions(Options):
    """`[procedure]` of `allocate`.

    Attributes:
        annotator: options of the `human` teacher; `{reveals = "pool"}` sells labels the data holds back (a simulation).
        large: the student that teaches, once it has learnt the labels; "" does without.
        large_options: its options.
        write: options of the rounds in which the language model writes (see `pgkd`); `{rounds = 0}` does without.
        choose: which texts people are asked about.
        pilot: labels to begin with, bought where there are fewer.
        steps: how often it plans anew at most.
        least_gain: points of accuracy a dollar has to bring; below that it stops buying.
        seeds: how often each size of the pilot is measured.
        proxy: the student that the pilot is measured with; "" takes the run's own, an encoder frozen.
    """

    annotator: dict[str, Any] = Field(default_factory=dict)
    large: str = "encoder:gte-small"
    large_options: dict[str, Any] = Field(default_factory=dict)
    write: dict[str, Any] = Field(default_factory=dict)
    choose: Literal["random", "margin", "entropy", "diverse", "badge"] = "badge"
    pilot: int = Field(default=100, ge=8)
    steps: int = Field(default=8, ge=1, le=50)
    least_gain: float = Field(default=0.0, ge=0)
    seeds: int = Field(default=2, ge=1, le=10)
    proxy: str = ""


@dataclass(frozen=True)
class Teaching:
    """What the large student costs in USD: to be taught a label, and to label a text; `measured`, or a probe's."""

    a_label: float
    a_text: float
    measured: bool = False


@dataclass(frozen=True)
class Owned:
    """Labelled texts: N texts and their (N, K) targets; and the answers of a language model, where some were bought."""

    texts: tuple[str, ...]
    targets: Floats

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def gold(self) -> NDArray[np.int64]:
        """(N,) the likeliest column of each."""
        return np.asarray(self.targets.argmax(axis=1), dtype=np.int64)

    def plus(self, texts: Sequence[str], targets: Floats) -> Owned:
        """With these, too."""
        return Owned((*self.texts, *texts), np.concatenate([self.targets, targets]))

    def at(self, rows: NDArray[np.integer[Any]]) -> Owned:
        """These rows only."""
        return Owned(tuple(self.texts[row] for row in rows.tolist()), self.targets[rows])

    def part(self) -> Part:
        """As a part of a pool, to judge by."""
        return Part(self.texts, self.gold, tuple(map(str, range(len(self)))), np.arange(len(self)))


@dataclass(frozen=True)
class Held:
    """What there is.

    Attributes:
        owned: the labels. left: the unlabelled texts. asked: those of them that the language model was asked about.
        score: of the student that learnt what was written, too; 0 if nothing was.
    """

    owned: Owned
    left: Sequence[str]
    asked: Sequence[str] = ()
    score: float = 0.0


class Market:
    """All that can be bought for this run.

    Raises:
        BadSpec: options of the annotator, of the large student or of the rounds that write cannot be.
    """

    def __init__(self, run: Run, options: AllocateOptions) -> None:
        self.run, self.options = run, options
        self.annotator = self._people()
        named = run.spec.teacher
        self.writing = read_options(options.write)
        if self.writing.real != "none":
            raise BadSpec(
                "allocate labels real texts as a way of its own; `real` is not for its rounds of writing.",
                "Leave real out of write = {...} under [procedure].",
            )
        self.llm: Teacher | None = None
        if named is not None and named.kind not in PEOPLE:
            self.llm = run.teacher(offered_examples(run.pool.part("train"), run.spec, run.task))
        self.large = Named(name=options.large, **options.large_options) if options.large else None
        name = options.proxy or run.spec.student.name
        own = {} if options.proxy else run.spec.student.options
        if name.partition(":")[0] == "encoder":
            own = {**own, "mode": "frozen"}
        self.proxy = Named(name=name, **own)
        for each in (self.large, self.proxy):  # a slip of the pen is told now, not when people have labelled
            if each is not None:
                task = run.task
                STUDENTS.resolve(each.kind)(Make(task.labels, each.model, task.descriptions, each.options, task.kind))

    def _people(self) -> Teacher | None:
        hidden = self.run.pool.hidden
        known = {self.run.pool.texts[row]: int(hidden[row]) for row in np.flatnonzero(hidden >= 0)}
        options = self.options.annotator
        if options.get("reveals") == "pool":
            options = {**options, "known": known}
        try:
            return self.run.open_teacher(Named(name="human"), **options)
        except UnknownPrice:
            return None  # nobody said what a label costs: then nobody is asked

    def label(self, texts: Sequence[str]) -> Owned:
        """What people say of these; those they left open or were unsure of are missing. Raises Waiting."""
        assert self.annotator is not None
        reserve = self.run.training_reserve
        return soft(self.run.ask(self.annotator, texts, leave_micros=reserve))

    def answered(self, texts: Sequence[str], owned: Owned) -> tuple[Answers, Calibration]:
        """What the language model says of these, and how its scores are read (fitted on the labels)."""
        assert self.llm is not None
        reserve = self.run.training_reserve
        said = self.run.ask(self.llm, texts, leave_micros=reserve)
        some = owned.texts[: max(50, len(owned) // 10)] if self.llm.scores_need_prior else ()
        on_gold = self.run.ask(self.llm, some, leave_micros=reserve)
        return said, read_scores(self.llm, said, on_gold, owned.gold[: len(some)], self.run)

    def teach_large(self, owned: Owned) -> Student:
        """The large student after learning the labels."""
        assert self.large is not None
        return self.run.learn(owned.texts, owned.targets, student=self.large, purpose="teach")

    def large_teacher(self, large: Student) -> Teacher:
        """It as a teacher."""
        assert self.large is not None
        named = Named(name=f"trained:{self.large.name}")
        return self.run.open_teacher(
            named, student=large, key=self.run.key_of(large), price=self.run.spec.compute_rates
        )

    @property
    def probe_usd(self) -> float:
        """What timing the large student costs, about: a transformer is loaded and taught a few rows."""
        assert self.large is not None
        return self._usd(PROBE_S if self.large.kind in ("encoder", "cloze") else 1.0)

    def teaching(self, owned: Owned, pool: Sequence[str], large: Student | None = None) -> Teaching:
        """What the large student costs: as it was measured, or by a short probe if it was not taught yet."""
        assert self.large is not None
        run, n = self.run, max(len(owned), 1)
        if large is not None:
            return Teaching(self.taught_usd(large) / n, self._reading(large, pool), True)
        rates, seed = run.spec.compute_rates, run.spec.seed
        purchase = Purchase("compute", "plan", f"probe {self.large.name}", PROBE)
        with run.ledger.machine_time(max(run.ledger.free, 1), rates, purchase):
            told = forecast(self.large, run.task, owned.texts, owned.targets, rates, seed=seed)
        return Teaching(told.usd / n, self._reading(told.student, pool))

    def taught_usd(self, student: Student) -> float:
        """What teaching a student of this run took."""
        return self._usd(self.run.seconds_of(student))

    def _reading(self, large: Student, pool: Sequence[str]) -> float:
        large.predict_logits(list(pool[:2]))  # the first time is the slowest
        began = time.perf_counter()
        large.predict_logits(list(pool[:PROBE]))
        return self._usd(1000 * (time.perf_counter() - began) / max(1, min(PROBE, len(pool)))) / 1000

    def _usd(self, seconds: float) -> float:
        return to_usd(self.run.spec.compute_rates.cost_micros(Usage(seconds=seconds)))

    def answer_usd(self, pool: Sequence[str]) -> float | None:
        """What an answer of the language model is expected to cost; None where there is none."""
        if self.llm is None or not len(pool):
            return None
        # A thousand times each, so that rounding up to a micro-dollar does not count.
        expected = [self.llm.price.cost_micros(_times(self.llm.expect([text]).high, 1000)) for text in pool[:50]]
        return float(np.mean(expected)) / 1e9

    def costs(self, teaching: Teaching | None, pool: Sequence[str]) -> Costs:
        """What things cost, in USD: people and the language model by their price, compute by what was measured."""
        label = None
        if self.annotator is not None:
            label = to_usd(self.annotator.price.cost_micros(self.annotator.bound(pool[:1])))
        answer = self.answer_usd(pool)
        if teaching is None:
            return Costs(label=label, answer=answer)
        # Teaching takes time in proportion to the labels; what is said of a text is doubted by a third.
        doubt = np.exp(0.3 * np.random.default_rng(0).standard_normal(DRAWS))
        a_label = teaching.a_label
        return Costs(
            label=label,
            teacher=lambda n: a_label * n,
            distilled=np.asarray(teaching.a_text * doubt),
            answer=answer,
        )


def _times(usage: Usage, n: int) -> Usage:
    return Usage(**{name: value * n for name, value in asdict(usage).items()})


def soft(said: Answers) -> Owned:
    """The answered texts and their probabilities."""
    there = np.flatnonzero(said.answered)
    probs = softmax(said.scores[there]) if len(there) else np.zeros((0, said.scores.shape[1]))
    return Owned(tuple(said.texts[row] for row in there), probs.astype(np.float32))


@dataclass(frozen=True)
class Lessons:
    """Gold beside soft labels: texts, targets, weights, and which rows a teacher may have got wrong."""

    texts: tuple[str, ...]
    targets: Floats
    weights: Floats
    doubtful: NDArray[np.bool_]


def beside(owned: Owned, texts: Sequence[str], probs: NDArray[np.floating[Any]]) -> Lessons:
    """The labels, and what a teacher says of other texts: gold counts for more where it is rare."""
    weights = np.concatenate([np.full(len(owned), gold_weight(len(owned), len(texts))), np.ones(len(texts))])
    return Lessons(
        (*owned.texts, *texts),
        np.concatenate([owned.targets, np.asarray(probs, dtype=np.float32)]),
        weights.astype(np.float32),
        np.arange(len(weights)) >= len(owned),
    )


def gold_of(part: Part, n_labels: int) -> Owned:
    """The labelled rows of a part."""
    return Owned(part.texts, one_hot(part.gold, n_labels))
