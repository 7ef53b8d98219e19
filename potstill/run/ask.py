"""Asking: texts -> answers, each bought once. Looks in the run's store, then in the workspace's answers, then asks.

Everything that is bought here goes through the ledger: a hold before the call, and its answers kept in the step that
settles it. An answer from the workspace is charged at the price it was bought for and paid at zero, so that two runs
can be compared and nothing is bought twice. Knows no recipe and no student.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from potstill.data.task import Answer, GenerationRequest, LabelledText, Task, content_key
from potstill.engines.base import Engine
from potstill.engines.greenlets import Semaphore
from potstill.errors import BudgetExceeded
from potstill.ledger.ledger import Ledger
from potstill.ledger.prices import Category, Purchase, Purpose, micros_to_usd
from potstill.ledger.store import AnswerCache, RunStore
from potstill.run.batch_jobs import KEPT_STATES, AnswerRequest, BatchJobs
from potstill.teachers.base import DeferredTeacher, Teacher

CACHED_CATEGORIES: tuple[Category, ...] = (
    "llm",
    "human",
)  # what a trained model says is cheaper to compute than to keep
CALLS_PER_EXTRA_SLOT = 8  # of so many calls at a time one more may be held for, or booked
CACHE_CHUNK = 1000  # answers taken from the workspace in one step


class ProgressReporter(Protocol):
    """Hears what happens while it happens."""

    def info(self, sentence: str) -> None:
        """One sentence worth reading now."""

    def progress(self, what: str, done: float, total: float, detail: str = "") -> None:
        """`what` stands at `done` of `total`."""

    def confirm(self, question: str) -> bool:
        """Whether to go on; True where nobody is there to ask."""


class SilentReporter:
    """A teller that tells nobody."""

    def info(self, sentence: str) -> None:
        """Nothing."""

    def progress(self, what: str, done: float, total: float, detail: str = "") -> None:
        """Nothing."""

    def confirm(self, question: str) -> bool:
        """Yes."""
        return True


@dataclass(frozen=True)
class Answers:
    """What a teacher said of N texts.

    Attributes:
        texts: the N texts, as asked.
        scores: (N, K) float64 natural-log scores; a row of NaN where there is none.
        states: for each text the state of its answer, or "unasked" where the money ended first.
        how: for each text where its softness comes from; empty where there is no answer.
    """

    texts: tuple[str, ...]
    scores: NDArray[np.float64]
    states: tuple[str, ...]
    score_source: tuple[str, ...]

    @property
    def answered(self) -> NDArray[np.bool_]:
        """(N,) True where there are scores."""
        return np.array([state == "ok" for state in self.states], dtype=bool)

    @property
    def state_counts(self) -> dict[str, int]:
        """How many texts ended in each state."""
        return dict(Counter(self.states))


@dataclass(frozen=True)
class AskResult:
    """Answers, how many of their texts were not in the run's store before, and how long it took."""

    answers: Answers
    n_new: int
    seconds: float


class TeacherClient:
    """Asks for one task, on one ledger.

    Args:
        task: what is decided.
        store: keeps what was bought.
        ledger: pays.
        cache: the workspace's answers; None asks without them.
        engine: runs the calls.
        tell: hears what happens.
    """

    def __init__(
        self,
        task: Task,
        store: RunStore,
        ledger: Ledger,
        cache: AnswerCache | None,
        reporter: ProgressReporter,
        engine: Engine,
    ) -> None:
        self._task = task
        self._store = store
        self._ledger = ledger
        self._cache = cache
        self._tell = reporter
        self._engine = engine
        self.publish_answers()

    def ask(self, teacher: Teacher, texts: Sequence[str], *, purpose: Purpose, reserve_micros: int) -> AskResult:
        """See `Run.ask`."""
        began = time.perf_counter()
        task, whom = self._task.key, teacher.key
        keys = {text: content_key("answer", task, whom, text) for text in dict.fromkeys(texts)}
        known = self._store.load(keys.values())
        new = sum(key not in known for key in keys.values())
        if new:
            wanted = [key for key in keys.values() if key not in known]
            known |= self._recall(wanted, teacher, purpose, reserve_micros)
            missing = [text for text, key in keys.items() if key not in known]
            if isinstance(teacher, DeferredTeacher):
                # Also where nothing is missing any more: what was left before is fetched and booked.
                BatchJobs(teacher, self._store, self._ledger).ask(
                    AnswerRequest({text: keys[text] for text in missing}, purpose, reserve_micros)
                )
                known |= self._store.load(keys[text] for text in missing)
                if unanswered := len(keys) - len(known):
                    self._tell.info(
                        f"{unanswered} texts stay unanswered: the budget ends here, or they failed each time."
                    )
            else:
                # What a ticket did not bring is not asked directly: that would cost twice as much.
                known |= self._call(teacher, missing, keys, purpose, reserve_micros)
            self.publish_answers()
        found = [Answer.from_json(known[keys[text]]) if keys[text] in known else None for text in texts]
        return AskResult(_as_answers(texts, found, self._task.n_labels), new, time.perf_counter() - began)

    def _call(
        self, teacher: Teacher, texts: Sequence[str], keys: Mapping[str, str], purpose: Purpose, reserve_micros: int
    ) -> dict[str, Any]:
        """Ask the teacher itself, as many calls at once as it takes, until all is answered or the money ends."""
        began, before, total = time.perf_counter(), self._ledger.free, len(texts)
        known: dict[str, Any] = {}
        light, parallel = teacher.greenlet_safe, teacher.parallel
        # While some are asked, the money for the next is held already, and the last are booked: no slot stays idle.
        turnstile, calls_at_once = Semaphore(parallel), parallel + (parallel // CALLS_PER_EXTRA_SLOT if light else 0)

        def call(chunk: Sequence[str]) -> dict[str, Any] | None:
            bound = teacher.price.cost_micros(teacher.max_usage(chunk))
            purchase = Purchase(teacher.category, purpose, f"{teacher.name}: {len(chunk)} texts", len(chunk))
            try:
                with self._ledger.hold(bound, purchase, reserve=reserve_micros) as hold:
                    with turnstile:
                        reply = teacher.answer(chunk)
                    bought = {
                        keys[text]: answer.to_json()
                        for text, answer in zip(chunk, reply.answers, strict=True)
                        if answer.state in KEPT_STATES
                    }
                    hold.settle(teacher.price.cost_micros(reply.usage), reply.usage, results=bought)
            except BudgetExceeded:
                return None
            return bought

        # Closing lets what is in flight end and be booked before anything else happens, also on Ctrl-C.
        chunks = _chunks(texts, teacher.batch_size)
        with closing(self._engine.map(call, chunks, calls_at_once, greenlet_safe=light)) as calls:
            for bought in calls:
                if bought is None:
                    self._tell.info(f"The budget ends here: {len(known)} of {total} texts are answered.")
                    break
                known |= bought
                if total > 1:
                    rate = len(known) / (time.perf_counter() - began)
                    money = micros_to_usd(before - self._ledger.free)
                    what = f"asking {teacher.name}"
                    self._tell.progress(what, len(known), total, f"{rate:.0f} texts/s, ${money:.4f}")
        if len(known) < total:
            known |= self._store.load(keys[text] for text in texts)  # what was in flight when the money ended
        return known

    def copy(self, teacher: Teacher, texts: Sequence[str], to: RunStore) -> None:
        """Copy what is known of these texts into another run's store, at no price: whoever copies accounts for it."""
        to.save(self._store.load(content_key("answer", self._task.key, teacher.key, text) for text in texts))

    def generate(self, teacher: Teacher, brief: GenerationRequest, reserve_micros: int = 0) -> tuple[LabelledText, ...]:
        """See `Run.write`."""
        examples = [[each.text, each.label] for each in (*brief.examples, *brief.counterexamples)]
        guide = [asdict(brief.feedback)] if brief.feedback is not None else []
        key = content_key(
            "write", self._task.key, teacher.generation_key, brief.label, brief.n, brief.seed, examples, *guide
        )
        known = self._store.load([key]) or self._recall([key], teacher, "teach", reserve_micros)
        if key not in known:
            bound = teacher.price.cost_micros(teacher.max_generation_usage(brief))
            purchase = Purchase(teacher.category, "teach", f"{teacher.name} writes {brief.n} texts", brief.n)
            with self._ledger.hold(bound, purchase, reserve=reserve_micros) as hold:
                draft = teacher.generate(brief)
                known = {key: [[each.text, each.label] for each in draft.texts]}
                hold.settle(teacher.price.cost_micros(draft.usage), draft.usage, results=known)
            self.publish_answers()
        return tuple(LabelledText(text, label) for text, label in known[key])

    # --- the workspace ------------------------------------------------------------------------------------

    def publish_answers(self) -> None:
        """Let other runs of the workspace have what this one bought; what a crash kept from it is shared now."""
        if self._cache is not None:
            bought = self._store.paid_answers(CACHED_CATEGORIES, known_to=self._cache.path)
            self._cache.put(bought)
            self._store.mark_shared(bought, to=self._cache.path)

    def _recall(self, keys: Sequence[str], teacher: Teacher, purpose: Purpose, reserve_micros: int) -> dict[str, Any]:
        """What another run bought: charged at the price it had then, paid at zero."""
        if self._cache is None:
            return {}
        found = self._cache.get(keys)
        known: dict[str, Any] = {}
        for some in _chunks(list(found), CACHE_CHUNK):
            price = -(-sum(found[key].price_nanos for key in some) // 1000)
            purchase = Purchase(
                teacher.category, purpose, f"{teacher.name}, bought before: {len(some)} texts", len(some)
            )
            try:
                with self._ledger.hold(price, purchase, reserve=reserve_micros) as hold:
                    bought = {key: found[key].value for key in some}
                    hold.settle(price, paid=0, results=bought)
            except BudgetExceeded:
                break
            known |= bought
        if known:
            self._tell.info(f"{len(known)} answers of {teacher.name} were bought before: charged again, paid nothing.")
        return known


def _chunks(texts: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    for start in range(0, len(texts), size):
        yield texts[start : start + size]


def _as_answers(texts: Sequence[str], found: Sequence[Answer | None], n_labels: int) -> Answers:
    scores = np.full((len(texts), n_labels), np.nan)
    for row, answer in enumerate(found):
        if answer is not None and answer.scores is not None:
            scores[row] = answer.scores
    states = tuple("unasked" if answer is None else answer.state for answer in found)
    return Answers(tuple(texts), scores, states, tuple("" if answer is None else answer.how for answer in found))
