"""The one door for money: what is held, charged, lost, and that it never passes the limit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from potstill.errors import BoundExceeded, BudgetExceeded
from potstill.ledger.ledger import Ledger
from potstill.ledger.prices import NewBatchJob, Purchase, Rates, Usage
from potstill.ledger.store import HEARTBEAT_SLACK_S, RunStore
from potstill.reports.status import read_spending, read_status

ASK = Purchase("llm", "teach", "one call")
HOURLY = Rates("a test", usd_per_hour=Decimal(36))  # 10,000 micro-dollars a second


@pytest.fixture
def store(tmp_path):
    opened = RunStore(tmp_path, write=True)
    yield opened
    opened.close()


def test_a_call_is_held_before_it_is_made_and_charged_its_true_price_after(store):
    ledger = Ledger(store, 1000)
    with ledger.hold(600, ASK) as hold:
        assert (ledger.totals().held, ledger.totals().charged, ledger.free) == (600, 0, 400)
        hold.settle(250, Usage(input_tokens=7), results={"answer": "yes"})
    totals = ledger.totals()
    assert (totals.held, totals.charged, totals.paid, totals.free, totals.calls) == (0, 250, 250, 750, 1)
    assert store.load(["answer"]) == {"answer": "yes"}
    assert store.calls()[0].usage == Usage(input_tokens=7)


def test_a_hold_that_does_not_fit_is_refused_and_not_written(store):
    ledger = Ledger(store, 1000)
    with pytest.raises(BudgetExceeded, match=r"budget is free"), ledger.hold(1001, ASK):
        pytest.fail("the call was made")
    assert store.calls() == []


def test_a_cached_answer_is_charged_and_not_paid(store):
    ledger = Ledger(store, 1000)
    with ledger.hold(100, ASK) as hold:
        hold.settle(80, paid=0)
    assert (ledger.totals().charged, ledger.totals().paid) == (80, 0)


def test_a_call_that_ends_in_an_exception_is_lost_at_its_full_price(store):
    ledger = Ledger(store, 1000)
    with pytest.raises(RuntimeError), ledger.hold(300, ASK):
        raise RuntimeError("the connection was cut")
    totals = ledger.totals()
    assert (totals.held, totals.charged, totals.lost) == (0, 300, 300)


def test_a_request_that_was_not_sent_costs_nothing(store):
    ledger = Ledger(store, 1000)
    with ledger.hold(300, ASK) as hold:
        hold.release()
    assert (ledger.totals().charged, ledger.free) == (0, 1000)


def test_a_provider_that_charges_above_its_bound_is_recorded_and_stops_the_run(store):
    ledger = Ledger(store, 1000)
    with pytest.raises(BoundExceeded, match="above the"), ledger.hold(100, ASK) as hold:
        hold.settle(400, results={"answer": "dear"})
    assert ledger.totals().charged == 400
    assert store.load(["answer"]) == {"answer": "dear"}


def test_a_warning_comes_at_half_and_at_four_fifths_once_each(store):
    warnings: list[str] = []
    ledger = Ledger(store, 1000, warnings.append)
    for _ in range(10):
        with ledger.hold(100, ASK) as hold:
            hold.settle(100)
    assert [sentence.split("%")[0] for sentence in warnings] == ["50", "80"]


def test_hundreds_of_calls_in_flight_never_pass_the_limit(store):
    ledger = Ledger(store, 10_000)

    def call(number: int) -> bool:
        try:
            with ledger.hold(97, ASK) as hold:
                assert ledger.storage.committed() <= 10_000
                time.sleep(0.001)
                hold.settle(number % 98)
        except BudgetExceeded:
            return False
        return True

    with ThreadPoolExecutor(64) as pool:
        made = sum(pool.map(call, range(400)))
    totals = ledger.totals()
    assert totals.calls == made
    assert totals.held == 0
    assert totals.charged == store.committed() <= 10_000
    assert totals.charged == sum(row.charged for row in store.calls())


@settings(max_examples=60, deadline=None)
@given(
    limit=st.integers(1, 2000),
    steps=st.lists(
        st.tuples(st.integers(0, 500), st.integers(0, 500), st.sampled_from(["settle", "release", "raise"]))
    ),
)
def test_in_every_sequence_the_rows_add_up_and_stay_under_the_limit(limit, steps, tmp_path_factory):
    store = RunStore(tmp_path_factory.mktemp("ledger"), write=True)
    ledger = Ledger(store, limit)
    expected = 0
    for held, charged, ending in steps:
        try:
            with ledger.hold(held, ASK) as hold:
                if ending == "settle":
                    charged = min(charged, held)
                    hold.settle(charged)
                    expected += charged
                elif ending == "release":
                    hold.release()
                else:
                    expected += held
                    raise KeyboardInterrupt
        except KeyboardInterrupt:
            pass
        except BudgetExceeded:
            assert expected + held > limit
        totals = ledger.totals()
        assert totals.held + totals.charged == ledger.storage.committed() == expected <= limit
    store.close()


def test_a_reserve_is_left_free_inside_its_block_and_not_after(store):
    ledger = Ledger(store, 1000)
    with ledger.reserve("training", 700):
        assert (ledger.free, ledger.reserved, ledger.available) == (1000, 700, 300)
        with pytest.raises(BudgetExceeded, match=r"\$0.000700 of that is reserved"), ledger.hold(301, ASK):
            pytest.fail("the call was made")
        with ledger.hold(300, ASK) as hold:
            hold.settle(300)
    with ledger.hold(700, ASK) as hold:
        hold.settle(700)
    assert (ledger.free, ledger.reserved) == (0, 0)


def test_reserves_of_two_names_add_up_and_of_one_name_replace_each_other(store):
    ledger = Ledger(store, 1000)
    with ledger.reserve("training", 400):
        with ledger.reserve("evaluation", 100):
            assert ledger.reserved == 500
        with ledger.reserve("training", 150):
            assert ledger.reserved == 150
        with pytest.raises(RuntimeError), ledger.reserve("training", 900):
            raise RuntimeError
        assert ledger.reserved == 400
        with ledger.reserve("less than nothing", -50):
            assert ledger.reserved == 400
    assert ledger.reserved == 0


def test_a_job_leaves_the_reserve_free_too(store):
    ledger = Ledger(store, 1000)
    job = NewBatchJob("teacher", "client", ("a",))
    with ledger.reserve("training", 600), pytest.raises(BudgetExceeded):
        ledger.hold_job(job, 500, ASK)
    assert store.batch_jobs("teacher") == []


@settings(max_examples=60, deadline=None)
@given(
    limit=st.integers(1, 2000),
    steps=st.lists(
        st.tuples(
            st.sampled_from(["hold", "reserve", "free", "settle", "lie"]),
            st.integers(0, 900),
            st.sampled_from(["training", "evaluation", "rest"]),
        ),
        max_size=30,
    ),
)
def test_in_every_sequence_no_hold_passes_the_limit_or_takes_reserved_money(limit, steps, tmp_path_factory):
    store = RunStore(tmp_path_factory.mktemp("ledger"), write=True)
    ledger, reserves, holds, lied = Ledger(store, limit), ExitStack(), [], 0
    blocks, expected = [], {}
    for action, micros, name in steps:
        if action == "reserve":
            blocks.append(expected)
            expected = {**expected, name: micros}
            reserves.enter_context(ledger.reserve(name, micros))
        elif action == "free" and blocks:
            reserves.pop_all().close()
            blocks, expected = [], {}
            reserves = ExitStack()
        elif action == "hold":
            before = ledger.available
            hold_id = store.hold(ASK, micros, limit - ledger.reserved)
            assert (hold_id is not None) is (micros <= before)
            if hold_id is not None:
                assert ledger.totals().free >= ledger.reserved
                holds.append((hold_id, micros))
        elif holds:
            hold_id, held = holds.pop()
            charged = micros if action == "lie" else min(micros, held)
            lied += max(charged - held, 0)
            store.settle(hold_id, charged=charged, paid=charged, usage=Usage(), results={})
        assert ledger.reserved == sum(expected.values())
        totals = ledger.totals()
        assert totals.held + totals.charged == store.committed() <= limit + lied
    store.close()


def test_threads_that_spend_beside_a_reserve_never_take_it(store):
    ledger = Ledger(store, 10_000)

    def call(_: int) -> None:
        try:
            with ledger.hold(97, ASK) as hold:
                hold.settle(97)
        except BudgetExceeded:
            pass

    with ThreadPoolExecutor(32) as pool, ledger.reserve("training", 4000):
        list(pool.map(call, range(300)))
    assert 5900 < ledger.totals().charged <= 6000


def test_machine_time_is_charged_as_measured_and_at_most_what_was_held(store):
    ledger = Ledger(store, 1_000_000)
    with ledger.hold_compute(500_000, HOURLY, ASK) as hold:
        assert hold.deadline_s == pytest.approx(50)
        time.sleep(0.05)
        hold.settle({"weights": 1})
    charged = ledger.totals().charged
    assert 500 <= charged <= 500_000
    with ledger.hold_compute(10, HOURLY, ASK) as hold:
        time.sleep(0.05)
    assert ledger.totals().charged == charged + 10


def test_machine_time_cut_by_an_exception_costs_the_time_it_took(store):
    ledger = Ledger(store, 1_000_000)
    with pytest.raises(KeyboardInterrupt), ledger.hold_compute(900_000, HOURLY, ASK):
        raise KeyboardInterrupt
    assert ledger.totals().charged < 900_000
    assert ledger.totals().held == 0


def killed_while_holding(folder: Path, how: str) -> None:
    """Start a process that holds money in `folder`, and kill it as a power cut would."""
    program = f"""
        import sys, time
        from pathlib import Path
        from potstill.ledger.ledger import Ledger
        from potstill.ledger.store import RunStore
        from decimal import Decimal
        from potstill.ledger.prices import Purchase, Rates
        ASK = Purchase("llm", "teach", "one call")
        HOURLY = Rates("a test", usd_per_hour=Decimal(36))
        ledger = Ledger(RunStore(Path({str(folder)!r}), write=True), 1_000_000)
        with {how}:
            print("holding", flush=True)
            time.sleep(60)
    """
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(program)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "holding\n"
    time.sleep(0.1)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()


def abandoned_micros(folder):
    looking = RunStore(folder, write=False)
    try:
        return looking.abandoned_micros()
    finally:
        looking.close()


def test_a_hold_found_after_a_crash_is_lost_at_its_full_price(tmp_path):
    killed_while_holding(tmp_path, "ledger.hold(700_000, ASK)")
    assert abandoned_micros(tmp_path) == 700_000
    store = RunStore(tmp_path, write=True)
    totals = Ledger(store, 1_000_000).totals()
    assert (totals.held, totals.charged, totals.lost) == (0, 700_000, 700_000)
    store.close()


def test_machine_time_found_after_a_crash_costs_the_time_it_ran_and_not_the_whole_hold(tmp_path):
    killed_while_holding(tmp_path, "ledger.hold_compute(900_000, HOURLY, ASK)")
    expected = abandoned_micros(tmp_path)
    store = RunStore(tmp_path, write=True)
    totals = Ledger(store, 1_000_000).totals()
    assert totals.held == 0
    assert totals.lost == expected
    assert HEARTBEAT_SLACK_S * 10_000 <= totals.lost < 900_000
    store.close()


def test_holds_of_a_working_process_are_not_abandoned(store, tmp_path):
    ledger = Ledger(store, 1_000_000)
    with ledger.hold(700_000, ASK) as hold:
        assert abandoned_micros(tmp_path) is None
        hold.settle(1)
    store.close()
    assert abandoned_micros(tmp_path) is None
    assert "left by a process" not in read_status(tmp_path).to_text()


def test_status_and_ledger_show_how_much_a_killed_run_loses(tmp_path):
    killed_while_holding(tmp_path, "ledger.hold(700_000, ASK)")
    for text in (read_status(tmp_path).to_text(), read_spending(tmp_path).to_text()):
        assert "the same command books $0.700000 as lost" in text
    Ledger(store := RunStore(tmp_path, write=True), 1_000_000)
    assert "left by a process" not in read_status(tmp_path).to_text()
    store.close()
