"""Requests of many callers -> batches of one model, without a timer: what queued while the model was busy comes next.

As in text-embeddings-inference, a batch is bounded by padded tokens, and callers who left are skipped. Requests take
turns: each adds some of its texts to a batch and goes to the end of the queue with the rest. So a request of one text
waits for at most one batch more than its own however many texts another sends, and a long text that does not fit is
the first of the next batch. One thread for each processor that the model may use computes batches, each alone: while
one is computed the next is collected and the last is sent. The event loop only hands over and takes back.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from potstill.bundle.bundle import RUST_PANIC, Text
from potstill.errors import PotstillError, RequestRefused
from potstill.serving.limits import ServingLimits
from potstill.serving.served import AnyAnswer, AnyServedModel

TURN_TOKENS = 512  # padded tokens of one request that go into a batch before the next request has its turn
SHARE_TOKENS = 256  # threads that have nothing to do share what waits, but not into smaller batches
MAX_RETRY_AFTER_S = 60
SMOOTHING = 0.2  # of the measured texts a second, a batch


@dataclass(eq=False)
class Ticket:
    """A request in the queue.

    Attributes:
        texts: of the request.
        costs: padded tokens of each.
        truncate: False if a text that is not read as a whole is an error.
        embedding: whether embeddings are asked for.
        future: the caller waits for it; it is cancelled if the caller left.
        queued_at: seconds of the monotonic clock.
        taken: number of texts that are in a batch, or were.
        missing: number of texts without an answer.
        parts: first row -> what a batch gave.
        started_at: when its first batch began.
    """

    texts: Sequence[Text]
    costs: Sequence[int]
    truncate: bool
    embedding: bool
    future: asyncio.Future[AnyAnswer]
    queued_at: float
    taken: int = 0
    missing: int = 0
    parts: dict[int, Any] = field(default_factory=dict)
    started_at: float = 0.0

    def __post_init__(self) -> None:
        self.missing = len(self.texts)

    @property
    def remaining(self) -> int:
        """Texts that are in no batch yet."""
        return len(self.texts) - self.taken

    @property
    def remaining_cost(self) -> int:
        """Padded tokens of the texts that are in no batch yet."""
        return sum(self.costs[self.taken :])


@dataclass(frozen=True)
class BatchFacts:
    """What is measured of a batch: texts, their padded tokens, and the texts that still wait."""

    texts: int
    tokens: int
    waiting: int


Share = tuple[Ticket, int, int]  # a request's texts from row ... to row ... in a batch


class Batcher:
    """The queue of one model, and the threads that answer it.

    Args:
        model: the model.
        limits: how much may wait, and the size of a batch.
        on_batch: called in the thread before each batch.
    """

    def __init__(
        self, model: AnyServedModel, limits: ServingLimits, on_batch: Callable[[BatchFacts], None] = lambda facts: None
    ) -> None:
        self.model = model
        self._limits = limits
        self._on_batch = on_batch
        self._queue: deque[Ticket] = deque()
        self._changed = threading.Condition()
        self._waiting = 0  # texts
        self._waiting_cost = 0  # their padded tokens
        self._closing = False
        self._texts_per_s = 0.0  # of one thread
        self._idle = 0  # threads
        self._threads = [
            threading.Thread(target=self._work, name=f"inference-{model.name}-{n}", daemon=True)
            for n in range(model.threads)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def waiting(self) -> int:
        """Texts in the queue."""
        return self._waiting

    @property
    def alive(self) -> bool:
        """Whether a thread runs."""
        return any(thread.is_alive() for thread in self._threads)

    def submit(self, texts: Sequence[Text], *, truncate: bool = True, embedding: bool = False) -> Ticket | None:
        """Put a request into the queue; None if the model is going and another may have its place.

        Raises:
            RequestRefused: the queue is full.
        """
        future: asyncio.Future[AnyAnswer] = asyncio.get_running_loop().create_future()
        costs = [self.model.cost(text) for text in texts]
        ticket = Ticket(texts, costs, truncate, embedding, future, time.monotonic())
        with self._changed:
            if self._closing:
                return None
            if self._waiting and self._waiting + len(texts) > self._limits.queued_texts:
                raise RequestRefused("busy", f"{self._waiting} texts wait already.", retry_after_s=self._retry_after())
            self._queue.append(ticket)
            self._waiting += len(texts)
            self._waiting_cost += ticket.remaining_cost
            if self._idle:
                self._changed.notify()
        return ticket

    async def wait(self, ticket: Ticket) -> AnyAnswer:
        """The answer to a request in the queue. If the caller is cancelled, texts that wait are never computed.

        Raises:
            RequestRefused: the model failed on these texts, or one is too long and may not be cut.
        """
        try:
            return await ticket.future
        except asyncio.CancelledError:
            self._drop(ticket)
            raise

    def close(self) -> None:
        """Answer what waits and end the threads; returns at once."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()

    def join(self, timeout_s: float | None = None) -> None:
        """Wait until the threads have ended."""
        for thread in self._threads:
            thread.join(timeout_s)

    def _drop(self, ticket: Ticket) -> None:
        with self._changed:
            if ticket in self._queue:
                self._queue.remove(ticket)
                self._leave_queue(ticket)

    def _leave_queue(self, ticket: Ticket) -> None:
        self._waiting -= ticket.remaining
        self._waiting_cost -= ticket.remaining_cost

    def _retry_after(self) -> int:
        speed = self._texts_per_s * len(self._threads)
        return max(1, min(MAX_RETRY_AFTER_S, round(self._waiting / speed if speed else 1.0)))

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._queue and not self._closing:
                    self._idle += 1
                    self._changed.wait()
                    self._idle -= 1
                if not self._queue:
                    return
                batch = self._take()
                if self._queue and self._idle:
                    self._changed.notify()
            if batch:
                self._compute(batch)

    def _take(self) -> list[Share]:
        """The next batch: of each request in turn as many texts as fit into its turn and into the batch."""
        batch: list[Share] = []
        share = max(SHARE_TOKENS, -(-self._waiting_cost // (1 + self._idle)))
        room = min(self._limits.batch_tokens, share)
        while self._queue and room > 0:
            ticket = self._queue.popleft()
            if ticket.future.cancelled():
                self._leave_queue(ticket)
                continue
            start, turn = ticket.taken, min(room, TURN_TOKENS)
            while ticket.remaining:
                cost = ticket.costs[ticket.taken]
                alone = ticket.taken == start and (cost <= room or not batch)  # longer than a turn, or than a batch
                if cost > turn and not alone:
                    break
                turn, room = turn - cost, room - cost
                ticket.taken += 1
                self._waiting_cost -= cost
            if ticket.taken > start:
                batch.append((ticket, start, ticket.taken))
                self._waiting -= ticket.taken - start
                if ticket.remaining:
                    self._queue.append(ticket)
            else:  # its next text does not fit: it is the first of the next batch
                self._queue.appendleft(ticket)
                break
        return batch

    def _compute(self, batch: list[Share]) -> None:
        """Answer the texts of a batch; if it fails, those of each request alone, so that one cannot fail another."""
        now = time.monotonic()
        texts = [text for ticket, start, stop in batch for text in ticket.texts[start:stop]]
        tokens = sum(sum(ticket.costs[start:stop]) for ticket, start, stop in batch)
        self._on_batch(BatchFacts(len(texts), tokens, self._waiting))
        for ticket, start, _ in batch:
            if start == 0:
                ticket.started_at = now
        try:
            self._check_lengths(batch)
            computed = self.model.compute(texts, embedding=any(ticket.embedding for ticket, _, _ in batch))
        except BaseException as error:
            if len(batch) > 1:
                for share in batch:
                    self._compute([share])
                return
            self._deliver([(batch[0][0], _refusal(error))])
            return
        elapsed = time.monotonic() - now
        speed = len(texts) / max(elapsed, 1e-6)
        self._texts_per_s += SMOOTHING * (speed - self._texts_per_s) if self._texts_per_s else speed
        row = 0
        done: list[tuple[Ticket, AnyAnswer | RequestRefused]] = []
        with self._changed:  # another thread may have computed other texts of a request
            for ticket, start, stop in batch:
                ticket.parts[start] = computed.rows(row, row + stop - start)
                ticket.missing -= stop - start
                row += stop - start
                if not ticket.missing:
                    done.append((ticket, self._joined(ticket)))
        self._deliver(done)

    def _check_lengths(self, batch: list[Share]) -> None:
        for ticket, start, stop in batch:
            if ticket.truncate:
                continue
            for row in range(start, stop):
                if self.model.exceeds_limit(ticket.texts[row]):
                    limit = "" if self.model.max_tokens is None else f" ({self.model.max_tokens} tokens)"
                    raise RequestRefused(
                        "tokens",
                        f"Text {row + 1} is longer than {self.model.name} reads{limit}, and the request allows no cut.",
                        "Send a shorter text, or truncate: true and truncation_direction: Right.",
                    )

    def _joined(self, ticket: Ticket) -> AnyAnswer:
        parts = [ticket.parts[start] for start in sorted(ticket.parts)]
        whole = parts[0] if len(parts) == 1 else type(parts[0]).joined(parts)
        return self.model.answer(whole, ticket.started_at - ticket.queued_at)

    def _deliver(self, done: list[tuple[Ticket, AnyAnswer | RequestRefused]]) -> None:
        """Hand answers to the callers, in their event loop."""
        if not done:
            return
        for ticket, found in done:
            if isinstance(found, RequestRefused):
                self._drop(ticket)  # its other texts need no answer
        try:
            done[0][0].future.get_loop().call_soon_threadsafe(_resolve, done)
        except RuntimeError:  # the loop is closed: the server was ended while it computed
            return


def _resolve(done: list[tuple[Ticket, AnyAnswer | RequestRefused]]) -> None:
    for ticket, found in done:
        if ticket.future.done():
            continue
        if isinstance(found, RequestRefused):
            ticket.future.set_exception(found)
        else:
            ticket.future.set_result(found)


def _refusal(error: BaseException) -> RequestRefused:
    """What the caller sees of an error of the model."""
    if isinstance(error, RequestRefused):
        return error
    if isinstance(error, PotstillError):
        return RequestRefused("backend", error.message, error.hint)
    if not isinstance(error, Exception) and type(error).__name__ != RUST_PANIC:
        raise error
    return RequestRefused("backend", f"The model failed: {type(error).__name__}.")
