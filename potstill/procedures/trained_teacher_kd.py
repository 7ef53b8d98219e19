"""FT + KD and P + KD: a larger model is trained on the gold, and the student on its answers about unlabelled texts.

The four procedures of Aina et al. 2022 are `finetune`, `prompt` and these two, which differ only in how their teacher
is trained. Loss of an unlabelled text: T^2 KL(softmax(teacher / T) || softmax(student / T)) (Hinton et al. 2015; T = 2
and no gold term as in Kang et al. 2023, unless `train_on_gold` is set).

The student is trained at temperature 1 on softmax(teacher / T): its argmax is that of the paper, its logits are the
paper's divided by T, and its confidence is calibrated on validation texts. T^2 is in the row weights, as a factor of
the soft term beside the gold term.

`kd.py` is the method for any teacher; it fits T, corrects labels, and trains on gold by default, softened if T is
given. Here gold is one-hot and left out by default, as in the papers: the teacher was already fitted to it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, StrictBool

from potstill.errors import BadData, BadSpec, BudgetExceeded
from potstill.evaluation.calibration import softmax
from potstill.procedures.base import Recipe, quote_answers, require_pool
from potstill.procedures.soft_labels import open_kd_teacher
from potstill.registry import Options, read_options
from potstill.run.run import Run
from potstill.run.spec import ComponentSpec, teacher_backbone
from potstill.students import LANGUAGE_MODEL_STUDENT
from potstill.students.base import RowTrust, Student
from potstill.students.kinds import student_kind
from potstill.teachers import TRAINED_TEACHER
from potstill.teachers.kinds import teacher_kind


class TrainedTeacherKdOptions(Options):
    """The options of `ft-kd` and `p-kd`.

    Attributes:
        temperature: T, which softens the teacher's distribution.
        train_on_gold: train on the gold labels too; they weigh as much as the unlabelled texts together.
    """

    temperature: float = Field(default=2.0, gt=0, lt=100)
    train_on_gold: StrictBool = False


def ft_kd(run: Run) -> Student:
    """The student of a fine-tuned teacher, `trained:BACKBONE`.

    Raises:
        BadSpec: an invalid option, or a teacher that is not fine-tuned here.
        BadData: there is no gold, or no unlabelled text.
        BudgetExceeded: the money does not reach for the teacher's answers.
    """
    teacher = _trained_teacher(run, hint=f"{TRAINED_TEACHER}:gte-small")
    if _is_prompted(teacher):
        raise BadSpec(f"{teacher.name!r} is trained by prompts, not fine-tuned.", "Take --procedure p-kd.")
    return _distil(run)


def p_kd(run: Run) -> Student:
    """The student of a prompt-trained teacher, `trained:cloze:BACKBONE`. Raises what `ft_kd` raises."""
    teacher = _trained_teacher(run, hint=f"{TRAINED_TEACHER}:{LANGUAGE_MODEL_STUDENT}:smollm2")
    if not _is_prompted(teacher):
        raise BadSpec(f"{teacher.name!r} is not trained by prompts.", "Take --teacher trained:cloze:smollm2.")
    return _distil(run)


def _trained_teacher(run: Run, hint: str) -> ComponentSpec:
    teacher = run.spec.teacher
    if teacher is None or not teacher_kind(teacher.kind).capabilities.needs_student:
        given = "none is named" if teacher is None else f"{teacher.name!r} is not"
        raise BadSpec(f"The teacher of this procedure is trained here, and {given}.", f"Take --teacher {hint}.")
    return teacher


def _is_prompted(teacher: ComponentSpec) -> bool:
    return student_kind(teacher_backbone(teacher).kind).capabilities.language_head


def _distil(run: Run) -> Student:
    """Train the teacher on the gold, ask it about the pool, train the student on its softened answers."""
    procedure = run.spec.procedure
    options = read_options(TrainedTeacherKdOptions, f"procedure {procedure.name!r}", procedure.options)
    gold, pool = run.pool.subset("train"), require_pool(run)
    if not gold.texts:
        raise BadData(f"The teacher of {procedure.name} learns from labelled texts and there are none.", "Label some.")
    texts, logits = _answers(run, pool)
    soft = softmax(logits, options.temperature).astype(np.float32)
    if not options.train_on_gold:
        return run.learn(texts, soft)
    row_weight = len(texts) / (len(gold.texts) * options.temperature**2)
    weights = np.concatenate([np.full(len(gold.texts), row_weight), np.ones(len(texts))])
    return run.learn(
        [*gold.texts, *texts],
        np.concatenate([gold.targets(run.task.n_labels), soft]),
        trust=RowTrust(weights.astype(np.float32)),
    )


def _answers(run: Run, pool: Sequence[str]) -> tuple[list[str], NDArray[np.float64]]:
    """The pool's texts that the teacher answered about, and its (N, K) scores."""
    teacher = open_kd_teacher(run, run.pool.subset("train"), [])
    with run.reserve_training():
        answers = run.ask(teacher, pool)
    if "unasked" in answers.states:
        raise BudgetExceeded(
            f"The money ends before {teacher.name} was asked about all of {len(pool)} texts.",
            "Raise the budget, or give fewer unlabelled texts.",
        )
    rows = np.flatnonzero(answers.answered)
    if not len(rows):
        counts = answers.state_counts
        raise BadData(
            f"{teacher.name} answered none of {len(pool)} texts ({counts}).", "Check the labels it was trained on."
        )
    return [answers.texts[row] for row in rows], answers.scores[rows]


FT_KD = Recipe("ft-kd", ft_kd, TrainedTeacherKdOptions, quote=quote_answers, needs_pool=True)
P_KD = Recipe("p-kd", p_kd, TrainedTeacherKdOptions, quote=quote_answers, needs_pool=True)
