"""How a teacher's requests are paced, tried again and counted, whatever the provider.

A request ends in an answer or in a `Trouble`, sorted by what it means for the money and for the next try. Covers
rate limits (given, or learnt from refusals), back-off with jitter, `Retry-After`, and a tab of what may be billed.
Does not cover batch queues. Knows no SDK.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from potstill.engines.greenlets import hurried, rest
from potstill.errors import TeacherError
from potstill.ledger.prices import Usage

T = TypeVar("T")

FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 30.0
MOST_REFUSED = 6
MOST_UNREACHED = 3
STOPPED = "the run was stopped"


class Trouble(Exception):
    """One request brought no answer; `reason` is for the reader of the row."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Refused(Trouble):
    """The provider does not answer this text: filtered, or too long."""


class Failed(Trouble):
    """This text got no answer, and no more tries are left."""


class Limited(Trouble):
    """Too many requests; not billed and not a failed try. `wait_s` is what the provider asked for, if it did."""

    def __init__(self, reason: str, wait_s: float | None = None) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


class Down(Limited):
    """The provider answered that it is out of order; not billed."""


class Unreached(Trouble):
    """The request never left: no connection."""


class Vanished(Trouble):
    """The request left and nothing readable came back: it may be billed, so it is charged at its bound."""


class Without(Trouble):
    """The server does not know a feature; it was dropped and the same request can be sent at once."""


def out_of_order(happened: str, mend: str) -> TeacherError:
    """A TeacherError for a request that was surely not billed: its hold may be released."""
    error = TeacherError(happened, mend)
    error.billed = False
    return error


class Tab:
    """What one call has consumed, and how many more requests it may pay for.

    Args:
        most: requests that may be billed, at most; the bound of the call is this many times the bound of a request.
        patience_s: how long the call may go on starting requests, in all.
    """

    def __init__(self, most: int, patience_s: float) -> None:
        self.left = most
        self.usage = Usage()
        self.ends = time.monotonic() + patience_s

    def ran(self, seconds: float) -> None:
        """Book machine time."""
        self.usage = self.usage + Usage(seconds=seconds)

    def charge(self, usage: Usage, requests: int = 1) -> None:
        """Book what one request consumed."""
        self.left -= requests
        self.usage = self.usage + usage


class Clock:
    """Machine time shared fairly: n calls in flight for a second cost each 1/n of it, so the sum is the busy time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running = 0
        self._share = 0.0
        self._last = time.monotonic()

    def _advance(self, step: int) -> float:
        with self._lock:
            now = time.monotonic()
            if self._running:
                self._share += (now - self._last) / self._running
            self._last = now
            self._running += step
            return self._share

    @contextmanager
    def lap(self, book: Callable[[float], None]) -> Iterator[None]:
        """Run the clock for one call; its seconds are booked when it is over, however it ends."""
        began = self._advance(1)
        try:
            yield
        finally:
            book(self._advance(-1) - began)


class Pace:
    """When the next request may leave, for all threads of one teacher together.

    Args:
        requests_per_minute, tokens_per_minute: limits to stay under; None knows no limit but those met.
        gives_up_after: so many texts failed in a row, with none answered between, mean that the teacher is out of
            order.
    """

    def __init__(
        self,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        gives_up_after: int = 32,
    ) -> None:
        self._request_s = 60 / requests_per_minute if requests_per_minute else 0.0
        self._token_s = 60 / tokens_per_minute if tokens_per_minute else 0.0
        self._gives_up_after = gives_up_after
        self._lock = threading.Lock()
        self._free_at = 0.0
        self._closed_until = 0.0
        self._failed_in_a_row = 0
        self._jitter = random.Random()

    def send(self, request: Callable[[], T], tab: Tab, bound: Usage, requests: int = 1) -> T:
        """The answer of `request`, tried again where that makes sense.

        Args:
            request: sends once; raises a Trouble.
            tab: charged with `bound` for a request that vanished.
            bound: what one try can consume.
            requests: how many of the tab's requests a try counts as.

        Raises:
            Refused: the provider does not answer this text.
            Failed: the tries, the patience or the tab are used up.
            TeacherError: nobody is there.
        """
        tab.ends += self._take_slot(bound.input_tokens + bound.output_tokens)
        refused = limited = unreached = 0
        while True:
            if tab.left < requests:
                raise Failed("it may have been billed for as many requests as one text is allowed")
            self._wait_until_open(tab.ends)
            try:
                return request()
            except Without:
                continue
            except Down as trouble:
                refused += 1
                if refused >= MOST_REFUSED:
                    raise Failed(trouble.reason) from None
                self._wait(trouble.wait_s, refused, tab.ends, trouble.reason)
            except Limited as trouble:
                limited += 1
                self._close_for(trouble.wait_s or self._backoff_s(limited), tab.ends, trouble.reason)
            except Unreached as trouble:
                unreached += 1
                if unreached >= MOST_UNREACHED:
                    raise out_of_order(trouble.reason, "Check the address and the network, then run again.") from None
                self._wait(None, unreached, tab.ends, trouble.reason)
            except Vanished as trouble:
                tab.charge(bound, requests)
                if tab.left < requests:
                    raise Failed(trouble.reason) from None
                self._wait(None, 1, tab.ends, trouble.reason)

    def answered(self) -> None:
        """A text was answered or refused: the teacher works."""
        self._failed_in_a_row = 0

    def failed(self, reason: str) -> None:
        """A text got no answer. Raises TeacherError when too many in a row did, for a reason of the teacher's."""
        if hurried():
            return
        with self._lock:
            self._failed_in_a_row += 1
            too_many = self._failed_in_a_row >= self._gives_up_after
        if too_many:
            raise TeacherError(
                f"{self._failed_in_a_row} texts in a row got no answer; the last: {reason}.",
                "Run the same command again later; what was answered is kept.",
            )

    def _take_slot(self, tokens: int) -> float:
        takes = max(self._request_s, self._token_s * tokens)
        if not takes:
            return 0.0
        with self._lock:
            now = time.monotonic()
            start = max(self._free_at, now)
            self._free_at = start + takes
        _rest(start - now)
        return start - now

    def _backoff_s(self, tries: int) -> float:
        longest: float = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2 ** (tries - 1))
        return longest * self._jitter.uniform(0.5, 1.0)

    def _wait(self, asked_s: float | None, tries: int, ends: float, reason: str) -> None:
        seconds = asked_s if asked_s is not None else self._backoff_s(tries)
        if time.monotonic() + seconds > ends:
            raise Failed(reason)
        _rest(seconds)

    def _close_for(self, seconds: float, ends: float, reason: str) -> None:
        """Nobody sends for so long; who cannot wait for it gives up."""
        until = time.monotonic() + seconds
        if until > ends:
            raise Failed(f"{reason}; it asks to wait {seconds:.0f} s")
        with self._lock:
            self._closed_until = max(self._closed_until, until)

    def _wait_until_open(self, ends: float) -> None:
        if hurried():
            raise Failed(STOPPED)
        if time.monotonic() > ends:
            raise Failed("its time is up")
        while (wait := self._closed_until - time.monotonic()) > 0:
            if time.monotonic() + wait > ends:
                raise Failed("the provider's rate limit did not lift in time")
            # A little jitter, so that all threads do not knock at the same instant.
            _rest(wait + self._jitter.uniform(0, min(0.1 * wait, 1.0)))


def _rest(seconds: float) -> None:
    if not rest(seconds):
        raise Failed(STOPPED)
