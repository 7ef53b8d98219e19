"""The engine of one machine: a bounded number of calls in flight, results in the order of the items."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable

from potstill.engines.base import Item, Result
from potstill.engines.greenlets import has_greenlets, in_greenlet
from potstill.engines.workers import Future, GreenletPool, ThreadPool, WorkerPool

# So many items for each call in flight are taken ahead: one slow call must not leave the others without work.
LOOKAHEAD = 64


STOPPING_MESSAGE = (
    "Stopping: what is in flight ends and is booked. Ctrl-C once more leaves at once and books it as lost."
)


class LocalEngine:
    """Runs a function over items in threads.

    Args:
        tell: hears a sentence when Ctrl-C comes and calls are in flight.
    """

    def __init__(self, reporter: Callable[[str], None] | None = None) -> None:
        self._tell = reporter

    def map(
        self,
        function: Callable[[Item], Result],
        items: Iterable[Item],
        parallel: int = 1,
        *,
        greenlet_safe: bool = False,
    ) -> Generator[Result]:
        """`do(item)` for each item, at most `parallel` at once, yielded in the order of the items.

        `light` says that `do` does little but wait, by `engines.greenlets` alone; then one thread is enough.

        Items are taken at most `AHEAD * parallel` ahead of what was yielded, so an endless iterable is fine. Leaving
        the loop early begins no more and lets what is in flight end. So does the first exception, which is raised
        here in its turn, and one that comes to this thread (Ctrl-C); then what is in flight is also cut short: it
        finishes the request it waits for and begins no other (`waiting.rest`). A second Ctrl-C does not wait for it.
        """
        if parallel <= 1 or in_greenlet():
            yield from map(function, items)
            return
        crew: WorkerPool[Item, Result] = (GreenletPool if greenlet_safe and has_greenlets() else ThreadPool)(
            function, parallel
        )
        waiting: deque[Future[Item, Result]] = deque()
        try:
            for item in items:
                waiting.append(crew.submit(item))
                while waiting and (waiting[0].done or len(waiting) >= LOOKAHEAD * parallel):
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except GeneratorExit:
            crew.shutdown()
            raise
        except BaseException as error:
            # No `finally`: a second Ctrl-C anywhere in here leaves at once, also before the waiting has begun.
            crew.stop.set()
            if isinstance(error, KeyboardInterrupt) and self._tell is not None:
                self._tell(STOPPING_MESSAGE)
            crew.shutdown()
            raise
        crew.shutdown()
