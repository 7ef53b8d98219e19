"""The engine of one machine keeps the contract of engines, and a broken one does not."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from typing import Any

import pytest

from potstill.engines.base import Engine
from potstill.engines.kinds import open_engine
from potstill.errors import UnknownName
from potstill.testing import EngineContract, run_contract


class TestLocalEngine(EngineContract):
    """The engine that ships."""

    def open_engine(self) -> Engine:
        return open_engine("local")


class Eager:
    """Takes all items at once, in the wrong order, and does not stop at an error."""

    def map(
        self, function: Callable[[Any], Any], items: Iterable[Any], parallel: int = 1, *, greenlet_safe: bool = False
    ) -> Generator[Any]:
        taken = [item for item, _ in zip(items, range(20_000), strict=False)]
        done, error = [], None
        for item in reversed(taken):
            try:
                done.append(function(item))
            except ValueError as caught:
                error = caught
        if error is not None:
            raise error
        yield from done


def test_an_engine_that_breaks_its_promises_is_found_out():
    class Broken(EngineContract):
        def open_engine(self) -> Engine:
            return Eager()

    class Quick(Broken):
        def test_closing_waits_for_the_calls_in_flight(self) -> None:
            """Left out: it would take all items, 0.02 s each."""

    broken = run_contract(Quick())
    assert set(broken) == {
        "test_results_come_in_the_order_of_the_items",
        "test_endless_items_are_taken_as_they_are_needed",
        "test_an_exception_is_raised_and_starts_no_more_calls",
    }


def test_an_unknown_engine_is_refused_with_the_nearest_name():
    with pytest.raises(UnknownName, match="no engine called 'locl'") as refused:
        open_engine("locl")
    assert "'local'" in refused.value.hint
