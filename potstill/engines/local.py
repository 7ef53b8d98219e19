"""The engine of one machine: threads, a bounded number in flight, results in the order of the items."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from queue import SimpleQueue
from typing import Generic, TypeVar

from potstill.engines.base import cut_short_by

Item = TypeVar("Item")
Result = TypeVar("Result")

# So many items for each call in flight are taken ahead: one slow call must not leave the others without work.
AHEAD = 64


STOPPING = "Stopping: what is in flight ends and is booked. Ctrl-C once more leaves at once and books it as lost."


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
        with self.door:
            if self.error is not None:
                raise self.error
            return self.value  # type: ignore[return-value]


class Local:
    """Runs a function over items in threads.

    Args:
        tell: hears a sentence when Ctrl-C comes and calls are in flight.
    """

    def __init__(self, tell: Callable[[str], None] | None = None) -> None:
        self._tell = tell

    def map(self, do: Callable[[Item], Result], items: Iterable[Item], parallel: int = 1) -> Generator[Result]:
        """`do(item)` for each item, at most `parallel` at once, yielded in the order of the items.

        Items are taken at most `AHEAD * parallel` ahead of what was yielded, so an endless iterable is fine. Leaving
        the loop early begins no more and lets what is in flight end. So does the first exception, which is raised
        here in its turn, and one that comes to this thread (Ctrl-C); then what is in flight is also cut short: it
        finishes the request it waits for and begins no other (`base.rest`). A second Ctrl-C does not wait for it.
        """
        if parallel <= 1:
            yield from map(do, items)
            return
        crew = Crew(do, parallel)
        waiting: deque[Call[Item, Result]] = deque()
        try:
            for item in items:
                waiting.append(crew.take(item))
                while waiting and (waiting[0].over or len(waiting) >= AHEAD * parallel):
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except GeneratorExit:
            crew.leave()
            raise
        except BaseException as error:
            # No `finally`: a second Ctrl-C anywhere in here leaves at once, also before the waiting has begun.
            crew.stop.set()
            if isinstance(error, KeyboardInterrupt) and self._tell is not None:
                self._tell(STOPPING)
            crew.leave()
            raise
        crew.leave()


class Crew(Generic[Item, Result]):
    """Threads that call one function. A process that ends does not wait for them, unlike for those of an executor.

    Args:
        do: the function.
        most: how many threads there are at most.
    """

    def __init__(self, do: Callable[[Item], Result], most: int) -> None:
        self.stop = threading.Event()
        self._do = do
        self._most = most
        self._over = False
        self._queue: SimpleQueue[Call[Item, Result] | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []

    def take(self, item: Item) -> Call[Item, Result]:
        """Have the item done by whoever is free next."""
        call: Call[Item, Result] = Call(item)
        self._queue.put(call)
        if len(self._threads) < self._most:
            thread = threading.Thread(target=self._work, daemon=True, name=f"potstill_{len(self._threads)}")
            self._threads.append(thread)
            thread.start()
        return call

    def _work(self) -> None:
        with cut_short_by(self.stop):
            # What was taken from the queue is always done, also when another fails meanwhile: somebody waits for it.
            while not self.stop.is_set() and (call := self._queue.get()) is not None and not self._over:
                try:
                    call.value = self._do(call.item)
                except BaseException as error:
                    self.stop.set()
                    call.error = error
                finally:
                    call.door.release()

    def leave(self) -> None:
        """Begin nothing more and wait for what is in flight."""
        self._over = True
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join()
