"""A teacher's answers as soft labels: which teacher answers, how its scores become probabilities, what gold weighs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from potstill.data.pool import Subset
from potstill.data.task import LabelledText
from potstill.errors import BadSpec
from potstill.evaluation.calibration import (
    Calibration,
    MultilabelCalibration,
    choose_prior,
    choose_rates,
    fit_temperature,
    smoothed_prior,
)
from potstill.ledger.prices import Purpose
from potstill.run import Answers
from potstill.run.run import Run
from potstill.run.spec import ComponentSpec, teacher_backbone
from potstill.students.base import Student
from potstill.students.kinds import student_kind
from potstill.teachers import DEFAULT_TEACHER
from potstill.teachers.base import Teacher, TrainedStudent
from potstill.teachers.kinds import teacher_kind

MIN_CALIBRATION_TEXTS = 20  # gold texts below which a fitted temperature is noise
TEMPERATURE_RANGE = (0.3, 5.0)
GOLD_SHARE, MAX_GOLD_WEIGHT = 0.2, 10.0


def open_kd_teacher(run: Run, gold: Subset, examples: Sequence[LabelledText]) -> Teacher:
    """The spec's teacher, ready to answer; one that needs a student is first trained on the gold, or the label names.

    Training it takes at most half of the free money: asking it and training the student come after it.

    Raises:
        BadSpec: the teacher is human; or it has to be trained, there is no gold, and its kind cannot begin without.
    """
    component = run.spec.teacher or ComponentSpec(name=DEFAULT_TEACHER)
    capabilities = teacher_kind(component.kind).capabilities
    if capabilities.human:
        raise BadSpec("Distilling asks about every text, and people label only some.", "Take --procedure annotate.")
    if not capabilities.needs_student:
        return run.teacher(examples)
    with run.ledger.reserve("asking the teacher and training the student", run.ledger.free // 2):
        student = initial_student(run, gold, teacher_backbone(component), "teach")
    return run.teacher(student=TrainedStudent(student, run.student_key(student), run.spec.compute_rates))


def initial_student(run: Run, gold: Subset, component: ComponentSpec, purpose: Purpose = "train") -> Student:
    """The student of the gold; without gold, one that predicts from the names and descriptions of the labels.

    Raises:
        BadSpec: there is no gold, and a student of this kind cannot begin without.
    """
    if not gold.texts:
        component = zero_shot_component(component)
    return run.learn(gold.texts, gold.targets(run.task.n_labels), student=component, purpose=purpose)


def zero_shot_component(component: ComponentSpec) -> ComponentSpec:
    """The student with the options under which its kind needs no rows. Raises BadSpec if its kind has none."""
    capabilities = student_kind(component.kind).capabilities
    if not capabilities.zero_shot:
        raise BadSpec(
            f"{component.name} cannot begin without a labelled text, from the names of the labels.",
            "Take an encoder, such as encoder:minilm or trained:mpnet, or label some texts.",
        )
    return component.with_options(capabilities.zero_shot_options)


def calibrate_teacher(
    teacher: Teacher, on_pool: Answers, on_gold: Answers, gold: NDArray[np.int64], run: Run
) -> Calibration:
    """How the teacher's scores become probabilities: its label bias is removed if that helps, its temperature fitted.

    Args:
        teacher: the teacher.
        on_pool: its answers about unlabelled texts, whose mean shows its label bias.
        on_gold: its answers about M gold texts that its prompt does not show.
        gold: (M,) their label columns.
        run: gives the task and the label prior.
    """
    offsets = np.zeros(run.task.n_labels)
    if run.task.kind == "multi":
        return MultilabelCalibration(_rate_offsets(teacher, on_pool, on_gold, gold, run))
    temperature, answered = 1.0, on_gold.answered
    if teacher.needs_prior_correction:
        offsets = _prior_offsets(teacher, on_pool, on_gold, gold, run)
    if answered.sum() >= MIN_CALIBRATION_TEXTS:
        fitted = fit_temperature(on_gold.scores[answered] + offsets, gold[answered])
        temperature = float(np.clip(fitted, *TEMPERATURE_RANGE))
    return Calibration(tuple(offsets.tolist()), temperature)


def _rate_offsets(
    teacher: Teacher, on_pool: Answers, on_gold: Answers, gold: NDArray[np.int64], run: Run
) -> tuple[float, ...]:
    """(K,) offsets of the logits of each label by itself; zeros if the teacher has no bias, or there is no gold."""
    known, answered = run.pool.subset("train").gold, on_gold.answered
    if not (teacher.needs_prior_correction and len(known) and on_pool.answered.any()):
        return (0.0,) * run.task.n_labels
    rates = ((known == 1).sum(axis=0) + 0.5) / (len(known) + 1)
    chosen = choose_rates(on_pool.scores[on_pool.answered], rates, on_gold.scores[answered], gold[answered])
    run.reporter.info(chosen.sentence(teacher.name))
    return chosen.offsets


def _prior_offsets(
    teacher: Teacher, on_pool: Answers, on_gold: Answers, gold: NDArray[np.int64], run: Run
) -> NDArray[np.float64]:
    """(K,) offsets that remove the teacher's label bias, or zeros where gold shows that they do harm."""
    prior = smoothed_prior(run.pool.subset("train").gold, run.task.n_labels)
    when, answered = teacher.capabilities.prior_correction, on_gold.answered
    n_gold = 0 if when == "always" else len(gold)
    scores = on_gold.scores[answered][:n_gold]
    chosen = choose_prior(
        on_pool.scores[on_pool.answered], prior, scores, gold[answered][:n_gold], default=when != "if_better"
    )
    if when != "always":
        run.reporter.info(chosen.sentence(teacher.name))
    return np.array(chosen.offsets)


def gold_row_weight(n_gold: int, n_soft: int) -> float:
    """The weight of a gold row beside a soft row of weight one: `GOLD_SHARE` of all the weight, at most ten, or one."""
    if not n_gold:
        return 1.0
    return float(np.clip(GOLD_SHARE / (1 - GOLD_SHARE) * n_soft / n_gold, 1.0, MAX_GOLD_WEIGHT))
