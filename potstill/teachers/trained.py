"""A trained student as a teacher: a large model teaches a small one (Aina et al. 2022, FT + KD; Kang et al. 2023).

The procedure trains it and hands it over; here it only answers, at the price of the time it takes. Generates no texts.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from decimal import Decimal

import numpy as np
from numpy.typing import NDArray

from potstill.data.task import Answer
from potstill.errors import BadSpec
from potstill.evaluation.calibration import log_sigmoid, log_softmax
from potstill.ledger.prices import Category, Price, Rates, Usage
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

BATCH_SIZE = 256
TRAINED_CAPABILITIES = TeacherCapabilities(needs_student=True, task_kinds=frozenset({"single", "pair", "multi"}))
# A bound before anything was measured: a large encoder on a slow core. Afterwards: a multiple of the slowest seen.
FIRST_BOUND_S_PER_TEXT, START_S, TIMES_SLOWEST = 2.0, 10.0, 8.0
ASSUMED_USD_PER_HOUR = Decimal("0.10")


def open_teacher(setup: TeacherSetup) -> StudentTeacher:
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
    return StudentTeacher(trained.student, name, trained.key, price, multi_label=setup.task.kind == "multi")


def _price(prices: PriceOptions) -> Rates:
    if prices.usd_per_hour is not None:
        return Rates("[prices] usd_per_hour", usd_per_hour=prices.usd_per_hour)
    return Rates("assumed: a small 2-core cloud machine", usd_per_hour=ASSUMED_USD_PER_HOUR)


class StudentTeacher(NonGeneratingTeacher):
    """A fitted student that answers with log-probabilities.

    Args:
        student: the fitted student.
        name: as the user types it.
        key: the content of its training; equal keys mean equal answers.
        price: turns seconds into money.
        multi_label: each label is decided by itself, so that a score is the log-probability of that label.
    """

    category: Category = "compute"
    batch_size = BATCH_SIZE
    parallel = 1
    greenlet_safe = False
    capabilities = TRAINED_CAPABILITIES
    simulated = False
    needs_prior_correction = False

    def __init__(self, student: Predictor, name: str, key: str, price: Price, *, multi_label: bool = False) -> None:
        self.student = student
        self._several = multi_label
        self._slowest_s_per_text: float | None = None
        self.name = name
        self.key = self.generation_key = key
        self.price = price
        self.metadata = TeacherMetadata(price=price.source, extra={"trained": name})

    def max_usage(self, texts: Sequence[str]) -> Usage:
        """Time for `texts`: two seconds each before anything was measured, then eight times the slowest seen."""
        each = self._slowest_s_per_text
        per_text = FIRST_BOUND_S_PER_TEXT if each is None else TIMES_SLOWEST * each
        return Usage(seconds=START_S + per_text * len(texts))

    def estimate_usage(self, texts: Sequence[str]) -> UsageEstimate:
        """Time for `texts`: from what was measured, or from what small and large encoders take."""
        each = self._slowest_s_per_text
        low, high = (0.0005, 0.1) if each is None else (each / 4, each)
        return UsageEstimate(Usage(seconds=low * len(texts)), Usage(seconds=high * len(texts)))

    def answer(self, texts: Sequence[str]) -> Reply:
        """One answer a text, with all K log-probabilities; charged by the clock. Scores that are no numbers: failed."""
        began = time.perf_counter()
        logits = self.student.predict_logits(list(texts)) if len(texts) else ()
        seconds = time.perf_counter() - began
        answers = tuple(_answer(np.asarray(row, dtype=np.float64), self._several) for row in logits)
        if len(texts):
            self._slowest_s_per_text = max(self._slowest_s_per_text or 0.0, seconds / len(texts))
        return Reply(answers, Usage(seconds=seconds))


def _answer(logits: NDArray[np.float64], multi_label: bool) -> Answer:
    if not np.isfinite(logits).all():
        return Answer("failed", raw="the model's scores are not finite")
    scores = tuple(float(score) for score in (log_sigmoid(logits) if multi_label else log_softmax(logits[None])[0]))
    return Answer("ok", scores, "scored")


KIND = TeacherKind(open_teacher, TRAINED_CAPABILITIES)
