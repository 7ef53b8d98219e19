"""The measurements at the end of a run of a text-to-text task: the student is exported, then measured.

The sibling of `evaluate.py`. Only here is the test part of the pool read. What is compared is of the form of the
answers. Writes no report.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Generic, TypeVar

from potstill.bundle.form_bundle import FormBundle
from potstill.bundle.record import BundleRecord, Lineage
from potstill.data.tables import Layout
from potstill.evaluation.latency import Latency, measure_latency
from potstill.evaluation.metrics import EvaluationResult, Score
from potstill.evaluation.text2text.answer_metrics import AnswerScores
from potstill.evaluation.text2text.entities import EntityScores
from potstill.reports.records import Baseline, Evaluation, SamplePrediction, StudentSummary, TeacherSummary
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
from potstill.run.notes import Finished
from potstill.run.run import Run
from potstill.students.base import TrainedModel

MAX_TIMED_TEXTS = 2000
N_SAMPLES = 8
BundleT = TypeVar("BundleT", bound=FormBundle[Any])
FoundT = TypeVar("FoundT")  # what a bundle gives for N texts


@dataclass(frozen=True)
class DataFacts:
    """What the caller knows of the data: their source and what was cleaned, in words, and how the file is laid out."""

    source: str = ""
    cleaning: tuple[str, ...] = ()
    text_columns: tuple[str, ...] = ()
    layout: Layout = field(default_factory=Layout)


@dataclass(frozen=True)
class FormMeasures:
    """What was measured of a student on the test texts; empty without any.

    Attributes:
        result: the scores that models are compared by.
        entities, answers: more of the student's scores, by the form of the answers.
        teacher: the teacher, as far as it was measured.
        baselines: simpler models.
        samples: a few test texts with their answers.
    """

    result: EvaluationResult | None = None
    entities: EntityScores | None = None
    answers: AnswerScores | None = None
    teacher: TeacherSummary | None = None
    baselines: tuple[Baseline, ...] = ()
    samples: tuple[SamplePrediction, ...] = ()


@dataclass(frozen=True)
class FormEvaluation(Generic[BundleT, FoundT]):
    """How students of a form are evaluated.

    Attributes:
        kind: the class of their bundles.
        export: writes the bundle of a run's student; the function completes its record.
        predict: what a bundle gives for the test texts.
        metrics: of that, for the bundle's record.
        measure: of that, all that the report says.
        max_timed_texts: texts at most that a speed is measured on.
    """

    kind: type[BundleT]
    export: Callable[[Run, Any, Callable[[BundleT], BundleRecord]], BundleT]
    predict: Callable[[Run, BundleT], FoundT]
    metrics: Callable[[Run, FoundT], Mapping[str, Score]]
    measure: Callable[[Run, FoundT], FormMeasures]
    max_timed_texts: int = MAX_TIMED_TEXTS


def evaluate_form_run(
    run: Run, student: TrainedModel, form: FormEvaluation[BundleT, FoundT], facts: DataFacts
) -> Evaluation:
    """Export the student and measure it, its teacher and the baselines on the test part; see `evaluate.evaluate`."""
    bundle, found = _export(run, student, form, facts)
    measures = form.measure(run, found)
    splits = (run.pool.subset("test"), run.pool.subset("pool"), run.pool.subset("train"))
    texts: Iterable[str] = next((each.texts for each in splits if each.texts), ())
    speed = measure_latency(bundle.predict, tuple(texts)[: form.max_timed_texts])
    run.note(Finished(run.student_key(student)))
    return Evaluation(
        folder=run.folder,
        task=run.task,
        bundle=bundle.record,
        student=_student_summary(run, bundle, measures.result, speed),
        teacher=measures.teacher,
        answers=answer_summary(run.teacher_record),
        unreadable=unreadable_summaries(run),
        entities=measures.entities,
        free_text=measures.answers,
        baselines=measures.baselines,
        samples=measures.samples,
        rounds=read_rounds(run.notes()),
        recipe_sentences=recipe_sentences(run),
        money=cost_summary(run, speed),
        data=data_summary(run, facts.source, facts.cleaning),
        egress=egress_facts(run.teacher_record),
        settings=run_settings(run),
        simulated_teachers=simulated_teachers(run),
        duration_s=active_seconds(run),
        finished_at=datetime.now().astimezone().isoformat(timespec="seconds"),
    )


def _export(
    run: Run, student: TrainedModel, form: FormEvaluation[BundleT, FoundT], facts: DataFacts
) -> tuple[BundleT, FoundT]:
    """The student's bundle, exported unless it was before, and what it gives for the test texts."""
    key, folder = run.student_key(student), run.folder / "bundle"
    if run.store.get_meta("exported") == key and folder.exists():
        bundle = form.kind.open(folder)
        return bundle, form.predict(run, bundle)
    run.reporter.info("Exporting the student and checking that it predicts the same.")
    found: list[FoundT] = []

    def complete(made: BundleT) -> BundleRecord:
        found.append(form.predict(run, made))
        teacher = "" if run.teacher_record is None else run.teacher_record.teacher.name
        lineage = Lineage(run.folder.name, run.spec.procedure.name, run.spec.student.name, teacher)
        measured = replace(made.record, lineage=lineage, metrics=form.metrics(run, found[0]))
        return replace(measured, text_columns=facts.text_columns, layout=facts.layout)

    bundle = form.export(run, student, complete)
    run.store.set_meta("exported", key)
    return bundle, found[0]


def _student_summary(
    run: Run, bundle: FormBundle[Any], result: EvaluationResult | None, speed: Latency
) -> StudentSummary:
    return StudentSummary(
        name=run.spec.student.name,
        bundle=str(bundle.folder),
        evaluation=result,
        texts_per_s=speed.texts_per_s,
        p50_ms=speed.p50_ms,
        p99_ms=speed.p99_ms,
        size_mb=bundle.size_mb,
        metadata=bundle.summary(),
    )
