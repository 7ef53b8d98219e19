"""Where `allocate` gets labels: annotators, a language model, and a large student that labels texts.

Prices each source and buys from it through the run; decides nothing.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from potstill.data.pool import Subset
from potstill.data.task import JsonObject
from potstill.errors import BadSpec, UnknownPrice
from potstill.evaluation.calibration import Calibration, softmax
from potstill.ledger.prices import Purchase, Usage, micros_to_usd
from potstill.procedures.allocate.learning_curves import N_DRAWS
from potstill.procedures.allocate.strategies import UnitCosts
from potstill.procedures.annotators import open_annotator
from potstill.procedures.cold_start import DEFAULT_COLD_START, ColdStart
from potstill.procedures.pgkd.generation_request import PgkdOptions
from potstill.procedures.soft_labels import calibrate_teacher, gold_row_weight
from potstill.registry import Options
from potstill.run import Answers
from potstill.run.few_shot import select_examples
from potstill.run.run import Run
from potstill.run.spec import ComponentSpec, quick_student, trained_teacher
from potstill.run.training_time import estimate_training_time
from potstill.students import LARGE_STUDENT
from potstill.students.base import Floats, Student, StudentConfig
from potstill.students.kinds import student_kind
from potstill.teachers import DEFAULT_ANNOTATOR
from potstill.teachers.base import Teacher, TrainedStudent
from potstill.teachers.kinds import teacher_kind

QueryStrategy = Literal["random", "margin", "entropy", "diverse", "badge", "uncertainty_herding"]
PROBE_TEXTS = 64  # texts that the large student is timed on
PROBE_SECONDS, QUICK_PROBE_SECONDS = 30.0, 1.0  # roughly what timing a transformer takes, and another student
PRICE_LOG_SD = 0.3  # standard deviation of the log of the price of a distilled text


class AllocateOptions(Options):
    """`[procedure]` of `allocate`.

    Attributes:
        annotator: options of the `human` teacher; `{simulate_from = "pool"}` sells the pool's hidden labels (a
            simulation).
        large_model: the student that teaches, once it is trained on the labels; "" leaves distillation out.
        large_model_options: its options.
        generation: options of the PGKD rounds (see `pgkd`); `{rounds = 0}` leaves them out.
        query_strategy: which texts annotators are asked about.
        cold_start: which texts they are asked about first, without labels of two classes: "max_herding", those that
            cover the pool in the student's embedding space, or "random".
        pilot_labels: labels to begin with; bought if there are fewer.
        max_steps: purchases of labels or answers, at most; PGKD rounds are limited by `generation` instead.
        min_gain: accuracy points per dollar below which it stops buying.
        pilot_seeds: how many subsets of each size the pilot trains on.
        proxy_student: the student that the pilot trains; "" takes the run's own, with its quick options.
    """

    annotator: JsonObject = Field(default_factory=dict)
    large_model: str = LARGE_STUDENT
    large_model_options: JsonObject = Field(default_factory=dict)
    generation: PgkdOptions = PgkdOptions()
    query_strategy: QueryStrategy = "badge"
    cold_start: ColdStart = DEFAULT_COLD_START
    pilot_labels: int = Field(default=100, ge=8)
    max_steps: int = Field(default=8, ge=1, le=50)
    min_gain: float = Field(default=0.0, ge=0)
    pilot_seeds: int = Field(default=2, ge=1, le=10)
    proxy_student: str = ""


@dataclass(frozen=True)
class TeacherCost:
    """What the large student costs in USD: training per label, and labelling per text; measured, or by a probe."""

    training_usd_per_label: float
    usd_per_text: float
    measured: bool = False


@dataclass(frozen=True)
class LabelledSet:
    """N labelled texts and their (N, K) targets."""

    texts: tuple[str, ...]
    targets: Floats

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def gold(self) -> NDArray[np.int64]:
        """(N,) the column with the highest target."""
        return np.asarray(self.targets.argmax(axis=1), dtype=np.int64)

    def concatenate(self, texts: Sequence[str], targets: Floats) -> LabelledSet:
        """This set followed by other texts and their (M, K) targets."""
        return LabelledSet((*self.texts, *texts), np.concatenate([self.targets, targets]))

    def take(self, rows: NDArray[np.integer[Any]]) -> LabelledSet:
        """The given rows."""
        return LabelledSet(tuple(self.texts[row] for row in rows.tolist()), self.targets[rows])

    def to_subset(self) -> Subset:
        """As a subset of a pool, to evaluate on."""
        return Subset(self.texts, self.gold, tuple(map(str, range(len(self)))), np.arange(len(self)))


@dataclass(frozen=True)
class AllocationState:
    """All that was bought so far, and what is left to label.

    Attributes:
        labelled: texts with human labels, for training.
        unlabelled: texts without one.
        asked: texts that the language model was asked about, in the order of asking.
        generation_score: validation accuracy of the student trained on generated texts too; 0 without any.
    """

    labelled: LabelledSet
    unlabelled: tuple[str, ...]
    asked: tuple[str, ...] = ()
    generation_score: float = 0.0

    def with_labels(self, bought: LabelledSet, requested: Sequence[str]) -> AllocationState:
        """After a purchase of labels; texts that were requested and skipped are not unlabelled any more either."""
        excluded = set(requested)
        labelled = self.labelled.concatenate(bought.texts, bought.targets)
        return replace(
            self, labelled=labelled, unlabelled=tuple(text for text in self.unlabelled if text not in excluded)
        )

    def with_asked(self, n: int) -> AllocationState:
        """After the language model was asked about the next unlabelled texts, `n` in all."""
        asked = set(self.asked)
        more = (text for text in self.unlabelled if text not in asked)
        return replace(self, asked=(*self.asked, *islice(more, max(0, n - len(asked)))))

    def with_generation_score(self, score: float) -> AllocationState:
        """With the score of the student trained on generated texts."""
        return replace(self, generation_score=score)


class LabelSources:
    """The label sources of one run.

    Raises:
        BadSpec: wrong options of the annotator, of the large student or of the PGKD rounds.
    """

    def __init__(self, run: Run, options: AllocateOptions) -> None:
        self.run, self.options = run, options
        self.annotator = self._open_annotator()
        teacher = run.spec.teacher
        if options.generation.query_strategy != "none":
            raise BadSpec(
                "The PGKD rounds of allocate take no query_strategy: labelling texts is a strategy of its own.",
                "Leave query_strategy out of generation = {...} under [procedure].",
            )
        self.llm: Teacher | None = None
        if teacher is not None and _is_llm(teacher):
            self.llm = run.teacher(select_examples(run.pool.subset("train"), run.spec, run.task))
        self.large_model = (
            ComponentSpec(name=options.large_model, **options.large_model_options) if options.large_model else None
        )
        proxy = ComponentSpec(name=options.proxy_student) if options.proxy_student else run.spec.student
        self.proxy_student = quick_student(proxy) if _is_slow(proxy) else proxy
        for each in (self.large_model, self.proxy_student):  # a wrong option is reported before anything is bought
            if each is not None:
                task = run.task
                student_kind(each.kind)(
                    StudentConfig(task.labels, each.model, task.descriptions, each.options, task.kind)
                )

    def _open_annotator(self) -> Teacher | None:
        try:
            return open_annotator(self.run, ComponentSpec(name=DEFAULT_ANNOTATOR, **self.options.annotator))
        except UnknownPrice:
            return None  # without a price no label is bought

    def buy_labels(self, texts: Sequence[str]) -> LabelledSet:
        """Human labels of the texts, without those that were skipped. Raises Waiting."""
        assert self.annotator is not None
        with self.run.reserve_training():
            return answers_to_labelled(self.run.ask(self.annotator, texts))

    def ask_llm(self, texts: Sequence[str], labelled: LabelledSet) -> tuple[Answers, Calibration]:
        """The language model's answers about the texts, and the calibration of its scores (fitted on the labels)."""
        assert self.llm is not None
        gold_texts = labelled.texts[: max(50, len(labelled) // 10)] if self.llm.needs_prior_correction else ()
        with self.run.reserve_training():
            answers = self.run.ask(self.llm, texts)
            on_gold = self.run.ask(self.llm, gold_texts)
        gold = labelled.gold[: len(gold_texts)]
        return answers, calibrate_teacher(self.llm, answers, on_gold, gold, self.run)

    def train_large(self, labelled: LabelledSet) -> Student:
        """The large student, trained on the labels."""
        assert self.large_model is not None
        return self.run.learn(labelled.texts, labelled.targets, student=self.large_model, purpose="teach")

    def large_teacher(self, large: Student) -> Teacher:
        """The large student as a teacher."""
        assert self.large_model is not None
        teacher = trained_teacher(ComponentSpec(name=self.large_model.name))
        trained = TrainedStudent(large, self.run.student_key(large), self.run.spec.compute_rates)
        return self.run.open_teacher(teacher, student=trained)

    @property
    def probe_usd(self) -> float:
        """Roughly what timing the large student costs: it is loaded and trained on a few rows."""
        assert self.large_model is not None
        return self._usd(PROBE_SECONDS if _is_slow(self.large_model) else QUICK_PROBE_SECONDS)

    def teacher_cost(self, labelled: LabelledSet, texts: Sequence[str], large: Student | None = None) -> TeacherCost:
        """What the large student costs: as measured, or by a short probe if it was not trained yet."""
        assert self.large_model is not None
        run, n = self.run, max(len(labelled), 1)
        if large is not None:
            return TeacherCost(self.training_usd(large) / n, self._labelling_usd(large, texts), True)
        rates, seed = run.spec.compute_rates, run.spec.seed
        purchase = Purchase("compute", "plan", f"probe {self.large_model.name}", PROBE_TEXTS, mode="train")
        with run.ledger.hold_compute(max(run.ledger.available, 1), rates, purchase):
            probe = estimate_training_time(
                self.large_model, run.task, labelled.texts, labelled.targets, rates, seed=seed
            )
        return TeacherCost(probe.usd / n, self._labelling_usd(probe.student, texts))

    def training_usd(self, student: Student) -> float:
        """What training a student of this run cost."""
        return self._usd(self.run.training_seconds(student))

    def _labelling_usd(self, large: Student, texts: Sequence[str]) -> float:
        """USD per text."""
        large.predict_logits(list(texts[:2]))  # the first call is the slowest
        began = time.perf_counter()
        large.predict_logits(list(texts[:PROBE_TEXTS]))
        return self._usd(1000 * (time.perf_counter() - began) / max(1, min(PROBE_TEXTS, len(texts)))) / 1000

    def _usd(self, seconds: float) -> float:
        return micros_to_usd(self.run.spec.compute_rates.cost_micros(Usage(seconds=seconds)))

    def answer_usd(self, texts: Sequence[str]) -> float | None:
        """The expected price of an answer of the language model; None without one."""
        return None if self.llm is None or not len(texts) else mean_answer_usd(self.llm, texts)

    def unit_costs(self, teacher_cost: TeacherCost | None, texts: Sequence[str]) -> UnitCosts:
        """Prices in USD: those of the annotator and of the language model as given, compute as measured."""
        label = None
        if self.annotator is not None:
            label = micros_to_usd(self.annotator.price.cost_micros(self.annotator.max_usage(texts[:1])))
        answer = self.answer_usd(texts)
        if teacher_cost is None:
            return UnitCosts(usd_per_label=label, usd_per_answer=answer)
        price_factors = np.exp(PRICE_LOG_SD * np.random.default_rng(0).standard_normal(N_DRAWS))
        training_usd_per_label = teacher_cost.training_usd_per_label
        return UnitCosts(
            usd_per_label=label,
            teacher_training=lambda n: training_usd_per_label * n,
            usd_per_distilled=np.asarray(teacher_cost.usd_per_text * price_factors),
            usd_per_answer=answer,
        )


def mean_answer_usd(teacher: Teacher, texts: Sequence[str]) -> float:
    """The expected price of a teacher's answer, at most: the mean over some texts, of which there is one at least."""
    # A thousand of each, so that rounding up to a micro-dollar does not count.
    micros = [teacher.price.cost_micros(_times(teacher.estimate_usage([text]).high, 1000)) for text in texts[:50]]
    return float(np.mean(micros)) / 1e9


def _is_llm(teacher: ComponentSpec) -> bool:
    capabilities = teacher_kind(teacher.kind).capabilities
    return not (capabilities.human or capabilities.needs_student)


def _is_slow(student: ComponentSpec) -> bool:
    """Whether a student is trained in passes over the data, as transformers are."""
    return student_kind(student.kind).training_passes(student.options, 1) is not None


def _times(usage: Usage, n: int) -> Usage:
    return Usage(**{name: value * n for name, value in asdict(usage).items()})


def answers_to_labelled(answers: Answers) -> LabelledSet:
    """The answered texts and their probabilities."""
    rows = np.flatnonzero(answers.answered)
    probs = softmax(answers.scores[rows]) if len(rows) else np.zeros((0, answers.scores.shape[1]))
    return LabelledSet(tuple(answers.texts[row] for row in rows), probs.astype(np.float32))


@dataclass(frozen=True)
class GoldAndSoftLabels:
    """Training rows: N texts, (N, K) targets, (N,) weights, and (N,) True where a teacher may be wrong."""

    texts: tuple[str, ...]
    targets: Floats
    weights: Floats
    noisy: NDArray[np.bool_]


def combine_gold_and_soft(
    labelled: LabelledSet, texts: Sequence[str], probs: NDArray[np.floating[Any]]
) -> GoldAndSoftLabels:
    """The labels, and a teacher's (M, K) probabilities of M other texts; gold weighs more if it is rare."""
    gold_weights = np.full(len(labelled), gold_row_weight(len(labelled), len(texts)))
    weights = np.concatenate([gold_weights, np.ones(len(texts))])
    return GoldAndSoftLabels(
        (*labelled.texts, *texts),
        np.concatenate([labelled.targets, np.asarray(probs, dtype=np.float32)]),
        weights.astype(np.float32),
        np.arange(len(weights)) >= len(labelled),
    )


def gold_set(subset: Subset, n_labels: int) -> LabelledSet:
    """A labelled subset with its targets, which are one-hot unless the data have soft labels."""
    return LabelledSet(subset.texts, subset.targets(n_labels))
