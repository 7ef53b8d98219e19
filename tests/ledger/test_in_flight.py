"""A hold that is refused only because of calls in flight waits for them; every other one is refused at once."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest

from potstill.errors import BoundExceeded, BudgetExceeded
from potstill.ledger.ledger import Ledger
from potstill.ledger.prices import Purchase
from potstill.ledger.store import RunStore

ASK = Purchase("llm", "teach", "one call")


@pytest.fixture
def store(tmp_path):
    opened = RunStore(tmp_path, write=True)
    yield opened
    opened.close()


def in_threads(calls):
    """The results of the calls, each made in a thread of its own."""
    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(lambda call: call(), calls))


def test_a_hold_that_fits_once_those_in_flight_are_settled_waits_for_them(store):
    ledger = Ledger(store, 1000)
    held, wants = Event(), Event()

    def first():
        with ledger.hold(900, ASK) as hold:
            held.set()
            assert wants.wait(10)
            time.sleep(0.02)
            hold.settle(1)

    def second():
        assert held.wait(10)
        wants.set()
        with ledger.hold(900, ASK, wait=True) as hold:
            hold.settle(1)

    in_threads([first, second])
    assert ledger.totals().calls == 2


def test_a_hold_that_can_never_fit_and_one_that_waits_for_none_are_refused_at_once(store):
    ledger = Ledger(store, 1000)
    with ledger.hold(200, ASK) as hold:
        hold.settle(200)
    with pytest.raises(BudgetExceeded), ledger.hold(900, ASK, wait=True):
        pytest.fail("the call was made")
    with ledger.hold(500, ASK), pytest.raises(BudgetExceeded), ledger.hold(900, ASK, wait=True):
        pytest.fail("the call was made")
    with ledger.hold(200, ASK), pytest.raises(BudgetExceeded), ledger.hold(600, ASK):
        pytest.fail("the call was made")


@pytest.mark.parametrize("n_threads", [2, 16])
def test_with_waiting_the_money_ends_where_it_ends_for_one_call_after_the_other(store, n_threads):
    ledger = Ledger(store, 1000)

    def worker():
        try:
            while True:
                with ledger.hold(97, ASK, wait=True) as hold:
                    hold.settle(9)
        except BudgetExceeded:
            return

    in_threads([worker] * n_threads)
    assert ledger.totals().calls == (1000 - 97) // 9 + 1


def test_calls_that_wait_are_served_in_the_order_they_came_whatever_they_cost(store):
    ledger, order = Ledger(store, 1000), []

    def call(number):
        with ledger.hold(950 - 60 * number, ASK, wait=True) as hold:
            order.append(number)
            hold.settle(1)

    with ThreadPoolExecutor(9) as pool, ledger.hold(900, ASK) as hold:
        for number in range(8):
            pool.submit(call, number)
            while ledger._in_flight._n_turns <= number:
                time.sleep(0.001)
        hold.settle(1)
    assert order == list(range(8))


def test_waiting_ends_with_an_overcharge_and_with_a_hold_that_is_lost(store):
    ledger = Ledger(store, 1000)
    held = Event()

    def overcharged():
        with pytest.raises(BoundExceeded), ledger.hold(900, ASK) as hold:
            held.set()
            time.sleep(0.02)
            hold.settle(950)

    def waiting():
        assert held.wait(10)
        with pytest.raises(BoundExceeded), ledger.hold(900, ASK, wait=True):
            pytest.fail("the call was made")

    in_threads([overcharged, waiting])


def test_a_finished_run_refuses_a_hold_that_would_wait(store):
    ledger = Ledger(store, 1000)
    ledger.is_closed = True
    with pytest.raises(BudgetExceeded, match="buys nothing more"), ledger.hold(10, ASK, wait=True):
        pytest.fail("the call was made")
