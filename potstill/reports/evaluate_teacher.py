"""The teacher on the test texts, measured as the student is, within a tenth of the budget."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median

import numpy as np
from numpy.typing import NDArray

from potstill.data.pool import Subset
from potstill.evaluation.metrics import EvaluationResult
from potstill.evaluation.multilabel_thresholds import LabelThresholds
from potstill.reports.records import TeacherSummary
from potstill.reports.run_facts import teacher_calls
from potstill.reports.teacher_calls import single_call_seconds, texts_per_second
from potstill.run.evaluate_student import evaluate_probs, tune_label_thresholds
from potstill.run.run import Run, TeacherRecord
from potstill.teachers.base import Teacher

MAX_TEACHER_TEST_TEXTS = 2000  # test texts the teacher is asked about, at most
N_SINGLE_CALLS = 15  # of them in calls of their own, for its latency
EVALUATION_BUDGET_DIVISOR = 10  # and for at most this fraction of the budget


@dataclass(frozen=True)
class TeacherLabels:
    """The teacher on the T test texts: (T,) whether it answered, (T, K) whether it gives a label."""

    answered: NDArray[np.bool_]
    given: NDArray[np.bool_]


def summarize_teacher(run: Run, teacher: Teacher, evaluation: EvaluationResult | None) -> TeacherSummary:
    """The summary of a teacher whose answers were evaluated, with its speed.

    The ledger stores every call, so a resumed run knows the speed of answers from its earlier sessions.
    """
    calls = teacher_calls(run)
    single_ms = [1000 * seconds for seconds in single_call_seconds(calls)]
    return TeacherSummary(
        name=teacher.name,
        evaluation=evaluation,
        texts_per_s=texts_per_second(calls, teacher.parallel),
        p50_ms=median(single_ms) if single_ms else None,
        metadata=teacher.metadata.to_facts(),
    )


def evaluate_teacher(run: Run, test: Subset) -> tuple[TeacherSummary | None, TeacherLabels | None]:
    """The teacher's summary, and its labels for the test texts; None for a run without a teacher.

    People are not asked: the test texts are labelled already.
    """
    if run.teacher_record is None:
        return None, None
    teacher = run.teacher_record.teacher
    probs = np.full((len(test.texts), run.task.n_labels), np.nan)
    result, thresholds = None, LabelThresholds()
    if len(test.texts) and not teacher.capabilities.human:
        result, thresholds = _ask(run, run.teacher_record, test, probs)
    summary = summarize_teacher(run, teacher, result)
    answered = np.isfinite(probs).all(axis=1)
    known = np.where(answered[:, None], probs, 0.0)
    if run.task.kind == "multi":
        given = thresholds.apply(known)
    else:
        given = np.asarray(known.argmax(axis=1)[:, None] == np.arange(run.task.n_labels))
    return summary, TeacherLabels(answered, given)


def _ask(
    run: Run, record: TeacherRecord, test: Subset, probs: NDArray[np.float64]
) -> tuple[EvaluationResult | None, LabelThresholds]:
    """Ask about test texts and fill their rows of `probs` (T, K); NaN where nothing was answered."""
    teacher, calibration = record.teacher, record.calibration
    asked = np.random.default_rng(run.spec.seed).permutation(len(test.texts))[:MAX_TEACHER_TEST_TEXTS]
    texts = [test.texts[i] for i in asked]
    thresholds = LabelThresholds()
    with run.ledger.reserve("all but the evaluation", run.ledger.free - run.ledger.limit // EVALUATION_BUDGET_DIVISOR):
        for text in texts[: N_SINGLE_CALLS if teacher.batch_size > 1 else 0]:
            if "unasked" in run.ask(teacher, [text], purpose="measure").states:
                break  # each further text would say once more that the money has ended
        answers = run.ask(teacher, texts, purpose="measure")
        # When the money ends, calls are in flight: the texts without one are anywhere, not only at the end.
        probs[asked[answers.answered]] = calibration.apply(answers.scores[answers.answered])
        asked = asked[[state != "unasked" for state in answers.states]]
        if not len(asked):
            return None, thresholds
        if run.task.kind == "multi" and teacher.category == "compute":
            held_out = run.pool.subset("validation")  # its thresholds are chosen as the student's are
            scores = run.ask(teacher, held_out.texts, purpose="measure").scores
            thresholds = tune_label_thresholds(held_out, calibration.apply(scores))
    return evaluate_probs(run.task, test.gold[asked], probs[asked], thresholds), thresholds
