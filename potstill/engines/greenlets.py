"""Waiting inside a call: it blocks its thread, or lets the other calls of its thread run.

Hundreds of threads that wait for a server spend more time taking turns in the interpreter than working. So calls that
mostly wait can run as greenlets: they share one thread, and the asyncio event loop there resumes each when what it
waits for is ready. The functions here serve both, so the code that waits is written once, without `async`. Code that
waits in any other way inside a greenlet holds up all the others. `is_cancelled` says whether a call should end early.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from importlib.util import find_spec
from typing import Any, TypeVar

T = TypeVar("T")

# A greenlet that yields lets this many others run, or as many as become ready within this time.
YIELD_AFTER, YIELD_WAIT_S = 32, 0.002

_stop: ContextVar[threading.Event | None] = ContextVar("stop", default=None)
# The loop whose greenlet is running; None in a plain thread.
_loop: ContextVar[GreenletLoop | None] = ContextVar("loop", default=None)


@contextmanager
def cancel_on(stop: threading.Event) -> Iterator[None]:
    """Calls made inside the block are cancelled once `stop` is set."""
    token = _stop.set(stop)
    try:
        yield
    finally:
        _stop.reset(token)


def is_cancelled() -> bool:
    """Whether the result of this call is no longer needed, so that it should begin nothing new."""
    stop = _stop.get()
    return stop is not None and stop.is_set()


def sleep(seconds: float) -> bool:
    """Wait. Returns False, at once, if the call is cancelled."""
    stop, loop = _stop.get(), _loop.get()
    if loop is not None:
        return loop.sleep(seconds, stop)
    if stop is None:
        time.sleep(seconds)
        return True
    return not stop.wait(seconds)


def wait_for(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on the shared event loop and return its result; raises what it raises."""
    loop = _loop.get()
    if loop is not None:
        return loop.wait_for(coroutine)
    future = asyncio.run_coroutine_threadsafe(coroutine, event_loop())
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise


def in_greenlet() -> bool:
    """Whether the caller runs in a greenlet, where blocking would hold up all the others."""
    return _loop.get() is not None


def yield_to_others() -> None:
    """In a greenlet: let others that are ready run first, so that one write can serve many. In a thread: nothing."""
    loop = _loop.get()
    if loop is not None:
        loop.yield_to_others()


class Event:
    """Only its creator, a thread or a greenlet, may wait for it; it may be set from any thread.

    Unlike `threading.Event` it is cleared by the wait that it ends.
    """

    def __init__(self) -> None:
        self._loop = _loop.get()
        self._is_set = False
        self._waiting: Any = None
        if self._loop is None:
            # A bare lock, held: the cheapest thing that one thread can wait for and another can release.
            self._lock = threading.Lock()
            self._lock.acquire()

    def wait(self) -> None:
        """Return once it is set."""
        if self._loop is None:
            self._lock.acquire()
            return
        if not self._is_set:
            self._waiting = self._loop.current()
            self._loop.switch_out()
        self._is_set = False

    def set(self) -> None:
        """Resume the creator if it waits."""
        if self._loop is None:
            self._lock.release()
        elif self._loop is _loop.get():
            self._resume()
        else:
            self._loop.call_soon(self._resume)

    def _resume(self) -> None:
        self._is_set = True
        if self._waiting is not None and self._loop is not None:
            self._loop.resume(self._waiting)
            self._waiting = None


class Semaphore:
    """At most `limit` calls inside at once; the others enter in the order they came."""

    def __init__(self, limit: int) -> None:
        self._free = limit
        self._guard = threading.Lock()
        self._waiting: deque[Event] = deque()

    def __enter__(self) -> None:
        with self._guard:
            if self._free:
                self._free -= 1
                return
            event = Event()
            self._waiting.append(event)
        event.wait()

    def __exit__(self, *_: object) -> None:
        with self._guard:
            if not self._waiting:
                self._free += 1
                return
            event = self._waiting.popleft()
        event.set()


def has_greenlets() -> bool:
    """Whether the library is installed."""
    return find_spec("greenlet") is not None


@cache
def event_loop() -> asyncio.AbstractEventLoop:
    """The process's event loop for calls that wait, in a daemon thread of its own. Begun when first needed."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True, name="potstill_events").start()
    return loop


@cache
def greenlet_loop() -> GreenletLoop:
    """The greenlets of the shared event loop."""
    return GreenletLoop(event_loop())


class GreenletLoop:
    """Runs greenlets on an event loop.

    `call_soon` may be called from any thread, all else from the loop's thread alone.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        import greenlet

        self._events = loop
        self._greenlet = greenlet.greenlet
        self.current: Callable[[], Any] = greenlet.getcurrent
        self._home: Any = None
        # Sleeping greenlet -> what wakes it, and what cancels its call.
        self._sleeping: dict[Any, tuple[asyncio.TimerHandle, threading.Event | None]] = {}
        self._yielding: list[Any] = []
        self._n_ran = 0

    def call_soon(self, function: Callable[[], None]) -> None:
        """Have `function` called in the loop's thread; it must not wait."""
        self._events.call_soon_threadsafe(function)

    def spawn(self, function: Callable[[], None], stop: threading.Event) -> None:
        """Run `function` in a new greenlet, cancelled by `stop`. It must not raise."""

        def run() -> None:
            # A greenlet begins with a context of its own.
            _loop.set(self)
            with cancel_on(stop):
                function()

        if self._home is None:
            self._home = self.current()
        self.resume(self._greenlet(run, self._home))

    def resume(self, waiting: Any) -> None:
        """Have a greenlet go on."""
        self._events.call_soon(self._switch, waiting)

    def cancel_sleeps(self, stop: threading.Event) -> None:
        """Wake all greenlets that `stop` cancels."""
        for sleeping, (handle, cancelled_by) in list(self._sleeping.items()):
            if cancelled_by is stop:
                handle.cancel()
                self.resume(sleeping)

    def _switch(self, waiting: Any) -> None:
        self._n_ran += 1
        waiting.switch()
        if self._yielding and self._n_ran >= YIELD_AFTER:
            self._resume_yielding()

    def _resume_yielding(self) -> None:
        yielding, self._yielding = self._yielding, []
        for each in yielding:
            self.resume(each)

    # --- called by the greenlets ----------------------------------------------------------------------------

    def switch_out(self) -> None:
        """Let others run until `resume` is called with this greenlet."""
        self._home.switch()

    def yield_to_others(self) -> None:
        """See the function of this name."""
        if not self._yielding:
            self._n_ran = 0
            self._events.call_later(YIELD_WAIT_S, self._resume_yielding)
        self._yielding.append(self.current())
        self._home.switch()

    def sleep(self, seconds: float, stop: threading.Event | None) -> bool:
        """See the function of this name."""
        if stop is not None and stop.is_set():
            return False
        ends, current = time.monotonic() + seconds, self.current()
        self._sleeping[current] = self._events.call_later(seconds, self._switch, current), stop
        try:
            self._home.switch()
        finally:
            del self._sleeping[current]
        return stop is None or not stop.is_set() or time.monotonic() >= ends

    def wait_for(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """See the function of this name."""
        current = self.current()
        task = self._events.create_task(coroutine)
        task.add_done_callback(lambda _: self._switch(current))
        self._home.switch()
        return task.result()
