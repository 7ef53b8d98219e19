"""The engine of one machine: threads, a bounded number in flight, results in the order of the items."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class Local:
    """Runs a function over items in threads."""

    def map(self, do: Callable[[Item], Result], items: Iterable[Item], parallel: int = 1) -> Iterator[Result]:
        """`do(item)` for each item, at most `parallel` at once, yielded in the order of the items.

        Items are taken only as there is room, so an endless iterable is fine. The first exception stops the
        taking, lets what is in flight end, and is raised here; so does leaving the loop early.
        """
        if parallel <= 1:
            yield from map(do, items)
            return
        waiting: deque[Future[Result]] = deque()
        with ThreadPoolExecutor(parallel, thread_name_prefix="potstill") as pool:
            for item in items:
                waiting.append(pool.submit(do, item))
                if len(waiting) >= parallel:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
