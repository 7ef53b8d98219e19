"""Who does the calls of the engine of one machine: a thread for each that is in flight, or fibres in one thread."""

from __future__ import annotations

import gc
import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Generic, Protocol, TypeVar

from potstill.engines.greenlets import Loop, cut_short_by

Item = TypeVar("Item")
Result = TypeVar("Result")

NOTICE_S = 0.5


class Call(Generic[Item, Result]):
    """One item, and what comes of it."""

    def __init__(self, item: Item) -> None:
        self.item = item
        self.value: Result | None = None
        self.error: BaseException | None = None
        # A bare lock, held until it is over: the cheapest thing to wait on.
        self.door = threading.Lock()
        self.door.acquire()

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return not self.door.locked()

    def result(self) -> Result:
        """What it returned, once it has; raises what it raised."""
        # A Ctrl-C in the instant before a wait begins does not wake it, and is noticed when it ends.
        while not self.door.acquire(timeout=NOTICE_S):
            pass
        self.door.release()
        if self.error is not None:
            raise self.error
        return self.value  # type: ignore[return-value]

    def made_by(self, do: Callable[[Item], Result], stop: threading.Event) -> None:
        """Do it; an error also sets `stop`."""
        try:
            self.value = do(self.item)
        except BaseException as error:
            stop.set()
            self.error = error
        finally:
            self.door.release()


class Crew(Protocol[Item, Result]):
    """Does items with one function, a bounded number at once, in the order they are taken.

    What was begun is always done, also when another fails meanwhile: somebody waits for it. After `stop` was set
    nothing more is begun. A process that ends does not wait for a crew.
    """

    stop: threading.Event

    def take(self, item: Item) -> Call[Item, Result]:
        """Have the item done by whoever is free next."""

    def leave(self) -> None:
        """Begin nothing more and wait for what is in flight."""


class _Hands(Generic[Item, Result]):
    """What both crews have: `do` is the function, `most` how many of them there are at most."""

    def __init__(self, do: Callable[[Item], Result], most: int) -> None:
        self.stop = threading.Event()
        self._do = do
        self._most = most
        self._over = False


class Threads(_Hands[Item, Result]):
    """A `Crew` of threads."""

    def __init__(self, do: Callable[[Item], Result], most: int) -> None:
        super().__init__(do, most)
        self._queue: SimpleQueue[Call[Item, Result] | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []

    def take(self, item: Item) -> Call[Item, Result]:
        """See `Crew`."""
        call: Call[Item, Result] = Call(item)
        self._queue.put(call)
        if len(self._threads) < self._most:
            thread = threading.Thread(target=self._work, daemon=True, name=f"potstill_{len(self._threads)}")
            self._threads.append(thread)
            thread.start()
        return call

    def _work(self) -> None:
        with cut_short_by(self.stop):
            while not self.stop.is_set() and (call := self._queue.get()) is not None and not self._over:
                call.made_by(self._do, self.stop)

    def leave(self) -> None:
        """See `Crew`."""
        self._over = True
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            _joined(thread)


class Garbage:
    """How often the interpreter looks for garbage while calls are in flight; shared by all that ask for less often.

    What belongs to a call lives as long as its request: by the usual measure it counts as old by then, and everything
    there is, all imported libraries included, is looked through again and again, for 0.08 s each time.
    """

    YOUNG = 20_000

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._asked = 0
        self._usual = 0

    def less_often(self) -> None:
        """Look less often until `as_usual` was called as many times; nothing changes where nobody looks at all."""
        with self._guard:
            self._asked += 1
            self._usual, *older = gc.get_threshold() if self._asked == 1 else (self._usual, *gc.get_threshold()[1:])
            if self._usual:
                gc.set_threshold(max(self._usual, self.YOUNG), *older)

    def as_usual(self) -> None:
        """Look as often as before."""
        with self._guard:
            self._asked -= 1
            if not self._asked:
                gc.set_threshold(self._usual, *gc.get_threshold()[1:])


GARBAGE = Garbage()


class Fibres(_Hands[Item, Result]):
    """A `Crew` of fibres in one thread, for calls that do little but wait, by `engines.greenlets` alone."""

    def __init__(self, do: Callable[[Item], Result], most: int) -> None:
        super().__init__(do, most)
        self._queue: deque[Call[Item, Result]] = deque()
        self._busy = 0
        self._loop = Loop(self.stop)
        GARBAGE.less_often()
        self._thread = threading.Thread(target=self._loop.run, daemon=True, name="potstill_fibres")
        self._thread.start()

    def take(self, item: Item) -> Call[Item, Result]:
        """See `Crew`."""
        call: Call[Item, Result] = Call(item)
        self._queue.append(call)
        if self._busy < self._most:
            self._loop.call(self._hire)
        return call

    def _hire(self) -> None:
        if self._queue and self._busy < self._most and not self._over and not self.stop.is_set():
            self._busy += 1
            self._loop.begin(self._work)

    def _work(self) -> None:
        while self._queue and not self._over and not self.stop.is_set():
            self._queue.popleft().made_by(self._do, self.stop)
        self._busy -= 1
        # What came after the last look into the queue found everybody busy.
        self._hire()

    def leave(self) -> None:
        """See `Crew`."""
        self._over = True
        self._loop.end()
        _joined(self._thread)
        GARBAGE.as_usual()


def _joined(thread: threading.Thread) -> None:
    while thread.is_alive():
        thread.join(NOTICE_S)
