"""The engine of one machine: a bounded number of calls in flight, results in the order of the items."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable

from potstill.engines.base import Item, Result
from potstill.engines.greenlets import has_greenlets, in_greenlet
from potstill.engines.workers import Future, GreenletPool, ThreadPool, WorkerPool

LOOKAHEAD = 64  # items taken ahead for each call in flight: one slow call must not leave the others without work
STOPPING_MESSAGE = (
    "Stopping: what is in flight ends and is booked. Ctrl-C once more leaves at once and books it as lost."
)


class LocalEngine:
    """Runs a function over items in threads.

    Args:
        reporter: is called with a sentence on Ctrl-C while calls are in flight.
    """

    def __init__(self, reporter: Callable[[str], None] | None = None) -> None:
        self._reporter = reporter

    def map(
        self,
        function: Callable[[Item], Result],
        items: Iterable[Item],
        parallel: int = 1,
        *,
        greenlet_safe: bool = False,
    ) -> Generator[Result]:
        """Yield `function(item)` for each item, `parallel` at once, in the order of the items; see `Engine.map`.

        Items are taken at most `LOOKAHEAD * parallel` ahead of what was yielded. Closing the generator begins no more
        calls and waits for those in flight. So does the first exception, which is raised in its call's turn, and one
        raised in this thread (Ctrl-C); then the calls in flight are also cancelled: each finishes the request it waits
        for and begins no other (`greenlets.sleep` returns False). A second Ctrl-C does not wait for them.
        """
        if parallel <= 1 or in_greenlet():
            yield from map(function, items)
            return
        pool: WorkerPool[Item, Result] = (GreenletPool if greenlet_safe and has_greenlets() else ThreadPool)(
            function, parallel
        )
        waiting: deque[Future[Item, Result]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(item))
                while waiting and (waiting[0].done or len(waiting) >= LOOKAHEAD * parallel):
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except GeneratorExit:
            pool.shutdown()
            raise
        except BaseException as error:
            # No `finally`: a second Ctrl-C anywhere in here leaves at once, also before the waiting has begun.
            pool.stop.set()
            if isinstance(error, KeyboardInterrupt) and self._reporter is not None:
                self._reporter(STOPPING_MESSAGE)
            pool.shutdown()
            raise
        pool.shutdown()
