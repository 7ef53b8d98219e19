"""A machine's clock may be set back: while a call is open, and between two starts. Money and order do not change."""

from __future__ import annotations

import time
from decimal import Decimal
from pathlib import Path

import pytest

from potstill.ledger.ledger import Ledger
from potstill.ledger.prices import Purchase, Rates, Usage
from potstill.ledger.store import HEARTBEAT_SLACK_S, AnnotationStore, RunStore

ASK = Purchase("llm", "teach", "one call")
MICROS_PER_S = 10_000
TRAIN = Purchase("compute", "train", "training", micros_per_second=MICROS_PER_S)
HOUR = 3600.0
CACHE = Path("/a/cache")


class Clock:
    """The machine's clock, which can be set."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.shift, real = 0.0, time.time
        monkeypatch.setattr(time, "time", lambda: real() + self.shift)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.mark.parametrize("shift", [-HOUR, -400 * 24 * HOUR, HOUR])
def test_a_clock_set_while_a_call_is_open_changes_no_duration(tmp_path: Path, clock: Clock, shift: float) -> None:
    store = RunStore(tmp_path, write=True)
    ledger = Ledger(store, 10**9)
    with ledger.hold(600, ASK) as hold:
        clock.shift = shift
        hold.settle(250, Usage(input_tokens=7))
    (call,) = store.calls()
    assert 0 <= call.seconds < 60
    assert call.ended_at is not None
    assert call.ended_at >= call.started_at
    store.note("a", {})
    assert store.notes()[0].time >= call.ended_at
    store.close()


@pytest.mark.parametrize("shift", [-HOUR, HOUR])
def test_machine_time_lost_by_a_kill_is_what_it_ran_whatever_the_clock_says(
    tmp_path: Path, clock: Clock, shift: float
) -> None:
    store = RunStore(tmp_path, write=True)
    hold = store.hold(TRAIN, 10**9, 10**9)
    assert hold is not None
    clock.shift = shift
    store.heartbeat(hold)
    store.close()
    store = RunStore(tmp_path, write=True)
    totals = Ledger(store, 10**9).totals()
    assert HEARTBEAT_SLACK_S * MICROS_PER_S <= totals.lost < (HEARTBEAT_SLACK_S + 60) * MICROS_PER_S
    assert totals.charged == totals.lost
    store.close()


def test_machine_time_is_charged_by_the_time_it_took(tmp_path: Path, clock: Clock) -> None:
    store = RunStore(tmp_path, write=True)
    ledger = Ledger(store, 10**9)
    rates = Rates("a test", usd_per_hour=Decimal(36))
    with ledger.hold_compute(10**8, rates, Purchase("compute", "train", "x")) as hold:
        clock.shift = -HOUR
        hold.settle({})
    assert 0 <= ledger.totals().charged < 60 * MICROS_PER_S
    store.close()


def test_what_was_shared_is_known_by_number_so_a_clock_set_back_between_two_starts_changes_nothing(
    tmp_path: Path, clock: Clock
) -> None:
    found = []
    for start, shift in enumerate([0.0, -HOUR, -2 * HOUR]):
        clock.shift = shift
        store = RunStore(tmp_path, write=True)
        ledger = Ledger(store, 10**9)
        for number in range(2):
            with ledger.hold(10, ASK) as hold:
                hold.settle(5, results={f"{start}-{number}": {"state": "ok"}})
        shared = store.paid_answers(["llm"], unknown_to=CACHE)
        found.append([answer.key for answer in shared])
        store.mark_shared(shared, to=CACHE)
        assert store.paid_answers(["llm"], unknown_to=CACHE) == []
        store.close()
    assert found == [[f"{start}-{number}" for number in range(2)] for start in range(3)]


def test_a_job_that_another_process_began_with_its_clock_ahead_has_no_negative_duration(
    tmp_path: Path, clock: Clock
) -> None:
    store = RunStore(tmp_path, write=True)
    hold = store.hold(ASK, 10, 100)
    assert hold is not None
    store.close()
    clock.shift = -HOUR
    store = RunStore(tmp_path, write=True)
    store.settle(hold, charged=5, paid=5, usage=Usage(), results={})
    (call,) = store.calls()
    assert call.seconds == 0
    assert call.ended_at == call.started_at
    store.close()


def test_texts_that_were_skipped_come_in_that_order_although_the_clock_was_set_back(
    tmp_path: Path, clock: Clock
) -> None:
    with_labels = AnnotationStore(tmp_path)
    for name in ("a", "b", "c"):
        with_labels.add_request(name, f"text {name}", 1, name)
    with_labels.skip("b", "ann")
    clock.shift = -HOUR
    with_labels.skip("a", "ann")
    assert [each.id for each in with_labels.open_requests("ann")] == ["c", "b", "a"]
    with_labels.close()
