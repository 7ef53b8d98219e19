"""How a run on entities is evaluated: by entity F1, beside a list of known words and its teacher."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from potstill.bundle.entity_bundle import EntityBundle
from potstill.bundle.export.export_entities import export_entities
from potstill.bundle.record import BundleRecord
from potstill.data.entities.pool import EntitySubset
from potstill.evaluation.metrics import EvaluationResult, Score
from potstill.evaluation.text2text.entities import Entities, compute_entity_metrics, compute_entity_scores
from potstill.evaluation.text2text.known_words import learn_words
from potstill.models.bio import ScoredEntities
from potstill.reports.evaluate_form import N_SAMPLES, FormEvaluation, FormMeasures
from potstill.reports.evaluate_form_teacher import AskedAnswers, FormTeacher, evaluate_form_teacher
from potstill.reports.records import Baseline, SamplePrediction
from potstill.run.entity_verbs import EntityAnswers, ask_entities, entity_pool, marked_texts
from potstill.run.run import Run
from potstill.students.entity_student import EntityStudent
from potstill.teachers.base import Teacher


def _export(run: Run, student: EntityStudent, complete: Callable[[EntityBundle], BundleRecord]) -> EntityBundle:
    pool = entity_pool(run)
    validation = marked_texts(pool.subset("validation"))
    check = validation if len(validation) else marked_texts(pool.subset("train"))
    if not len(check) and run.teacher_record is not None and isinstance(run.teacher_record.answers, EntityAnswers):
        check = run.teacher_record.answers.marked  # without gold of their own, the texts that people marked
    return export_entities(student, run.folder / "bundle", task=run.task, check=check, complete=complete)


def _predict(run: Run, bundle: EntityBundle) -> list[ScoredEntities]:
    return bundle.find_entities(entity_pool(run).subset("test").texts)


def _metrics(run: Run, found: list[ScoredEntities]) -> Mapping[str, Score]:
    test = entity_pool(run).subset("test")
    if not len(test):
        return {}
    predicted = [each.entities for each in found]
    result = compute_entity_metrics(test.entities, predicted, run.task.labels)
    return {"entity_f1": result.main_score, "macro_f1": result.macro_f1, "exact_texts": result.accuracy}


def _measure(run: Run, found: list[ScoredEntities]) -> FormMeasures:
    test = entity_pool(run).subset("test")
    asked = _evaluate_teacher(run, test)
    if not len(test):
        return FormMeasures(teacher=asked.summary)
    predicted = [each.entities for each in found]
    return FormMeasures(
        result=compute_entity_metrics(test.entities, predicted, run.task.labels),
        entities=compute_entity_scores(test.texts, test.entities, predicted, run.task.labels),
        teacher=asked.summary,
        baselines=tuple(_baselines(run, test)),
        samples=tuple(_samples(run, test, found, asked.answers)),
    )


def _evaluate_teacher(run: Run, test: EntitySubset) -> FormTeacher[Entities]:
    def ask(teacher: Teacher, texts: Sequence[str]) -> AskedAnswers[Entities]:
        answers = ask_entities(run, teacher, texts, purpose="measure")
        return AskedAnswers(answers.entities, answers.states)

    def measure(rows: Sequence[int], found: Sequence[Entities | None]) -> EvaluationResult:
        gold = [test.entities[row] for row in rows]
        return compute_entity_metrics(gold, [each or () for each in found], run.task.labels)

    return evaluate_form_teacher(run, test.texts, ask, measure)


def _baselines(run: Run, test: EntitySubset) -> Iterator[Baseline]:
    """The words that were entities in training, looked up."""
    train = marked_texts(entity_pool(run).subset("train"))
    if not len(train):
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


ENTITY_EVALUATION = FormEvaluation(EntityBundle, _export, _predict, _metrics, _measure)
