"""What a person sees while a command works: sentences, and one line of progress; in a log, a line now and then."""

from __future__ import annotations

import shutil
import sys
import time
from typing import TypedDict

BAR_WIDTH = 24
REFRESH_S = 0.2
LOG_REFRESH_S = 15.0


class TerminalOptions(TypedDict):
    """How wide the terminal is, and whether it shows colours."""

    width: int
    color: bool


def terminal_options() -> TerminalOptions:
    """The terminal that results are printed on."""
    return {"width": min(shutil.get_terminal_size((80, 24)).columns, 120), "color": sys.stdout.isatty()}


class ConsoleReporter:
    """A teller that writes to standard error, so that results on standard output stay clean."""

    def __init__(self) -> None:
        self._live = sys.stderr.isatty()
        self._began: dict[str, float] = {}
        self._shown = 0.0
        self._open = False

    def info(self, sentence: str) -> None:
        """One sentence, on a line of its own."""
        self._close()
        print(sentence, file=sys.stderr, flush=True)

    def progress(self, what: str, done: float, total: float, detail: str = "") -> None:
        """A bar with the share done and the time left; redrawn in place on a terminal, a line now and then in a log."""
        now = time.monotonic()
        began = self._began.setdefault(what, now)
        finished = done >= total
        if not finished and now - self._shown < (REFRESH_S if self._live else LOG_REFRESH_S):
            return
        self._shown = now
        share = min(done / total, 1.0) if total else 1.0
        left = (now - began) * (1 - share) / share if 0 < share < 1 else 0.0
        timing = f"{left:3.0f} s left" if left else f"{now - began:3.0f} s"
        counted = f" {done:.0f}/{total:.0f}" if total > 1 else ""
        if not self._live:
            print(f"{what}: {share:.0%}{counted}, {timing}, {detail}".rstrip(", "), file=sys.stderr, flush=True)
        else:
            filled = round(BAR_WIDTH * share)
            line = f"{what} {'━' * filled}{'╌' * (BAR_WIDTH - filled)} {share:4.0%}{counted}  {timing}  {detail}"
            print(f"\r\x1b[2K{line[:118]}", end="", file=sys.stderr, flush=True)
            self._open = True
        if finished:
            self._began.pop(what, None)
            self._close()

    def confirm(self, question: str) -> bool:
        """Ask on a terminal; where there is none, go on: a script has given its budget."""
        if not (sys.stdin.isatty() and self._live):
            return True
        self._close()
        return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")

    def _close(self) -> None:
        if self._open:
            print(file=sys.stderr, flush=True)
            self._open = False
