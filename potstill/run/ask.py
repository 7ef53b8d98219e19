"""Asking teachers: texts -> answers, each bought once. Looks in the run's store, in the workspace's answers, then asks.

Every purchase goes through the ledger: a hold before the call, and the answers stored in the step that settles it. An
answer from the workspace is charged at the price it was bought for and paid at zero, so that two runs can be compared
and nothing is bought twice.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from potstill.data.answer_records import answer_form
from potstill.data.task import (
    Answer,
    DescriptionRequest,
    GenerationRequest,
    JsonObject,
    LabelledText,
    Task,
    content_key,
)
from potstill.engines.base import Engine
from potstill.engines.greenlets import Semaphore
from potstill.errors import BudgetExceeded
from potstill.ledger.ledger import Ledger
from potstill.ledger.prices import Purpose, Usage, micros_to_usd
from potstill.ledger.store import AnswerCache, RunStore
from potstill.run.batch_jobs import STORED_STATES, AnswerRequest, BatchJobs, JobHooks
from potstill.run.shared_answers import SharedAnswers, chunks, purchase_of
from potstill.run.unreadable import UnreadableCheck
from potstill.teachers.base import DeferredTeacher, Teacher

CALLS_PER_EXTRA_SLOT = 8  # for so many parallel calls one more may be waiting with its money held, or being booked
CLAIM_CHUNK = 64  # answers claimed in one step
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


class AskedTexts(Protocol):
    """A teacher's answers about N texts, whatever their form; see `Answers`."""

    @property
    def texts(self) -> tuple[str, ...]:
        """The N texts, as asked."""

    @property
    def states(self) -> tuple[str, ...]:
        """For each text the state of its answer, or "unasked"."""

    @property
    def score_source(self) -> tuple[str, ...]:
        """For each text what its answer rests on; empty without an answer."""

    @property
    def state_counts(self) -> dict[str, int]:
        """How many texts ended in each state."""


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
    """What asking about N texts gave.

    Attributes:
        texts: the N texts.
        answers: for each its answer; None if the budget ended before.
        n_new: texts that were not in the run's store before.
        seconds: wall time.
    """

    texts: tuple[str, ...]
    answers: tuple[Answer | None, ...]
    n_new: int
    seconds: float

    @property
    def states(self) -> tuple[str, ...]:
        """For each text the state of its answer, or "unasked"."""
        return tuple("unasked" if answer is None else answer.state for answer in self.answers)

    @property
    def by_state(self) -> dict[str, int]:
        """How many texts ended in each state."""
        return dict(Counter(self.states))

    def scores(self, n_labels: int) -> Answers:
        """The answers of a task of labels."""
        scores = np.full((len(self.texts), n_labels), np.nan)
        for row, answer in enumerate(self.answers):
            if answer is not None and answer.scores is not None:
                scores[row] = answer.scores
        sources = tuple("" if answer is None else answer.how for answer in self.answers)
        return Answers(self.texts, scores, self.states, sources)


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
        self._form = answer_form(task)
        self._store = store
        self._ledger = ledger
        self._reporter = reporter
        self._engine = engine
        self.gives_up_batches = False  # books a batch that the provider no longer has as lost
        self._shared = SharedAnswers(store, ledger, cache, reporter)
        self._unreadable = UnreadableCheck(store)

    def ask(self, teacher: Teacher, texts: Sequence[str], *, purpose: Purpose) -> AskResult:
        """See `Run.ask`; the answers are those of the task's form."""
        started = time.perf_counter()
        keys = {text: content_key("answer", self._task.key, teacher.key, text) for text in dict.fromkeys(texts)}
        answers = self._load(keys.values())
        self._unreadable.add(teacher, answers, new=False)
        n_new = sum(key not in answers for key in keys.values())
        if n_new:
            missing_keys = [key for key in keys.values() if key not in answers]
            answers |= self._read(self._shared.take(missing_keys, teacher, purpose, "cached", self._is_answer).values)
            missing = {text: key for text, key in keys.items() if key not in answers}
            try:
                if isinstance(teacher, DeferredTeacher):
                    # Also if nothing is missing any more: jobs that were submitted earlier are fetched and booked.
                    answers |= self._ask_by_job(teacher, missing, purpose)
                else:
                    # A text that a job did not answer is not asked directly: that would cost twice as much.
                    answers |= self._ask_directly(teacher, missing, purpose)
            finally:
                self._shared.publish()
                self._shared.release()
            self._unreadable.record(teacher)
        found = tuple(answers.get(keys[text]) for text in texts)
        return AskResult(tuple(texts), found, n_new, time.perf_counter() - started)

    def _load(self, keys: Iterable[str]) -> StoredAnswers:
        return self._read(self._store.load(keys))

    def _read(self, values: JsonObject) -> StoredAnswers:
        """The stored answers that can be used; a row that is no answer of this task is asked again."""
        read = {key: self._form.read(value) for key, value in values.items()}
        return {key: answer for key, answer in read.items() if answer is not None}

    def _ask_by_job(self, teacher: DeferredTeacher, missing: Mapping[str, str], purpose: Purpose) -> StoredAnswers:
        """Fetch and submit jobs. Raises Waiting if answers have to be fetched later."""
        check = partial(self._unreadable.add, teacher)
        hooks = JobHooks(
            check, self._shared, self._is_answer, self.gives_up_batches, self._reporter.info, self._form.check
        )
        BatchJobs(teacher, self._store, self._ledger, hooks).ask(AnswerRequest(missing, purpose))
        answers = self._load(missing.values())
        if n_unanswered := len(missing) - len(answers):
            self._reporter.info(
                f"{n_unanswered} texts stay unanswered: the budget ends here, or they failed each time."
            )
        return answers

    def _ask_directly(self, teacher: Teacher, missing: Mapping[str, str], purpose: Purpose) -> StoredAnswers:
        """Ask about the texts; those that another run of the workspace is buying now are waited for."""
        answers: StoredAnswers = {}
        todo = list(missing)
        while todo:
            elsewhere: dict[str, str] = {}
            chunks = self._claimed_chunks(teacher, todo, missing, elsewhere)
            bought, has_ended = self._call(teacher, chunks, missing, purpose)
            answers |= bought
            self._shared.publish()
            self._shared.release()
            keys = [missing[text] for text in elsewhere]
            taken = self._shared.take(keys, teacher, purpose, "cached", self._is_answer)
            answers |= self._read(taken.values)
            if has_ended or taken.budget_ended:
                break
            todo = [text for text in elsewhere if missing[text] not in answers]
            if todo and not bought and not taken.values:
                self._shared.wait_for(elsewhere[text] for text in todo)
        return answers

    def _claimed_chunks(
        self, teacher: Teacher, texts: Sequence[str], keys: Mapping[str, str], elsewhere: dict[str, str]
    ) -> Iterator[Sequence[str]]:
        """The texts in calls, each claimed just before; those that another run buys or bought go to `elsewhere`."""
        size = teacher.batch_size
        for block in chunks(texts, size * max(1, CLAIM_CHUNK // size)):
            others = self._shared.claim([keys[text] for text in block], teacher, self._is_answer)
            elsewhere |= {text: others[keys[text]] for text in block if keys[text] in others}
            yield from chunks([text for text in block if text not in elsewhere], size)

    def _is_answer(self, value: object) -> bool:
        return self._form.read(value) is not None

    def _budget_end(self) -> str:
        """What ended when a call did not fit: the budget, or the part of it that this step may spend."""
        kept = self._ledger.reserved
        if not kept:
            return "The budget ends here"
        return f"What this step may spend of the budget ends here (${micros_to_usd(kept):.2f} is kept for other steps)"

    def _call(
        self, teacher: Teacher, calls: Iterable[Sequence[str]], keys: Mapping[str, str], purpose: Purpose
    ) -> tuple[StoredAnswers, bool]:
        """Ask the teacher in parallel calls until all texts are answered or the budget ends.

        Returns:
            The answers, and whether the budget has ended.
        """
        started, free_before, n_texts = time.perf_counter(), self._ledger.free, len(keys)
        asked: list[str] = []
        has_ended = False
        answers: StoredAnswers = {}
        greenlet_safe, parallel = teacher.greenlet_safe, teacher.parallel
        # While calls run, the money for the next is held already and finished ones are booked: no slot stays idle.
        semaphore = Semaphore(parallel)
        n_slots = parallel + (parallel // CALLS_PER_EXTRA_SLOT if greenlet_safe else 0)

        def call(chunk: Sequence[str]) -> StoredAnswers | None:
            asked.extend(chunk)
            bound = teacher.max_usage(chunk)
            purchase = purchase_of(teacher, purpose, f"{teacher.name}: {len(chunk)} texts", len(chunk), "direct")
            try:
                with self._ledger.hold(teacher.price.cost_micros(bound), purchase, wait=True) as hold:
                    with semaphore:
                        self._ledger.check_charges(hold)
                        reply = teacher.answer(chunk)
                    answers_ok = map(self._form.check, reply.answers)
                    bought = {
                        keys[text]: answer
                        for text, answer in zip(chunk, answers_ok, strict=True)
                        if answer.state in STORED_STATES
                    }
                    results = {key: answer.to_json() for key, answer in bought.items()}
                    usage = cap_time(reply.usage, bound)
                    hold.settle(teacher.price.cost_micros(usage), usage, results=results)
            except BudgetExceeded:
                return None
            return bought

        # Closing lets the calls in flight end and be booked before anything else happens, also on Ctrl-C.
        with closing(self._engine.map(call, calls, n_slots, greenlet_safe=greenlet_safe)) as results_of_calls:
            for bought in results_of_calls:
                if bought is None:
                    self._reporter.info(f"{self._budget_end()}: {len(answers)} of {n_texts} texts are answered.")
                    has_ended = True
                    break
                answers |= bought
                self._unreadable.add(teacher, bought)
                self._shared.publish_now_and_then()
                if n_texts > 1:
                    rate = len(answers) / (time.perf_counter() - started)
                    usd = micros_to_usd(free_before - self._ledger.free)
                    title = f"asking {teacher.name}"
                    self._reporter.progress(title, len(answers), n_texts, f"{rate:.0f} texts/s, ${usd:.4f}")
        if len(answers) < len(asked):
            answers |= self._load(keys[text] for text in asked)  # those in flight when the budget ended
        return answers, has_ended

    def publish_answers(self) -> None:
        """Share with the workspace what this run bought."""
        self._shared.publish()

    def copy(self, teacher: Teacher, texts: Sequence[str], to: RunStore) -> None:
        """Copy the stored answers about these texts into another run's store, unpriced: the caller books them."""
        to.save(self._store.load(content_key("answer", self._task.key, teacher.key, text) for text in texts))

    def generate(self, teacher: Teacher, request: GenerationRequest) -> tuple[LabelledText, ...]:
        """See `Run.generate`."""
        examples = [[each.text, each.label] for each in (*request.examples, *request.counterexamples)]
        # Without a feedback or parts the key is that of a request for one label.
        rest: list[object] = [asdict(each) for each in (request.feedback, *request.parts) if each is not None]
        describes = isinstance(request, DescriptionRequest)
        rest += ["description"] if describes else []
        key = content_key(
            "write", self._task.key, teacher.generation_key, request.label, request.n, request.seed, examples, *rest
        )
        found = self._store.load([key]) or self._find_generated(teacher, key)
        if key not in found:
            bound = teacher.max_generation_usage(request)
            what = f"describes {request.label}" if describes else f"generates {request.n} texts"
            purchase = purchase_of(teacher, "teach", f"{teacher.name} {what}", request.n, "generate")
            try:
                with self._ledger.hold(teacher.price.cost_micros(bound), purchase) as hold:
                    generated = teacher.generate(request)
                    found = {key: [[each.text, each.label] for each in generated.texts]}
                    usage = cap_time(generated.usage, bound)
                    hold.settle(teacher.price.cost_micros(usage), usage, results=found)
            finally:
                self._shared.publish()
                self._shared.release()
        return tuple(LabelledText(text, label) for text, label in found[key])

    def _find_generated(self, teacher: Teacher, key: str) -> JsonObject:
        """The texts that another run bought, waited for if it is buying them now; else they are claimed."""
        while True:
            others = self._shared.claim([key], teacher, _is_generated)
            taken = self._shared.take([key], teacher, "teach", "generate", _is_generated)
            if taken.values or taken.budget_ended or not others:
                if taken.values:
                    self._shared.release([key])
                return taken.values
            self._shared.wait_for(others.values())


def cap_time(usage: Usage, bound: Usage) -> Usage:
    """The usage with no more of this machine's time than its bound: a process that was stopped has not worked."""
    return replace(usage, seconds=min(usage.seconds, bound.seconds))


def _is_generated(value: object) -> bool:
    """Whether a stored value is what `generate` stores: pairs of a text and its label."""
    return isinstance(value, list) and all(
        isinstance(pair, list) and len(pair) == 2 and all(isinstance(part, str) for part in pair) for pair in value
    )
