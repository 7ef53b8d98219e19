"""The verbs of a run on entities, beside those of `Run`: `learn_entities` and `evaluate_entities`.

As there, each looks in the store first, under a key of its content.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from potstill.data.entities.build import encode_entities
from potstill.data.entities.pool import EntityPool, EntitySubset
from potstill.data.task import content_key
from potstill.errors import BadSpec
from potstill.evaluation.metrics import EvaluationResult
from potstill.evaluation.text2text.entities import Entities, compute_entity_metrics
from potstill.ledger.prices import Purpose
from potstill.ledger.store import decoded
from potstill.run import notes
from potstill.run.learn_record import training_digest
from potstill.run.run import Run
from potstill.run.spec import ComponentSpec, check_student_kind
from potstill.students import REGISTRY as STUDENTS
from potstill.students.entity_student import EntityStudent, EntityTrainingData, MarkedTexts
from potstill.students.kinds import revision


def entity_pool(run: Run) -> EntityPool:
    """The pool of a run on entities. Raises BadSpec for a run on labels."""
    pool: object = run.pool
    if not isinstance(pool, EntityPool):
        raise BadSpec(f"The task {run.task.name!r} has labels, and no entities.", "Mark entities: --form entities")
    return pool


def marked_texts(subset: EntitySubset) -> MarkedTexts:
    """The labelled texts of a subset with their entities."""
    rows = [i for i, gold in enumerate(subset.gold) if gold is not None]
    return MarkedTexts([subset.texts[i] for i in rows], [subset.gold[i] or () for i in rows])


def learn_entities(
    run: Run,
    train: MarkedTexts,
    validation: MarkedTexts,
    *,
    student: ComponentSpec | None = None,
    purpose: Purpose = "train",
) -> EntityStudent:
    """Train a student of entities; trained once, then loaded from the run's folder.

    Training may use all available money, stops at that deadline, and is charged the time it took.

    Args:
        run: the run.
        train: the texts to train on.
        validation: texts to stop by; may be none.
        student: its kind and options; None takes the spec's.
        purpose: what the training is for.

    Raises:
        BadSpec: the student finds no entities.
        BudgetExceeded: no money is available.
    """
    named = student or run.spec.student
    check_student_kind(named, run.task.kind)
    key_parts = [f"revision {number}"] if (number := revision(named.kind)) > 1 else []
    digests = [_digest(part.texts, part.entities) for part in (train, validation)]
    key = content_key("learn entities", named.name, named.options, run.spec.seed, run.task.labels, digests, *key_parts)

    def progress(share: float, detail: str) -> None:
        run.reporter.progress(f"training {named.name}", share, 1.0, detail)

    data = EntityTrainingData(train, validation, run.spec.seed, progress=progress)
    kind: type[EntityStudent] = STUDENTS.resolve(named.kind)

    def fit(model: EntityStudent, limit: float | None) -> None:
        model.fit(replace(data, time_limit_s=limit))

    return run.train_once(kind, named, key, len(train), fit, purpose)


def evaluate_entities(run: Run, student: EntityStudent, part: EntitySubset, name: str = "") -> EvaluationResult:
    """Evaluate a student on a labelled part; computed once, then read from the store. Costs nothing."""
    key = content_key("judge entities", run.student_key(student), _digest(part.texts, part.entities))
    if (stored := decoded(EvaluationResult.from_json, run.store.load([key]).get(key))) is not None:
        return stored
    found = [each.entities for each in student.find_entities(part.texts)]
    result = compute_entity_metrics(part.entities, found, run.task.labels)
    run.store.save({key: result.to_json()})
    run.note(notes.Evaluated(name, len(part.texts), result.main_score.value))
    return result


def _digest(texts: Sequence[str], entities: Sequence[Entities]) -> str:
    return training_digest(
        [part for text, marks in zip(texts, entities, strict=True) for part in (text, encode_entities(marks))]
    )
