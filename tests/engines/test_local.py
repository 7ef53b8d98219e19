"""The engine of one machine."""

from __future__ import annotations

import threading
import time
from itertools import count

import pytest

from potstill.engines.local import Local


@pytest.mark.parametrize("parallel", [1, 4])
def test_results_come_in_the_order_of_the_items(parallel):
    def slow_first(item: int) -> int:
        time.sleep(0.02 if item % 4 == 0 else 0)
        return item * item

    assert list(Local().map(slow_first, range(20), parallel)) == [i * i for i in range(20)]


def test_no_more_calls_are_in_flight_than_allowed():
    flying, most, guard = 0, 0, threading.Lock()

    def call(_: int) -> None:
        nonlocal flying, most
        with guard:
            flying += 1
            most = max(most, flying)
        time.sleep(0.005)
        with guard:
            flying -= 1

    list(Local().map(call, range(40), 5))
    assert 1 < most <= 5


def test_an_endless_supply_is_fine_when_somebody_stops_listening():
    taken = []
    for result in Local().map(lambda item: item, count(), 4):
        taken.append(result)
        if result == 10:
            break
    assert taken == list(range(11))


def test_the_first_exception_stops_the_taking():
    begun: list[int] = []

    def call(item: int) -> int:
        begun.append(item)
        if item == 3:
            raise ValueError("three")
        return item

    with pytest.raises(ValueError, match="three"):
        list(Local().map(call, range(1000), 4))
    assert len(begun) < 20
