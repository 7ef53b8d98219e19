"""What PGKD needs of a text-to-text task, by the form of the answers: gold, students, predictions, scores, a reader.

The sibling of `RoundTrainer` and `TrainingTexts`. A gold answer is of the form's own type; in a request, and in what a
teacher wrote, it is JSON (`teachers.written_answers`). A student's confidence in an answer is the geometric mean of the
probabilities of its tokens, or of the labels of its words.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from potstill.data.entities.answers import NamedEntity, locate_entities
from potstill.data.entities.pool import EntityPool, EntitySubset
from potstill.data.free_text.pool import FreeTextPool, References
from potstill.data.task import LabelledText, StudentPrediction, Task
from potstill.data.text2text_pool import Text2TextPool
from potstill.evaluation.text2text.answer_metrics import DEFAULT_METRIC, METRIC_NAMES, text_scores
from potstill.evaluation.text2text.entities import Entities
from potstill.models.bio import decode_bio, log_softmax
from potstill.run.ask import AskedTexts
from potstill.run.entity_verbs import ask_entities, evaluate_entities, learn_entities, marked_texts
from potstill.run.free_text_verbs import (
    AnswerEvaluation,
    answered_texts,
    ask_free_text,
    evaluate_free_text,
    learn_free_text,
)
from potstill.run.run import Run
from potstill.students.base import TrainedModel
from potstill.students.entity_student import EntityStudent, MarkedTexts
from potstill.students.free_text_student import AnsweredTexts, FreeTextStudent
from potstill.teachers.base import Teacher
from potstill.teachers.entity_prompt import encode_named
from potstill.teachers.written_answers import encode_written_answer, read_written_answer, read_written_entities

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
GoldT = TypeVar("GoldT")  # the answer to one text
ModelT = TypeVar("ModelT", bound=TrainedModel)
UNREADABLE, NO_ANSWER = "unreadable", "no answer"


@dataclass(frozen=True)
class AnsweredRows(Generic[GoldT]):
    """N training texts with their answers, the first `n_gold` of them gold."""

    texts: tuple[str, ...]
    answers: tuple[GoldT, ...]
    n_gold: int

    def with_generated(self, texts: Sequence[str], answers: Sequence[GoldT]) -> AnsweredRows[GoldT]:
        """Followed by texts that were generated."""
        return AnsweredRows((*self.texts, *texts), (*self.answers, *answers), self.n_gold)

    def select(self, rows: Ints) -> AnsweredRows[GoldT]:
        """The given rows, in ascending order."""
        kept = rows.tolist()
        texts, answers = tuple(self.texts[i] for i in kept), tuple(self.answers[i] for i in kept)
        return AnsweredRows(texts, answers, int((rows < self.n_gold).sum()))


@dataclass(frozen=True)
class FormPredictions:
    """A student's answers to N training texts.

    Attributes:
        shown: text, gold answer, student's answer, and confidence of each.
        scores: (N,) of each answer, in [0, 1]; of entities 1 if all of them are right and none is too many, else 0.
    """

    shown: tuple[StudentPrediction, ...]
    scores: Floats

    @property
    def wrong(self) -> NDArray[np.bool_]:
        """(N,) True for answers that are not entirely right, and not better than the mean of all."""
        mean = self.scores.mean() if len(self.scores) else 0.0
        return np.asarray((self.scores < 1) & (self.scores <= mean), dtype=np.bool_)

    @property
    def right(self) -> NDArray[np.bool_]:
        """(N,) True for answers that are entirely right; if none is, for those better than the mean."""
        entirely = self.scores >= 1
        return np.asarray(entirely if entirely.any() else ~self.wrong, dtype=np.bool_)


@dataclass(frozen=True)
class AskedRows(Generic[GoldT]):
    """The texts that a teacher answered, their answers, and the record of what was asked."""

    texts: tuple[str, ...]
    answers: tuple[GoldT, ...]
    asked: AskedTexts


class FormTask(Generic[GoldT, ModelT]):
    """A form of answers; the base of `EntityTask` and `FreeTextTask`.

    Args:
        task: the task.
        pool: its texts.

    Attributes:
        metric: what students are compared by, in words.
        of: the task in words, as an error names it ("of entities").
    """

    metric: str
    of: str

    def __init__(self, task: Task, pool: Text2TextPool[GoldT]) -> None:
        self.task, self.pool = task, pool

    @property
    def gold(self) -> AnsweredRows[GoldT]:
        """The texts of the train part that have an answer."""
        rows = [i for i in self.pool.rows_of("train") if self.pool.gold[i] is not None]
        answers = tuple(cast(GoldT, self.pool.gold[i]) for i in rows)
        return AnsweredRows(tuple(self.pool.texts[i] for i in rows), answers, len(rows))

    @property
    def hidden(self) -> dict[str, GoldT]:
        """Text -> the gold that is held back of the pool's texts."""
        pairs = zip(self.pool.texts, self.pool.hidden, strict=True)
        return {text: gold for text, gold in pairs if gold is not None}

    @property
    def held_out(self) -> dict[str, list[str]]:
        """The texts of validation and test, which a teacher may not copy."""
        named = ("validation", "test")
        return {name: [self.pool.texts[i] for i in np.flatnonzero(self.pool.split == name)] for name in named}

    def learn(self, run: Run, rows: AnsweredRows[GoldT]) -> ModelT:
        """A student trained on the rows; the validation part says which weights are kept."""
        raise NotImplementedError

    def evaluate(self, run: Run, student: ModelT, name: str) -> AnswerEvaluation:
        """The student's scores on the validation texts."""
        raise NotImplementedError

    def ask(self, run: Run, teacher: Teacher, texts: Sequence[str]) -> AskedRows[GoldT]:
        """A teacher's answers to the texts."""
        raise NotImplementedError

    def predict(self, student: ModelT, rows: AnsweredRows[GoldT]) -> FormPredictions:
        """The student's answers to the rows."""
        raise NotImplementedError

    def encode(self, text: str, answer: GoldT) -> str:
        """An answer as a request shows it."""
        raise NotImplementedError

    def fault(self, written: LabelledText) -> str:
        """Why what a teacher wrote cannot be learnt; empty if it can."""
        raise NotImplementedError

    def read(self, written: LabelledText) -> GoldT:
        """The answer of a written text without a fault."""
        raise NotImplementedError

    def describe(self, written: LabelledText) -> str:
        """The answer of a written text in words, for the report."""
        raise NotImplementedError

    def untrained(self, rows: AnsweredRows[GoldT]) -> tuple[str, ...]:
        """Types that no training text has."""
        return ()


class EntityTask(FormTask[Entities, EntityStudent]):
    """Entities; see `FormTask`."""

    metric, of = "entity F1", "of entities"

    def learn(self, run: Run, rows: AnsweredRows[Entities]) -> EntityStudent:
        """See `FormTask.learn`."""
        return learn_entities(run, MarkedTexts(rows.texts, rows.answers), marked_texts(self._validation))

    @property
    def _pool(self) -> EntityPool:
        return cast(EntityPool, self.pool)

    @property
    def _validation(self) -> EntitySubset:
        rows = [i for i in self.pool.rows_of("validation") if self.pool.gold[i] is not None]
        return self._pool.take(np.array(rows, dtype=np.int64))

    def evaluate(self, run: Run, student: EntityStudent, name: str) -> AnswerEvaluation:
        """See `FormTask.evaluate`."""
        return AnswerEvaluation(evaluate_entities(run, student, self._validation, name))

    def ask(self, run: Run, teacher: Teacher, texts: Sequence[str]) -> AskedRows[Entities]:
        """See `FormTask.ask`."""
        asked = ask_entities(run, teacher, texts)
        return AskedRows(tuple(asked.marked.texts), tuple(asked.marked.entities), asked)

    def predict(self, student: EntityStudent, rows: AnsweredRows[Entities]) -> FormPredictions:
        """See `FormTask.predict`."""
        found = [each.entities for each in student.find_entities(rows.texts)]
        log_probs = [log_softmax(each) for each in student.unit_scores(rows.texts)]
        sure = [
            float(np.exp(own[np.arange(len(labels)), labels].mean())) if len(labels) else 1.0
            for own, labels in zip(log_probs, decode_bio(log_probs), strict=True)
        ]
        shown = tuple(
            StudentPrediction(text, self.encode(text, gold), self.encode(text, own), round(confidence, 4))
            for text, gold, own, confidence in zip(rows.texts, rows.answers, found, sure, strict=True)
        )
        right = [Counter(gold) == Counter(own) for gold, own in zip(rows.answers, found, strict=True)]
        return FormPredictions(shown, np.array(right, dtype=np.float64))

    def encode(self, text: str, answer: Entities) -> str:
        """See `FormTask.encode`."""
        return encode_named([NamedEntity(text[each.start : each.end], each.type) for each in answer])

    def fault(self, written: LabelledText) -> str:
        """Unreadable, or why one of its entities has no place in the text, or no type."""
        named = read_written_entities(written.label)
        if named is None:
            return UNREADABLE
        dropped = locate_entities(written.text, named, self.task.labels).dropped
        return next((f"an entity {reason}" for reason in dropped), "")

    def read(self, written: LabelledText) -> Entities:
        """See `FormTask.read`."""
        named = read_written_entities(written.label) or ()
        return locate_entities(written.text, named, self.task.labels).entities

    def describe(self, written: LabelledText) -> str:
        """See `FormTask.describe`."""
        named = read_written_entities(written.label) or ()
        return ", ".join(f"{each.words} [{each.type}]" for each in named) or "no entity"

    def untrained(self, rows: AnsweredRows[Entities]) -> tuple[str, ...]:
        """See `FormTask.untrained`."""
        found = {each.type for own in rows.answers for each in own}
        return tuple(name for name in self.task.labels if name not in found)


class FreeTextTask(FormTask[References, FreeTextStudent]):
    """Answers in words; see `FormTask`."""

    of = "of answers in words"

    def __init__(self, task: Task, pool: FreeTextPool) -> None:
        super().__init__(task, pool)
        self._metric = (task.output.metric if task.output else None) or DEFAULT_METRIC
        self.metric = METRIC_NAMES[self._metric]

    @property
    def _validation(self) -> AnsweredTexts:
        return answered_texts(cast(FreeTextPool, self.pool).subset("validation"))

    def learn(self, run: Run, rows: AnsweredRows[References]) -> FreeTextStudent:
        """See `FormTask.learn`."""
        return learn_free_text(run, AnsweredTexts(rows.texts, rows.answers), self._validation)

    def evaluate(self, run: Run, student: FreeTextStudent, name: str) -> AnswerEvaluation:
        """See `FormTask.evaluate`."""
        return evaluate_free_text(run, student, self._validation, name)

    def ask(self, run: Run, teacher: Teacher, texts: Sequence[str]) -> AskedRows[References]:
        """See `FormTask.ask`."""
        asked = ask_free_text(run, teacher, texts)
        return AskedRows(tuple(asked.answered.texts), tuple(map(tuple, asked.answered.references)), asked)

    def predict(self, student: FreeTextStudent, rows: AnsweredRows[References]) -> FormPredictions:
        """See `FormTask.predict`."""
        found = student.generate(rows.texts)
        shown = tuple(
            StudentPrediction(text, self.encode(text, gold), encode_written_answer(own.text), round(own.confidence, 4))
            for text, gold, own in zip(rows.texts, rows.answers, found, strict=True)
        )
        return FormPredictions(shown, text_scores(self._metric, [each.text for each in found], rows.answers))

    def encode(self, text: str, answer: References) -> str:
        """The first reference."""
        return encode_written_answer(answer[0])

    def fault(self, written: LabelledText) -> str:
        """Unreadable, or without an answer."""
        answer = read_written_answer(written.label)
        return UNREADABLE if answer is None else "" if answer.strip() else NO_ANSWER

    def read(self, written: LabelledText) -> References:
        """See `FormTask.read`."""
        return ((read_written_answer(written.label) or "").strip(),)

    def describe(self, written: LabelledText) -> str:
        """See `FormTask.describe`."""
        return read_written_answer(written.label) or ""
