"""What every recipe is: the record a registry line leads to, and the purchases it plans.

A recipe spends a run's ledger until a student can do the task. It decides what is asked, learnt and evaluated, and
never reads the test part of the pool: what is chosen with it can no longer be measured with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Generic, Literal, TypeVar, cast

import numpy as np
from pydantic import ConfigDict

from potstill.data.pool import Pool
from potstill.data.task import OutputForm, Task, TaskKind
from potstill.errors import BadData, BadSpec, PotstillError
from potstill.ledger.prices import Usage
from potstill.procedures import REGISTRY
from potstill.registry import Options, read_options
from potstill.run.inputs import RunInputs
from potstill.run.run import Run
from potstill.run.spec import ComponentSpec, Spec, check_student_task, check_teacher_task, teacher_backbone
from potstill.students.base import Student, TrainedModel
from potstill.teachers import DEFAULT_TEACHER
from potstill.teachers.base import Teacher, UsageEstimate
from potstill.teachers.kinds import teacher_kind

ONE_LABEL: frozenset[TaskKind] = frozenset({"single", "pair"})
ANY_TASK: frozenset[TaskKind] = frozenset({"single", "pair", "multi"})
SAMPLE_TEXTS = 200  # texts that prompts are built for in a plan
NO_POOL = "This procedure needs unlabelled texts and there are none."
NO_POOL_HINT = "Give some with --pool FILE (or rows without a label), or take --procedure finetune."

OptionsT = TypeVar("OptionsT", bound=Options)


class AnyOptions(Options):
    """The options of a recipe that declares none: it reads them itself."""

    model_config = ConfigDict(extra="allow", frozen=True)


@dataclass(frozen=True)
class QuoteInputs(Generic[OptionsT]):
    """What a recipe plans its purchases from.

    Attributes:
        inputs: the spec, the task and the pool.
        teacher: the spec's teacher, opened to plan: it builds prompts and estimates usage, and is not called.
        options: the recipe's options, validated.
    """

    inputs: RunInputs
    teacher: Teacher
    options: OptionsT


@dataclass(frozen=True)
class Ask:
    """One sort of purchase: what is bought, from which teacher, how much of it, and what a unit consumes.

    A recipe may have a cheap and an expensive course (fewer texts generated, more answered). `low_units` and
    `high_units` of all its purchases belong to the same two courses, so one purchase may have the higher number in
    `low_units`.

    Attributes:
        verb: the teacher's method that is called.
        teacher: the seller; its price turns usage into money.
        low_units, high_units: units in the one course and in the other; a unit is a text that is answered, or a call
            that generates texts.
        unit_usage: estimated usage of a unit, once for each unit of a sample.
        max_call_usage: upper bound of what one call consumes.
        texts_per_unit: texts that a unit answers or generates.
        note: what it is for, in words; shown unless it is the first purchase.
    """

    verb: Literal["answer", "generate"]
    teacher: Teacher
    low_units: float
    high_units: float
    unit_usage: tuple[UsageEstimate, ...]
    max_call_usage: Usage
    texts_per_unit: float = 1.0
    note: str = ""


@dataclass(frozen=True)
class FormRecipe(Generic[OptionsT]):
    """How a procedure does a text-to-text task.

    Attributes:
        run: spends the run's ledger and returns the student.
        quote: the purchases it plans, the main one first.
    """

    run: Callable[[Run], TrainedModel]
    quote: Callable[[QuoteInputs[OptionsT]], tuple[Ask, ...]]


@dataclass(frozen=True)
class Recipe(Generic[OptionsT]):
    """A procedure of the registry.

    Attributes:
        name: as the user types it.
        run: spends the run's ledger and returns the student.
        options: what `[procedure]` may say.
        task_kinds: the kinds of task of labels it can do.
        asks_teacher: whether it buys from the spec's teacher; if not, it spends compute alone.
        asks_trained_teacher: whether it asks the spec's teacher if that is trained on the gold, and no other.
        quote: the purchases it plans, the main one first; None if unknown, which plans as "at most the budget".
        forms: how it does text-to-text tasks, by the form of their answers; empty if it cannot do any.
        compares_strategies: whether a plan also compares the strategies among which it will choose.
        needs_pool: whether it refuses to run without unlabelled texts.
        validates: whether it chooses by validation texts, so that some are set aside however few labels there are.
        calibration_folds: with too few validation texts, how often it is run anew without a part of the gold, whose
            scores calibrate the student (see `out_of_fold.py`); 0 for recipes that take long or cost money.
    """

    name: str
    run: Callable[[Run], Student]
    options: type[OptionsT]
    task_kinds: frozenset[TaskKind] = ONE_LABEL
    asks_teacher: bool = True
    asks_trained_teacher: bool = False
    quote: Callable[[QuoteInputs[OptionsT]], tuple[Ask, ...]] | None = None
    compares_strategies: bool = False
    needs_pool: bool = False
    validates: bool = False
    calibration_folds: int = 0
    forms: Mapping[OutputForm, FormRecipe[OptionsT]] = field(default_factory=dict)

    def read_options(self, spec: Spec) -> OptionsT:
        """Validate the spec's `[procedure]` table. Raises BadSpec."""
        return read_options(self.options, f"procedure {self.name!r}", spec.procedure.options)

    def asks(self, spec: Spec) -> bool:
        """Whether it asks the teacher of this spec."""
        return self.asks_teacher or (self.asks_trained_teacher and has_trained_teacher(spec))

    def purchases(self, request: QuoteInputs[OptionsT]) -> tuple[Ask, ...] | None:
        """What it plans to buy for this task; None if unknown."""
        form = request.inputs.task.form
        quote = self.quote if form is None else self.forms[form].quote
        return None if quote is None else quote(request)

    def can_do(self, task: Task) -> bool:
        """Whether it can do a task of this kind."""
        return task.kind in self.task_kinds if task.form is None else task.form in self.forms

    def check(self, spec: Spec, task: Task) -> None:
        """Check the options and the kind of the task before anything is spent.

        Raises:
            BadSpec: a wrong option, or a kind of task that the recipe or its teacher cannot do.
        """
        if not self.can_do(task):
            form = f" and the form {task.form!r}" if task.form is not None and self.forms else ""
            done = sorted({*self.task_kinds, *self.forms})
            raise BadSpec(
                f"The procedure {self.name!r} cannot do a task of the kind {task.kind!r}{form}; "
                f"it does {' and '.join(map(repr, done))}.",
                f"Take another with --procedure: {', '.join(_names_for(task))}.",
            )
        self.read_options(spec)
        check_student_task(spec.student, task)
        if self.asks(spec):
            teacher = spec.teacher or ComponentSpec(name=DEFAULT_TEACHER)
            check_teacher_task(teacher, task)
            if task.form is not None and has_trained_teacher(spec):
                check_student_task(teacher_backbone(teacher, task.form), task)

    def check_pool(self, pool: Pool) -> None:
        """Check before anything is spent that there are the texts it needs. Raises BadData."""
        if self.needs_pool and not pool.subset("pool").texts:
            raise BadData(NO_POOL, NO_POOL_HINT)

    def train(self, run: Run) -> TrainedModel:
        """Check the run's options and task, then run the recipe; the student is of the task's form.

        Raises:
            BadSpec: see `check`.
            PotstillError: what the recipe raises.
        """
        self.check(run.spec, run.task)
        form = run.task.form
        return self.run(run) if form is None else self.forms[form].run(run)

    def __call__(self, run: Run) -> Student:
        """As `train`, for a task of labels."""
        return cast(Student, self.train(run))


def has_trained_teacher(spec: Spec) -> bool:
    """Whether the spec names a teacher that is trained on the gold, such as trained:mpnet."""
    return spec.teacher is not None and teacher_kind(spec.teacher.kind).capabilities.needs_student


def _names_for(task: Task) -> list[str]:
    """The registered recipes that can do this task."""
    names = []
    for name in REGISTRY:
        with suppress(PotstillError, ImportError):
            recipe = REGISTRY.resolve(name)
            if isinstance(recipe, Recipe) and recipe.can_do(task):
                names.append(name)
    return names


def require_pool(run: Run) -> tuple[str, ...]:
    """The unlabelled texts. Raises BadData if there are none."""
    texts = run.pool.subset("pool").texts
    if not texts:
        raise BadData(NO_POOL, NO_POOL_HINT)
    return tuple(texts)


def quote_nothing(request: QuoteInputs[OptionsT]) -> tuple[Ask, ...]:
    """The quote of a recipe that buys nothing from a teacher."""
    return ()


def quote_answers(request: QuoteInputs[OptionsT], n: int | None = None) -> tuple[Ask, ...]:
    """The quote of a recipe that asks about each unlabelled text, or about at most `n` of them."""
    pool = request.inputs.pool
    texts = pool.subset("pool").texts or pool.subset("train").texts
    order = np.random.default_rng(request.inputs.spec.seed).permutation(len(texts))[:SAMPLE_TEXTS]
    n_asked = min(n or len(texts), len(texts))
    return (answers(request.teacher, [texts[i] for i in order], n_asked, n_asked),)


def answers(teacher: Teacher, sample: Iterable[str], low: float, high: float, note: str = "") -> Ask:
    """Answers about `low` to `high` texts, priced by a sample of the texts."""
    texts = list(sample)
    usage = tuple(teacher.estimate_usage([text]) for text in texts)
    return Ask("answer", teacher, low, high, usage, teacher.max_usage(texts[: teacher.batch_size]), note=note)
