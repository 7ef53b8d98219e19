"""The student and a large teacher tried on the labels there are: what a plan calls measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from potstill.errors import BadData
from potstill.evaluation.calibration import one_hot
from potstill.planning.option_prices import LARGE
from potstill.procedures.allocate.expected_scores import Piloted, Taught
from potstill.procedures.allocate.imitation import Imitated
from potstill.procedures.allocate.learning_curves import FEWEST_SIZES, Curves, Point, fit_curves
from potstill.procedures.allocate.priors import Writing
from potstill.run.inputs import Order
from potstill.run.spec import Named
from potstill.students import MENU as STUDENTS
from potstill.students.base import Lesson, Make, Student

FEWEST_MEASURED = 60  # labels below which there is nothing to measure a curve with
CHECK_SHARE, MOST_CHECKED, SEEDS, DISTILLED = 0.25, 500, 2, 1000


def measure_student(order: Order, *, with_large: bool) -> tuple[Piloted, str]:
    """The outlook of the student on the labels there are, and what it rests on in words.

    A quarter of the labels is kept to measure on, where there are not enough validation texts.

    Raises:
        BadData: too few labels.
    """
    gold = order.pool.part("train")
    if len(gold) < FEWEST_MEASURED:
        raise BadData(
            f"Measuring needs {FEWEST_MEASURED} labels and there are {len(gold)}.",
            f"Label {FEWEST_MEASURED - len(gold)} more, or leave out --measure.",
        )
    targets, seed = one_hot(gold.gold, order.task.n_labels), order.spec.seed
    check = order.pool.part("validation")
    shuffled = np.random.default_rng(seed).permutation(len(gold))
    spared = 0 if len(check) >= FEWEST_MEASURED else min(MOST_CHECKED, int(len(gold) * CHECK_SHARE))
    texts = check.texts if not spared else tuple(gold.texts[row] for row in shuffled[:spared])
    right = check.gold if not spared else gold.gold[shuffled[:spared]]
    rows = shuffled[spared:]

    def score(named: Named, learnt: Sequence[str], aims: Any) -> tuple[Student, float]:
        student: Student = STUDENTS.resolve(named.kind)(
            Make(order.task.labels, named.model, order.task.descriptions, named.options, kind=order.task.kind)
        ).fit(Lesson(learnt, aims, seed=seed))
        return student, float((student.predict_logits(texts).argmax(axis=1) == right).mean())

    own = _quick(order.spec.student)
    points = []
    for shift in reversed(range(FEWEST_SIZES)):
        n = len(rows) >> shift
        found = []
        for draw in range(SEEDS if shift else 1):
            some = np.random.default_rng((seed, draw)).permutation(rows)[:n]
            found.append(score(own, [gold.texts[row] for row in some], targets[some])[1])
        points.append(Point(n, tuple(found)))
    learnt, aims = [gold.texts[row] for row in rows], targets[rows]
    taught = Taught()
    pool = list(order.pool.part("pool").texts[:DISTILLED])
    if pool and with_large:
        large, accuracy = score(_quick(Named(name=LARGE)), learnt, aims)
        soft, students = large.predict_proba(pool), []
        for n in sorted({len(pool) // 4, len(pool)} - {0}):
            both = np.concatenate([aims, soft[:n]])
            reached = score(own, [*learnt, *pool[:n]], both)[1]
            students.append(Imitated(accuracy, len(rows), n, reached))
        taught = Taught(accuracy, len(rows), tuple(students))
    curves: Curves = fit_curves(points, seed=seed)
    doubt = float(np.sqrt(0.25 / len(texts)) / 2)
    reach = f"{len(texts)} texts to check; trusted to {curves.trusted(0.05):,} labels"
    said = f"Measured on the labels there are ({own.name}, {reach})."
    writing = Writing(seed=seed)
    return Piloted(curves, taught, writing=writing, n_labels=order.task.n_labels, doubt=doubt, seed=seed), said


def _quick(named: Named) -> Named:
    """An encoder frozen: the shape of its curve is what is wanted, in seconds."""
    if named.kind != "encoder":
        return named
    return Named(name=named.name, **{**named.options, "mode": "frozen"})
