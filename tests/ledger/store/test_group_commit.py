"""Group commit: many threads, few transactions, and each step's own outcome."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from potstill.errors import PotstillError
from potstill.ledger.ledger import Ledger
from potstill.ledger.prices import Purchase
from potstill.ledger.store import RunStore
from potstill.ledger.store.group_commit import GroupCommit, WriteStep

ASK = Purchase("llm", "teach", "one call")


def write(batch: Sequence[WriteStep[object]]) -> None:
    """A slow disk."""
    time.sleep(0.005)
    for step in batch:
        step.result = step.do()


def test_steps_of_many_threads_share_a_few_transactions_and_each_gets_its_own_result():
    sizes = []

    def counted(batch: Sequence[WriteStep[object]]) -> None:
        sizes.append(len(batch))
        write(batch)

    together = GroupCommit(counted)
    with ThreadPoolExecutor(16) as pool:
        results = list(pool.map(lambda number: together.do(lambda: number * number), range(200)))
    assert results == [number * number for number in range(200)]
    assert sum(sizes) == 200
    assert len(sizes) < 100


def test_only_one_writes_at_a_time():
    inside, guard = [0, 0], threading.Lock()

    def watched(batch: Sequence[WriteStep[object]]) -> None:
        with guard:
            inside[0] += 1
            inside[1] = max(inside)
        write(batch)
        with guard:
            inside[0] -= 1

    together = GroupCommit(watched)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: together.do(lambda: None), range(64)))
    assert inside == [0, 1]


def test_a_transaction_that_fails_fails_all_its_steps_and_the_next_ones_go_on():
    broken = threading.Event()
    broken.set()

    def failing(batch: Sequence[WriteStep[object]]) -> None:
        if broken.is_set():
            raise PotstillError("The disk is full.")
        write(batch)

    together = GroupCommit(failing)
    with ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(together.do, lambda: 1) for _ in range(20)]
        assert all(isinstance(future.exception(), PotstillError) for future in futures)
    broken.clear()
    assert together.do(lambda: 2) == 2


def test_a_hold_that_cannot_be_settled_does_not_undo_its_neighbours(tmp_path: Path):
    store = RunStore(tmp_path, write=True)
    ledger = Ledger(store, 10**6)

    def call(number: int) -> int:
        with ledger.hold(10, ASK) as hold:
            if number % 4 == 0:
                hold.settle(3, results={f"key {number}": object()})  # no JSON
            hold.settle(3, results={f"key {number}": number})
        return number

    with ThreadPoolExecutor(16) as pool:
        futures = [pool.submit(call, number) for number in range(100)]
        failed = [number for number, future in enumerate(futures) if future.exception()]
    assert failed == list(range(0, 100, 4))
    kept = store.load(f"key {number}" for number in range(100))
    assert sorted(kept.values()) == [number for number in range(100) if number % 4]
    totals = ledger.totals()
    # A settle that failed leaves its money held: it is unknown whether the call was billed.
    assert totals.charged == 75 * 3
    assert totals.held == 25 * 10
    assert store.committed() == totals.held + totals.charged
    store.close()


def test_what_a_hold_returns_is_on_the_disk(tmp_path: Path):
    store = RunStore(tmp_path, write=True)
    ledger = Ledger(store, 10**6)

    def held(_: int) -> bool:
        with ledger.hold(10, ASK) as hold:
            reader = sqlite3.connect(tmp_path / "run.sqlite")
            found = reader.execute("SELECT state FROM calls WHERE id = ?", (hold.id,)).fetchall()
            reader.close()
            hold.release()
        return found == [("held",)]

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(held, range(50)))
    store.close()


def test_many_threads_at_the_end_of_the_money_never_pass_the_limit(tmp_path: Path):
    from potstill.errors import BudgetExceeded

    store = RunStore(tmp_path, write=True)
    ledger = Ledger(store, 1000)

    def call(_: int) -> int:
        try:
            with ledger.hold(30, ASK) as hold:
                assert store.committed() <= 1000
                hold.settle(7)
        except BudgetExceeded:
            return 0
        return 7

    with ThreadPoolExecutor(16) as pool:
        charged = sum(pool.map(call, range(400)))
    while bought := call(0):  # what was refused only because of holds in flight is free again
        charged += bought
    assert charged == ledger.totals().charged <= 1000
    assert charged > 970
    store.close()


@pytest.mark.parametrize("n", [1, 7])
def test_alone_a_step_is_a_transaction(n: int):
    sizes = []
    together = GroupCommit(lambda batch: (sizes.append(len(batch)), write(batch))[1])
    for number in range(n):
        assert together.do(lambda number=number: number) == number
    assert sizes == [1] * n


def test_a_failed_batch_is_undone_before_it_is_done_again(tmp_path: Path):
    store = RunStore(tmp_path, write=True)
    hold = store.hold(ASK, 10, 100)
    done: list[str] = []

    def broken() -> None:
        raise LookupError

    steps: list[WriteStep[object]] = [
        WriteStep(lambda: done.append("before"), lambda _: done.append("undone")),
        WriteStep(broken, lambda _: done.append("never")),
        WriteStep(lambda: done.append("after"), lambda _: done.append("never")),
    ]
    store._write(steps)
    assert done == ["before", "undone", "before", "after"]
    assert [type(step.error) for step in steps] == [type(None), LookupError, type(None)]
    assert hold is not None
    assert store.committed() == 10
    store.close()
