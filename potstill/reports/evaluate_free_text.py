"""How a run on free texts is evaluated: by the task's metric, beside answers that need no model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from potstill.bundle.export.export_free_text import export_free_text
from potstill.bundle.free_text_bundle import FreeTextBundle
from potstill.bundle.record import BundleRecord
from potstill.data.free_text.pool import FreeTextSubset
from potstill.data.task import AnswerMetric
from potstill.evaluation.metrics import EvaluationResult, Score
from potstill.evaluation.text2text.answer_metrics import (
    METRIC_NAMES,
    answer_interval,
    compute_answer_metrics,
    compute_answer_scores,
)
from potstill.models.greedy_decoding import GeneratedAnswer
from potstill.reports.evaluate_form import N_SAMPLES, FormEvaluation, FormMeasures
from potstill.reports.evaluate_form_teacher import AskedAnswers, FormTeacher, evaluate_form_teacher
from potstill.reports.records import Baseline, SamplePrediction
from potstill.run.free_text_verbs import FreeTextAnswers, answered_texts, ask_free_text, free_text_pool
from potstill.run.run import Run
from potstill.students.free_text_student import FreeTextStudent
from potstill.teachers.base import Teacher

MAX_TIMED_TEXTS = 64


def _export(run: Run, student: FreeTextStudent, complete: Callable[[FreeTextBundle], BundleRecord]) -> FreeTextBundle:
    pool = free_text_pool(run)
    validation = answered_texts(pool.subset("validation"))
    check = validation if len(validation) else answered_texts(pool.subset("train"))
    if not len(check) and run.teacher_record is not None and isinstance(run.teacher_record.answers, FreeTextAnswers):
        check = run.teacher_record.answers.answered  # without gold, the texts that people answered
    return export_free_text(student, run.folder / "bundle", task=run.task, check=check, complete=complete)


def _metric(run: Run) -> AnswerMetric:
    assert run.task.output is not None
    assert run.task.output.metric is not None
    return run.task.output.metric


def _predict(run: Run, bundle: FreeTextBundle) -> list[GeneratedAnswer]:
    return list(bundle.iter_answers(free_text_pool(run).subset("test").texts))


def _metrics(run: Run, found: list[GeneratedAnswer]) -> Mapping[str, Score]:
    references = free_text_pool(run).subset("test").references
    answers = [each.text for each in found]
    return {name: answer_interval(name, answers, references) for name in METRIC_NAMES} if answers else {}


def _measure(run: Run, found: list[GeneratedAnswer]) -> FormMeasures:
    test, metric = free_text_pool(run).subset("test"), _metric(run)
    asked = _evaluate_teacher(run, test)
    if not len(test):
        return FormMeasures(teacher=asked.summary)
    answers = [each.text for each in found]
    n_unfinished = sum(not each.complete for each in found)
    return FormMeasures(
        result=compute_answer_metrics(answers, test.references, metric),
        answers=compute_answer_scores(answers, test.references, metric, n_unfinished=n_unfinished),
        teacher=asked.summary,
        baselines=tuple(_baselines(run, test)),
        samples=tuple(_samples(run, test, found, asked.answers)),
    )


def _evaluate_teacher(run: Run, test: FreeTextSubset) -> FormTeacher[str]:
    def ask(teacher: Teacher, texts: Sequence[str]) -> AskedAnswers[str]:
        answers = ask_free_text(run, teacher, texts, purpose="measure")
        return AskedAnswers(answers.answers, answers.states)

    def measure(rows: Sequence[int], found: Sequence[str | None]) -> EvaluationResult:
        references = [test.references[row] for row in rows]
        return compute_answer_metrics([each or "" for each in found], references, _metric(run))

    return evaluate_form_teacher(run, test.texts, ask, measure)


def _baselines(run: Run, test: FreeTextSubset) -> Iterator[Baseline]:
    """The most frequent answer, and the text itself."""
    metric = _metric(run)
    train = answered_texts(free_text_pool(run).subset("train"))
    answers = Counter(own[0] for own in train.references)
    if answers:
        answer, n = answers.most_common(1)[0]
        result = compute_answer_metrics([answer] * len(test), test.references, metric)
        share = f"the answer to {n:,} of {len(train):,} texts of training"
        yield Baseline.from_evaluation("the most frequent answer", result, share)
    result = compute_answer_metrics(test.texts, test.references, metric)
    yield Baseline.from_evaluation("the text itself", result, "answers each text with itself")


def _samples(
    run: Run, test: FreeTextSubset, found: Sequence[GeneratedAnswer], by_teacher: Sequence[str | None]
) -> Iterator[SamplePrediction]:
    for i in np.random.default_rng(run.spec.seed).permutation(len(test))[:N_SAMPLES]:
        yield SamplePrediction(
            text=test.texts[i],
            student=found[i].text or "–",
            gold=" | ".join(test.references[i]),
            teacher=by_teacher[i] or "",
            confidence=found[i].confidence,
        )


FREE_TEXT_EVALUATION = FormEvaluation(FreeTextBundle, _export, _predict, _metrics, _measure, MAX_TIMED_TEXTS)
