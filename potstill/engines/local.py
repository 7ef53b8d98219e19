"""The engine of one machine: a bounded number of calls in flight, results in the order of the items."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from typing import TypeVar

from potstill.engines.greenlets import has_fibres
from potstill.engines.workers import Call, Crew, Fibres, Threads

Item = TypeVar("Item")
Result = TypeVar("Result")

# So many items for each call in flight are taken ahead: one slow call must not leave the others without work.
AHEAD = 64


STOPPING = "Stopping: what is in flight ends and is booked. Ctrl-C once more leaves at once and books it as lost."


class Local:
    """Runs a function over items in threads.

    Args:
        tell: hears a sentence when Ctrl-C comes and calls are in flight.
    """

    def __init__(self, tell: Callable[[str], None] | None = None) -> None:
        self._tell = tell

    def map(
        self, do: Callable[[Item], Result], items: Iterable[Item], parallel: int = 1, *, light: bool = False
    ) -> Generator[Result]:
        """`do(item)` for each item, at most `parallel` at once, yielded in the order of the items.

        `light` says that `do` does little but wait, by `engines.greenlets` alone; then one thread is enough.

        Items are taken at most `AHEAD * parallel` ahead of what was yielded, so an endless iterable is fine. Leaving
        the loop early begins no more and lets what is in flight end. So does the first exception, which is raised
        here in its turn, and one that comes to this thread (Ctrl-C); then what is in flight is also cut short: it
        finishes the request it waits for and begins no other (`waiting.rest`). A second Ctrl-C does not wait for it.
        """
        if parallel <= 1:
            yield from map(do, items)
            return
        crew: Crew[Item, Result] = (Fibres if light and has_fibres() else Threads)(do, parallel)
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
