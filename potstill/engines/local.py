"""The engine of one machine: threads, a bounded number in flight, results in the order of the items."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from typing import TypeVar

from potstill.engines.base import cut_short_by

Item = TypeVar("Item")
Result = TypeVar("Result")

# So many items for each call in flight are taken ahead: one slow call must not leave the others without work.
AHEAD = 64


class Local:
    """Runs a function over items in threads."""

    def map(self, do: Callable[[Item], Result], items: Iterable[Item], parallel: int = 1) -> Generator[Result]:
        """`do(item)` for each item, at most `parallel` at once, yielded in the order of the items.

        Items are taken at most `AHEAD * parallel` ahead of what was yielded, so an endless iterable is fine. Leaving
        the loop early begins no more and lets what is in flight end. So does the first exception, which is raised
        here in its turn, and one that comes to this thread (Ctrl-C); then what is in flight is also cut short: it
        finishes the request it waits for and begins no other (`base.rest`).
        """
        if parallel <= 1:
            yield from map(do, items)
            return
        stop = threading.Event()

        def work(item: Item) -> Result:
            # Whatever failed was begun before this, so its exception is met first.
            if stop.is_set():
                raise CancelledError
            with cut_short_by(stop):
                try:
                    return do(item)
                except BaseException:
                    stop.set()
                    raise

        waiting: deque[Future[Result]] = deque()
        pool = ThreadPoolExecutor(parallel, thread_name_prefix="potstill")
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                while waiting and (waiting[0].done() or len(waiting) >= AHEAD * parallel):
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except GeneratorExit:
            raise
        except BaseException:
            stop.set()
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
