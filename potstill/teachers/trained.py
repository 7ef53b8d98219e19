"""A trained student as a teacher: a large model teaches a small one (Aina et al. 2022, FT + KD; Kang et al. 2023).

The procedure trains it and hands it over; here it only answers, at the price of the time it takes. Generates no texts.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import numpy as np
from numpy.typing import NDArray

from potstill.data.entities.answers import EntityAnswer, NamedEntity
from potstill.data.free_text.answers import FreeTextAnswer
from potstill.data.task import Answer
from potstill.errors import BadSpec
from potstill.evaluation.calibration import log_sigmoid, log_softmax
from potstill.ledger.prices import Category, Price, Rates, Usage
from potstill.students.free_text_student import ScoredAnswer
from potstill.teachers.base import (
    Predictor,
    Reply,
    TeacherCapabilities,
    TeacherKind,
    TeacherMetadata,
    TeacherSetup,
    UsageEstimate,
)
from potstill.teachers.non_generating import NonGeneratingTeacher
from potstill.teachers.price_options import PriceOptions

BATCH_SIZE, WRITTEN_BATCH_SIZE = 256, 16  # texts a call; of those that are answered in words
TRAINED_CAPABILITIES = TeacherCapabilities(
    needs_student=True,
    task_kinds=frozenset({"single", "pair", "multi", "text2text"}),
    output_forms=frozenset({"entities", "free"}),
    token_scores=True,
)
# A bound before anything was measured: a large encoder on a slow core. Afterwards: a multiple of the slowest seen.
FIRST_BOUND_S_PER_TEXT, START_S, TIMES_SLOWEST = 2.0, 10.0, 8.0
FIRST_BOUND_S_PER_ANSWER = 60.0  # in words, by a large language model on a slow core
ASSUMED_USD_PER_HOUR = Decimal("0.10")


def open_teacher(setup: TeacherSetup) -> TimedStudentTeacher:
    """`trained:BACKBONE`, for a procedure that has trained it; the options are those of the student.

    Raises:
        BadSpec: the setup has no student.
    """
    trained = setup.student
    if trained is None:
        raise BadSpec(
            "The teacher 'trained' has to be trained first, and this procedure does not.",
            "Take a procedure that does, such as kd.",
        )
    price = trained.price or _price(setup.prices)
    name = "trained" + (f":{setup.model}" if setup.model else "")
    if setup.task.form == "entities":
        return EntityStudentTeacher(trained.student, name, trained.key, price)
    if setup.task.form == "free":
        return FreeTextStudentTeacher(trained.student, name, trained.key, price, top_k=trained.top_k)
    return StudentTeacher(trained.student, name, trained.key, price, multi_label=setup.task.kind == "multi")


def _price(prices: PriceOptions) -> Rates:
    if prices.usd_per_hour is not None:
        return Rates("[prices] usd_per_hour", usd_per_hour=prices.usd_per_hour)
    return Rates("assumed: a small 2-core cloud machine", usd_per_hour=ASSUMED_USD_PER_HOUR)


class TimedStudentTeacher(NonGeneratingTeacher):
    """A fitted student that answers, at the price of the time it takes.

    Args:
        name: as the user types it.
        key: the content of its training; equal keys mean equal answers.
        price: turns seconds into money.
    """

    category: Category = "compute"
    batch_size = BATCH_SIZE
    parallel = 1
    greenlet_safe = False
    capabilities = TRAINED_CAPABILITIES
    simulated = False
    needs_prior_correction = False
    first_bound_s_per_text = FIRST_BOUND_S_PER_TEXT

    def __init__(self, name: str, key: str, price: Price) -> None:
        self._slowest_s_per_text: float | None = None
        self.name = name
        self.key = self.generation_key = key
        self.price = price
        self.metadata = TeacherMetadata(price=price.source, extra={"trained": name})

    def max_usage(self, texts: Sequence[str]) -> Usage:
        """Time for `texts`: two seconds each before anything was measured, then eight times the slowest seen."""
        each = self._slowest_s_per_text
        per_text = self.first_bound_s_per_text if each is None else TIMES_SLOWEST * each
        return Usage(seconds=START_S + per_text * len(texts))

    def estimate_usage(self, texts: Sequence[str]) -> UsageEstimate:
        """Time for `texts`: from what was measured, or from what small and large models take."""
        each = self._slowest_s_per_text
        low, high = (0.0005, self.first_bound_s_per_text / 20) if each is None else (each / 4, each)
        return UsageEstimate(Usage(seconds=low * len(texts)), Usage(seconds=high * len(texts)))

    def answer(self, texts: Sequence[str]) -> Reply:
        """One answer a text, charged by the clock."""
        began = time.perf_counter()
        answers = self.answers(texts) if len(texts) else ()
        seconds = time.perf_counter() - began
        if len(texts):
            self._slowest_s_per_text = max(self._slowest_s_per_text or 0.0, seconds / len(texts))
        return Reply(answers, Usage(seconds=seconds))

    def answers(self, texts: Sequence[str]) -> tuple[Answer, ...]:
        """One answer a text, of at least one."""
        raise NotImplementedError


class StudentTeacher(TimedStudentTeacher):
    """A fitted student that answers with log-probabilities.

    Args:
        student: the fitted student.
        name: as the user types it.
        key: the content of its training; equal keys mean equal answers.
        price: turns seconds into money.
        multi_label: each label is decided by itself, so that a score is the log-probability of that label.
    """

    def __init__(self, student: Predictor, name: str, key: str, price: Price, *, multi_label: bool = False) -> None:
        super().__init__(name, key, price)
        self.student = student
        self._several = multi_label

    def answers(self, texts: Sequence[str]) -> tuple[Answer, ...]:
        """All K log-probabilities of each text; scores that are no numbers: failed."""
        logits = self.student.predict_logits(list(texts))
        return tuple(_answer(np.asarray(row, dtype=np.float64), self._several) for row in logits)


class EntityStudentTeacher(TimedStudentTeacher):
    """A fitted student of entities that answers with what it finds; see `TimedStudentTeacher`."""

    def __init__(self, student: Any, name: str, key: str, price: Price) -> None:
        super().__init__(name, key, price)
        self.student = student

    def answers(self, texts: Sequence[str]) -> tuple[Answer, ...]:
        """The entities of each text."""
        found = self.student.find_entities(list(texts))
        return tuple(
            EntityAnswer(
                "ok",
                named=tuple(NamedEntity(text[each.start : each.end], each.type, each.start) for each in own.entities),
            )
            for text, own in zip(texts, found, strict=True)
        )


class FreeTextStudentTeacher(TimedStudentTeacher):
    """A fitted student that answers in words; see `TimedStudentTeacher`.

    Args:
        student: the fitted student.
        name: as the user types it.
        key: the content of its training.
        price: turns seconds into money.
        top_k: number of most probable tokens that are stored at each token of an answer.
    """

    batch_size = WRITTEN_BATCH_SIZE
    first_bound_s_per_text = FIRST_BOUND_S_PER_ANSWER

    def __init__(self, student: Any, name: str, key: str, price: Price, *, top_k: int = 0) -> None:
        super().__init__(name, f"{key} with {top_k} tokens" if top_k else key, price)
        self.student = student
        self._top_k = top_k

    def answers(self, texts: Sequence[str]) -> tuple[Answer, ...]:
        """The answer to each text; one that is empty, or cut at the limit of tokens, is none."""
        if self._top_k:
            return tuple(map(_written, self.student.generate_scored(list(texts), self._top_k)))
        return tuple(_written(ScoredAnswer(each)) for each in self.student.generate(list(texts)))


def _written(found: ScoredAnswer) -> Answer:
    answer = found.answer
    if answer.text and answer.complete:
        return FreeTextAnswer("ok", text=answer.text, tokens=found.scores)
    return FreeTextAnswer("unparsable", raw=answer.text[:200])


def _answer(logits: NDArray[np.float64], multi_label: bool) -> Answer:
    if not np.isfinite(logits).all():
        return Answer("failed", raw="the model's scores are not finite")
    scores = tuple(float(score) for score in (log_sigmoid(logits) if multi_label else log_softmax(logits[None])[0]))
    return Answer("ok", scores, "scored")


KIND = TeacherKind(open_teacher, TRAINED_CAPABILITIES)
