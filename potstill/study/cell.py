"""One cell of a study: its student taught by the recipe it stands for, and what it says of the test texts.

What a cell costs is told as if it were alone: the time of its teacher counts, also where another cell had trained it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from potstill.data.task import content_key
from potstill.errors import BudgetExceeded
from potstill.evaluation.calibration import match_prior
from potstill.evaluation.metrics import accuracy, macro_f1, mcc
from potstill.ledger.prices import Purpose, micros_to_usd
from potstill.run import Answers, ProgressReporter
from potstill.run.run import Run
from potstill.run.spec import ComponentSpec
from potstill.students.base import Student
from potstill.students.kinds import revision
from potstill.study.backbones import Backbone, StudyBackbones
from potstill.study.dataset import StudyDataset
from potstill.study.records import Cell, CellResult
from potstill.study.spec import Procedure, StudySpec
from potstill.study.zero_shot import zero_shot_labels
from potstill.teachers.base import Teacher

VERSION = 1  # raised when a cell would come to something else
BIAS_TEXTS = 200  # unlabelled texts that tell a language model's preference for some label words
Recipe = Callable[[Run], Student]
Recipes = Mapping[Procedure, Recipe]
RECIPE_NAMES: Mapping[Procedure, str] = {
    "ft": "finetune",
    "p": "prompt",
    "ft+kd": "ft-kd",
    "p+kd": "p-kd",
    "llm+kd": "kd",
}


@dataclass(frozen=True)
class CellContext:
    """What the cells of one subset share: the study, its cast, the data, the run without gold, the subset's run."""

    study: StudySpec
    backbones: StudyBackbones
    dataset: StudyDataset
    base_run: Run
    run: Run
    recipes: Recipes
    tell: ProgressReporter

    def committed_micros(self) -> int:
        """Micro-dollars held or charged in both runs."""
        return sum(run.store.committed() for run in self._runs())

    def set_allowance(self, micros: int) -> None:
        """Let the next cell spend so much, wherever it spends it."""
        for run in self._runs():
            run.ledger.limit = run.store.committed() + max(micros, 0)

    def _runs(self) -> tuple[Run, ...]:
        return (self.base_run,) if self.base_run is self.run else (self.base_run, self.run)

    def backbone(self, name: str) -> Backbone:
        """The backbone of that name."""
        return next(each for each in self.backbones.backbones if each.name == name)


def cell_key(cell: Cell, study: StudySpec, cast: StudyBackbones, pool: str) -> str:
    """What a cell's result is kept under: all that it depends on, and nothing else."""
    parts: list[Any] = ["cell", VERSION, pool, cell.procedure, cell.seed if cell.n else 0]
    learners = ["linear"] if cell.procedure == "tf-idf" else []
    if cell.procedure == "zero-llm":
        parts += [study.teacher and study.teacher.model_dump()]
    elif cell.backbone:
        backbone = next(each for each in cast.backbones if each.name == cell.backbone)
        student = backbone.prompted if cell.procedure == "p" else backbone.finetuned
        parts += [student and student.model_dump(), [dict(each) for each in backbone.alternatives]]
        learners += [] if student is None else [student.kind]
        if cell.procedure.endswith("+kd"):
            teacher = cast.teacher(cell.procedure)  # type: ignore[arg-type]
            named = study.teacher if teacher is None else _trained(teacher, cell.procedure)
            parts += [named and named.model_dump(), study.kd.temperature, study.kd.learn_gold]
            learners += [] if named is None or teacher is None else [named.model.partition(":")[0]]
    # A kind that has come to learn otherwise; the first way is not written, so that old results stay known.
    parts += [f"{kind} revision {turn}" for kind in learners if (turn := revision(kind)) > 1]
    return content_key(*parts)


def run_cell(cell: Cell, bench: CellContext) -> tuple[CellResult, Student | None]:
    """The cell's result, and the student where one was made.

    Raises:
        PotstillError: whatever its recipe raises.
    """
    if cell.procedure == "majority":
        return _majority(bench), None
    if cell.procedure == "zero-encoder":
        named = bench.backbone(cell.backbone).finetuned
        assert named is not None
        test = bench.dataset.pool.subset("test")
        return _measured(bench, zero_shot_labels(named, bench.dataset.task, test.texts)), None
    if cell.procedure == "zero-llm":
        return _zero_llm(bench), None
    if cell.procedure == "tf-idf":
        run = bench.run.variant(student=ComponentSpec(name="linear"))
        return _learnt(bench, [(run, bench.recipes["ft"](run), {})])
    return _procedure(cell.procedure, bench.backbone(cell.backbone), bench)  # type: ignore[arg-type]


def _procedure(procedure: Procedure, backbone: Backbone, bench: CellContext) -> tuple[CellResult, Student | None]:
    student, recipe = backbone.student(procedure), bench.recipes[procedure]
    teacher = bench.study.teacher
    options: dict[str, Any] = {"shots": 0}
    llm: tuple[float, float] = (0.0, 0.0)
    if procedure == "llm+kd":
        llm = _share_llm(bench)
    elif procedure.endswith("+kd"):
        trained = bench.backbones.teacher(procedure)
        assert trained is not None
        teacher = _trained(trained, procedure)
        options = {"temperature": bench.study.kd.temperature, "gold": bench.study.kd.learn_gold}
    tried = []
    for alternative in backbone.alternatives or ({},):
        run = bench.run.variant(
            student=ComponentSpec(name=student.name, **{**student.options, **alternative}),
            teacher=teacher,
            procedure=ComponentSpec(name=RECIPE_NAMES[procedure], **(options if procedure.endswith("kd") else {})),
        )
        tried.append((run, recipe(run), alternative))
    return _learnt(bench, tried, llm)


def _trained(backbone: Backbone, procedure: str) -> ComponentSpec:
    """The backbone as the teacher of a student: the model of its own FT or P cell."""
    named = backbone.prompted if procedure == "p+kd" else backbone.finetuned
    assert named is not None
    return ComponentSpec(name=f"trained:{named.name}", **named.options)


def _learnt(
    bench: CellContext, tried: Sequence[tuple[Run, Student, Mapping[str, Any]]], llm: tuple[float, float] = (0.0, 0.0)
) -> tuple[CellResult, Student]:
    """The best of what was tried, by the validation texts, measured on the test; all that was tried is counted."""
    validation = bench.run.pool.subset("validation")
    taken = 0
    if len(tried) > 1 and len(validation):
        scores = [
            accuracy(validation.gold, student.predict_logits(validation.texts).argmax(axis=1))
            for _, student, _ in tried
        ]
        taken = int(np.argmax(scores))
    keys = {key for run, _, _ in tried for key in run.student_keys}
    own = {run.student_key(student) for run, student, _ in tried}
    seconds = {key: float(kept["seconds"]) for key, kept in bench.run.store.load(keys).items()}
    teachers = {run.spec.teacher.name for run, _, _ in tried if run.spec.teacher is not None}
    asked_s = _asked_seconds(bench.run, {name for name in teachers if name.startswith("trained")})
    taught_s = sum(took for key, took in seconds.items() if key not in own) + asked_s + llm[0]
    student = tried[taken][1]
    predicted = student.predict_logits(bench.dataset.pool.subset("test").texts).argmax(axis=1)
    result = _measured(
        bench,
        predicted,
        seconds=sum(seconds[key] for key in own) + taught_s,
        teacher_seconds=taught_s,
        llm_usd=llm[1],
        choice=dict(tried[taken][2]) if len(tried) > 1 else {},
    )
    return result, student


def _asked_seconds(run: Run, names: set[str]) -> float:
    return sum(
        (row.ended_at or row.started_at) - row.started_at
        for row in run.store.calls()
        if row.state == "settled" and any(row.what.startswith(f"{name}: ") for name in names)
    )


def _measured(bench: CellContext, predicted: NDArray[np.integer], **facts: Any) -> CellResult:
    test, run = bench.dataset.pool.subset("test"), bench.run
    return CellResult(
        "done",
        scores={
            "accuracy": accuracy(test.gold, predicted),
            "macro_f1": macro_f1(test.gold, predicted),
            "mcc": mcc(test.gold, predicted),
        },
        predictions=tuple(int(each) for each in predicted),
        n_train=len(run.pool.subset("train")),
        n_validation=len(run.pool.subset("validation")),
        **facts,
    )


def _majority(bench: CellContext) -> CellResult:
    gold = bench.run.pool.subset("train").gold
    column = int(np.bincount(gold, minlength=bench.dataset.task.n_labels).argmax())
    return _measured(bench, np.full(len(bench.dataset.pool.subset("test")), column))


# --- a language model's labels, asked once for all cells --------------------------------------------------


def _llm(bench: CellContext) -> Teacher:
    assert bench.study.teacher is not None
    return bench.base_run.open_teacher(bench.study.teacher)


def _ask(bench: CellContext, teacher: Teacher, texts: Sequence[str], purpose: Purpose = "teach") -> Answers:
    """What the language model says of all of the texts. Raises OverBudget where the money does not reach for that."""
    said = bench.base_run.ask(teacher, texts, purpose=purpose)
    if "unasked" in said.states:
        raise BudgetExceeded(f"The money ends before {teacher.name} was asked about all texts.", "Raise the budget.")
    return said


def _zero_llm(bench: CellContext) -> CellResult:
    """The language model itself on the test texts, without an example; a local one's label bias removed by the pool."""
    teacher, test = _llm(bench), bench.dataset.pool.subset("test")
    offsets = np.zeros(bench.dataset.task.n_labels)
    loose = bench.dataset.pool.subset("pool").texts[:BIAS_TEXTS]
    if teacher.needs_prior_correction and loose:
        heard = _ask(bench, teacher, loose)
        if heard.answered.any():
            uniform = np.full(len(offsets), 1 / len(offsets))
            offsets = match_prior(heard.scores[heard.answered], uniform)
    said = _ask(bench, teacher, test.texts, "measure")
    scores = np.where(said.answered[:, None], np.nan_to_num(said.scores) + offsets, 0.0)
    return _measured(bench, np.where(said.answered, scores.argmax(axis=1), -1))


def _share_llm(bench: CellContext) -> tuple[float, float]:
    """Ask about the pool and the gold in the run without gold, hand the answers over; (seconds, USD) of these alone."""
    teacher = _llm(bench)
    texts = [*bench.run.pool.subset("train").texts, *bench.dataset.pool.subset("pool").texts]
    before = bench.base_run.store.committed()
    _ask(bench, teacher, texts)
    bench.run.ledger.limit -= bench.base_run.store.committed() - before  # what is left is left for both together
    bench.base_run.copy_answers(teacher, texts, bench.run)
    rows = [
        row for row in bench.base_run.store.calls() if row.state == "settled" and row.what.startswith(f"{teacher.name}")
    ]
    asked = max(sum(row.n_texts for row in rows), 1)
    share = len(texts) / asked
    if teacher.category != "compute":
        return 0.0, micros_to_usd(sum(row.charged for row in rows)) * share
    return sum((row.ended_at or row.started_at) - row.started_at for row in rows) * share, 0.0
