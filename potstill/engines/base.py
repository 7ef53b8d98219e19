"""What an engine and the calls it runs have in common: when to hurry, and how to wait. Knows no engine and no teacher.

An engine says around each call when it is to be cut short; a call that waits (for a rate limit, before another try)
rests here instead of sleeping, and gives up when the rest was broken.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

_here = threading.local()


@contextmanager
def cut_short_by(stop: threading.Event) -> Iterator[None]:
    """Calls made in this thread inside the block are to hurry once `stop` is set."""
    _here.stop = stop
    try:
        yield
    finally:
        del _here.stop


def hurried() -> bool:
    """Whether nobody waits for this call's result any more: begin nothing new."""
    stop: threading.Event | None = getattr(_here, "stop", None)
    return stop is not None and stop.is_set()


def rest(seconds: float) -> bool:
    """Wait; False, and at once, if the call is to be cut short."""
    stop: threading.Event | None = getattr(_here, "stop", None)
    if stop is None:
        time.sleep(seconds)
        return True
    return not stop.wait(seconds)
