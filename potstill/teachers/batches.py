"""A chat model behind a provider's batch queue: half the price, within a day.

A text is one request of a batch (or one a sample, where the provider gives one reply a request), named by the ticket's
mark and its number, so that replies in any order find their text. A reply is read as strictly as a direct one; in a
batch there is no second question, so an unreadable reply stays unparsable. Knows no provider: a `BatchServer` does.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from pydantic import Field

from potstill.data.task import Answer
from potstill.errors import TeacherError
from potstill.ledger.prices import ExactPrice, Price, Usage
from potstill.teachers.base import Collected, Pending, Rejected, Setup, Ticket
from potstill.teachers.chat import ChatTeacher
from potstill.teachers.exchange import ChatOptions, Choice, Request, Said, Server, short, times, willing
from potstill.teachers.options import Options
from potstill.teachers.pace import Down, Limited, Refused, Tab, Trouble, Vanished, Without, out_of_order

T = TypeVar("T")

# How long one step (an upload, a question after a batch) may be tried again.
PATIENCE_S = 60.0
LATER = "Run the same command again later; the batches that were left are kept."


class BatchOptions(Options):
    """The options of a teacher that can be asked by batch.

    Attributes:
        batch: leave the texts with the provider's batch queue, and come back for the answers.
        batch_requests: how many requests one batch takes; None is what the provider takes.
        batch_timeout_s: for an upload or a download.
    """

    batch: bool = False
    batch_requests: int | None = Field(default=None, ge=1)
    batch_timeout_s: float = Field(default=600.0, gt=0)


@dataclass(frozen=True)
class Item:
    """One request of a batch: its name, and what is sent."""

    name: str
    body: Mapping[str, Any]


@dataclass(frozen=True)
class Result:
    """What became of one request: what was said, or a Trouble; `Limited` and `Without` may be left again."""

    name: str
    outcome: Said | Trouble


@dataclass(frozen=True)
class Progress:
    """How a batch stands. `over`: its results can be read; `rejected` is set where it never began."""

    state: str
    done: int
    total: int
    over: bool = False
    rejected: Rejected | None = None


class BatchServer(Server, Protocol):
    """A server with a batch queue. Its methods send once; they raise a Trouble or a TeacherError.

    Attributes:
        most_requests, most_bytes: what one batch takes.
    """

    most_requests: int
    most_bytes: int

    def item_body(self, request: Request) -> Mapping[str, Any]:
        """What is sent for one request of a batch."""

    def upload(self, items: Iterable[Item], mark: str) -> Any:
        """Get ready what the batch is made of, which costs nothing yet; returns what `enqueue` needs."""

    def enqueue(self, uploaded: Any, mark: str) -> str:
        """Begin the batch; returns its id. A Vanished may have begun it."""

    def find(self, mark: str, requests: int, began: float, taken: Collection[str]) -> str | Pending | None:
        """The id of the batch with this mark; Pending while it cannot be told which it is."""

    def look(self, place: str) -> Progress:
        """How the batch stands."""

    def results(self, place: str) -> Iterator[Result]:
        """What became of its requests, in any order; those not worked on may be left out."""

    def tidy(self, place: str) -> None:
        """Take away what lies beside a batch that is over, such as its files."""


class BatchTeacher(ChatTeacher):
    """A ChatTeacher that can also be asked by batch; see `base.Ticketed`.

    Args:
        name, setup, options, price, identity: as for ChatTeacher.
        server: sends requests, and has a queue.
        ticket_price: the price of the queue.
    """

    def __init__(
        self,
        name: str,
        setup: Setup,
        options: ChatOptions,
        server: BatchServer,
        price: Price,
        ticket_price: ExactPrice,
        identity: Mapping[str, Any],
    ) -> None:
        super().__init__(name, setup, options, server, price, identity)
        self._queue = server
        self.ticket_price = ticket_price
        self.about = {**self.about, "batch": True, "batch_price": ticket_price.source}

    @property
    def samples(self) -> int:
        """Replies a new ticket asks for each text: votes where the server gives no log-probabilities, else one."""
        return self._options.samples if self._votes else 1

    # --- leaving ------------------------------------------------------------------------------------------

    def ticket_bound(self, text: str) -> Usage:
        """An upper bound of one text in a batch: every sample with all of its prompt and of `max_tokens`."""
        return times(self._request_bound(text), self.samples)

    def _items(self, text: str, number: int, mark: str) -> list[Item]:
        samples = self.samples
        together = samples if self._server.takes_n else 1
        request = self._request(text, votes=together if samples > 1 else 0)
        body = self._queue.item_body(request)
        return [Item(f"{mark}-{number}-{sample}", body) for sample in range(samples // together)]

    def fits(self, texts: Iterable[str]) -> int:
        """How many of the first of `texts` one batch takes: at least one, as the queue is to judge that."""
        requests = size = n = 0
        for text in texts:
            items = self._items(text, n, "0" * 32)
            requests += len(items)
            # Names and the frame of a line on top of the body.
            size += sum(len(json.dumps(item.body)) + 256 for item in items)
            if n and (requests > self._queue.most_requests or size > self._queue.most_bytes):
                break
            n += 1
        return n

    def leave(self, ticket: Ticket, texts: Sequence[str]) -> str | Rejected:
        """Upload the texts and begin the batch. See `base.Ticketed`."""
        items = [item for number, text in enumerate(texts) for item in self._items(text, number, ticket.mark)]
        try:
            uploaded = self._patiently(lambda: self._queue.upload(items, ticket.mark))
        except TeacherError as error:
            error.billed = False
            raise
        self._asking.left(texts)
        try:
            return self._queue.enqueue(uploaded, ticket.mark)
        except (Vanished, Down) as trouble:
            # It may have begun: the ticket stays, and `find` will tell.
            raise TeacherError(f"A batch was sent to {self.name}, and {trouble.reason}.", LATER) from None
        except Limited as trouble:
            return Rejected(trouble.reason, full=True)
        except Trouble as trouble:
            raise out_of_order(
                f"{self.name} takes no batch: {trouble.reason}.", "Ask directly, without batch."
            ) from None

    def find(self, ticket: Ticket, taken: Collection[str]) -> str | Pending | None:
        """Where a ticket is that may have been left. See `base.Ticketed`."""
        each = 1 if self._server.takes_n else ticket.samples
        return self._patiently(lambda: self._queue.find(ticket.mark, ticket.n * each, ticket.began, taken))

    # --- fetching -----------------------------------------------------------------------------------------

    def collect(self, ticket: Ticket) -> Pending | Rejected | Collected:
        """How a batch stands, and what it brought. See `base.Ticketed`."""
        progress = self._patiently(lambda: self._queue.look(ticket.place))
        if progress.rejected is not None:
            return progress.rejected
        if not progress.over:
            return Pending(progress.state, progress.done, progress.total)
        results = self._patiently(lambda: list(self._queue.results(ticket.place)))
        # What is said to be done and does not come back is paid for, and may be left again.
        return self._sorted_out(ticket, results, max(0, progress.done - len(results)))

    def tidy(self, ticket: Ticket) -> None:
        """Take away the batch's files; they are the provider's to forget if that fails."""
        with suppress(Trouble, TeacherError):
            self._queue.tidy(ticket.place)

    def _sorted_out(self, ticket: Ticket, results: Sequence[Result], unsaid: int) -> Collected:
        by_text: dict[int, dict[str, Said | Trouble]] = {}
        for result in results:
            number = _number_of(result.name, ticket)
            if number is None:
                # A reply to nobody: it may be billed, so it is paid for.
                unsaid += isinstance(result.outcome, Said | Vanished)
            else:
                by_text.setdefault(number, {}).setdefault(result.name, result.outcome)
        usages: list[Usage] = []
        for outcomes in by_text.values():
            for outcome in outcomes.values():
                if isinstance(outcome, Vanished) or (isinstance(outcome, Said) and outcome.usage is None):
                    unsaid += 1
                elif isinstance(outcome, Said) and outcome.usage is not None:
                    usages.append(outcome.usage)
        answers = [self._answer_of(list(by_text.get(i, {}).values()), ticket.samples) for i in range(ticket.n)]
        return Collected(tuple(answers), tuple(usages), unsaid)

    def _answer_of(self, outcomes: Sequence[Said | Trouble], samples: int) -> Answer | None:
        """The answer made of what was said of one text; None where it may be left again."""
        choices = [choice for outcome in outcomes if isinstance(outcome, Said) for choice in outcome.choices]
        try:
            if choices:
                return self._read(willing(choices), samples)
        except Refused as trouble:
            return Answer("refused", raw=short(trouble.reason))
        for outcome in outcomes:
            if isinstance(outcome, Refused):
                return Answer("refused", raw=short(outcome.reason))
            if isinstance(outcome, Trouble) and not isinstance(outcome, Limited | Without):
                return Answer("failed", raw=short(outcome.reason))
        return None

    def _read(self, choices: Sequence[Choice], samples: int) -> Answer:
        if samples > 1:
            return self._voted(choices, self._all_found(choices))
        found = self._reading.read(choices[0].text)
        if found is not None:
            return self._found(choices[0], found)
        if choices[0].cut and not choices[0].text.strip():
            return Answer("failed", raw=f"max_tokens = {self._max_tokens} were used up before an answer began")
        return Answer("unparsable", raw=short(choices[0].text))

    # --- one step, tried again ----------------------------------------------------------------------------

    def _patiently(self, step: Callable[[], T]) -> T:
        """What `step` returns. It costs nothing, so it is tried again where that may help; else a TeacherError."""
        try:
            return self._pace.send(step, Tab(0, PATIENCE_S), Usage(), 0)
        except Trouble as trouble:
            raise TeacherError(f"{self.name} cannot be asked for its batches: {trouble.reason}.", LATER) from None


def _number_of(name: str, ticket: Ticket) -> int | None:
    """The number of the text that a request of this ticket was about."""
    mark, _, rest = name.partition("-")
    number = rest.partition("-")[0]
    if mark != ticket.mark or not (number.isascii() and number.isdigit()):
        return None
    return int(number) if int(number) < ticket.n else None
