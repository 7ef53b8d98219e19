"""The measurements at the end of a run on entities: the student is exported, then compared with a list of known words.

The sibling of `evaluate.py`. Only here is the test part of the pool read. Writes no report.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime

import numpy as np

from potstill.bundle.entity_bundle import EntityBundle, load_entities
from potstill.bundle.export.export_entities import export_entities
from potstill.bundle.record import BundleRecord, Lineage
from potstill.data.entities.pool import EntitySubset
from potstill.data.tables import Layout
from potstill.evaluation.latency import Latency, measure_latency
from potstill.evaluation.metrics import EvaluationResult, Score
from potstill.evaluation.text2text.entities import Entities, compute_entity_metrics, compute_entity_scores
from potstill.evaluation.text2text.known_words import learn_words
from potstill.models.bio import ScoredEntities
from potstill.reports.evaluate_entity_teacher import evaluate_entity_teacher
from potstill.reports.records import Baseline, Evaluation, SamplePrediction, StudentSummary
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
from potstill.run.entity_verbs import entity_pool, marked_texts
from potstill.run.notes import Finished
from potstill.run.run import Run
from potstill.students.entity_student import EntityStudent

MAX_TIMED_TEXTS = 2000
N_SAMPLES = 8


def evaluate_entity_run(
    run: Run,
    student: EntityStudent,
    *,
    source: str = "",
    cleaning: tuple[str, ...] = (),
    text_columns: tuple[str, ...] = (),
    layout: Layout = Layout(),  # noqa: B008 - frozen
) -> Evaluation:
    """Export the student and measure it, its teacher and the baseline on the test part; see `evaluate.evaluate`."""
    pool = entity_pool(run)
    test = pool.subset("test")
    bundle = _export(run, student, text_columns, layout)
    found = bundle.find_entities(test.texts)
    predicted = [each.entities for each in found]
    result = None if not len(test) else compute_entity_metrics(test.entities, predicted, run.task.labels)
    scores = None
    if result is not None:
        scores = compute_entity_scores(test.texts, test.entities, predicted, run.task.labels)
    texts = test.texts or pool.subset("pool").texts or pool.subset("train").texts
    speed = measure_latency(bundle.predict, texts[:MAX_TIMED_TEXTS])
    teacher, by_teacher = evaluate_entity_teacher(run, test)
    run.note(Finished(run.student_key(student)))
    return Evaluation(
        folder=run.folder,
        task=run.task,
        bundle=bundle.record,
        student=_student_summary(run, bundle, result, speed),
        teacher=teacher,
        answers=answer_summary(run.teacher_record),
        unreadable=unreadable_summaries(run),
        entities=scores,
        baselines=tuple(_baselines(run, test)),
        samples=tuple(_samples(run, test, found, by_teacher)),
        recipe_sentences=recipe_sentences(run),
        money=cost_summary(run, speed),
        data=data_summary(run, source, cleaning),
        egress=egress_facts(run.teacher_record),
        settings=run_settings(run),
        simulated_teachers=simulated_teachers(run),
        duration_s=active_seconds(run),
        finished_at=datetime.now().astimezone().isoformat(timespec="seconds"),
    )


def _export(run: Run, student: EntityStudent, text_columns: tuple[str, ...], layout: Layout) -> EntityBundle:
    """The student's bundle, exported unless it was before."""
    key, folder, pool = run.student_key(student), run.folder / "bundle", entity_pool(run)
    if run.store.get_meta("exported") == key and folder.exists():
        return load_entities(folder)
    run.reporter.info("Exporting the student and checking that it predicts the same.")
    validation, test = marked_texts(pool.subset("validation")), pool.subset("test")
    check = validation if len(validation) else marked_texts(pool.subset("train"))

    def complete(made: EntityBundle) -> BundleRecord:
        teacher = "" if run.teacher_record is None else run.teacher_record.teacher.name
        lineage = Lineage(run.folder.name, run.spec.procedure.name, run.spec.student.name, teacher)
        measured = replace(made.record, lineage=lineage, metrics=_metrics(run, made, test))
        return replace(measured, text_columns=text_columns, layout=layout)

    bundle = export_entities(student, folder, task=run.task, check=check, complete=complete)
    run.store.set_meta("exported", key)
    return bundle


def _metrics(run: Run, bundle: EntityBundle, test: EntitySubset) -> dict[str, Score]:
    if not len(test):
        return {}
    predicted = [each.entities for each in bundle.find_entities(test.texts)]
    result = compute_entity_metrics(test.entities, predicted, run.task.labels)
    return {"entity_f1": result.main_score, "macro_f1": result.macro_f1, "exact_texts": result.accuracy}


def _student_summary(run: Run, bundle: EntityBundle, result: EvaluationResult | None, speed: Latency) -> StudentSummary:
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


def _baselines(run: Run, test: EntitySubset) -> Iterator[Baseline]:
    """The words that were entities in training, looked up."""
    train = marked_texts(entity_pool(run).subset("train"))
    if not len(train) or not len(test):
        return
    words = learn_words(train.texts, train.entities)
    predicted = [words.find(text) for text in test.texts]
    result = compute_entity_metrics(test.entities, predicted, run.task.labels)
    description = "looks up the words that are entities in training"
    yield Baseline.from_evaluation(f"known words of {len(train):,} texts", result, description)


def _samples(
    run: Run, test: EntitySubset, found: Sequence[ScoredEntities], by_teacher: Sequence[Entities | None]
) -> Iterator[SamplePrediction]:
    for i in np.random.default_rng(run.spec.seed).permutation(len(test))[:N_SAMPLES]:
        text, own, other = test.texts[i], found[i], by_teacher[i]
        yield SamplePrediction(
            text=text,
            student=display_entities(text, own.entities),
            gold=display_entities(text, test.entities[i]),
            teacher="" if other is None else display_entities(text, other),
            confidence=min(own.confidences, default=None),
        )


def display_entities(text: str, entities: Entities) -> str:
    """The entities of a text in words, "5 ml [Amount], water [Reagent]"; a dash for none."""
    return ", ".join(f"{text[each.start : each.end]} [{each.type}]" for each in entities) or "–"
