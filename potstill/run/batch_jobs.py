"""Batch jobs: answers that are fetched later, by whichever process comes back.

For deferred teachers (a provider's batch API, or people). The order of the steps is what makes it safe:

1. the hold and the job are written in one step, before anything is submitted;
2. the texts are submitted, and the provider's id of the job is stored;
3. `Waiting` ends the command; the same command looks again;
4. the answers are charged at their true usage and stored in one step, and only the rest is submitted again.

After a crash within step 2 the job is looked for at the provider by our own id. Does not wait, and cancels nothing.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from itertools import islice

from potstill.data.task import Answer
from potstill.errors import BudgetExceeded, TeacherError, Waiting
from potstill.ledger.ledger import MAX_OVERCHARGE, Ledger
from potstill.ledger.prices import CallMode, NewBatchJob, Purchase, Purpose, Usage, micros_to_usd, round_up_micros
from potstill.ledger.store import BatchJobRecord, RunStore
from potstill.run.shared_answers import SharedAnswers
from potstill.teachers.base import (
    BatchJob,
    CleansUp,
    DeferredTeacher,
    JobGone,
    JobPending,
    JobRejected,
    JobResults,
)

STORED_STATES = ("ok", "unparsable", "refused")  # a failed call may succeed another day, so it is not stored
MAX_JOBS_PER_TEXT = 3  # a text that was in so many jobs without an answer is not submitted again
VISIBLE_AFTER_S = 60.0  # a job that was submitted so recently may not be visible at the provider yet


@dataclass(frozen=True)
class AnswerRequest:
    """The answers that are wanted: text -> the key its answer is stored under, and what they are for."""

    keys: Mapping[str, str]
    purpose: Purpose


@dataclass(frozen=True)
class JobHooks:
    """What else a run does with its jobs.

    Attributes:
        check: is called with new answers by store key; may raise TeacherError, then nothing more is submitted.
        shared: the answers of the workspace; None shares nothing.
        is_answer: whether a stored value is an answer of the task.
        give_up: whether a job that the provider no longer has is given up.
        info: is called with sentences for the user.
        checked: an answer -> itself, or what can be stored in its place.
    """

    check: Callable[[Mapping[str, Answer]], None] = lambda answers: None
    shared: SharedAnswers | None = None
    is_answer: Callable[[object], bool] = lambda value: True
    give_up: bool = False
    info: Callable[[str], None] = lambda sentence: None
    checked: Callable[[Answer], Answer] = lambda answer: answer.checked()


class BatchJobs:
    """All jobs of one teacher in one run.

    Args:
        teacher: the teacher.
        store: stores the jobs and the answers.
        ledger: pays.
        hooks: what else the run does.
    """

    def __init__(
        self, teacher: DeferredTeacher, store: RunStore, ledger: Ledger, hooks: JobHooks | None = None
    ) -> None:
        self._teacher = teacher
        self._hooks = hooks or JobHooks()
        self._elsewhere: dict[str, str] = {}  # key -> name of the run that is buying it
        self._store = store
        self._ledger = ledger
        self._pending: dict[int, JobPending] = {}  # by the id of the job's call
        self._max_texts_name = f"batch jobs {teacher.key}"
        self._wording = teacher.job_wording

    def ask(self, request: AnswerRequest) -> None:
        """Fetch finished jobs and submit new ones. When it returns, all answers that can be had are in the store.

        Raises:
            Waiting: a job is still pending.
            TeacherError: the teacher is out of order; submitted jobs stay submitted.
        """
        errors = []
        for row in self._all("held"):
            try:
                self._fetch(row, request.purpose)
            except TeacherError as error:
                errors.append(error)
        if errors:
            raise errors[0]
        queue_full = self._submit_rest(request)
        # A job for other texts is waited for only if answers are missing: it may hold the money for them.
        if queue_full or self._elsewhere or (self._pending and self._missing(request)):
            raise self._waiting(request, queue_full)

    # --- jobs submitted earlier ---------------------------------------------------------------------------

    def _fetch(self, row: BatchJobRecord, purpose: Purpose) -> None:
        job = BatchJob(row.client_id, len(row.keys), row.started_at, row.samples, row.provider_id)
        if not job.job_id:
            others = {other.provider_id for state in ("held", "settled") for other in self._all(state)}
            found = self._teacher.find_job(job, others - {""})
            if isinstance(found, JobGone):
                self._give_up(row, found)
                return
            visible_after_s = 0.0 if self._wording.visible_at_once else VISIBLE_AFTER_S
            if found is None and self._store.now() - row.started_at >= visible_after_s:
                self._drop(row, lost=False)
                return
            if not isinstance(found, str):
                self._pending[row.call_id] = found or JobPending("being looked for", 0, job.n_texts)
                return
            self._store.set_provider_id(row.call_id, found)
            job = replace(job, job_id=found)
        result = self._teacher.fetch_job(job)
        if isinstance(result, JobPending):
            self._pending[row.call_id] = result
        elif isinstance(result, JobGone):
            self._give_up(row, result)
        elif isinstance(result, JobRejected):
            self._drop(row, lost=False)
            self._clean_up(job)
            if not result.queue_full:
                raise TeacherError(f"{self._teacher.name} rejected a batch: {result.reason}.", "Nothing was billed.")
            self._halve(job.n_texts)
        else:
            answers = self._settle(row, result, purpose)
            self._clean_up(job)
            self._hooks.check(answers)

    def _give_up(self, row: BatchJobRecord, gone: JobGone) -> None:
        """Book a job that the provider no longer has as lost, if the user said so."""
        teacher, usd = self._teacher.name, micros_to_usd(row.held)
        if not self._hooks.give_up:
            raise TeacherError(
                f"{gone.reason}. ${usd:,.6f} are held for that batch of {teacher} ({len(row.keys)} texts).",
                "If the key, the account and base_url are those it was left with, it is gone: the same command with "
                "--give-up-batch books its money as lost and submits its texts again.",
            )
        self._drop(row, lost=True)
        self._hooks.info(
            f"A batch of {teacher} with {len(row.keys)} texts is given up: ${usd:,.6f} are booked as lost, and its "
            "texts are asked about again."
        )

    def _drop(self, row: BatchJobRecord, *, lost: bool) -> None:
        """End the hold of a job without results, and its claims."""
        self._ledger.drop_job(row.call_id, lost=lost)
        if self._hooks.shared is not None:
            self._hooks.shared.release(row.keys)

    def _clean_up(self, job: BatchJob) -> None:
        if isinstance(self._teacher, CleansUp):
            self._teacher.clean_up(job)

    def _all(self, state: str) -> list[BatchJobRecord]:
        return self._store.batch_jobs(self._teacher.key, state)

    def _settle(self, row: BatchJobRecord, result: JobResults, purpose: Purpose) -> dict[str, Answer]:
        """Charge a job that has ended and store its answers; returns them by store key."""
        price = self._teacher.job_price
        bound = price.exact_micros(row.max_usage)
        usages = [
            usage for usage in result.usages if price.exact_micros(usage) <= MAX_OVERCHARGE * max(bound, Decimal(1))
        ]
        n_unbelievable = len(result.usages) - len(usages)
        exact = sum((price.exact_micros(usage) for usage in usages), Decimal(0))
        charged = round_up_micros(exact)
        if n_unreported := result.n_unreported + n_unbelievable:
            # Replies without a usage that can be true are charged at their bound, and never more than was held.
            charged = max(charged, min(row.held, round_up_micros(exact + n_unreported * bound)))
        answers = {
            key: answer
            for key, answer in zip(row.keys, (a and self._hooks.checked(a) for a in result.answers), strict=True)
            if answer is not None and answer.state in STORED_STATES
        }
        results = {key: answer.to_json() for key, answer in answers.items()}
        hold = self._ledger.resume_hold(row.call_id, row.held, self._purchase(purpose, len(row.keys)))
        max_texts = self._max_texts()
        if max_texts:
            self._store.set_meta(self._max_texts_name, 2 * max_texts)
        try:
            hold.settle(charged, sum(usages, Usage()), results=results, n_unbelievable=n_unbelievable)
        finally:
            if self._hooks.shared is not None:
                self._hooks.shared.publish()
                self._hooks.shared.release(row.keys)
        return answers

    # --- jobs submitted now -------------------------------------------------------------------------------

    def _submit_rest(self, request: AnswerRequest) -> str:
        """Submit all missing texts that are in no pending job.

        Returns:
            Why the provider accepts no more jobs, or "".
        """
        todo = self._claim(self._todo(request))
        max_texts = self._max_texts()
        if not todo or (max_texts and self._pending):
            return ""
        probed = not self._wording.probe_first
        while todo:
            size = self._teacher.job_capacity(todo)
            chunk = dict(islice(todo.items(), min(size, max_texts) if max_texts else size))
            if not self._affordable(islice(chunk, 1))[0]:
                break
            if not probed:
                probed, todo = True, self._ask_first(todo, request)
                continue
            submitted = self._submit(chunk, request)
            if isinstance(submitted, JobRejected):
                if not self._pending:
                    self._halve(len(chunk))
                return submitted.reason
            todo = {text: key for text, key in todo.items() if text not in submitted}
            if max_texts:
                break
        return ""

    def _claim(self, todo: dict[str, str]) -> dict[str, str]:
        """The texts that no other run of the workspace is buying."""
        if self._hooks.shared is not None and todo:
            self._elsewhere = self._hooks.shared.claim(list(todo.values()), self._teacher, self._hooks.is_answer)
        return {text: key for text, key in todo.items() if key not in self._elsewhere}

    def _missing(self, request: AnswerRequest) -> dict[str, str]:
        """The texts without an answer that may still get one."""
        answered = self._store.load(request.keys.values())
        n_jobs = Counter(key for row in self._all("settled") for key in row.keys)
        return {
            text: key for text, key in request.keys.items() if key not in answered and n_jobs[key] < MAX_JOBS_PER_TEXT
        }

    def _todo(self, request: AnswerRequest) -> dict[str, str]:
        pending = {key for row in self._all("held") for key in row.keys}
        return {text: key for text, key in self._missing(request).items() if key not in pending}

    def _ask_first(self, todo: dict[str, str], request: AnswerRequest) -> dict[str, str]:
        """Ask the first text directly: a wrong key, or a feature the model lacks, shows now and not in a day.

        Returns:
            The texts that are still to be submitted; none if the budget ends here.
        """
        text, key = next(iter(todo.items()))
        teacher = self._teacher
        bound = teacher.price.cost_micros(teacher.max_usage([text]))
        purchase = Purchase(teacher.category, request.purpose, f"{teacher.name}: 1 texts", teacher=teacher.name)
        try:
            with self._ledger.hold(bound, purchase) as hold:
                reply = teacher.answer([text])
                answer = self._hooks.checked(reply.answers[0])
                results = {key: answer.to_json()} if answer.state in STORED_STATES else {}
                hold.settle(teacher.price.cost_micros(reply.usage), reply.usage, results=results)
        except BudgetExceeded:
            return {}
        self._hooks.check({key: answer} if results else {})
        return {other: key for other, key in todo.items() if other != text or not results}

    def _submit(self, chunk: Mapping[str, str], request: AnswerRequest) -> set[str] | JobRejected:
        """Submit the first texts of `chunk` that can be paid, at least one, and return them."""
        texts, micros, max_usage = self._affordable(chunk)
        teacher = self._teacher
        job = BatchJob(secrets.token_hex(16), len(texts), self._store.now(), teacher.samples)
        keys = tuple(chunk[text] for text in texts)
        hold = self._ledger.hold_job(
            NewBatchJob(teacher.key, job.client_id, keys, job.samples, max_usage),
            micros,
            self._purchase(request.purpose, len(texts)),
        )
        if self._hooks.shared is not None:
            self._hooks.shared.claim_for_job(keys, teacher)
        try:
            submitted = teacher.submit_job(job, texts)
        except TeacherError as error:
            if not error.billed:
                hold.release()
            raise
        if isinstance(submitted, JobRejected):
            hold.release()
            return submitted
        self._store.set_provider_id(hold.id, submitted)
        self._pending[hold.id] = JobPending("submitted", 0, job.n_texts)
        return set(texts)

    def _affordable(self, texts: Iterable[str]) -> tuple[list[str], int, Usage]:
        """The first texts whose bounds fit into the available money, the sum of the bounds, and the dearest usage."""
        price, available = self._teacher.job_price, self._ledger.available
        chosen: list[str] = []
        total, dearest, max_usage = Decimal(0), Decimal(-1), Usage()
        for text in texts:
            bound = self._teacher.max_job_usage(text)
            exact = price.exact_micros(bound)
            if round_up_micros(total + exact) > available:
                break
            chosen.append(text)
            total += exact
            if exact > dearest:
                dearest, max_usage = exact, bound
        return chosen, round_up_micros(total), max_usage

    def _max_texts(self) -> int:
        """The limit on a job's texts after the provider's queue was full; zero without one."""
        return self._store.get_meta(self._max_texts_name) or 0

    def _halve(self, n_texts: int) -> None:
        """From now on submit one job at a time, of half as many texts."""
        self._store.set_meta(self._max_texts_name, max(1, n_texts // 2))

    def _purchase(self, purpose: Purpose, n_texts: int) -> Purchase:
        teacher = self._teacher
        mode: CallMode = "labels" if teacher.category == "human" else "batch"
        description = f"{teacher.name} {self._wording.noun}: {n_texts} texts"
        return Purchase(teacher.category, purpose, description, n_texts, teacher=teacher.name, mode=mode)

    # --- what the user reads ------------------------------------------------------------------------------

    def _waiting(self, request: AnswerRequest, queue_full: str) -> Waiting:
        n_answered = len(self._store.load(request.keys.values()))
        so_far = f"{n_answered} of {len(request.keys)} texts have come back"
        if not self._pending and not queue_full:
            runs = ", ".join(sorted(set(self._elsewhere.values()) - {""})) or "of this workspace"
            return Waiting(
                f"Another run ({runs}) is buying {len(self._elsewhere)} of the answers by batch; {so_far}.",
                "Run its command until it is done, then this one again; nothing is bought twice.",
            )
        if not self._pending:
            return Waiting(f"{self._teacher.name} takes no batch now ({queue_full}); {so_far}.", self._wording.hint)
        done = sum(each.done for each in self._pending.values())
        total = sum(each.total for each in self._pending.values())
        if self._wording.waiting_message:
            sentence = self._wording.waiting_message.format(done=done, total=total, so_far=so_far)
            return Waiting(sentence, self._wording.hint)
        n = len(self._pending)
        jobs = f"{n} batch{'es' if n > 1 else ''} of {self._teacher.name} {'are' if n > 1 else 'is'} under way"
        return Waiting(f"{jobs}: {done} of {total} requests are done; {so_far}.", self._wording.hint)
