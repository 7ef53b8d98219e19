"""Waiting in a thread and in a fibre: the same promises."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import pytest

from potstill.engines.greenlets import Event, GreenletLoop, Semaphore, sleep, wait_ready, yield_to_others
from potstill.engines.workers import GreenletPool
from potstill.ledger.store.group_commit import GroupCommit


def in_threads(*calls: Callable[[], object]) -> list[object]:
    with ThreadPoolExecutor(len(calls)) as pool:
        return [each.result(20) for each in [pool.submit(call) for call in calls]]


def in_fibres(*calls: Callable[[], object]) -> list[object]:
    crew: GreenletPool[Callable[[], object], object] = GreenletPool(lambda call: call(), len(calls))
    taken = [crew.submit(call) for call in calls]
    results = [each.result() for each in taken]
    crew.shutdown()
    return results


BOTH = pytest.mark.parametrize("run", [in_threads, in_fibres])


@contextmanager
def connected() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two ends of a connection that do not block."""
    with ExitStack() as stack:
        ends = [stack.enter_context(end) for end in socket.socketpair()]
        for end in ends:
            end.setblocking(False)
        yield ends[0], ends[1]


@BOTH
def test_who_waits_for_bytes_goes_on_when_they_come(run):
    with connected() as (here, there):

        def listen() -> bytes:
            wait_ready(here, deadline=time.monotonic() + 20)
            return here.recv(10)

        def speak() -> None:
            sleep(0.02)
            there.send(b"hello")

        assert run(listen, speak) == [b"hello", None]


@BOTH
def test_who_waits_in_vain_is_told_and_the_others_are_not(run):
    with connected() as (here, _), connected() as (other, its_end):

        def in_vain() -> str:
            try:
                wait_ready(here, deadline=time.monotonic() + 0.05)
            except TimeoutError:
                return "too late"
            return "heard"

        def patient() -> str:
            wait_ready(other, deadline=time.monotonic() + 20)
            return "heard"

        def speak() -> None:
            sleep(0.6)
            its_end.send(b".")

        assert run(in_vain, patient, speak) == ["too late", "heard", None]


@BOTH
def test_who_waits_for_room_goes_on_when_the_other_side_reads(run):
    with connected() as (here, there):
        whole = b"x" * 2_000_000

        def speak() -> int:
            left = memoryview(whole)
            while left:
                try:
                    left = left[here.send(left) :]
                except BlockingIOError:
                    wait_ready(here, for_writing=True, deadline=time.monotonic() + 20)
            return len(left)

        def listen() -> int:
            came = 0
            while came < len(whole):
                wait_ready(there, deadline=time.monotonic() + 20)
                came += len(there.recv(100_000))
            return came

        assert run(speak, listen) == [0, len(whole)]


@BOTH
def test_a_door_lets_through_once_whether_it_is_opened_before_or_after_somebody_waits(run):
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


def test_a_door_of_a_fibre_can_be_opened_by_a_thread():
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
    assert in_fibres(wait) == ["through"]
    thread.join()


@BOTH
def test_a_turnstile_lets_in_so_many_and_in_the_order_they_came(run):
    turnstile, inside, most, order = Semaphore(3), set(), [], []

    def pass_through(number: int) -> None:
        sleep(0.02 * number)
        with turnstile:
            inside.add(number)
            order.append(number)
            most.append(len(inside))
            sleep(0.1)
            inside.discard(number)

    run(*[lambda number=number: pass_through(number) for number in range(9)])
    assert max(most) == 3
    assert order == sorted(order)


def test_a_turnstile_opens_for_the_next_when_somebody_falls():
    turnstile = Semaphore(1)
    with pytest.raises(ValueError, match="fell"), turnstile:
        raise ValueError("fell")
    with turnstile:
        pass


def test_who_lets_others_first_goes_after_those_that_can_go_on():
    order: list[str] = []

    def polite() -> None:
        yield_to_others()
        order.append("polite")

    def other() -> None:
        order.append("other")

    loop = GreenletLoop(threading.Event())
    for each in (polite, other, other):
        loop.call_soon(lambda each=each: loop.spawn(each))
    loop.stop_when_idle()
    loop.run()
    assert order == ["other", "other", "polite"]
    yield_to_others()  # in a thread there is nobody to let first


def test_who_lets_others_first_gets_its_turn_though_there_are_always_others():
    turns = {"polite": 0, "busy": 0}

    def polite() -> None:
        yield_to_others()
        turns["polite"] = turns["busy"]

    def busy() -> None:
        while not turns["polite"] and turns["busy"] < 10_000:
            turns["busy"] += 1
            sleep(0)

    in_fibres(polite, busy, busy)
    assert 0 < turns["polite"] < 10_000


def test_steps_of_fibres_share_transactions_with_those_of_a_thread():
    sizes: list[int] = []

    def write(batch) -> None:
        sizes.append(len(batch))
        for step in batch:
            step.result = step.do()

    together = GroupCommit(write)
    seen: list[int] = []
    thread = threading.Thread(target=lambda: seen.extend(together.do(lambda n=n: n) for n in range(200)))
    thread.start()
    results = in_fibres(*[lambda number=number: together.do(lambda: number) for number in range(64)])
    thread.join()
    assert results == list(range(64))
    assert seen == list(range(200))
    assert sum(sizes) == 264
    assert max(sizes) > 1


def test_a_loop_ends_when_its_last_fibre_has_ended():
    loop, ended = GreenletLoop(threading.Event()), []

    def fibre() -> None:
        sleep(0.05)
        ended.append(True)

    loop.call_soon(lambda: loop.spawn(fibre))
    loop.stop_when_idle()
    loop.run()
    assert ended == [True]


def test_a_loop_may_end_while_somebody_is_about_to_wake_it():
    loop = GreenletLoop(threading.Event())

    class Slow(list):  # type: ignore[type-arg]
        """A queue whose owner is taken off the processor between leaving a word and ringing the bell."""

        def append(self, do: Callable[[], None]) -> None:
            do()
            loop.run()
            loop._asleep = True  # as it was seen

        def popleft(self) -> Callable[[], None]:
            raise AssertionError("nothing was left")

    loop._outside = Slow()  # type: ignore[assignment]
    loop.stop_when_idle()
