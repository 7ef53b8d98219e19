"""Answers that are fetched later: money held, texts left on tickets, and taken up by whichever process comes back.

For teachers that are `Ticketed` (a provider's batch queue, or people). The order of things is what makes it safe:

1. the hold and the ticket are written in one step, before anything leaves;
2. the texts are left, and the other side's name for them is written down;
3. `Waiting` ends the command; the same command looks again;
4. what came back is charged at its true usage and kept in one step, and only the rest is left once more.

A crash between 2's two halves is mended by looking for the ticket's mark on the other side. Knows no provider and no
recipe; does not wait, and cancels nothing.
"""

from __future__ import annotations

import secrets
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from decimal import Decimal
from itertools import islice

from potstill.errors import BudgetExceeded, TeacherError, Waiting
from potstill.ledger.ledger import Ledger
from potstill.ledger.prices import Purchase, Purpose, Usage, round_up_micros
from potstill.ledger.store import BatchJobRecord, RunStore
from potstill.teachers.base import (
    BatchJob,
    CleansUp,
    DeferredTeacher,
    JobPending,
    JobRejected,
    JobResults,
)

KEPT_STATES = ("ok", "unparsable", "refused")  # a failed call may succeed another day, so it is never kept
# A text that ended so many tickets without an answer is not left again.
MAX_JOBS_PER_TEXT = 3
# A ticket that was being left so short a time ago may not show yet where it was left.
VISIBLE_AFTER_S = 60.0


@dataclass(frozen=True)
class AnswerRequest:
    """What is wanted of a teacher.

    Attributes:
        keys: text -> the key its answer is kept under.
        purpose: what the answers are for.
        leave_micros: what must stay free.
    """

    keys: Mapping[str, str]
    purpose: Purpose
    reserve_micros: int = 0


class BatchJobs:
    """All tickets of one teacher in one run."""

    def __init__(self, teacher: DeferredTeacher, store: RunStore, ledger: Ledger) -> None:
        self._teacher = teacher
        self._store = store
        self._ledger = ledger
        self._running: dict[int, JobPending] = {}
        self._meta = f"tickets {teacher.key}"
        self._manner = teacher.job_wording

    def ask(self, order: AnswerRequest) -> None:
        """Fetch what is ready and leave what is wanted. When it returns, all that can be had is kept in the store.

        Raises:
            Waiting: something is still being worked on.
            TeacherError: the teacher is out of order; what was left stays left.
        """
        errors = []
        for row in self._all("held"):
            try:
                self._look(row, order.purpose)
            except TeacherError as error:
                errors.append(error)
        if errors:
            raise errors[0]
        full = self._leave_rest(order)
        # A ticket for other texts is waited for only where something is missing: it may hold the money for that.
        if full or (self._running and self._missing(order)):
            raise self._waiting(order, full)

    # --- what was left earlier ----------------------------------------------------------------------------

    def _look(self, row: BatchJobRecord, purpose: Purpose) -> None:
        ticket = BatchJob(row.client_id, len(row.keys), row.started_at, row.facts["samples"], row.provider_id)
        if not ticket.job_id:
            taken = {other.provider_id for state in ("held", "settled") for other in self._all(state)}
            place = self._teacher.find_job(ticket, taken - {""})
            if place is None and time.time() - row.started_at >= VISIBLE_AFTER_S:
                self._store.drop_hold(row.call, lost=False)
                return
            if not isinstance(place, str):
                self._running[row.call] = place or JobPending("being looked for", 0, ticket.n_texts)
                return
            self._store.set_provider_id(row.call, place)
            ticket = BatchJob(**{**asdict(ticket), "job_id": place})
        found = self._teacher.fetch_job(ticket)
        if isinstance(found, JobPending):
            self._running[row.call] = found
        elif isinstance(found, JobRejected):
            self._store.drop_hold(row.call, lost=False)
            self._tidy(ticket)
            if not found.queue_full:
                raise TeacherError(f"{self._teacher.name} rejected a batch: {found.reason}.", "Nothing was billed.")
            self._take_fewer(ticket.n_texts)
        else:
            self._settle(row, found, purpose)
            self._tidy(ticket)

    def _tidy(self, ticket: BatchJob) -> None:
        if isinstance(self._teacher, CleansUp):
            self._teacher.clean_up(ticket)

    def _all(self, state: str) -> list[BatchJobRecord]:
        return self._store.tickets(self._teacher.key, state)

    def _settle(self, row: BatchJobRecord, found: JobResults, purpose: Purpose) -> None:
        price = self._teacher.job_price
        exact = sum((price.exact_micros(usage) for usage in found.usages), Decimal(0))
        charged = round_up_micros(exact)
        if found.n_unreported:
            # Who does not say what was used is paid the most it can have been, and never more than was held.
            most = price.exact_micros(Usage(**row.facts["most"]))
            charged = max(charged, min(row.held, round_up_micros(exact + found.n_unreported * most)))
        bought = {
            key: answer.to_json()
            for key, answer in zip(row.keys, found.answers, strict=True)
            if answer is not None and answer.state in KEPT_STATES
        }
        purchase = Purchase(self._teacher.category, purpose, self._what(len(row.keys)))
        hold = self._ledger.resume_hold(row.call, row.held, purchase)
        narrow = self._store.get_meta(self._meta)
        if narrow:
            self._store.set_meta(self._meta, 2 * narrow)
        hold.settle(charged, sum(found.usages, Usage()), results=bought)

    # --- what is left now ---------------------------------------------------------------------------------

    def _leave_rest(self, order: AnswerRequest) -> str:
        """Leave all that is wanted and not under way. Returns why the other side takes no more, or ""."""
        todo = self._todo(order)
        narrow = self._store.get_meta(self._meta)
        if not todo or (narrow and self._running):
            return ""
        asked = not self._manner.probe_first
        while todo:
            size = self._teacher.job_capacity(todo)
            chunk = dict(islice(todo.items(), min(size, narrow) if narrow else size))
            if not self._affordable(islice(chunk, 1), self._ledger.free - order.reserve_micros)[0]:
                break
            if not asked:
                asked, todo = True, self._ask_first(todo, order)
                continue
            left = self._leave(chunk, order)
            if isinstance(left, JobRejected):
                if not self._running:
                    self._take_fewer(len(chunk))
                return left.reason
            todo = {text: key for text, key in todo.items() if text not in left}
            if narrow:
                break
        return ""

    def _missing(self, order: AnswerRequest) -> dict[str, str]:
        """What has no answer and may still get one."""
        known = self._store.load(order.keys.values())
        tries = Counter(key for row in self._all("settled") for key in row.keys)
        return {text: key for text, key in order.keys.items() if key not in known and tries[key] < MAX_JOBS_PER_TEXT}

    def _todo(self, order: AnswerRequest) -> dict[str, str]:
        under_way = {key for row in self._all("held") for key in row.keys}
        return {text: key for text, key in self._missing(order).items() if key not in under_way}

    def _ask_first(self, todo: dict[str, str], order: AnswerRequest) -> dict[str, str]:
        """Ask the first text directly: a wrong key, or a feature the model lacks, shows now and not in a day.

        Returns what is left to do; nothing if the money ends here.
        """
        text, key = next(iter(todo.items()))
        teacher = self._teacher
        bound = teacher.price.cost_micros(teacher.max_usage([text]))
        purchase = Purchase(teacher.category, order.purpose, f"{teacher.name}: 1 texts")
        try:
            with self._ledger.hold(bound, purchase, reserve=order.reserve_micros) as hold:
                reply = teacher.answer([text])
                answer = reply.answers[0]
                bought = {key: answer.to_json()} if answer.state in KEPT_STATES else {}
                hold.settle(teacher.price.cost_micros(reply.usage), reply.usage, results=bought)
        except BudgetExceeded:
            return {}
        return {other: key for other, key in todo.items() if other != text or not bought}

    def _leave(self, chunk: Mapping[str, str], order: AnswerRequest) -> set[str] | JobRejected:
        """The texts that were left: the first of `chunk` that the money reaches, at least one."""
        free = self._ledger.free - order.reserve_micros
        texts, micros, most = self._affordable(chunk, free)
        teacher = self._teacher
        ticket = BatchJob(secrets.token_hex(16), len(texts), time.time(), teacher.samples)
        facts = {"samples": ticket.samples, "most": most.to_json()}
        record = {
            "teacher": teacher.key,
            "mark": ticket.client_id,
            "keys": [chunk[text] for text in texts],
            "facts": facts,
        }
        purchase = Purchase(teacher.category, order.purpose, self._what(len(texts)), len(texts))
        hold = self._ledger.hold_ticket(record, micros, purchase, reserve=order.reserve_micros)
        try:
            place = teacher.submit_job(ticket, texts)
        except TeacherError as error:
            if not error.billed:
                hold.release()
            raise
        if isinstance(place, JobRejected):
            hold.release()
            return place
        self._store.set_provider_id(hold.id, place)
        self._running[hold.id] = JobPending("left", 0, ticket.n_texts)
        return set(texts)

    def _affordable(self, texts: Iterable[str], free: int) -> tuple[list[str], int, Usage]:
        """The first texts whose bounds fit into `free` micro-dollars, what they may cost, and the dearest of them."""
        price = self._teacher.job_price
        chosen: list[str] = []
        total, dearest, most = Decimal(0), Decimal(-1), Usage()
        for text in texts:
            bound = self._teacher.max_job_usage(text)
            exact = price.exact_micros(bound)
            if round_up_micros(total + exact) > free:
                break
            chosen.append(text)
            total += exact
            if exact > dearest:
                dearest, most = exact, bound
        return chosen, round_up_micros(total), most

    def _take_fewer(self, n: int) -> None:
        """From now on one ticket at a time, of half as many texts."""
        self._store.set_meta(self._meta, max(1, n // 2))

    def _what(self, n: int) -> str:
        return f"{self._teacher.name} {self._manner.noun}: {n} texts"

    # --- what the user is told ----------------------------------------------------------------------------

    def _waiting(self, order: AnswerRequest, full: str) -> Waiting:
        answered = len(self._store.load(order.keys.values()))
        so_far = f"{answered} of {len(order.keys)} texts have come back"
        if not self._running:
            return Waiting(f"{self._teacher.name} takes no batch now ({full}); {so_far}.", self._manner.hint)
        done = sum(each.done for each in self._running.values())
        total = sum(each.total for each in self._running.values())
        if self._manner.waiting_message:
            return Waiting(
                self._manner.waiting_message.format(done=done, total=total, so_far=so_far), self._manner.hint
            )
        n = len(self._running)
        with_it = f"{n} batch{'es' if n > 1 else ''} of {self._teacher.name} {'are' if n > 1 else 'is'} under way"
        return Waiting(f"{with_it}: {done} of {total} requests are done; {so_far}.", self._manner.hint)
