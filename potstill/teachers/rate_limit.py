"""Rate limits, retries and the usage of a teacher's requests, for any provider.

A request ends in a response or in a `RequestError`, whose class decides whether it is billed and retried. Covers rate
limits (given, or found by refusals), back-off with jitter, `Retry-After`, and the usage that may be billed. Does not
cover batch queues, and imports no SDK.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from potstill.engines.greenlets import is_cancelled, sleep
from potstill.errors import TeacherError
from potstill.ledger.prices import Usage

T = TypeVar("T")

INITIAL_BACKOFF_S = 0.5
MAX_BACKOFF_S = 30.0
MAX_UNAVAILABLE_RETRIES = 6
MAX_CONNECT_RETRIES = 3
RUN_STOPPED = "the run was stopped"


class RequestError(Exception):
    """One request brought no answer; `reason` is for the reader of the row."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class ContentRefused(RequestError):
    """The provider does not answer this text: filtered, or too long."""


class RequestFailed(RequestError):
    """This text got no answer, and no more tries are left."""


class RateLimited(RequestError):
    """Too many requests; not billed and not a failed try. `wait_s` is the provider's `Retry-After`, if given."""

    def __init__(self, reason: str, wait_s: float | None = None) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


class ServerUnavailable(RateLimited):
    """The provider answered that it is unavailable; not billed."""


class ConnectFailed(RequestError):
    """The request was not sent: no connection."""


class ResponseLost(RequestError):
    """The request was sent and no readable reply came back: it may be billed, so it is charged at its bound."""


class NotFound(RequestError):
    """The provider does not have what was asked for: it is gone, or it never had such things."""


class FeatureUnsupported(RequestError):
    """The server does not support a feature; it was dropped, and the same request can be sent again at once."""


def unbilled_error(happened: str, mend: str) -> TeacherError:
    """A TeacherError for a request that was certainly not billed: its hold may be released."""
    error = TeacherError(happened, mend)
    error.billed = False
    return error


class CallUsage:
    """The usage of one call so far, and how many more requests it may pay for.

    Args:
        limit: requests that may be billed, at most; the bound of the call is this many times the bound of a request.
        timeout_s: how long the call may go on starting requests, in all.
    """

    def __init__(self, limit: int, timeout_s: float) -> None:
        self.limit = self.requests_left = limit
        self.usage = Usage()
        self.deadline = time.monotonic() + timeout_s

    def add_seconds(self, seconds: float) -> None:
        """Book machine time."""
        self.usage = self.usage + Usage(seconds=seconds)

    def add_usage(self, usage: Usage, requests: int = 1) -> None:
        """Book what one request consumed."""
        self.requests_left -= requests
        self.usage = self.usage + usage


class SharedTimer:
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
    def measure(self, book: Callable[[float], None]) -> Iterator[None]:
        """Run the clock for one call; its seconds are booked when it is over, however it ends."""
        began = self._advance(1)
        try:
            yield
        finally:
            book(self._advance(-1) - began)


class RateLimiter:
    """Sends requests within rate limits and retries them, for all threads of one teacher together.

    Args:
        requests_per_minute: limits to stay under; None for none but those found by refusals.
        tokens_per_minute: the same in tokens.
        max_consecutive_failures: after so many failed texts in a row, with none answered between, the teacher is
            considered out of order.
    """

    def __init__(
        self,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        max_consecutive_failures: int = 32,
    ) -> None:
        self._request_s = 60 / requests_per_minute if requests_per_minute else 0.0
        self._token_s = 60 / tokens_per_minute if tokens_per_minute else 0.0
        self._max_consecutive_failures = max_consecutive_failures
        self._lock = threading.Lock()
        self._next_slot = 0.0
        self._paused_until = 0.0
        self._n_consecutive_failures = 0
        self._jitter = random.Random()

    def send(self, request: Callable[[], T], call: CallUsage, bound: Usage, requests: int = 1) -> T:
        """The response to `request`, retried if another try may succeed.

        Args:
            request: sends once; raises a RequestError.
            call: charged with `bound` for a lost response.
            bound: what one try can consume.
            requests: how many of the call's requests a try counts as.

        Raises:
            ContentRefused: the provider does not answer this text.
            RequestFailed: the retries, the time or the requests of the call are used up.
            TeacherError: the server cannot be reached.
        """
        call.deadline += self._take_slot(bound.input_tokens + bound.output_tokens)
        refused = limited = unreached = 0
        while True:
            if call.requests_left < requests:
                raise RequestFailed("it may have been billed for as many requests as one text is allowed")
            self._wait_while_paused(call.deadline)
            try:
                return request()
            except FeatureUnsupported:
                continue
            except ServerUnavailable as error:
                refused += 1
                if refused >= MAX_UNAVAILABLE_RETRIES:
                    raise RequestFailed(error.reason) from None
                self._wait(error.wait_s, refused, call.deadline, error.reason)
            except RateLimited as error:
                limited += 1
                self._pause(error.wait_s or self._backoff_s(limited), call.deadline, error.reason)
            except ConnectFailed as error:
                unreached += 1
                if unreached >= MAX_CONNECT_RETRIES:
                    raise unbilled_error(error.reason, "Check the address and the network, then run again.") from None
                self._wait(None, unreached, call.deadline, error.reason)
            except ResponseLost as error:
                call.add_usage(bound, requests)
                if call.requests_left < requests:
                    raise RequestFailed(error.reason) from None
                self._wait(None, 1, call.deadline, error.reason)

    def record_success(self) -> None:
        """A text was answered or refused: the teacher works."""
        self._n_consecutive_failures = 0

    def record_failure(self, reason: str) -> None:
        """A text got no answer. Raises TeacherError when too many in a row did, for a reason of the teacher's."""
        if is_cancelled():
            return
        with self._lock:
            self._n_consecutive_failures += 1
            too_many = self._n_consecutive_failures >= self._max_consecutive_failures
        if too_many:
            raise TeacherError(
                f"{self._n_consecutive_failures} texts in a row got no answer; the last: {reason}.",
                "Run the same command again later; what was answered is kept.",
            )

    def _take_slot(self, tokens: int) -> float:
        duration = max(self._request_s, self._token_s * tokens)
        if not duration:
            return 0.0
        with self._lock:
            now = time.monotonic()
            start = max(self._next_slot, now)
            self._next_slot = start + duration
        _sleep_or_fail(start - now)
        return start - now

    def _backoff_s(self, tries: int) -> float:
        longest: float = min(MAX_BACKOFF_S, INITIAL_BACKOFF_S * 2 ** (tries - 1))
        return longest * self._jitter.uniform(0.5, 1.0)

    def _wait(self, asked_s: float | None, tries: int, deadline: float, reason: str) -> None:
        seconds = asked_s if asked_s is not None else self._backoff_s(tries)
        if time.monotonic() + seconds > deadline:
            raise RequestFailed(reason)
        _sleep_or_fail(seconds)

    def _pause(self, seconds: float, deadline: float, reason: str) -> None:
        """No request is sent for so long; a call whose deadline is earlier fails."""
        until = time.monotonic() + seconds
        if until > deadline:
            raise RequestFailed(f"{reason}; it asks to wait {seconds:.0f} s")
        with self._lock:
            self._paused_until = max(self._paused_until, until)

    def _wait_while_paused(self, deadline: float) -> None:
        if is_cancelled():
            raise RequestFailed(RUN_STOPPED)
        if time.monotonic() > deadline:
            raise RequestFailed("its time is up")
        while (wait := self._paused_until - time.monotonic()) > 0:
            if time.monotonic() + wait > deadline:
                raise RequestFailed("the provider's rate limit did not lift in time")
            # A little jitter, so that all threads do not knock at the same instant.
            _sleep_or_fail(wait + self._jitter.uniform(0, min(0.1 * wait, 1.0)))


def _sleep_or_fail(seconds: float) -> None:
    if not sleep(seconds):
        raise RequestFailed(RUN_STOPPED)
