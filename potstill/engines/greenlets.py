"""How a call waits for what is outside: it blocks its thread, or lets the other calls of that thread go on.

Some hundred threads that wait for a server spend more on taking turns in the interpreter than on their work. So calls
may run as fibres instead (greenlets, by the library of that name): many of them share one thread, and one that has to
wait hands it over. The functions here serve both, and whoever waits through them need not know where it runs; whoever
waits otherwise in a fibre holds up all the others. Also says when a call is to hurry. Knows no engine and no teacher.
"""

from __future__ import annotations

import heapq
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from itertools import count
from typing import Any

# Deadlines of sockets are looked at so often: a reply that does not come is noticed by then.
POLL_S = 0.25
# Whoever lets others go first lets so many, or as many as come in a moment.
YIELD_AFTER, YIELD_WAIT_S = 32, 0.002

_here = threading.local()


@contextmanager
def cancel_on(stop: threading.Event) -> Iterator[None]:
    """Calls made in this thread inside the block are to hurry once `stop` is set."""
    _here.stop = stop
    try:
        yield
    finally:
        del _here.stop


def is_cancelled() -> bool:
    """Whether nobody waits for this call's result any more: begin nothing new."""
    stop: threading.Event | None = getattr(_here, "stop", None)
    return stop is not None and stop.is_set()


def sleep(seconds: float) -> bool:
    """Wait; False, and at once, if the call is to be cut short."""
    loop: GreenletLoop | None = getattr(_here, "loop", None)
    if loop is not None:
        return loop.rest(seconds)
    stop: threading.Event | None = getattr(_here, "stop", None)
    if stop is None:
        time.sleep(seconds)
        return True
    return not stop.wait(seconds)


def wait_ready(sock: socket.socket, *, for_writing: bool = False, deadline: float) -> None:
    """Wait until there is something to read on a non-blocking socket, or room to write.

    Args:
        sock: the socket.
        to_write: wait for room, not for bytes.
        ends: when to give up, by `time.monotonic`.

    Raises:
        TimeoutError: `ends` is over.
    """
    events = selectors.EVENT_WRITE if for_writing else selectors.EVENT_READ
    loop: GreenletLoop | None = getattr(_here, "loop", None)
    if loop is not None:
        loop.until_ready(sock, events, deadline)
        return
    with selectors.DefaultSelector() as selector:
        selector.register(sock, events)
        if not selector.select(max(0.0, deadline - time.monotonic())):
            raise TimeoutError


def yield_to_others() -> None:
    """In a fibre: let others that can go on do so. Whoever does one thing for many has more to do then."""
    loop: GreenletLoop | None = getattr(_here, "loop", None)
    if loop is not None:
        loop.others_first()


class Event:
    """Shut until somebody opens it, from whatever thread. Whoever made it, and nobody else, may wait behind it.

    It shuts again behind who went through.
    """

    def __init__(self) -> None:
        self._loop: GreenletLoop | None = getattr(_here, "loop", None)
        self._open = False
        self._behind: Any = None
        if self._loop is None:
            # A bare lock, held: the cheapest thing one thread can wait on and another can open.
            self._lock = threading.Lock()
            self._lock.acquire()

    def wait(self) -> None:
        """Go on once it is open."""
        if self._loop is None:
            self._lock.acquire()
            return
        if not self._open:
            self._behind = self._loop.current
            self._loop.switch_out()
        self._open = False

    def set(self) -> None:
        """Let who is behind it go on."""
        if self._loop is None:
            self._lock.release()
        elif self._loop is getattr(_here, "loop", None):
            self._let_in()
        else:
            self._loop.call_soon(self._let_in)

    def _let_in(self) -> None:
        self._open = True
        if self._behind is not None and self._loop is not None:
            self._loop.resume(self._behind)
            self._behind = None


class Semaphore:
    """Lets so many calls through at once; the next goes in when one comes out, first come, first served."""

    def __init__(self, limit: int) -> None:
        self._free = limit
        self._guard = threading.Lock()
        self._before: deque[Event] = deque()

    def __enter__(self) -> None:
        with self._guard:
            if self._free:
                self._free -= 1
                return
            door = Event()
            self._before.append(door)
        door.wait()

    def __exit__(self, *_: object) -> None:
        with self._guard:
            if not self._before:
                self._free += 1
                return
            door = self._before.popleft()
        door.set()


def has_greenlets() -> bool:
    """Whether calls can run as fibres here: the library is installed."""
    return find_spec("greenlet") is not None


class GreenletLoop:
    """Runs fibres in one thread: `run` is called in it, `call` and `end` from anywhere, all else by the fibres.

    Args:
        stop: once it is set, and `call` or `end` came, rests are cut short.
    """

    def __init__(self, stop: threading.Event) -> None:
        import greenlet

        self._fibre = greenlet.greenlet
        self._current = greenlet.getcurrent
        self._stop = stop
        self._selector = selectors.DefaultSelector()
        self._outside: deque[Callable[[], None]] = deque()
        # (fibre, the error it gets instead of what it waited for), and who lets all of these go first.
        # Who was let go on by another fibre goes before who was called from outside: what was begun ends first.
        self._next: deque[Any] = deque()
        self._ready: deque[tuple[Any, BaseException | None]] = deque()
        self._last: list[Any] = []
        self._let_first = 0
        # File descriptor -> (fibre, deadline).
        self._waiting: dict[int, tuple[Any, float]] = {}
        self._resting: list[tuple[float, int, Any]] = []
        self._numbers = count()
        self._alive = 0
        self._ending = self._asleep = False
        self._look_at = 0.0
        self._bell, self._rope = socket.socketpair()
        for each in (self._bell, self._rope):
            each.setblocking(False)
        self._selector.register(self._bell, selectors.EVENT_READ)

    # --- from anywhere --------------------------------------------------------------------------------------

    def call_soon(self, function: Callable[[], None]) -> None:
        """Have `do` called in the loop's thread, soon; it must not wait."""
        self._outside.append(function)
        if self._asleep:
            with suppress(OSError):  # it is full, and the loop will look; or closed, as the loop has looked and ended
                self._rope.send(b".")

    def stop_when_idle(self) -> None:
        """Have `run` return when no fibre is left."""

        def last() -> None:
            self._ending = True

        self.call_soon(last)

    # --- in the loop's thread -------------------------------------------------------------------------------

    def run(self) -> None:
        """Run fibres until the end was asked for and none is left."""
        self._home = self._current()
        _here.loop = self
        try:
            with cancel_on(self._stop):
                while not self._ending or self._alive:
                    self._turn()
        finally:
            del _here.loop
            self._selector.close()
            self._bell.close()
            self._rope.close()

    def _turn(self) -> None:
        while self._outside:
            self._outside.popleft()()
        while self._next or self._ready:
            if self._let_first >= YIELD_AFTER:
                self._let_last()
            fibre, error = (self._next.popleft(), None) if self._next else self._ready.popleft()
            self._let_first += 1
            if error is None:
                fibre.switch()
            else:
                fibre.throw(error)
        if self._ending and not self._alive:
            return
        self._look_outside()
        now = time.monotonic()
        while self._resting and (self._resting[0][0] <= now or self._stop.is_set()):
            self._ready.append((heapq.heappop(self._resting)[2], None))
        if not self._ready:
            self._let_last()

    def _let_last(self) -> None:
        self._next.extend(self._last)
        self._last.clear()
        self._let_first = 0

    def _look_outside(self) -> None:
        """Wait until something happens; every socket on which it did, or that waited in vain, is ready then."""
        self._asleep = True
        busy = self._ready or self._outside or (self._resting and self._stop.is_set())
        events = self._selector.select(0 if busy else YIELD_WAIT_S if self._last else self._patience_s())
        self._asleep = False
        for key, _ in events:
            if key.data is None:
                with suppress(BlockingIOError):
                    self._bell.recv(4096)
            else:
                self._ready.append((key.data, None))
        now = time.monotonic()
        if now >= self._look_at:
            self._look_at = now + POLL_S
            heard = {id(key.data) for key, _ in events}
            for fibre, ends in self._waiting.values():
                if ends < now and id(fibre) not in heard:
                    self._ready.append((fibre, TimeoutError()))

    def _patience_s(self) -> float | None:
        waits = [POLL_S] if self._waiting else []
        if self._resting:
            waits.append(max(0.0, self._resting[0][0] - time.monotonic()))
        return min(waits, default=None)

    def spawn(self, function: Callable[[], None]) -> None:
        """Begin a fibre. `do` must not raise."""

        def whole() -> None:
            try:
                function()
            finally:
                self._alive -= 1

        self._alive += 1
        self._ready.append((self._fibre(whole, self._home), None))

    def resume(self, fibre: Any) -> None:
        """Have a fibre that handed over go on."""
        self._next.append(fibre)

    # --- by the fibres --------------------------------------------------------------------------------------

    @property
    def current(self) -> Any:
        """The fibre that asks."""
        return self._current()

    def switch_out(self) -> None:
        """Let others go on until somebody wakes this one."""
        self._home.switch()

    def others_first(self) -> None:
        """See the function of that name."""
        if not self._last:
            self._let_first = 0
        self._last.append(self._current())
        self._home.switch()

    def rest(self, seconds: float) -> bool:
        """See the function of that name."""
        ends = time.monotonic() + seconds
        if self._stop.is_set():
            return False
        heapq.heappush(self._resting, (ends, next(self._numbers), self._current()))
        self._home.switch()
        return time.monotonic() >= ends or not self._stop.is_set()

    def until_ready(self, sock: socket.socket, events: int, deadline: float) -> None:
        """See the function of that name."""
        fibre, name = self._current(), sock.fileno()
        self._selector.register(name, events, fibre)
        self._waiting[name] = (fibre, deadline)
        try:
            self._home.switch()
        finally:
            del self._waiting[name]
            self._selector.unregister(name)
