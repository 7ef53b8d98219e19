"""FT + KD and P + KD: a larger model learns the gold, and the student learns what it then says of unlabelled texts.

The four procedures of Aina et al. 2022 are `finetune`, `prompt` and these two, which differ only in how their teacher
learns. Loss of an unlabelled text: T^2 KL(softmax(teacher / T) || softmax(student / T)) (Hinton et al. 2015; T = 2 and
no gold term as in Kang et al. 2023, unless `learn_gold` is asked for).

A student here learns the softened distribution itself: its scores are those of the paper divided by T, which is the
same function, and its confidence is mended where it is measured, on validation texts. T^2 stands in the weights, where
it keeps the size of the soft term beside the gold term; the gold is learnt at the same T.
"""

from __future__ import annotations

import numpy as np
from pydantic import Field, StrictBool

from potstill.errors import BadData, BadSpec, BudgetExceeded
from potstill.evaluation.calibration import one_hot, softmax
from potstill.procedures.base import Recipe, quote_answers
from potstill.procedures.kd import open_kd_teacher
from potstill.procedures.prompt import LANGUAGE_HEAD_KINDS
from potstill.registry import Options, read_options
from potstill.run.run import Run
from potstill.run.spec import ComponentSpec, teacher_backbone
from potstill.students.base import Student


class TrainedTeacherKdOptions(Options):
    """The options of `ft-kd` and `p-kd`.

    Attributes:
        temperature: T, which softens the teacher's distribution.
        learn_gold: train on the gold labels too; they weigh as much as the unlabelled texts together.
    """

    temperature: float = Field(default=2.0, gt=0, lt=100)
    learn_gold: StrictBool = False


def ft_kd(run: Run) -> Student:
    """The student of a fine-tuned teacher, `trained:BACKBONE`; see `_student_of`."""
    teacher = _named(run, "trained:gte-small")
    if teacher_backbone(teacher).kind in LANGUAGE_HEAD_KINDS:
        raise BadSpec(f"{teacher.name!r} is trained by prompts, not fine-tuned.", "Take --procedure p-kd.")
    return _student_of(run)


def p_kd(run: Run) -> Student:
    """The student of a prompt-trained teacher, `trained:cloze:BACKBONE`; see `_student_of`."""
    teacher = _named(run, "trained:cloze:smollm2")
    if teacher_backbone(teacher).kind not in LANGUAGE_HEAD_KINDS:
        raise BadSpec(f"{teacher.name!r} is not trained by prompts.", "Take --teacher trained:cloze:smollm2.")
    return _student_of(run)


def _named(run: Run, such_as: str) -> ComponentSpec:
    teacher = run.spec.teacher
    if teacher is None or teacher.kind != "trained":
        given = "none is named" if teacher is None else f"{teacher.name!r} is not"
        raise BadSpec(f"The teacher of this procedure is trained here, and {given}.", f"Take --teacher {such_as}.")
    return teacher


def _student_of(run: Run) -> Student:
    """Train the teacher on the gold, ask it about the pool, teach the student its softened answers.

    `[procedure]` takes `temperature` (2) and `learn_gold` (false): with it the gold labels are learnt too, weighing as much
    as the unlabelled texts together.

    Raises:
        BadData: no gold, or no unlabelled text.
        OverBudget: the money does not reach for the teacher's answers.
        BadSpec: an option nobody knows.
    """
    options = read_options(
        TrainedTeacherKdOptions, f"procedure {run.spec.procedure.name!r}", run.spec.procedure.options
    )
    gold, pool = run.pool.subset("train"), run.pool.subset("pool")
    if not pool.texts:
        raise BadData(
            "Distilling needs unlabelled texts for the teacher and there are none.",
            "Give some with --pool FILE (or rows without a label), or take --procedure finetune or prompt.",
        )
    teacher = open_kd_teacher(run, gold, [])
    said = run.ask(teacher, pool.texts, reserve_micros=run.training_reserve)
    there = np.flatnonzero(said.answered)
    if "unasked" in said.states:
        raise BudgetExceeded(
            f"The money ends before {teacher.name} was asked about all of {len(pool.texts)} texts.",
            "Raise the budget, or give fewer unlabelled texts.",
        )
    if not len(there):
        raise BadData(
            f"{teacher.name} answered none of {len(pool.texts)} texts ({said.state_counts}).", "Look at its gold."
        )
    texts = [said.texts[i] for i in there]
    soft = softmax(said.scores[there], options.temperature).astype(np.float32)
    if not options.learn_gold:
        return run.learn(texts, soft)
    each = len(texts) / (len(gold.texts) * options.temperature**2)
    weights = np.concatenate([np.full(len(gold.texts), each), np.ones(len(texts))])
    return run.learn(
        [*gold.texts, *texts],
        np.concatenate([one_hot(gold.gold, run.task.n_labels), soft]),
        weights=weights.astype(np.float32),
    )


FT_KD = Recipe("ft-kd", ft_kd, TrainedTeacherKdOptions, quote=quote_answers)
P_KD = Recipe("p-kd", p_kd, TrainedTeacherKdOptions, quote=quote_answers)
