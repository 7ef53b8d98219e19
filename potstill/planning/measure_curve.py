"""Measures the student's learning curve, and a large model as its teacher, on the existing labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from potstill.errors import BadData
from potstill.planning.option_prices import large_model
from potstill.procedures.allocate.expected_scores import PilotScores, TeacherMeasurement
from potstill.procedures.allocate.imitation import ImitationPoint
from potstill.procedures.allocate.learning_curves import MIN_SIZES, CurvePoint, fit_learning_curve
from potstill.procedures.allocate.priors import GenerationPrior
from potstill.run.inputs import RunInputs
from potstill.run.spec import ComponentSpec, quick_student
from potstill.students.base import Floats, Student, StudentConfig, TrainingData
from potstill.students.kinds import student_kind

MIN_LABELS = 60  # with fewer labels no curve can be fitted
VALIDATION_SHARE, MAX_VALIDATION_TEXTS = 0.25, 500
SEEDS, MAX_DISTILLED_TEXTS = 2, 1000


@dataclass(frozen=True)
class LabelledHalves:
    """The existing labels, split to train and to validate.

    Attributes:
        texts, targets: N training texts and their (N, K) one-hot labels.
        validation_texts, validation_gold: M texts and their (M,) label columns.
    """

    texts: tuple[str, ...]
    targets: Floats
    validation_texts: tuple[str, ...]
    validation_gold: NDArray[np.int64]


def measure_learning_curve(inputs: RunInputs, *, with_large: bool) -> tuple[PilotScores, str]:
    """The student's expected scores, fitted on the existing labels, and what they rest on in words.

    Students train with their kind's quick options: the shape of the curve is needed, in seconds.

    Args:
        inputs: the spec, the task and the pool.
        with_large: also train the large model and students of its answers about the pool.

    Raises:
        BadData: there are too few labels.
    """
    halves, seed = _split_labels(inputs), inputs.spec.seed
    points = _measure_points(inputs, halves)
    large = _measure_large(inputs, halves) if with_large else TeacherMeasurement()
    curve = fit_learning_curve(points, seed=seed)
    n_validation = len(halves.validation_texts)
    basis = (
        f"Measured on the existing labels ({inputs.spec.student.name}, {n_validation} validation texts; "
        f"trusted to {curve.max_reliable_n(0.05):,} labels)."
    )
    scores = PilotScores(
        curve,
        large,
        generation=GenerationPrior(seed=seed),
        n_labels=inputs.task.n_labels,
        std_error=float(np.sqrt(0.25 / n_validation) / 2),
        seed=seed,
    )
    return scores, basis


def _split_labels(inputs: RunInputs) -> LabelledHalves:
    """The validation part where it is large enough; else a quarter of the labels is set aside."""
    gold, validation = inputs.pool.subset("train"), inputs.pool.subset("validation")
    if len(gold) < MIN_LABELS:
        raise BadData(
            f"Measuring needs {MIN_LABELS} labels and there are {len(gold)}.",
            f"Label {MIN_LABELS - len(gold)} more, or leave out --measure.",
        )
    targets = gold.targets(inputs.task.n_labels)
    order = np.random.default_rng(inputs.spec.seed).permutation(len(gold))
    n_aside = 0 if len(validation) >= MIN_LABELS else min(MAX_VALIDATION_TEXTS, int(len(gold) * VALIDATION_SHARE))
    aside, rows = order[:n_aside], order[n_aside:]
    return LabelledHalves(
        tuple(gold.texts[row] for row in rows),
        targets[rows],
        tuple(gold.texts[row] for row in aside) if n_aside else validation.texts,
        gold.gold[aside] if n_aside else validation.gold,
    )


def _measure_points(inputs: RunInputs, halves: LabelledHalves) -> list[CurvePoint]:
    """Accuracies at sizes that double up to all labels; the smaller sizes are drawn `SEEDS` times."""
    component, seed, total = quick_student(inputs.spec.student), inputs.spec.seed, len(halves.texts)
    points = []
    for shift in reversed(range(MIN_SIZES)):
        n, accuracies = total >> shift, []
        for draw in range(SEEDS if shift else 1):
            rows = np.random.default_rng((seed, draw)).permutation(total)[:n]
            texts = [halves.texts[row] for row in rows]
            accuracies.append(_train(inputs, component, halves, texts, halves.targets[rows])[1])
        points.append(CurvePoint(n, tuple(accuracies)))
    return points


def _measure_large(inputs: RunInputs, halves: LabelledHalves) -> TeacherMeasurement:
    """The large model's accuracy, and those of students of its answers about a quarter and all of the pool."""
    component, pool = large_model(inputs), list(inputs.pool.subset("pool").texts[:MAX_DISTILLED_TEXTS])
    if component is None or not pool:
        return TeacherMeasurement()
    large, accuracy = _train(inputs, quick_student(component), halves, halves.texts, halves.targets)
    soft, students = large.predict_proba(pool), []
    for n in sorted({len(pool) // 4, len(pool)} - {0}):
        texts, targets = [*halves.texts, *pool[:n]], np.concatenate([halves.targets, soft[:n]])
        reached = _train(inputs, quick_student(inputs.spec.student), halves, texts, targets)[1]
        students.append(ImitationPoint(accuracy, len(halves.texts), n, reached))
    return TeacherMeasurement(accuracy, len(halves.texts), tuple(students))


def _train(
    inputs: RunInputs, component: ComponentSpec, halves: LabelledHalves, texts: Sequence[str], targets: Floats
) -> tuple[Student, float]:
    """A student of these rows, and its accuracy on the validation texts."""
    task = inputs.task
    config = StudentConfig(task.labels, component.model, task.descriptions, component.options, kind=task.kind)
    student = student_kind(component.kind)(config).fit(TrainingData(texts, targets, seed=inputs.spec.seed))
    predictions = student.predict_logits(halves.validation_texts).argmax(axis=1)
    return student, float((predictions == halves.validation_gold).mean())
