"""The workers of the engine of one machine: a thread for each call in flight, or greenlets in one thread."""

from __future__ import annotations

import gc
import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Generic, Protocol

from potstill.engines.base import Item, Result
from potstill.engines.greenlets import cancel_on, greenlet_loop

JOIN_POLL_S = 0.5


class Future(Generic[Item, Result]):
    """One item, and its result once it is done."""

    def __init__(self, item: Item) -> None:
        self.item = item
        self.value: Result | None = None
        self.error: BaseException | None = None
        # A bare lock, held until the call ends: the cheapest thing to wait on.
        self.lock = threading.Lock()
        self.lock.acquire()

    @property
    def done(self) -> bool:
        """Whether the call has ended."""
        return not self.lock.locked()

    def result(self) -> Result:
        """Wait for the call; return what it returned, or raise what it raised."""
        # A Ctrl-C in the instant before a wait begins does not wake it, and is noticed when it ends.
        while not self.lock.acquire(timeout=JOIN_POLL_S):
            pass
        self.lock.release()
        if self.error is not None:
            raise self.error
        return self.value  # type: ignore[return-value]

    def run(self, function: Callable[[Item], Result], stop: threading.Event) -> None:
        """Call `function`; an error also sets `stop`."""
        try:
            self.value = function(self.item)
        except BaseException as error:
            stop.set()
            self.error = error
        finally:
            self.lock.release()


class WorkerPool(Protocol[Item, Result]):
    """Calls one function with items, a bounded number at once, in the order they were submitted.

    A call that was begun always ends, even if another fails meanwhile: its caller waits for it. Once `stop` is set no
    call is begun. A process that ends does not wait for a pool.
    """

    stop: threading.Event

    def submit(self, item: Item) -> Future[Item, Result]:
        """Queue the item for the next free worker."""

    def shutdown(self) -> None:
        """Begin no more calls, and wait for those in flight."""


class _BasePool(Generic[Item, Result]):
    """What both pools share: the function, and the number of workers at most."""

    def __init__(self, function: Callable[[Item], Result], limit: int) -> None:
        self.stop = threading.Event()
        self._function = function
        self._limit = limit
        self._is_closed = False


class ThreadPool(_BasePool[Item, Result]):
    """A `WorkerPool` of threads."""

    def __init__(self, function: Callable[[Item], Result], limit: int) -> None:
        super().__init__(function, limit)
        self._queue: SimpleQueue[Future[Item, Result] | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []

    def submit(self, item: Item) -> Future[Item, Result]:
        """See `WorkerPool`."""
        call: Future[Item, Result] = Future(item)
        self._queue.put(call)
        if len(self._threads) < self._limit:
            thread = threading.Thread(target=self._work, daemon=True, name=f"potstill_{len(self._threads)}")
            self._threads.append(thread)
            thread.start()
        return call

    def _work(self) -> None:
        with cancel_on(self.stop):
            while not self.stop.is_set() and (call := self._queue.get()) is not None and not self._is_closed:
                call.run(self._function, self.stop)

    def shutdown(self) -> None:
        """See `WorkerPool`."""
        self._is_closed = True
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            _join(thread)


class GcThrottle:
    """Makes garbage collection rarer while calls are in flight; shared by all pools.

    The objects of a call live as long as its request. With the default threshold they reach the oldest generation, and
    all objects, those of imported libraries included, are traversed again and again, 0.08 s each time.
    """

    GEN0_THRESHOLD = 20_000

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._n_acquired = 0
        self._threshold = 0

    def acquire(self) -> None:
        """Raise the threshold until `release` was called as often; does nothing if garbage collection is off."""
        with self._guard:
            self._n_acquired += 1
            self._threshold, *older = (
                gc.get_threshold() if self._n_acquired == 1 else (self._threshold, *gc.get_threshold()[1:])
            )
            if self._threshold:
                gc.set_threshold(max(self._threshold, self.GEN0_THRESHOLD), *older)

    def release(self) -> None:
        """Restore the threshold with the last release."""
        with self._guard:
            self._n_acquired -= 1
            if not self._n_acquired:
                gc.set_threshold(self._threshold, *gc.get_threshold()[1:])


GC_THROTTLE = GcThrottle()


class GreenletPool(_BasePool[Item, Result]):
    """A `WorkerPool` of greenlets in one thread, for calls that mostly wait, by `engines.greenlets` alone."""

    def __init__(self, function: Callable[[Item], Result], limit: int) -> None:
        super().__init__(function, limit)
        self._queue: deque[Future[Item, Result]] = deque()
        self.n_busy = 0
        self._loop = greenlet_loop()
        self._ended = threading.Event()
        GC_THROTTLE.acquire()

    def submit(self, item: Item) -> Future[Item, Result]:
        """See `WorkerPool`."""
        call: Future[Item, Result] = Future(item)
        self._queue.append(call)
        if self.n_busy < self._limit:
            self._loop.call_soon(self._add_worker)
        return call

    def _add_worker(self) -> None:
        if self._queue and self.n_busy < self._limit and not self._is_closed and not self.stop.is_set():
            self.n_busy += 1
            self._loop.spawn(self._work, self.stop)

    def _work(self) -> None:
        while self._queue and not self._is_closed and not self.stop.is_set():
            self._queue.popleft().run(self._function, self.stop)
        if self.stop.is_set():
            self._loop.cancel_sleeps(self.stop)
        self.n_busy -= 1
        # An item that came after the last look into the queue found every greenlet busy.
        self._add_worker()
        self._end_if_idle()

    def _end_if_idle(self) -> None:
        if self._is_closed and not self.n_busy:
            self._ended.set()

    def _end(self) -> None:
        if self.stop.is_set():
            self._loop.cancel_sleeps(self.stop)
        self._end_if_idle()

    def shutdown(self) -> None:
        """See `WorkerPool`."""
        self._is_closed = True
        self._loop.call_soon(self._end)
        while not self._ended.wait(JOIN_POLL_S):
            pass
        GC_THROTTLE.release()


def _join(thread: threading.Thread) -> None:
    while thread.is_alive():
        thread.join(JOIN_POLL_S)
