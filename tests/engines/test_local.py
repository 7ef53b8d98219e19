"""The engine of one machine."""

from __future__ import annotations

import gc
import os
import signal
import threading
import time
from itertools import count

import pytest

from potstill.engines.greenlets import is_cancelled, sleep
from potstill.engines.local import STOPPING_MESSAGE, LocalEngine
from potstill.engines.workers import GcThrottle

# Calls that mostly wait run as greenlets in one thread; the results must be the same.
LIGHT = pytest.mark.parametrize("light", [False, True], ids=["threads", "greenlets"])


@LIGHT
@pytest.mark.parametrize("parallel", [1, 4])
def test_results_come_in_the_order_of_the_items(parallel, light):
    def slow_first(item: int) -> int:
        sleep(0.02 if item % 4 == 0 else 0)
        return item * item

    assert list(LocalEngine().map(slow_first, range(20), parallel, greenlet_safe=light)) == [i * i for i in range(20)]


@LIGHT
def test_no_more_calls_are_in_flight_than_allowed(light):
    flying, most, guard = 0, 0, threading.Lock()

    def call(_: int) -> None:
        nonlocal flying, most
        with guard:
            flying += 1
            most = max(most, flying)
        sleep(0.005)
        with guard:
            flying -= 1

    list(LocalEngine().map(call, range(40), 5, greenlet_safe=light))
    assert 1 < most <= 5


@LIGHT
def test_endless_items_are_fine_if_the_generator_is_closed(light):
    taken = []
    for result in LocalEngine().map(lambda item: item, count(), 4, greenlet_safe=light):
        taken.append(result)
        if result == 10:
            break
    assert taken == list(range(11))


@LIGHT
def test_the_first_exception_begins_no_more_calls(light):
    begun: list[int] = []

    def call(item: int) -> int:
        begun.append(item)
        if item == 3:
            raise ValueError("three")
        return item

    with pytest.raises(ValueError, match="three"):
        list(LocalEngine().map(call, range(1000), 4, greenlet_safe=light))
    assert len(begun) < 20


def test_one_slow_call_does_not_leave_the_others_without_work():
    slow, done = threading.Event(), []

    def call(item: int) -> int:
        if item == 0:
            assert slow.wait(20)
        done.append(item)
        if len(done) == 50:
            slow.set()
        return item

    assert list(LocalEngine().map(call, range(60), 4)) == list(range(60))
    assert done.index(0) >= 50


@LIGHT
def test_sleeping_calls_are_cancelled_when_one_of_them_fails(light):
    woken = []

    def call(item: int) -> None:
        if item == 3:
            raise ValueError("three")
        woken.append(sleep(60))

    with pytest.raises(ValueError, match="three"):
        list(LocalEngine().map(call, range(1000), 4, greenlet_safe=light))
    assert woken
    assert not any(woken)


@LIGHT
def test_closing_the_generator_ends_the_calls_in_flight_and_begins_no_more(light):
    begun, ended = [], []

    def call(item: int) -> int:
        begun.append(item)
        ended.append(sleep(0.01) and item)
        return item

    for result in LocalEngine().map(call, count(), 4, greenlet_safe=light):
        if result == 5:
            break
    assert sorted(begun) == sorted(ended)


def test_without_an_engine_sleep_sleeps():
    assert sleep(0.001)
    assert not is_cancelled()


def test_a_second_ctrl_c_during_the_message_of_the_first_leaves_at_once():
    hanging, begun, ended = threading.Event(), threading.Event(), []

    def call(item: int) -> None:
        begun.set()
        hanging.wait(60)
        ended.append(item)

    def items():
        yield from range(4)
        begun.wait()
        raise KeyboardInterrupt

    def tell(sentence: str) -> None:
        raise KeyboardInterrupt

    try:
        with pytest.raises(KeyboardInterrupt):
            list(LocalEngine(tell).map(call, items(), 4))
        assert ended == []
    finally:
        hanging.set()


def test_the_first_ctrl_c_waits_for_the_calls_in_flight_and_the_second_does_not():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    hanging, begun, said, ended = threading.Event(), threading.Semaphore(0), [], []

    def call(item: int) -> None:
        begun.release()
        hanging.wait(60)
        ended.append(item)

    def interrupt() -> None:
        for _ in range(4):
            begun.acquire()
        os.kill(os.getpid(), signal.SIGINT)
        while not said:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    impatient = threading.Thread(target=interrupt)
    impatient.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            list(LocalEngine(said.append).map(call, count(), 4))
        assert said == [STOPPING_MESSAGE]
        assert ended == []
    finally:
        hanging.set()
        impatient.join()
        signal.signal(signal.SIGINT, before)


@LIGHT
def test_ctrl_c_cancels_sleeping_calls(light):
    woken, begun = [], threading.Event()

    def call(item: int) -> None:
        begun.set()
        woken.append(sleep(60))

    def items():
        yield from range(4)
        assert begun.wait(20)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(LocalEngine().map(call, items(), 4, greenlet_safe=light))
    assert woken
    assert not any(woken)


def test_greenlet_safe_calls_share_a_thread_and_wait_side_by_side():
    threads = set()

    def call(item: int) -> None:
        threads.add(threading.get_ident())
        sleep(0.2)

    began = time.monotonic()
    list(LocalEngine().map(call, range(200), 200, greenlet_safe=True))
    assert len(threads) == 1
    assert time.monotonic() - began < 20  # one after the other they would take 40


def test_without_the_library_greenlet_safe_calls_get_threads(monkeypatch):
    monkeypatch.setattr("potstill.engines.local.has_greenlets", lambda: False)
    threads = set()

    def call(item: int) -> None:
        threads.add(threading.get_ident())
        sleep(0.01)

    list(LocalEngine().map(call, range(40), 4, greenlet_safe=True))
    assert len(threads) == 4


def test_garbage_collection_is_rarer_while_greenlets_wait_and_restored_afterwards():
    before, seen = gc.get_threshold(), []

    def call(item: int) -> None:
        seen.append(gc.get_threshold()[0])
        if item == 0:  # an engine within an engine: its items run one after the other, in this greenlet
            list(LocalEngine().map(lambda _: sleep(0), range(4), 2, greenlet_safe=True))
            seen.append(gc.get_threshold()[0])

    list(LocalEngine().map(call, range(4), 2, greenlet_safe=True))
    assert set(seen) == {GcThrottle.GEN0_THRESHOLD}
    assert gc.get_threshold() == before


def test_disabled_garbage_collection_stays_disabled():
    before = gc.get_threshold()
    gc.set_threshold(0, 5, 5)
    try:
        list(LocalEngine().map(lambda _: sleep(0), range(4), 2, greenlet_safe=True))
        assert gc.get_threshold() == (0, 5, 5)
    finally:
        gc.set_threshold(*before)


def test_no_item_is_left_out_when_they_come_one_by_one():
    def slowly():
        for item in range(300):
            time.sleep(0.0005 if item % 3 else 0)
            yield item

    assert list(LocalEngine().map(lambda item: item, slowly(), 2, greenlet_safe=True)) == list(range(300))
