"""The student and a large teacher tried on the labels there are: what a plan calls measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from potstill.errors import BadData
from potstill.evaluation.calibration import one_hot
from potstill.planning.option_prices import DEFAULT_LARGE_MODEL
from potstill.procedures.allocate.expected_scores import PilotScores, TeacherMeasurement
from potstill.procedures.allocate.imitation import ImitationPoint
from potstill.procedures.allocate.learning_curves import MIN_SIZES, CurvePoint, LearningCurve, fit_learning_curve
from potstill.procedures.allocate.priors import GenerationPrior
from potstill.run.inputs import RunInputs
from potstill.run.spec import ComponentSpec
from potstill.students import REGISTRY as STUDENTS
from potstill.students.base import Student, StudentConfig, TrainingData

MIN_LABELS = 60  # labels below which there is nothing to measure a curve with
CHECK_SHARE, MAX_VALIDATION_TEXTS, SEEDS, MAX_DISTILLED_TEXTS = 0.25, 500, 2, 1000


def measure_learning_curve(order: RunInputs, *, with_large: bool) -> tuple[PilotScores, str]:
    """The outlook of the student on the labels there are, and what it rests on in words.

    A quarter of the labels is kept to measure on, where there are not enough validation texts.

    Raises:
        BadData: too few labels.
    """
    gold = order.pool.subset("train")
    if len(gold) < MIN_LABELS:
        raise BadData(
            f"Measuring needs {MIN_LABELS} labels and there are {len(gold)}.",
            f"Label {MIN_LABELS - len(gold)} more, or leave out --measure.",
        )
    targets, seed = one_hot(gold.gold, order.task.n_labels), order.spec.seed
    check = order.pool.subset("validation")
    shuffled = np.random.default_rng(seed).permutation(len(gold))
    spared = 0 if len(check) >= MIN_LABELS else min(MAX_VALIDATION_TEXTS, int(len(gold) * CHECK_SHARE))
    texts = check.texts if not spared else tuple(gold.texts[row] for row in shuffled[:spared])
    right = check.gold if not spared else gold.gold[shuffled[:spared]]
    rows = shuffled[spared:]

    def score(named: ComponentSpec, learnt: Sequence[str], aims: Any) -> tuple[Student, float]:
        student: Student = STUDENTS.resolve(named.kind)(
            StudentConfig(order.task.labels, named.model, order.task.descriptions, named.options, kind=order.task.kind)
        ).fit(TrainingData(learnt, aims, seed=seed))
        return student, float((student.predict_logits(texts).argmax(axis=1) == right).mean())

    own = _quick(order.spec.student)
    points = []
    for shift in reversed(range(MIN_SIZES)):
        n = len(rows) >> shift
        found = []
        for draw in range(SEEDS if shift else 1):
            some = np.random.default_rng((seed, draw)).permutation(rows)[:n]
            found.append(score(own, [gold.texts[row] for row in some], targets[some])[1])
        points.append(CurvePoint(n, tuple(found)))
    learnt, aims = [gold.texts[row] for row in rows], targets[rows]
    taught = TeacherMeasurement()
    pool = list(order.pool.subset("pool").texts[:MAX_DISTILLED_TEXTS])
    if pool and with_large:
        large, accuracy = score(_quick(ComponentSpec(name=DEFAULT_LARGE_MODEL)), learnt, aims)
        soft, students = large.predict_proba(pool), []
        for n in sorted({len(pool) // 4, len(pool)} - {0}):
            both = np.concatenate([aims, soft[:n]])
            reached = score(own, [*learnt, *pool[:n]], both)[1]
            students.append(ImitationPoint(accuracy, len(rows), n, reached))
        taught = TeacherMeasurement(accuracy, len(rows), tuple(students))
    curves: LearningCurve = fit_learning_curve(points, seed=seed)
    doubt = float(np.sqrt(0.25 / len(texts)) / 2)
    reach = f"{len(texts)} texts to check; trusted to {curves.max_reliable_n(0.05):,} labels"
    said = f"Measured on the labels there are ({own.name}, {reach})."
    writing = GenerationPrior(seed=seed)
    return PilotScores(
        curves, taught, generation=writing, n_labels=order.task.n_labels, std_error=doubt, seed=seed
    ), said


def _quick(named: ComponentSpec) -> ComponentSpec:
    """An encoder frozen: the shape of its curve is what is wanted, in seconds."""
    if named.kind != "encoder":
        return named
    return ComponentSpec(name=named.name, **{**named.options, "mode": "frozen"})
