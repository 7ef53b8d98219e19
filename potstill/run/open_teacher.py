"""Open a teacher for a run, or for a plan of one; and what asking leaves for training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from potstill.data.task import LabelledText, Task
from potstill.ledger.prices import Usage
from potstill.run.spec import ComponentSpec, Spec, check_teacher_task
from potstill.teachers.base import Teacher, TeacherSetup, TrainedStudent
from potstill.teachers.kinds import teacher_kind
from potstill.teachers.price_options import PriceOptions


def open_teacher(
    spec: Spec,
    task: Task,
    named: ComponentSpec,
    examples: Sequence[LabelledText] = (),
    *,
    folder: Path | None = None,
    hidden_gold: Mapping[str, object] | None = None,
    student: TrainedStudent | None = None,
) -> Teacher:
    """Open a registered teacher for a task.

    Args:
        spec: prices, seed, and the folder of relative file names.
        task: what to decide.
        named: the teacher's name and options.
        examples: gold examples it may show.
        folder: the folder of the run; without one the teacher is opened to plan, and calls nothing.
        hidden_gold: see `TeacherSetup`.
        student: see `TeacherSetup`.
    """
    check_teacher_task(named, task)
    setup = TeacherSetup(
        task=task,
        model=named.model,
        examples=tuple(examples),
        options=named.options,
        hidden_gold=hidden_gold,
        student=student,
        prices=PriceOptions.parse(spec.prices),
        workspace=spec.folder,
        seed=spec.seed,
        will_call=folder is not None,
        run_folder=folder,
    )
    return teacher_kind(named.kind)(setup)


def training_reserve(spec: Spec) -> int:
    """Micro-dollars that asking leaves for training: half an hour of this machine, at most two fifths of the budget."""
    half_hour = spec.compute_rates.cost_micros(Usage(seconds=1800))
    return min(half_hour, spec.limit_micros * 2 // 5)
