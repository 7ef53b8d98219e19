"""One cell of a study: train its student with the recipe it stands for, and evaluate it on the test texts.

The cost of a cell is reported as if it were alone: its teacher's time counts even if another cell had trained it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from potstill.data.task import LabelledText, content_key
from potstill.errors import BadData, BudgetExceeded
from potstill.evaluation.calibration import match_prior
from potstill.evaluation.metrics import accuracy, macro_f1, mcc
from potstill.ledger.prices import Purpose, micros_to_usd
from potstill.ledger.store import CallRecord
from potstill.run import Answers, ProgressReporter
from potstill.run.few_shot import select_examples
from potstill.run.run import Run
from potstill.run.spec import ComponentSpec, trained_teacher
from potstill.students import BASELINE_STUDENT
from potstill.students.base import Student, TrainedModel
from potstill.students.kinds import revision
from potstill.study.backbones import Backbone, StudyBackbones
from potstill.study.dataset import StudyDataset
from potstill.study.records import Cell, CellResult, CellScores, CellUsage
from potstill.study.spec import StudySpec, is_distilled
from potstill.study.spec_tables import PROCEDURES, Procedure
from potstill.study.zero_shot import zero_shot_labels
from potstill.teachers.base import Teacher

ModelT_co = TypeVar("ModelT_co", bound=TrainedModel, covariant=True)
VERSION = 2  # raised when a cell would have another result
BIAS_TEXTS = 200  # unlabelled texts that a language model's label bias is estimated on
NO_USAGE = CellUsage()
TFIDF_STUDENT = ComponentSpec(name=BASELINE_STUDENT)


class StudyRecipe(Protocol):
    """A recipe as a study calls it."""

    @property
    def name(self) -> str:
        """As `[procedure] name` has it."""

    def __call__(self, run: Run) -> Student:
        """Train the run's student."""


Recipes = Mapping[Procedure, StudyRecipe]


@dataclass(frozen=True)
class CellContext:
    """What the cells of one gold subset share.

    Attributes:
        study: the specification.
        backbones: of the data set.
        dataset: its texts.
        base_run: the run without gold, which buys a language model's answers for all subsets.
        run: the run of the subset.
        recipes: procedure -> recipe.
        reporter: prints progress.
    """

    study: StudySpec
    backbones: StudyBackbones
    dataset: StudyDataset
    base_run: Run
    run: Run
    recipes: Recipes
    reporter: ProgressReporter

    def committed_micros(self) -> int:
        """Micro-dollars held or charged in both runs."""
        return sum(run.store.committed() for run in self._runs())

    def set_allowance(self, micros: int) -> None:
        """Let the next cell spend `micros` in either run."""
        for run in self._runs():
            run.ledger.limit = run.store.committed() + max(micros, 0)

    def _runs(self) -> tuple[Run, ...]:
        return (self.base_run,) if self.base_run is self.run else (self.base_run, self.run)


@dataclass(frozen=True)
class TrainedAlternative(Generic[ModelT_co]):
    """A student that was trained with one of a backbone's alternative option tables, and the run it was trained in."""

    run: Run
    student: ModelT_co
    options: Mapping[str, object]


def cell_key(cell: Cell, study: StudySpec, backbones: StudyBackbones, pool: str) -> str:
    """The key a cell's result is stored under: a hash of all it depends on.

    Args:
        cell: the cell.
        study: the specification.
        backbones: of its data set.
        pool: the key of its gold subset.
    """
    parts: list[object] = ["cell", VERSION, pool, cell.procedure, cell.seed if cell.n else 0]
    kinds = [TFIDF_STUDENT.kind] if cell.procedure == "tf-idf" else []
    if cell.procedure in ("zero-llm", "few-llm"):
        parts += [study.teacher and study.teacher.model_dump()]
    elif cell.backbone:
        backbone = backbones.get(cell.backbone)
        student = backbone.prompted if cell.procedure == "p" else backbone.finetuned
        parts += [student and student.model_dump(), [dict(each) for each in backbone.alternatives]]
        kinds += [] if student is None else [student.kind]
        if cell.procedure not in PROCEDURES:
            parts += [study.teacher and study.teacher.model_dump()]
        elif is_distilled(cell.procedure):
            procedure = cell.procedure
            teacher = backbones.teacher(procedure)
            named = study.teacher if teacher is None else as_teacher(teacher, procedure)
            parts += [named and named.model_dump(), study.kd.temperature, study.kd.train_on_gold]
            kinds += [] if named is None or teacher is None else [named.model.partition(":")[0]]
    if study.kd.shots and cell.procedure in ("llm+kd", "few-llm"):
        parts += [f"{study.kd.shots} shots"]
    # The first revision is not part of the key, so that its results stay valid.
    parts += [f"{kind} revision {number}" for kind in kinds if (number := revision(kind)) > 1]
    return content_key(*parts)


def run_cell(cell: Cell, context: CellContext) -> tuple[CellResult, Student | None]:
    """The cell's result, and the student if one was trained.

    Raises:
        PotstillError: what its recipe raises.
    """
    if cell.procedure == "majority":
        return _majority(context), None
    if cell.procedure == "zero-encoder":
        student = context.backbones.get(cell.backbone).finetuned
        assert student is not None
        texts = context.dataset.pool.subset("test").texts
        return _evaluate(context, zero_shot_labels(student, context.dataset.task, texts)), None
    if cell.procedure == "zero-llm":
        return _llm(context), None
    if cell.procedure == "few-llm":
        assert context.study.teacher is not None
        return _llm(context, _examples(context, context.study.teacher)), None
    if cell.procedure == "tf-idf":
        run = context.run.variant(student=TFIDF_STUDENT)
        return _select(context, [TrainedAlternative(run, context.recipes["ft"](run), {})])
    return _procedure(cell.procedure, context.backbones.get(cell.backbone), context)


def _procedure(procedure: Procedure, backbone: Backbone, context: CellContext) -> tuple[CellResult, Student | None]:
    student, recipe, teacher = backbone.student(procedure), context.recipes[procedure], context.study.teacher
    options: dict[str, object] = {}
    shared = NO_USAGE
    trained = context.backbones.teacher(procedure)
    if trained is not None:
        teacher = as_teacher(trained, procedure)
        options = {"temperature": context.study.kd.temperature, "train_on_gold": context.study.kd.train_on_gold}
    elif is_distilled(procedure):
        options = {"shots": context.study.kd.shots}
        shared = NO_USAGE if context.study.kd.shots else _share_llm_answers(context)
    alternatives = []
    for alternative in backbone.alternatives or ({},):
        run = context.run.variant(
            student=ComponentSpec(name=student.name, **{**student.options, **alternative}),
            teacher=teacher,
            procedure=ComponentSpec(name=recipe.name, **options),
        )
        alternatives.append(TrainedAlternative(run, recipe(run), alternative))
    own_answers = procedure == "llm+kd" and context.study.kd.shots > 0
    if own_answers or procedure not in PROCEDURES:
        shared = CellUsage(llm_usd=answers_usd(context.run))
    asked = teacher if trained is not None or own_answers else None
    return _select(context, alternatives, shared, "" if asked is None else asked.name)


def answers_usd(run: Run) -> float:
    """What teachers were paid in this run; the answers of LLM + KD are copied into it and not counted."""
    return micros_to_usd(sum(call.charged for call in run.store.calls() if call.category != "compute"))


def as_teacher(backbone: Backbone, procedure: Procedure) -> ComponentSpec:
    """The backbone as the teacher of a procedure: the model of its own FT or P cell."""
    student = backbone.prompted if procedure == "p+kd" else backbone.finetuned
    assert student is not None
    return trained_teacher(student)


def _select(
    context: CellContext,
    alternatives: Sequence[TrainedAlternative[Student]],
    shared: CellUsage = NO_USAGE,
    trained: str = "",
) -> tuple[CellResult, Student]:
    """Evaluate the alternative that is best on the validation set; the usage is that of all alternatives.

    Args:
        context: of the cell.
        alternatives: students to select from.
        shared: usage of a language model's answers, which several cells share.
        trained: name of the teacher if it was trained or asked for this subset alone.
    """
    validation = context.run.pool.subset("validation")
    best = alternatives[0]
    if len(alternatives) > 1 and len(validation):
        best = max(
            alternatives,
            key=lambda each: accuracy(validation.gold, each.student.predict_logits(validation.texts).argmax(axis=1)),
        )
    usage = training_usage(context.run, alternatives, shared, trained)
    predictions = best.student.predict_logits(context.dataset.pool.subset("test").texts).argmax(axis=1)
    options = best.options if len(alternatives) > 1 else {}
    return _evaluate(context, predictions, usage, options), best.student


def training_usage(
    run: Run, alternatives: Sequence[TrainedAlternative[TrainedModel]], shared: CellUsage, trained: str
) -> CellUsage:
    """What training all alternatives used; see `_select`."""
    keys = {key for each in alternatives for key in each.run.student_keys}
    own_keys = {each.run.student_key(each.student) for each in alternatives}
    seconds = {key: record.seconds for key, record in run.learn_records(keys).items()}
    teacher_s = sum(took for key, took in seconds.items() if key not in own_keys)
    teacher_s += shared.seconds + (_answering_seconds(run, trained) if trained else 0.0)
    return CellUsage(sum(seconds[key] for key in own_keys) + teacher_s, teacher_s, shared.llm_usd)


def _calls_to(run: Run, teacher: str) -> list[CallRecord]:
    """The settled calls to a teacher."""
    return [call for call in run.store.calls() if call.state == "settled" and call.teacher == teacher]


def _answering_seconds(run: Run, teacher: str) -> float:
    return sum(call.seconds for call in _calls_to(run, teacher))


def _evaluate(
    context: CellContext,
    predictions: NDArray[np.integer],
    usage: CellUsage = NO_USAGE,
    chosen_options: Mapping[str, object] | None = None,
) -> CellResult:
    gold, run = context.dataset.pool.subset("test").gold, context.run
    return CellResult(
        "done",
        scores=CellScores(accuracy(gold, predictions), macro_f1(gold, predictions), mcc(gold, predictions)),
        predictions=tuple(int(each) for each in predictions),
        n_train=len(run.pool.subset("train")),
        n_validation=len(run.pool.subset("validation")),
        usage=usage,
        chosen_options=dict(chosen_options or {}),
    )


def _majority(context: CellContext) -> CellResult:
    gold = context.run.pool.subset("train").gold
    column = int(np.bincount(gold, minlength=context.dataset.task.n_labels).argmax())
    return _evaluate(context, np.full(len(context.dataset.pool.subset("test")), column))


# --- a language model's answers, bought once for all cells --------------------------------------------------


def _open_llm(context: CellContext, examples: Sequence[LabelledText] = ()) -> Teacher:
    assert context.study.teacher is not None
    return context.base_run.open_teacher(context.study.teacher, examples)


def _examples(context: CellContext, teacher: ComponentSpec) -> list[LabelledText]:
    """The examples that LLM + KD has in its prompt for this gold subset."""
    options: dict[str, object] = {"shots": context.study.kd.shots}
    kd = ComponentSpec(name=context.recipes["llm+kd"].name, **options)
    run = context.run.variant(teacher=teacher, procedure=kd)
    return select_examples(run.pool.subset("train"), run.spec, run.task)


def _ask(context: CellContext, teacher: Teacher, texts: Sequence[str], purpose: Purpose = "teach") -> Answers:
    """The language model's answers about all texts. Raises BudgetExceeded if the money ends before."""
    answers = context.base_run.ask(teacher, texts, purpose=purpose)
    if "unasked" in answers.states:
        raise BudgetExceeded(
            f"The money ends before {teacher.name} was asked about all texts.", "Raise the budget (--budget USD)."
        )
    return answers


def _llm(context: CellContext, examples: Sequence[LabelledText] = ()) -> CellResult:
    """The language model on the test texts; the label bias of a local one is removed."""
    teacher, test = _open_llm(context, examples), context.dataset.pool.subset("test")
    offsets = np.zeros(context.dataset.task.n_labels)
    unlabelled = context.dataset.pool.subset("pool").texts[:BIAS_TEXTS]
    if teacher.needs_prior_correction and teacher.capabilities.prior_correction != "if_better" and unlabelled:
        on_pool = _ask(context, teacher, unlabelled)
        if on_pool.answered.any():
            uniform = np.full(len(offsets), 1 / len(offsets))
            offsets = match_prior(on_pool.scores[on_pool.answered], uniform)
    answers = _ask(context, teacher, test.texts, "measure")
    if not answers.answered.any():
        raise BadData(
            f"{teacher.name} answered none of {len(test.texts)} test texts ({answers.state_counts}).",
            "Check the teacher, or leave it out.",
        )
    scores = np.where(answers.answered[:, None], np.nan_to_num(answers.scores) + offsets, 0.0)
    return _evaluate(context, np.where(answers.answered, scores.argmax(axis=1), -1))


def _share_llm_answers(context: CellContext) -> CellUsage:
    """Buy answers about the pool and the gold in the run without gold, and copy them to the subset's run.

    Returns:
        The usage of these answers alone.
    """
    teacher = _open_llm(context)
    texts = [*context.run.pool.subset("train").texts, *context.dataset.pool.subset("pool").texts]
    return share_answers(context, teacher, texts, lambda: _ask(context, teacher, texts))


def share_answers(context: CellContext, teacher: Teacher, texts: Sequence[str], ask: Callable[[], object]) -> CellUsage:
    """Buy a teacher's answers by `ask` in the run without gold, and copy them to the subset's run; their usage."""
    base_run = context.base_run
    before = base_run.store.committed()
    ask()
    context.run.ledger.limit -= base_run.store.committed() - before  # both runs share what is left
    base_run.copy_answers(teacher, texts, context.run)
    calls = _calls_to(base_run, teacher.name)
    share = len(texts) / max(sum(call.n_texts for call in calls), 1)
    if teacher.category != "compute":
        return CellUsage(llm_usd=micros_to_usd(sum(call.charged for call in calls)) * share)
    return CellUsage(_answering_seconds(base_run, teacher.name) * share)
