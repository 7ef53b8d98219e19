"""Waiting in a thread and in a greenlet: the same promises."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from potstill.engines.greenlets import Event, Semaphore, sleep, wait_for, yield_to_others
from potstill.engines.workers import GreenletPool
from potstill.ledger.store.group_commit import GroupCommit


def in_threads(*calls: Callable[[], object]) -> list[object]:
    with ThreadPoolExecutor(len(calls)) as pool:
        return [each.result(20) for each in [pool.submit(call) for call in calls]]


def in_greenlets(*calls: Callable[[], object]) -> list[object]:
    crew: GreenletPool[Callable[[], object], object] = GreenletPool(lambda call: call(), len(calls))
    taken = [crew.submit(call) for call in calls]
    results = [each.result() for each in taken]
    crew.shutdown()
    return results


BOTH = pytest.mark.parametrize("run", [in_threads, in_greenlets])


@BOTH
def test_a_call_waits_for_a_coroutine_while_others_run(run):
    order: list[str] = []

    async def arrive() -> str:
        await asyncio.sleep(0.1)
        order.append("arrived")
        return "reply"

    def other() -> None:
        sleep(0.01)
        order.append("other")

    assert run(lambda: wait_for(arrive()), other) == ["reply", None]
    assert order == ["other", "arrived"]


@BOTH
def test_the_exception_of_a_coroutine_is_raised_by_the_wait(run):
    async def fail() -> None:
        await asyncio.sleep(0)
        raise ValueError("broken")

    def call() -> str:
        try:
            wait_for(fail())
        except ValueError as error:
            return str(error)
        return "no error"

    assert run(call, call) == ["broken", "broken"]


def test_the_main_thread_can_wait_for_a_coroutine():
    assert wait_for(asyncio.sleep(0, "done")) == "done"


@BOTH
def test_an_event_ends_one_wait_whether_it_is_set_before_or_after(run):
    doors: list[Event] = []
    heard: list[str] = []

    def wait() -> None:
        doors.append(Event())
        doors[0].wait()
        heard.append("first")
        sleep(0.05)  # opened meanwhile
        doors[0].wait()
        heard.append("second")

    def open_twice() -> None:
        while not doors:
            sleep(0.001)
        doors[0].set()
        while not heard:
            sleep(0.001)
        doors[0].set()

    run(wait, open_twice)
    assert heard == ["first", "second"]


def test_an_event_of_a_greenlet_can_be_set_by_a_thread():
    doors: list[Event] = []

    def wait() -> str:
        doors.append(Event())
        doors[0].wait()
        return "through"

    def open_it() -> None:
        while not doors:
            time.sleep(0.001)
        time.sleep(0.02)  # the loop sleeps by now
        doors[0].set()

    thread = threading.Thread(target=open_it)
    thread.start()
    assert in_greenlets(wait) == ["through"]
    thread.join()


@BOTH
@pytest.mark.parametrize("limit", [1, 3])
def test_a_semaphore_admits_its_limit_in_order(run, limit):
    semaphore, inside, most, order, arrived = Semaphore(limit), set(), [], [], []

    def pass_through(number: int) -> None:
        sleep(0.02 * number)
        arrived.append(number)
        with semaphore:
            inside.add(number)
            order.append(number)
            most.append(len(inside))
            sleep(0.05)
            inside.discard(number)

    run(*[lambda number=number: pass_through(number) for number in range(9)])
    assert max(most) == limit
    assert sorted(order) == sorted(arrived)
    if limit == 1:  # several that are admitted at once may run on in any order
        assert order == arrived


def test_a_semaphore_is_released_by_an_exception():
    turnstile = Semaphore(1)
    with pytest.raises(ValueError, match="fell"), turnstile:
        raise ValueError("fell")
    with turnstile:
        pass


def test_a_greenlet_that_yields_runs_after_those_that_are_ready():
    order: list[str] = []
    all_started = threading.Event()

    def wait_for_all() -> None:
        while not all_started.is_set():
            sleep(0.001)

    def polite() -> None:
        wait_for_all()
        yield_to_others()
        order.append("polite")

    def other() -> None:
        wait_for_all()
        order.append("other")

    in_greenlets(polite, other, other, all_started.set)
    assert order == ["other", "other", "polite"]
    yield_to_others()  # a thread has no others to let run


def test_a_greenlet_that_yields_runs_even_if_others_are_always_ready():
    turns = {"polite": 0, "busy": 0}

    def polite() -> None:
        yield_to_others()
        turns["polite"] = turns["busy"] + 1

    def busy() -> None:
        while not turns["polite"] and turns["busy"] < 10_000:
            turns["busy"] += 1
            sleep(0)

    in_greenlets(polite, busy, busy)
    assert 0 < turns["polite"] < 10_000


def test_steps_of_greenlets_and_threads_share_transactions():
    sizes: list[int] = []

    def write(batch) -> None:
        sizes.append(len(batch))
        for step in batch:
            step.result = step.do()

    together = GroupCommit(write)
    seen: list[int] = []
    thread = threading.Thread(target=lambda: seen.extend(together.do(lambda n=n: n) for n in range(200)))
    thread.start()
    results = in_greenlets(*[lambda number=number: together.do(lambda: number) for number in range(64)])
    thread.join()
    assert results == list(range(64))
    assert seen == list(range(200))
    assert sum(sizes) == 264
    assert max(sizes) > 1


def test_a_pool_ends_when_its_last_call_has_ended():
    ended: list[bool] = []

    def call(_: int) -> None:
        sleep(0.05)
        ended.append(True)

    pool: GreenletPool[int, None] = GreenletPool(call, 1)
    pool.submit(0)
    while not (pool.n_busy or ended):
        time.sleep(0.001)
    pool.shutdown()
    assert ended == [True]


def test_pools_share_a_thread_and_are_cancelled_apart():
    slept: dict[str, bool] = {}

    def call(name: str) -> None:
        slept[name] = sleep(0.3 if name == "other" else 20)

    stopped, other = GreenletPool(call, 1), GreenletPool(call, 1)
    calls = stopped.submit("stopped"), other.submit("other")
    time.sleep(0.05)
    stopped.stop.set()
    stopped.shutdown()
    for each in calls:
        each.result()
    other.shutdown()
    assert slept == {"stopped": False, "other": True}
