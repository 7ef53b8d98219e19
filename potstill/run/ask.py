"""Asking teachers: texts -> answers, each bought once. Looks in the run's store, in the workspace's answers, then asks.

Every purchase goes through the ledger: a hold before the call, and the answers stored in the step that settles it. An
answer from the workspace is charged at the price it was bought for and paid at zero, so that two runs can be compared
and nothing is bought twice.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from potstill.data.task import Answer, GenerationRequest, JsonObject, LabelledText, Task, content_key, read_answer
from potstill.engines.base import Engine
from potstill.engines.greenlets import Semaphore
from potstill.errors import BudgetExceeded
from potstill.ledger.ledger import Ledger
from potstill.ledger.prices import CallMode, Category, Purchase, Purpose, micros_to_usd
from potstill.ledger.store import AnswerCache, RunStore
from potstill.run.batch_jobs import STORED_STATES, AnswerRequest, BatchJobs
from potstill.run.unreadable import UnreadableCheck
from potstill.teachers.base import DeferredTeacher, Teacher

# Categories that the workspace shares. A trained model's answers are cheaper to compute than to store.
CACHED_CATEGORIES: tuple[Category, ...] = ("llm", "human")
CALLS_PER_EXTRA_SLOT = 8  # for so many parallel calls one more may be waiting with its money held, or being booked
CACHE_CHUNK = 1000  # answers taken from the workspace in one step
StoredAnswers: TypeAlias = dict[str, Answer]  # store key -> answer


class ProgressReporter(Protocol):
    """Shows a run's progress to the user."""

    def info(self, sentence: str) -> None:
        """Show one sentence."""

    def progress(self, title: str, done: float, total: float, detail: str = "") -> None:
        """Show that the work called `title` is at `done` of `total`."""

    def confirm(self, question: str) -> bool:
        """Ask whether to go on; True without a user to ask."""


class SilentReporter:
    """A reporter without output."""

    def info(self, sentence: str) -> None:
        """Do nothing."""

    def progress(self, title: str, done: float, total: float, detail: str = "") -> None:
        """Do nothing."""

    def confirm(self, question: str) -> bool:
        """Go on."""
        return True


@dataclass(frozen=True)
class Answers:
    """A teacher's answers about N texts.

    Attributes:
        texts: the N texts, as asked.
        scores: (N, K) float64 natural-log scores; a row of NaN if there is none.
        states: for each text the state of its answer, or "unasked" if the budget ended first.
        score_source: for each text what its scores were computed from; empty without an answer.
    """

    texts: tuple[str, ...]
    scores: NDArray[np.float64]
    states: tuple[str, ...]
    score_source: tuple[str, ...]

    @property
    def answered(self) -> NDArray[np.bool_]:
        """(N,) True if there are scores."""
        return np.array([state == "ok" for state in self.states], dtype=bool)

    @property
    def state_counts(self) -> dict[str, int]:
        """How many texts ended in each state."""
        return dict(Counter(self.states))


@dataclass(frozen=True)
class AskResult:
    """Answers, the number of texts that were not in the run's store before, and wall time in seconds."""

    answers: Answers
    n_new: int
    seconds: float


class TeacherClient:
    """Asks teachers about the texts of one task, paid from one ledger.

    Args:
        task: the task.
        store: stores what was bought.
        ledger: pays.
        cache: the workspace's answers; None asks without them.
        reporter: shows the progress.
        engine: runs the calls.
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
        self._reporter = reporter
        self._engine = engine
        self._unreadable = UnreadableCheck(store)
        self.publish_answers()

    def ask(self, teacher: Teacher, texts: Sequence[str], *, purpose: Purpose) -> AskResult:
        """See `Run.ask`."""
        started = time.perf_counter()
        keys = {text: content_key("answer", self._task.key, teacher.key, text) for text in dict.fromkeys(texts)}
        answers = self._load(keys.values())
        self._unreadable.add(teacher, answers, new=False)
        n_new = sum(key not in answers for key in keys.values())
        if n_new:
            missing_keys = [key for key in keys.values() if key not in answers]
            answers |= self._read(self._take_cached(missing_keys, teacher, purpose, "cached", self._is_answer))
            missing = [text for text, key in keys.items() if key not in answers]
            if isinstance(teacher, DeferredTeacher):
                # Also if nothing is missing any more: jobs that were submitted earlier are fetched and booked.
                request = AnswerRequest({text: keys[text] for text in missing}, purpose)
                check = partial(self._unreadable.add, teacher)
                BatchJobs(teacher, self._store, self._ledger, check).ask(request)
                answers |= self._load(keys[text] for text in missing)
                if n_unanswered := len(keys) - len(answers):
                    self._reporter.info(
                        f"{n_unanswered} texts stay unanswered: the budget ends here, or they failed each time."
                    )
            else:
                # A text that a job did not answer is not asked directly: that would cost twice as much.
                answers |= self._call(teacher, missing, keys, purpose)
            self._unreadable.record(teacher)
            self.publish_answers()
        found = [answers.get(keys[text]) for text in texts]
        return AskResult(_as_answers(texts, found, self._task.n_labels), n_new, time.perf_counter() - started)

    def _load(self, keys: Iterable[str]) -> StoredAnswers:
        return self._read(self._store.load(keys))

    def _read(self, values: JsonObject) -> StoredAnswers:
        """The stored answers that can be used; a row that is no answer of this task is asked again."""
        read = {key: read_answer(value, self._task.n_labels) for key, value in values.items()}
        return {key: answer for key, answer in read.items() if answer is not None}

    def _call(self, teacher: Teacher, texts: Sequence[str], keys: Mapping[str, str], purpose: Purpose) -> StoredAnswers:
        """Ask the teacher in parallel calls until all texts are answered or the budget ends."""
        started, free_before, n_texts = time.perf_counter(), self._ledger.free, len(texts)
        answers: StoredAnswers = {}
        greenlet_safe, parallel = teacher.greenlet_safe, teacher.parallel
        # While calls run, the money for the next is held already and finished ones are booked: no slot stays idle.
        semaphore = Semaphore(parallel)
        n_slots = parallel + (parallel // CALLS_PER_EXTRA_SLOT if greenlet_safe else 0)

        def call(chunk: Sequence[str]) -> StoredAnswers | None:
            bound = teacher.price.cost_micros(teacher.max_usage(chunk))
            purchase = _purchase(teacher, purpose, f"{teacher.name}: {len(chunk)} texts", len(chunk), "direct")
            try:
                with self._ledger.hold(bound, purchase, wait=True) as hold:
                    with semaphore:
                        self._ledger.check_charges(hold)
                        reply = teacher.answer(chunk)
                    answers_ok = (answer.checked(self._task.n_labels) for answer in reply.answers)
                    bought = {
                        keys[text]: answer
                        for text, answer in zip(chunk, answers_ok, strict=True)
                        if answer.state in STORED_STATES
                    }
                    results = {key: answer.to_json() for key, answer in bought.items()}
                    hold.settle(teacher.price.cost_micros(reply.usage), reply.usage, results=results)
            except BudgetExceeded:
                return None
            return bought

        # Closing lets the calls in flight end and be booked before anything else happens, also on Ctrl-C.
        chunks = _chunks(texts, teacher.batch_size)
        with closing(self._engine.map(call, chunks, n_slots, greenlet_safe=greenlet_safe)) as calls:
            for bought in calls:
                if bought is None:
                    self._reporter.info(f"The budget ends here: {len(answers)} of {n_texts} texts are answered.")
                    break
                answers |= bought
                self._unreadable.add(teacher, bought)
                if n_texts > 1:
                    rate = len(answers) / (time.perf_counter() - started)
                    usd = micros_to_usd(free_before - self._ledger.free)
                    title = f"asking {teacher.name}"
                    self._reporter.progress(title, len(answers), n_texts, f"{rate:.0f} texts/s, ${usd:.4f}")
        if len(answers) < n_texts:
            answers |= self._load(keys[text] for text in texts)  # those in flight when the budget ended
        return answers

    def copy(self, teacher: Teacher, texts: Sequence[str], to: RunStore) -> None:
        """Copy the stored answers about these texts into another run's store, unpriced: the caller books them."""
        to.save(self._store.load(content_key("answer", self._task.key, teacher.key, text) for text in texts))

    def generate(self, teacher: Teacher, request: GenerationRequest) -> tuple[LabelledText, ...]:
        """See `Run.generate`."""
        examples = [[each.text, each.label] for each in (*request.examples, *request.counterexamples)]
        feedback = [asdict(request.feedback)] if request.feedback is not None else []
        key = content_key(
            "write", self._task.key, teacher.generation_key, request.label, request.n, request.seed, examples, *feedback
        )
        found = self._store.load([key]) or self._take_cached([key], teacher, "teach", "generate", _is_generated)
        if key not in found:
            bound = teacher.price.cost_micros(teacher.max_generation_usage(request))
            description = f"{teacher.name} generates {request.n} texts"
            with self._ledger.hold(bound, _purchase(teacher, "teach", description, request.n, "generate")) as hold:
                generated = teacher.generate(request)
                found = {key: [[each.text, each.label] for each in generated.texts]}
                hold.settle(teacher.price.cost_micros(generated.usage), generated.usage, results=found)
            self.publish_answers()
        return tuple(LabelledText(text, label) for text, label in found[key])

    # --- the workspace ------------------------------------------------------------------------------------

    def publish_answers(self) -> None:
        """Share with the workspace what this run bought, also what a crash prevented it from sharing earlier."""
        if self._cache is not None:
            bought = self._store.paid_answers(CACHED_CATEGORIES, unknown_to=self._cache.path)
            if self._cache.put(bought):
                self._store.mark_shared(bought, to=self._cache.path)

    def _is_answer(self, value: object) -> bool:
        return read_answer(value, self._task.n_labels) is not None

    def _take_cached(
        self,
        keys: Sequence[str],
        teacher: Teacher,
        purpose: Purpose,
        mode: CallMode,
        is_valid: Callable[[object], bool],
    ) -> JsonObject:
        """Results that another run bought, by key: charged at the price they had then, paid at zero.

        A row that is not `is_valid` is not taken, and so asked anew.
        """
        if self._cache is None:
            return {}
        cached = {key: each for key, each in self._cache.get(keys).items() if is_valid(each.value)}
        taken: dict[str, object] = {}
        for chunk in _chunks(list(cached), CACHE_CHUNK):
            price = -(-sum(cached[key].price_nanos for key in chunk) // 1000)
            description = f"{teacher.name}, bought before: {len(chunk)} texts"
            try:
                with self._ledger.hold(price, _purchase(teacher, purpose, description, len(chunk), mode)) as hold:
                    results = {key: cached[key].value for key in chunk}
                    hold.settle(price, paid=0, results=results)
            except BudgetExceeded:
                break
            taken |= results
        if taken:
            self._reporter.info(
                f"{len(taken)} answers of {teacher.name} were bought before: charged again, paid nothing."
            )
        return taken


def _purchase(teacher: Teacher, purpose: Purpose, description: str, n_texts: int, mode: CallMode) -> Purchase:
    return Purchase(teacher.category, purpose, description, n_texts, teacher=teacher.name, mode=mode)


def _is_generated(value: object) -> bool:
    """Whether a stored value is what `generate` stores: pairs of a text and its label."""
    return isinstance(value, list) and all(
        isinstance(pair, list) and len(pair) == 2 and all(isinstance(part, str) for part in pair) for pair in value
    )


def _chunks(items: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _as_answers(texts: Sequence[str], found: Sequence[Answer | None], n_labels: int) -> Answers:
    scores = np.full((len(texts), n_labels), np.nan)
    for row, answer in enumerate(found):
        if answer is not None and answer.scores is not None:
            scores[row] = answer.scores
    states = tuple("unasked" if answer is None else answer.state for answer in found)
    return Answers(tuple(texts), scores, states, tuple("" if answer is None else answer.how for answer in found))
