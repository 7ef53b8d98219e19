"""Who does the calls of the engine of one machine: a thread for each that is in flight, or fibres in one thread."""

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
    """One item, and what comes of it."""

    def __init__(self, item: Item) -> None:
        self.item = item
        self.value: Result | None = None
        self.error: BaseException | None = None
        # A bare lock, held until it is over: the cheapest thing to wait on.
        self.lock = threading.Lock()
        self.lock.acquire()

    @property
    def done(self) -> bool:
        """Whether it has ended."""
        return not self.lock.locked()

    def result(self) -> Result:
        """What it returned, once it has; raises what it raised."""
        # A Ctrl-C in the instant before a wait begins does not wake it, and is noticed when it ends.
        while not self.lock.acquire(timeout=JOIN_POLL_S):
            pass
        self.lock.release()
        if self.error is not None:
            raise self.error
        return self.value  # type: ignore[return-value]

    def run(self, function: Callable[[Item], Result], stop: threading.Event) -> None:
        """Do it; an error also sets `stop`."""
        try:
            self.value = function(self.item)
        except BaseException as error:
            stop.set()
            self.error = error
        finally:
            self.lock.release()


class WorkerPool(Protocol[Item, Result]):
    """Does items with one function, a bounded number at once, in the order they are taken.

    What was begun is always done, also when another fails meanwhile: somebody waits for it. After `stop` was set
    nothing more is begun. A process that ends does not wait for a crew.
    """

    stop: threading.Event

    def submit(self, item: Item) -> Future[Item, Result]:
        """Have the item done by whoever is free next."""

    def shutdown(self) -> None:
        """Begin nothing more and wait for what is in flight."""


class _Hands(Generic[Item, Result]):
    """What both crews have: `do` is the function, `most` how many of them there are at most."""

    def __init__(self, function: Callable[[Item], Result], limit: int) -> None:
        self.stop = threading.Event()
        self._do = function
        self._most = limit
        self._over = False


class ThreadPool(_Hands[Item, Result]):
    """A `Crew` of threads."""

    def __init__(self, function: Callable[[Item], Result], limit: int) -> None:
        super().__init__(function, limit)
        self._queue: SimpleQueue[Future[Item, Result] | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []

    def submit(self, item: Item) -> Future[Item, Result]:
        """See `Crew`."""
        call: Future[Item, Result] = Future(item)
        self._queue.put(call)
        if len(self._threads) < self._most:
            thread = threading.Thread(target=self._work, daemon=True, name=f"potstill_{len(self._threads)}")
            self._threads.append(thread)
            thread.start()
        return call

    def _work(self) -> None:
        with cancel_on(self.stop):
            while not self.stop.is_set() and (call := self._queue.get()) is not None and not self._over:
                call.run(self._do, self.stop)

    def shutdown(self) -> None:
        """See `Crew`."""
        self._over = True
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            _joined(thread)


class GcThrottle:
    """How often the interpreter looks for garbage while calls are in flight; shared by all that ask for less often.

    What belongs to a call lives as long as its request: by the usual measure it counts as old by then, and everything
    there is, all imported libraries included, is looked through again and again, for 0.08 s each time.
    """

    GEN0_THRESHOLD = 20_000

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._asked = 0
        self._usual = 0

    def acquire(self) -> None:
        """Look less often until `as_usual` was called as many times; nothing changes where nobody looks at all."""
        with self._guard:
            self._asked += 1
            self._usual, *older = gc.get_threshold() if self._asked == 1 else (self._usual, *gc.get_threshold()[1:])
            if self._usual:
                gc.set_threshold(max(self._usual, self.GEN0_THRESHOLD), *older)

    def release(self) -> None:
        """Look as often as before."""
        with self._guard:
            self._asked -= 1
            if not self._asked:
                gc.set_threshold(self._usual, *gc.get_threshold()[1:])


GC_THROTTLE = GcThrottle()


class GreenletPool(_Hands[Item, Result]):
    """A `WorkerPool` of greenlets in one thread, for calls that mostly wait, by `engines.greenlets` alone."""

    def __init__(self, function: Callable[[Item], Result], limit: int) -> None:
        super().__init__(function, limit)
        self._queue: deque[Future[Item, Result]] = deque()
        self._busy = 0
        self._loop = greenlet_loop()
        self._ended = threading.Event()
        GC_THROTTLE.acquire()

    def submit(self, item: Item) -> Future[Item, Result]:
        """See `WorkerPool`."""
        call: Future[Item, Result] = Future(item)
        self._queue.append(call)
        if self._busy < self._most:
            self._loop.call_soon(self._hire)
        return call

    def _hire(self) -> None:
        if self._queue and self._busy < self._most and not self._over and not self.stop.is_set():
            self._busy += 1
            self._loop.spawn(self._work, self.stop)

    def _work(self) -> None:
        while self._queue and not self._over and not self.stop.is_set():
            self._queue.popleft().run(self._do, self.stop)
        if self.stop.is_set():
            self._loop.cancel_sleeps(self.stop)
        self._busy -= 1
        # An item that came after the last look into the queue found every greenlet busy.
        self._hire()
        self._end_if_idle()

    def _end_if_idle(self) -> None:
        if self._over and not self._busy:
            self._ended.set()

    def _end(self) -> None:
        if self.stop.is_set():
            self._loop.cancel_sleeps(self.stop)
        self._end_if_idle()

    def shutdown(self) -> None:
        """See `WorkerPool`."""
        self._over = True
        self._loop.call_soon(self._end)
        while not self._ended.wait(JOIN_POLL_S):
            pass
        GC_THROTTLE.release()


def _joined(thread: threading.Thread) -> None:
    while thread.is_alive():
        thread.join(JOIN_POLL_S)
