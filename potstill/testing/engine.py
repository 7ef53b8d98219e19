"""What every engine promises, as tests. Says nothing about how fast it is."""

from __future__ import annotations

import threading
import time
from itertools import count

from potstill.engines.base import Engine
from potstill.testing.checks import check

DEADLINE_S = 20.0


class EngineContract:
    """What every engine promises. Override `open_engine`."""

    def open_engine(self) -> Engine:
        """A new engine of this kind."""
        raise NotImplementedError

    def test_results_come_in_the_order_of_the_items(self) -> None:
        """A call that takes longer than the next one is yielded first all the same."""

        def call(item: int) -> int:
            time.sleep(0.01 * (3 - item % 4))
            return item * item

        for parallel in (1, 4):
            found = list(self.open_engine().map(call, range(20), parallel))
            check(found == [item * item for item in range(20)], f"with {parallel} calls at once it yielded {found}")

    def test_no_items_give_no_results(self) -> None:
        """An empty iterable is not an error."""
        check(list(self.open_engine().map(lambda item: item, iter(()), 4)) == [], "no items gave a result")

    def test_no_more_calls_run_at_once_than_asked(self) -> None:
        """`parallel` is an upper limit."""
        lock, running, most = threading.Lock(), 0, 0

        def call(item: int) -> int:
            nonlocal running, most
            with lock:
                running += 1
                most = max(most, running)
            time.sleep(0.005)
            with lock:
                running -= 1
            return item

        for parallel in (1, 3):
            most = 0
            list(self.open_engine().map(call, range(12), parallel))
            check(most <= parallel, f"{most} calls ran at once and {parallel} were asked for")

    def test_endless_items_are_taken_as_they_are_needed(self) -> None:
        """Few items are taken ahead of what was yielded."""
        results = self.open_engine().map(lambda item: item, count(), 2)
        found = [next(results) for _ in range(5)]
        results.close()
        check(found == list(range(5)), f"the first five of endless items gave {found}")

    def test_an_exception_is_raised_and_starts_no_more_calls(self) -> None:
        """The results before it are yielded; items long after it are not begun."""
        begun: list[int] = []

        def call(item: int) -> int:
            begun.append(item)
            if item == 3:
                raise ValueError("three")
            return item

        found: list[int] = []
        try:
            found.extend(self.open_engine().map(call, range(100_000), 2))
        except ValueError as error:
            check(str(error) == "three", f"another error came: {error}")
        else:
            check(False, "the error of a call was not raised")
        check(found == list(range(len(found))) and len(found) <= 3, f"before the error it yielded {found}")
        check(len(begun) < 1000, f"{len(begun)} calls were begun after one had failed")

    def test_closing_waits_for_the_calls_in_flight(self) -> None:
        """Money is booked by the calls: none may be left running, and none is begun any more."""
        begun: list[int] = []
        ended: list[int] = []

        def call(item: int) -> int:
            begun.append(item)
            time.sleep(0.02)
            ended.append(item)
            return item

        results = self.open_engine().map(call, count(), 3)
        next(results)
        results.close()
        n = len(begun)
        check(sorted(begun) == sorted(ended), f"{n} calls were begun and {len(ended)} had ended")
        time.sleep(0.05)
        check(len(begun) == n, "a call was begun after closing")
