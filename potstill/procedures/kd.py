"""KD: a teacher says what it thinks of unlabelled texts, and the student learns that distribution and the gold.

The teacher is whatever the spec names: a language model, or `trained:BACKBONE`, a larger model that is first
fine-tuned on the same gold labels (FT + KD in Aina et al. 2022; "Dist." in Kang et al. 2023).
Loss: cross-entropy with the teacher's probabilities, which differs from their KL divergence by a constant
(Hinton et al. 2015). The temperature is not a guess here: it is fitted on gold texts the prompt does not show. A
teacher that knows less than the gold tells the student is not alone heard (`voices.py`). What is written in papers, a
given T, its T^2, a gold term, a match of hidden vectors, is there as options of `[procedure]`.
"""

from __future__ import annotations

from typing import Annotated, Literal, cast

import numpy as np
from pydantic import Field

from potstill.data.pool import Subset
from potstill.data.task import LabelledText
from potstill.errors import BadData, BadSpec, Waiting
from potstill.evaluation.calibration import (
    Calibration,
    MultilabelCalibration,
    fit_temperature,
    match_prior,
    smoothed_prior,
    softmax,
)
from potstill.procedures.base import ANY_TASK, Recipe, quote_answers
from potstill.procedures.label_correction import GoldAnswers, correct_soft_labels
from potstill.registry import Options, read_options
from potstill.run import Answers
from potstill.run.few_shot import select_examples, selects_examples_per_text
from potstill.run.run import Run
from potstill.run.spec import ComponentSpec, teacher_backbone
from potstill.students.base import FeatureHint, Floats, Student
from potstill.teachers import DEFAULT_TEACHER
from potstill.teachers.base import Teacher
from potstill.teachers.kinds import teacher_kind
from potstill.teachers.trained import StudentTeacher

MIN_CALIBRATION_TEXTS = 20  # gold texts below which a temperature fitted on them is noise
GOLD_CONFIDENCE = 0.99  # how sure a gold label is, where it has to be softened
GOLD_SHARE = 0.2  # of the lesson's weight, if gold is too rare to have it by number


class KdOptions(Options):
    """`[procedure] name = "kd"`.

    Attributes:
        temperature: a number T softens the teacher's scores by T, whatever gold says of them, and the student learns
            that distribution itself: its own scores are those of the paper divided by T, which is the same function.
            The gold is softened by T as well, as said by somebody who is 99 % sure: bare labels pull against soft ones.
            "fitted" takes the T at which the teacher is neither too sure nor too modest on gold it was not shown.
        gold: of the loss  gold CE(gold rows) + T^2 KL(soft rows); both terms are means over their rows. 0 leaves the
            gold out (as Kang et al. 2023 do); "auto" gives it a fifth of the weight, if it is too rare to have that.
        match: this share of the loss draws the student's vectors to the teacher's (Romero et al. 2015); only where the
            teacher is `trained` here, and the student an encoder or static.
        shots: gold examples of each class before a question to the teacher.
        neighbours: where gold shows that it tells the student more than the teacher knows, the student of the gold is
            heard too, and each text listens to so many nearest ones; 0: never. Not where a temperature is given, or a
            text has several labels. See `voices.py`.
    """

    temperature: Literal["fitted"] | Annotated[float, Field(gt=0, lt=100)] = "fitted"
    gold_weight: Literal["auto"] | Annotated[float, Field(ge=0, le=1000)] = "auto"
    hint_weight: float = Field(default=0.0, ge=0, lt=1)
    shots: int | None = Field(default=None, ge=0)
    n_neighbors: int = Field(default=10, ge=0, le=1000)


def kd(run: Run) -> Student:
    """The student after learning the teacher's answers about the pool, and the gold labels.

    Raises:
        BadData: there is no unlabelled text to learn from, or the money ended before one answer came.
        BadSpec: an option nobody knows, or vectors to match of a teacher that has none.
    """
    options = read_options(KdOptions, "procedure 'kd'", run.spec.procedure.options)
    gold, pool = run.pool.subset("train"), run.pool.subset("pool")
    if not pool.texts:
        raise BadData(
            "Distilling needs unlabelled texts for the teacher and there are none.",
            "Give some with --pool FILE (or rows without a label), or take --procedure finetune.",
        )
    shown = select_examples(gold, run.spec, run.task)
    teacher = open_kd_teacher(run, gold, shown)
    like = _likeness(teacher, options.hint_weight)

    # A teacher that picks its examples never shows a text itself, so it can be asked about all of them.
    fixed = set() if selects_examples_per_text(run.spec, run.task) else {each.text for each in shown}
    held_out = [i for i, text in enumerate(gold.texts) if text not in fixed]
    shuffled = [pool.texts[i] for i in np.random.default_rng(run.spec.seed).permutation(len(pool.texts))]
    try:
        on_gold = run.ask(teacher, [gold.texts[i] for i in held_out])
    except Waiting:
        # The pool's texts are left in the same visit, so that both are worked on at once.
        run.ask(teacher, shuffled, reserve_micros=run.training_reserve)
        raise
    on_pool = run.ask(teacher, shuffled, reserve_micros=run.training_reserve)
    if not on_pool.answered.any():
        raise BadData(
            f"{teacher.name} answered none of {len(pool.texts)} texts ({on_pool.state_counts}).",
            "Raise the budget, or look at the answers with: potstill show RUN",
        )

    reading = calibrate_teacher(teacher, on_pool, on_gold, gold.gold[held_out], run)
    if options.temperature != "fitted":
        if run.task.kind == "multi":
            raise BadSpec("Where a text may have several labels no temperature is given.", "Leave temperature out.")
        reading = Calibration(reading.offsets, options.temperature)
    run.record_teacher(teacher, reading, on_pool)
    texts = [text for text, there in zip(on_pool.texts, on_pool.answered, strict=True) if there]
    soft = reading.apply(on_pool.scores[on_pool.answered]).astype(np.float32)
    if options.temperature == "fitted":  # a given one asks for what the teacher says, as the papers do
        answered = np.array(held_out, dtype=np.int64)[on_gold.answered]
        said = reading.apply(on_gold.scores[on_gold.answered]).argmax(axis=1)
        soft = correct_soft_labels(texts, soft, GoldAnswers(answered, said), options.n_neighbors, run)
    each = _weight_of_gold(options, len(gold.texts), len(texts))
    learnt = range(len(gold.texts) if each else 0)
    weights = np.concatenate([np.full(len(learnt), each), np.ones(len(texts))])
    return run.learn(
        [*(gold.texts[i] for i in learnt), *texts],
        np.concatenate([_softened(gold.targets(run.task.n_labels)[: len(learnt)], options), soft]),
        weights=weights.astype(np.float32),
        noisy=np.arange(len(weights)) >= len(learnt),
        init_from=like,
    )


def _likeness(teacher: Teacher, share: float) -> FeatureHint | None:
    if not share:
        return None
    if not isinstance(teacher, StudentTeacher):
        raise BadSpec(
            f"match = {share:g} asks for the vectors of the teacher {teacher.name!r}, and it has none.",
            "Take a teacher that is trained here, such as trained:minilm, or match = 0.",
        )
    return FeatureHint(cast(Student, teacher.student), share)  # it was learnt by this run, see `call_teacher`


def _softened(hard: Floats, options: KdOptions) -> Floats:
    """(N, K) what is learnt of gold labels: themselves, or beside scores softened by T what `SURE` is at T."""
    if options.temperature == "fitted" or not len(hard):
        return hard
    margin = np.log(GOLD_CONFIDENCE * (hard.shape[1] - 1) / (1 - GOLD_CONFIDENCE))
    return softmax(hard * margin, options.temperature).astype(np.float32)


def _weight_of_gold(options: KdOptions, n_gold: int, n_soft: int) -> float:
    """What a gold row weighs beside a soft row of weight one."""
    if options.gold_weight == "auto":
        return gold_weight(n_gold, n_soft)
    scale = 1.0 if options.temperature == "fitted" else options.temperature**2
    return options.gold_weight * n_soft / (max(n_gold, 1) * scale)


def open_kd_teacher(run: Run, gold: Subset, shown: list[LabelledText]) -> Teacher:
    """The spec's teacher, ready to answer; `trained:BACKBONE` or `trained:STUDENT:BACKBONE` learns the gold first."""
    component = run.spec.teacher or ComponentSpec(name=DEFAULT_TEACHER)
    capabilities = teacher_kind(component.kind).capabilities
    if capabilities.human:
        raise BadSpec("Distilling asks about every text, and people label only some.", "Take --procedure annotate.")
    if not capabilities.needs_student:
        return run.teacher(shown)
    if not gold.texts:
        raise BadData(f"The teacher {component.name} learns from labelled texts and there are none.", "Label some.")
    # What the teacher learns with is gone for asking it and for the student.
    with run.reserving(run.ledger.free // 2):
        large = run.learn(
            gold.texts, gold.targets(run.task.n_labels), student=teacher_backbone(component), purpose="teach"
        )
    return run.teacher(student=large, key=run.student_key(large), price=run.spec.compute_rates)


def calibrate_teacher(teacher: Teacher, on_pool: Answers, on_gold: Answers, gold: np.ndarray, run: Run) -> Calibration:
    """How this teacher's scores become probabilities: its label bias removed, its confidence fitted on gold."""
    offsets = np.zeros(run.task.n_labels)
    if run.task.kind == "multi":
        return MultilabelCalibration(tuple(offsets.tolist()))
    if teacher.needs_prior_correction:
        prior = smoothed_prior(run.pool.subset("train").gold, run.task.n_labels)
        offsets = match_prior(on_pool.scores[on_pool.answered], prior)
    there = on_gold.answered
    temperature = 1.0
    if there.sum() >= MIN_CALIBRATION_TEXTS:
        temperature = float(np.clip(fit_temperature(on_gold.scores[there] + offsets, gold[there]), 0.3, 5.0))
    return Calibration(tuple(offsets.tolist()), temperature)


def gold_weight(n_gold: int, n_soft: int) -> float:
    """The weight of a gold row beside a soft row of weight one: enough for `GOLD_SHARE` of the whole, at most ten."""
    if not n_gold:
        return 1.0
    return float(np.clip(GOLD_SHARE / (1 - GOLD_SHARE) * n_soft / n_gold, 1.0, 10.0))


RECIPE = Recipe("kd", kd, KdOptions, ANY_TASK, quote=quote_answers)
