"""The money held for calls in flight, and the calls that wait for a part of it.

A hold is an upper bound, usually many times the price. So a hold that is refused only because of others in flight may
fit once they are settled. Contains no money itself: the storage decides whether a hold fits.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from potstill.engines.greenlets import Event, Semaphore, is_cancelled


class HoldsInFlight:
    """Counts the holds in flight of one ledger; threads and greenlets may wait for one to end."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._turn = Semaphore(1)
        self._n_turns = 0
        self._waiting: list[Event] = []
        self._n = 0
        self.micros = 0
        self.n_ended = 0

    @property
    def is_awaited(self) -> bool:
        """Whether a call waits for money already."""
        return self._n_turns > 0

    @contextmanager
    def turn(self) -> Iterator[None]:
        """One call at a time is inside, in the order they came."""
        with self._guard:
            self._n_turns += 1
        try:
            with self._turn:
                yield
        finally:
            with self._guard:
                self._n_turns -= 1

    def begin(self, micros: int) -> None:
        """Count a hold, before it is stored."""
        with self._guard:
            self._n += 1
            self.micros += micros

    def end(self, micros: int) -> None:
        """The hold has ended, or was refused: those that wait look again."""
        with self._guard:
            self._n -= 1
            self.micros -= micros
            self.n_ended += 1
            waiting, self._waiting = self._waiting, []
        for event in waiting:
            event.set()

    def wait(self, n_ended: int) -> bool:
        """Wait until more than `n_ended` holds have ended.

        Returns:
            Whether to look again; False, at once, if none is in flight or this call is cancelled.
        """
        if is_cancelled():
            return False
        with self._guard:
            if self.n_ended != n_ended:
                return True
            if not self._n:
                return False
            event = Event()
            self._waiting.append(event)
        event.wait()
        return not is_cancelled()
