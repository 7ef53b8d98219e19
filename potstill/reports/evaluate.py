"""The measurements at the end of a run: the student is exported, then compared with its teacher and simpler models.

Only here is the test part of the pool read. What is measured on this machine costs nothing; asking the teacher about
test texts costs money like any other question, so it stays within a tenth of the budget. Writes no report.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from potstill.bundle.bundle import Bundle, load
from potstill.bundle.export.export import export
from potstill.bundle.record import BundleRecord, Lineage
from potstill.data.pool import Subset
from potstill.data.tables import Layout
from potstill.data.task import Task
from potstill.errors import BudgetExceeded
from potstill.evaluation.cross_validation import OutOfFoldScores
from potstill.evaluation.latency import Latency, measure_latency
from potstill.evaluation.metrics import EvaluationResult, McNemar, Score
from potstill.evaluation.reliability import measure_reliability
from potstill.reports.evaluate_teacher import TeacherLabels, evaluate_teacher
from potstill.reports.records import Baseline, Evaluation, SamplePrediction, StudentSummary
from potstill.reports.rounds import read_rounds
from potstill.reports.run_facts import (
    active_seconds,
    answer_summary,
    cost_summary,
    data_summary,
    egress_facts,
    recipe_sentences,
    run_settings,
    simulated_teachers,
    unreadable_summaries,
)
from potstill.run.evaluate_student import (
    MIN_HELD_OUT,
    compare_predictions,
    display_labels,
    evaluate_probs,
    majority_baseline,
)
from potstill.run.notes import Finished
from potstill.run.run import Run
from potstill.run.spec import ComponentSpec
from potstill.students import BASELINE_STUDENT
from potstill.students.base import Student

MIN_CALIBRATION_TEXTS = MIN_HELD_OUT
MAX_TIMED_TEXTS = 2000
BENCH_TEXTS = 256
N_SAMPLES = 8


@dataclass(frozen=True)
class _Predictions:
    """The bundle on the T test texts: (T, K) logits and probabilities, (T, K) whether a label is given."""

    logits: NDArray[np.float32]
    probs: NDArray[np.float32]
    given: NDArray[np.bool_]
    result: EvaluationResult


def evaluate(
    run: Run,
    student: Student,
    *,
    source: str = "",
    cleaning: tuple[str, ...] = (),
    text_columns: tuple[str, ...] = (),
    layout: Layout = Layout(),  # noqa: B008 - frozen
    out_of_fold: OutOfFoldScores | None = None,
) -> Evaluation:
    """Export the student and measure it, its teacher and the baselines on the test part.

    Args:
        run: the run the student comes from.
        student: the student its recipe returned.
        source: where the data comes from, in a few words.
        cleaning: notes on the cleaning of the data.
        text_columns: the column of the texts, or the two of a pair; stored in the bundle.
        layout: how the file they come from is laid out; stored in the bundle.
        out_of_fold: scores to calibrate the bundle on if too few texts were held out.
    """
    test = run.pool.subset("test")
    bundle, predictions = _export(run, student, test, text_columns, layout, out_of_fold)
    teacher, teacher_labels = evaluate_teacher(run, test)
    texts = test.texts or run.pool.subset("pool").texts or run.pool.subset("train").texts
    speed = measure_latency(bundle.predict_proba, texts[:MAX_TIMED_TEXTS])
    baselines = tuple(_baselines(run, test, student))
    run.note(Finished(run.student_key(student)))
    # `bench` times student and teacher on these later, wherever it is called.
    run.store.set_meta("bench", {"texts": list(texts[:BENCH_TEXTS]), "folder": str(run.spec.folder.absolute())})
    reliability = None
    if predictions is not None and not bundle.multilabel:
        logits = bundle.uncalibrated_logits(predictions.logits)
        reliability = measure_reliability(test.gold, logits, predictions.probs, bundle.guarantees)
    return Evaluation(
        folder=run.folder,
        task=run.task,
        bundle=bundle.record,
        student=_student_summary(run, bundle, predictions, speed),
        teacher=teacher,
        baselines=baselines,
        reliability=reliability,
        mcnemar=_mcnemar(run.task, test, predictions, teacher_labels),
        samples=tuple(_samples(run, test, predictions, teacher_labels)),
        rounds=read_rounds(run.notes()),
        recipe_sentences=recipe_sentences(run),
        money=cost_summary(run, speed),
        data=data_summary(run, source, cleaning),
        answers=answer_summary(run.teacher_record),
        unreadable=unreadable_summaries(run),
        egress=egress_facts(run.teacher_record),
        settings=run_settings(run),
        simulated_teachers=simulated_teachers(run),
        duration_s=active_seconds(run),
        finished_at=datetime.now().astimezone().isoformat(timespec="seconds"),
    )


def _export(
    run: Run,
    student: Student,
    test: Subset,
    text_columns: tuple[str, ...],
    layout: Layout,
    out_of_fold: OutOfFoldScores | None,
) -> tuple[Bundle, _Predictions | None]:
    """The student's bundle, exported unless it was before, and its predictions for the test texts."""
    key, folder = run.student_key(student), run.folder / "bundle"
    if run.store.get_meta("exported") == key and folder.exists():
        bundle = load(folder)
        return bundle, _predict(bundle, test)
    run.reporter.info("Exporting the student and checking that it predicts the same.")
    validation, train = run.pool.subset("validation"), run.pool.subset("train")
    check = validation if validation.texts else train
    predictions: _Predictions | None = None

    def complete(made: Bundle) -> BundleRecord:
        nonlocal predictions
        predictions = _predict(made, test)
        teacher = "" if run.teacher_record is None else run.teacher_record.teacher.name
        lineage = Lineage(run.folder.name, run.spec.procedure.name, run.spec.student.name, teacher)
        measured = replace(made.record, lineage=lineage, metrics=_metrics(predictions))
        return replace(measured, text_columns=text_columns, layout=layout)

    bundle = export(
        student,
        folder,
        task=run.task,
        texts=check.texts or run.pool.subset("pool").texts[:500],
        gold=check.gold if check.texts else None,
        calibrate=len(validation) >= MIN_CALIBRATION_TEXTS or out_of_fold or False,
        complete=complete,
    )
    run.store.set_meta("exported", key)
    return bundle, predictions


def _predict(bundle: Bundle, test: Subset) -> _Predictions | None:
    """None without test texts."""
    if not test.texts:
        return None
    logits = bundle.predict_logits(test.texts)
    probs = bundle.calibrated_probs(logits)
    measured = bundle.multilabel_guarantees
    thresholds = None if measured is None else measured.label_thresholds
    result = evaluate_probs(bundle.record.task, test.gold, probs, thresholds)
    return _Predictions(logits, probs, bundle.label_indicator(probs), result)


def _metrics(predictions: _Predictions | None) -> dict[str, Score]:
    if predictions is None:
        return {}
    result = predictions.result
    scores = {"accuracy": result.accuracy, "macro_f1": result.macro_f1, "micro_f1": result.micro_f1}
    return {name: score for name, score in scores.items() if score is not None}


def _student_summary(run: Run, bundle: Bundle, predictions: _Predictions | None, speed: Latency) -> StudentSummary:
    return StudentSummary(
        name=run.spec.student.name,
        bundle=str(bundle.folder),
        evaluation=None if predictions is None else predictions.result,
        texts_per_s=speed.texts_per_s,
        p50_ms=speed.p50_ms,
        p99_ms=speed.p99_ms,
        size_mb=bundle.size_mb,
        metadata=bundle.summary(),
    )


def _baselines(run: Run, test: Subset, student: Student) -> Iterator[Baseline]:
    """Simpler models on the same gold: the most frequent label, TF-IDF + LR, the student without a teacher."""
    gold = run.pool.subset("train")
    if not gold.texts or not test.texts:
        return
    majority = majority_baseline(run.task, gold, test)
    yield Baseline.from_evaluation("majority", majority.evaluation, majority.description)
    targets = gold.targets(run.task.n_labels)
    candidates = [
        (ComponentSpec(name=BASELINE_STUDENT), "TF-IDF + logistic regression"),
        (run.spec.student, "the student without a teacher"),
    ]
    evaluated = {run.student_key(student)}
    for named, description in candidates:
        try:
            model = run.learn(gold.texts, targets, student=named, purpose="measure")
        except BudgetExceeded:
            run.reporter.info(f"No money is left to train the baseline {named.name}.")
            return
        if run.student_key(model) not in evaluated:
            evaluated.add(run.student_key(model))
            result = run.evaluate(model, test, f"{named.name} on gold")
            yield Baseline.from_evaluation(f"{named.name} on {len(gold.texts)} labels", result, description)


def _mcnemar(
    task: Task, test: Subset, predictions: _Predictions | None, teacher: TeacherLabels | None
) -> McNemar | None:
    if teacher is None or predictions is None or not teacher.answered.any():
        return None
    both = teacher.answered
    return compare_predictions(task, test.gold[both], predictions.given[both], teacher.given[both])


def _samples(
    run: Run, test: Subset, predictions: _Predictions | None, teacher: TeacherLabels | None
) -> Iterator[SamplePrediction]:
    if predictions is None:
        return
    task, probs = run.task, predictions.probs
    gold = test.gold == 1 if task.kind == "multi" else np.arange(task.n_labels) == test.gold[:, None]
    for i in np.random.default_rng(run.spec.seed).permutation(len(test.texts))[:N_SAMPLES]:
        answered = teacher is not None and teacher.answered[i]
        yield SamplePrediction(
            text=test.texts[i],
            student=display_labels(task, predictions.given[i], probs[i]),
            gold=display_labels(task, gold[i], probs[i]),
            teacher=display_labels(task, teacher.given[i], probs[i]) if teacher is not None and answered else None,
            confidence=float(probs[i].max()),
        )
