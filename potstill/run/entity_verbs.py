"""The verbs of a run on entities, beside those of `Run`: `ask_entities`, `learn_entities` and `evaluate_entities`.

As there, each looks in the store first, under a key of its content.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from potstill.data.entities.answers import EntityAnswer, locate_entities
from potstill.data.entities.build import encode_entities
from potstill.data.entities.pool import EntityPool, EntitySubset
from potstill.data.task import content_key
from potstill.errors import BadSpec
from potstill.evaluation.metrics import EvaluationResult
from potstill.evaluation.text2text.entities import Entities, compute_entity_metrics
from potstill.ledger.prices import Purpose
from potstill.ledger.store import decoded
from potstill.run import notes
from potstill.run.learn_form import LearnKey, learn_form, training_progress
from potstill.run.learn_record import training_digest
from potstill.run.run import Run
from potstill.run.spec import ComponentSpec
from potstill.students.entity_student import EntityStudent, EntityTrainingData, MarkedTexts
from potstill.teachers.base import Teacher


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


@dataclass(frozen=True)
class NamedEntities(notes.NoteRecord):
    """The entities that a teacher named, and those left out: they have no place in their text, or no type.

    Attributes:
        teacher: its name.
        n_named: entities of all texts that were asked.
        dropped: reason -> how many were left out.
    """

    name = "named_entities"
    teacher: str
    n_named: int
    dropped: Mapping[str, int]

    def sentence(self) -> str:
        """How many were left out, and why; empty if none was."""
        if not self.dropped:
            return ""
        reasons = ", ".join(f"{n:,} {reason}" for reason, n in sorted(self.dropped.items(), key=lambda each: -each[1]))
        return (
            f"{sum(self.dropped.values()):,} of the {self.n_named:,} entities that {self.teacher} named "
            f"are left out: {reasons}."
        )


@dataclass(frozen=True)
class EntityAnswers:
    """A teacher's answers about the entities of N texts.

    Attributes:
        texts: the N texts, as asked.
        entities: of each text; None if there is no answer that can be used.
        states: for each text the state of its answer, or "unasked" if the budget ended first. An answer none of whose
            entities has a place and a type is unparsable.
        n_named: entities that the answers name.
        dropped: reason -> how many of them were left out.
    """

    texts: tuple[str, ...]
    entities: tuple[Entities | None, ...]
    states: tuple[str, ...]
    n_named: int
    dropped: Mapping[str, int]

    @property
    def marked(self) -> MarkedTexts:
        """The texts with an answer."""
        rows = [i for i, found in enumerate(self.entities) if found is not None]
        return MarkedTexts([self.texts[i] for i in rows], [self.entities[i] or () for i in rows])

    @property
    def score_source(self) -> tuple[str, ...]:
        """What the answers rest on, as of answers with scores: the words that the teacher named."""
        return tuple("named words" if found is not None else "" for found in self.entities)

    @property
    def state_counts(self) -> dict[str, int]:
        """How many texts ended in each state."""
        return dict(Counter(self.states))


def ask_entities(run: Run, teacher: Teacher, texts: Sequence[str], *, purpose: Purpose = "teach") -> EntityAnswers:
    """The teacher's answers about the entities of the texts; see `Run.ask`. Notes what was left out of them."""
    fetched = run.fetch_answers(teacher, texts, purpose=purpose)
    entities: list[Entities | None] = []
    states, dropped, n_named = list(fetched.states), Counter[str](), 0
    for i, (text, answer) in enumerate(zip(fetched.texts, fetched.answers, strict=True)):
        if not isinstance(answer, EntityAnswer) or answer.state != "ok":
            entities.append(None)
            continue
        located = locate_entities(text, answer.named, run.task.labels)
        dropped.update(located.dropped)
        n_named += len(answer.named)
        usable = bool(located.entities) or not located.dropped
        entities.append(located.entities if usable else None)
        states[i] = "ok" if usable else "unparsable"
    if fetched.n_new and purpose == "teach":
        run.note(NamedEntities(teacher.name, n_named, dict(dropped)))
    return EntityAnswers(fetched.texts, tuple(entities), tuple(states), n_named, dict(dropped))


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
    data = EntityTrainingData(train, validation, run.spec.seed, progress=training_progress(run, named))

    def fit(model: EntityStudent, limit: float | None) -> None:
        model.fit(replace(data, time_limit_s=limit))

    digests = [_digest(part.texts, part.entities) for part in (train, validation)]
    what = LearnKey("learn entities", list(run.task.labels), digests)
    return learn_form(run, named, what, len(train), fit, purpose)


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
