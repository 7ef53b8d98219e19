"""Bundles that are loaded anew while a server runs: on SIGHUP, or when their record changes (`--watch`).

The old model answers until the new one is loaded and warm, and goes on if that fails: a bundle that is half copied is
tried again at the next look.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from potstill.bundle.record import RECORD_FILE
from potstill.data.printable import escape_controls
from potstill.errors import PotstillError
from potstill.serving.metrics import ServingMetrics
from potstill.serving.pool import BUNDLE, ModelPool

LOOK_EVERY_S = 2.0
Signature = tuple[int, int, int]


class Reloader:
    """Loads bundles anew.

    Args:
        pool: the models.
        metrics: counts what was loaded.
        say: called with each sentence about it.
    """

    def __init__(self, pool: ModelPool, metrics: ServingMetrics, say: Callable[[str], None] | None = None) -> None:
        self._pool = pool
        self._metrics = metrics
        self._say = say or _to_standard_error
        self._seen: dict[str, Signature | None] = {}
        self._failed: dict[str, str] = {}

    def remember(self) -> None:
        """Take the bundles as they are now for those that are served."""
        self._seen = {name: signature(folder) for name, folder in self._pool.folders.items()}

    def reload(self, name: str) -> bool:
        """Load a model anew; whether that was done. The same failure is said once."""
        seen = signature(self._pool.folders[name])
        try:
            model = self._pool.load(name)
        except PotstillError as error:
            if self._failed.get(name) != str(error):
                self._failed[name] = str(error)
                self._metrics.reloaded(name, success=False)
                self._say(f"{name} is served as before: {error}")
            return False
        self._seen[name] = seen
        self._failed.pop(name, None)
        self._metrics.reloaded(name, success=True)
        self._say(f"{name} was loaded anew, version {model.version}")
        return True

    def reload_all(self) -> None:
        """Load every model anew."""
        for name in self._pool.folders:
            self.reload(name)

    def reload_changed(self) -> None:
        """Load those anew whose record is another file than the one that is served."""
        for name, folder in self._pool.folders.items():
            found = signature(folder)
            if found is not None and found != self._seen.get(name):
                self.reload(name)

    async def watch(self) -> None:
        """Look for changes again and again."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            await asyncio.to_thread(self.reload_changed)


def signature(folder: Path) -> Signature | None:
    """What tells one bundle in a folder from another: time, size and number of its record's file; None without one."""
    for each in (folder, folder / BUNDLE):
        with suppress(OSError):
            found = (each / RECORD_FILE).stat()
            return found.st_mtime_ns, found.st_size, found.st_ino
    return None


def on_hangup(reload: Callable[[], None], stop: Callable[[], None]) -> None:
    """Call `reload` on SIGHUP, in the running event loop; `stop` if the terminal was closed, which sends it, too."""
    if not hasattr(signal, "SIGHUP") or signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        return
    with_terminal = _has_terminal()

    def hung_up() -> None:
        (stop if with_terminal and not _has_terminal() else reload)()

    with suppress(NotImplementedError, RuntimeError, ValueError):  # Windows, or not in the main thread
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, hung_up)


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


def _to_standard_error(sentence: str) -> None:
    print(f"potstill serve: {escape_controls(sentence)}", file=sys.stderr, flush=True)
