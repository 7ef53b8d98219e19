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

from potstill.data.pool import Subset
from potstill.errors import BadSpec, UnknownPrice
from potstill.evaluation.calibration import Calibration, one_hot, softmax
from potstill.ledger.prices import Purchase, Usage, micros_to_usd
from potstill.procedures.allocate.learning_curves import N_DRAWS
from potstill.procedures.allocate.strategies import UnitCosts
from potstill.procedures.kd import calibrate_teacher, gold_weight
from potstill.procedures.pgkd.generation_request import read_pgkd_options
from potstill.registry import Options
from potstill.run import Answers
from potstill.run.few_shot import select_examples
from potstill.run.run import Run
from potstill.run.spec import ComponentSpec
from potstill.run.training_time import estimate_training_time
from potstill.students import REGISTRY as STUDENTS
from potstill.students.base import Floats, Student, StudentConfig
from potstill.teachers.base import Teacher

NOT_LLM_TEACHERS = ("human", "trained")  # teachers of the spec that are no language model
PROBE_TEXTS = 64  # texts that the large student is timed on
PROBE_SECONDS = 30.0  # seconds that timing a transformer takes, about


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
    large_model: str = "encoder:gte-small"
    large_model_options: dict[str, Any] = Field(default_factory=dict)
    generation: dict[str, Any] = Field(default_factory=dict)
    query_strategy: Literal["random", "margin", "entropy", "diverse", "badge"] = "badge"
    pilot_labels: int = Field(default=100, ge=8)
    max_steps: int = Field(default=8, ge=1, le=50)
    min_gain: float = Field(default=0.0, ge=0)
    pilot_seeds: int = Field(default=2, ge=1, le=10)
    proxy_student: str = ""


@dataclass(frozen=True)
class TeacherCost:
    """What the large student costs in USD: to be taught a label, and to label a text; `measured`, or a probe's."""

    usd_per_label_learnt: float
    usd_per_text: float
    measured: bool = False


@dataclass(frozen=True)
class LabelledSet:
    """Labelled texts: N texts and their (N, K) targets; and the answers of a language model, where some were bought."""

    texts: tuple[str, ...]
    targets: Floats

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def gold(self) -> NDArray[np.int64]:
        """(N,) the likeliest column of each."""
        return np.asarray(self.targets.argmax(axis=1), dtype=np.int64)

    def concatenate(self, texts: Sequence[str], targets: Floats) -> LabelledSet:
        """With these, too."""
        return LabelledSet((*self.texts, *texts), np.concatenate([self.targets, targets]))

    def take(self, rows: NDArray[np.integer[Any]]) -> LabelledSet:
        """These rows only."""
        return LabelledSet(tuple(self.texts[row] for row in rows.tolist()), self.targets[rows])

    def to_subset(self) -> Subset:
        """As a part of a pool, to judge by."""
        return Subset(self.texts, self.gold, tuple(map(str, range(len(self)))), np.arange(len(self)))


@dataclass(frozen=True)
class AllocationState:
    """What there is.

    Attributes:
        owned: the labels. left: the unlabelled texts. asked: those of them that the language model was asked about.
        score: of the student that learnt what was written, too; 0 if nothing was.
    """

    labelled: LabelledSet
    unlabelled: Sequence[str]
    asked: Sequence[str] = ()
    generation_score: float = 0.0


class LabelSources:
    """All that can be bought for this run.

    Raises:
        BadSpec: options of the annotator, of the large student or of the rounds that write cannot be.
    """

    def __init__(self, run: Run, options: AllocateOptions) -> None:
        self.run, self.options = run, options
        self.annotator = self._people()
        named = run.spec.teacher
        self.generation_options = read_pgkd_options(options.generation)
        if self.generation_options.real != "none":
            raise BadSpec(
                "allocate labels real texts as a way of its own; `real` is not for its rounds of writing.",
                "Leave real out of write = {...} under [procedure].",
            )
        self.llm: Teacher | None = None
        if named is not None and named.kind not in NOT_LLM_TEACHERS:
            self.llm = run.teacher(select_examples(run.pool.subset("train"), run.spec, run.task))
        self.large_model = (
            ComponentSpec(name=options.large_model, **options.large_model_options) if options.large_model else None
        )
        name = options.proxy_student or run.spec.student.name
        own = {} if options.proxy_student else run.spec.student.options
        if name.partition(":")[0] == "encoder":
            own = {**own, "mode": "frozen"}
        self.proxy_student = ComponentSpec(name=name, **own)
        for each in (
            self.large_model,
            self.proxy_student,
        ):  # a slip of the pen is told now, not when people have labelled
            if each is not None:
                task = run.task
                STUDENTS.resolve(each.kind)(
                    StudentConfig(task.labels, each.model, task.descriptions, each.options, task.kind)
                )

    def _people(self) -> Teacher | None:
        hidden = self.run.pool.hidden_labels
        known = {self.run.pool.texts[row]: int(hidden[row]) for row in np.flatnonzero(hidden >= 0)}
        options = self.options.annotator
        if options.get("simulate_from") == "pool":
            options = {**options, "known": known}
        try:
            return self.run.open_teacher(ComponentSpec(name="human"), **options)
        except UnknownPrice:
            return None  # nobody said what a label costs: then nobody is asked

    def buy_labels(self, texts: Sequence[str]) -> LabelledSet:
        """What people say of these; those they left open or were unsure of are missing. Raises Waiting."""
        assert self.annotator is not None
        reserve = self.run.training_reserve
        return answers_to_labelled(self.run.ask(self.annotator, texts, reserve_micros=reserve))

    def ask_llm(self, texts: Sequence[str], owned: LabelledSet) -> tuple[Answers, Calibration]:
        """What the language model says of these, and how its scores are read (fitted on the labels)."""
        assert self.llm is not None
        reserve = self.run.training_reserve
        said = self.run.ask(self.llm, texts, reserve_micros=reserve)
        some = owned.texts[: max(50, len(owned) // 10)] if self.llm.needs_prior_correction else ()
        on_gold = self.run.ask(self.llm, some, reserve_micros=reserve)
        return said, calibrate_teacher(self.llm, said, on_gold, owned.gold[: len(some)], self.run)

    def train_large(self, owned: LabelledSet) -> Student:
        """The large student after learning the labels."""
        assert self.large_model is not None
        return self.run.learn(owned.texts, owned.targets, student=self.large_model, purpose="teach")

    def large_teacher(self, large: Student) -> Teacher:
        """It as a teacher."""
        assert self.large_model is not None
        named = ComponentSpec(name=f"trained:{self.large_model.name}")
        return self.run.open_teacher(
            named, student=large, key=self.run.student_key(large), price=self.run.spec.compute_rates
        )

    @property
    def probe_usd(self) -> float:
        """What timing the large student costs, about: a transformer is loaded and taught a few rows."""
        assert self.large_model is not None
        return self._usd(PROBE_SECONDS if self.large_model.kind in ("encoder", "cloze") else 1.0)

    def teacher_cost(self, owned: LabelledSet, pool: Sequence[str], large: Student | None = None) -> TeacherCost:
        """What the large student costs: as it was measured, or by a short probe if it was not taught yet."""
        assert self.large_model is not None
        run, n = self.run, max(len(owned), 1)
        if large is not None:
            return TeacherCost(self.training_usd(large) / n, self._reading(large, pool), True)
        rates, seed = run.spec.compute_rates, run.spec.seed
        purchase = Purchase("compute", "plan", f"probe {self.large_model.name}", PROBE_TEXTS)
        with run.ledger.hold_compute(max(run.ledger.free, 1), rates, purchase):
            told = estimate_training_time(self.large_model, run.task, owned.texts, owned.targets, rates, seed=seed)
        return TeacherCost(told.usd / n, self._reading(told.student, pool))

    def training_usd(self, student: Student) -> float:
        """What teaching a student of this run took."""
        return self._usd(self.run.training_seconds(student))

    def _reading(self, large: Student, pool: Sequence[str]) -> float:
        large.predict_logits(list(pool[:2]))  # the first time is the slowest
        began = time.perf_counter()
        large.predict_logits(list(pool[:PROBE_TEXTS]))
        return self._usd(1000 * (time.perf_counter() - began) / max(1, min(PROBE_TEXTS, len(pool)))) / 1000

    def _usd(self, seconds: float) -> float:
        return micros_to_usd(self.run.spec.compute_rates.cost_micros(Usage(seconds=seconds)))

    def answer_usd(self, pool: Sequence[str]) -> float | None:
        """What an answer of the language model is expected to cost; None where there is none."""
        if self.llm is None or not len(pool):
            return None
        # A thousand times each, so that rounding up to a micro-dollar does not count.
        expected = [
            self.llm.price.cost_micros(_times(self.llm.estimate_usage([text]).high, 1000)) for text in pool[:50]
        ]
        return float(np.mean(expected)) / 1e9

    def unit_costs(self, teaching: TeacherCost | None, pool: Sequence[str]) -> UnitCosts:
        """What things cost, in USD: people and the language model by their price, compute by what was measured."""
        label = None
        if self.annotator is not None:
            label = micros_to_usd(self.annotator.price.cost_micros(self.annotator.max_usage(pool[:1])))
        answer = self.answer_usd(pool)
        if teaching is None:
            return UnitCosts(usd_per_label=label, usd_per_answer=answer)
        # Teaching takes time in proportion to the labels; what is said of a text is doubted by a third.
        doubt = np.exp(0.3 * np.random.default_rng(0).standard_normal(N_DRAWS))
        a_label = teaching.usd_per_label_learnt
        return UnitCosts(
            usd_per_label=label,
            teacher_training=lambda n: a_label * n,
            usd_per_distilled=np.asarray(teaching.usd_per_text * doubt),
            usd_per_answer=answer,
        )


def _times(usage: Usage, n: int) -> Usage:
    return Usage(**{name: value * n for name, value in asdict(usage).items()})


def answers_to_labelled(said: Answers) -> LabelledSet:
    """The answered texts and their probabilities."""
    there = np.flatnonzero(said.answered)
    probs = softmax(said.scores[there]) if len(there) else np.zeros((0, said.scores.shape[1]))
    return LabelledSet(tuple(said.texts[row] for row in there), probs.astype(np.float32))


@dataclass(frozen=True)
class GoldAndSoftLabels:
    """Gold beside soft labels: texts, targets, weights, and which rows a teacher may have got wrong."""

    texts: tuple[str, ...]
    targets: Floats
    weights: Floats
    doubtful: NDArray[np.bool_]


def combine_gold_and_soft(
    owned: LabelledSet, texts: Sequence[str], probs: NDArray[np.floating[Any]]
) -> GoldAndSoftLabels:
    """The labels, and what a teacher says of other texts: gold counts for more where it is rare."""
    weights = np.concatenate([np.full(len(owned), gold_weight(len(owned), len(texts))), np.ones(len(texts))])
    return GoldAndSoftLabels(
        (*owned.texts, *texts),
        np.concatenate([owned.targets, np.asarray(probs, dtype=np.float32)]),
        weights.astype(np.float32),
        np.arange(len(weights)) >= len(owned),
    )


def gold_set(part: Subset, n_labels: int) -> LabelledSet:
    """The labelled rows of a part."""
    return LabelledSet(part.texts, one_hot(part.gold, n_labels))
