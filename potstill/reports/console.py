"""Progress of a command on standard error: sentences and bars on a terminal, a line now and then in a log."""

from __future__ import annotations

import shutil
import sys
import time
from typing import TYPE_CHECKING, TypedDict

from potstill.data.printable import escape_controls

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

BAR_WIDTH = 24
REFRESHES_PER_S = 5
LOG_INTERVAL_S = 15.0


class TerminalOptions(TypedDict):
    """How wide the terminal is, and whether it shows colours."""

    width: int
    color: bool


def terminal_options() -> TerminalOptions:
    """The terminal that results are printed on."""
    return {"width": min(shutil.get_terminal_size((80, 24)).columns, 120), "color": sys.stdout.isatty()}


class ConsoleReporter:
    """A `ProgressReporter` that writes to standard error, so that results on standard output stay clean.

    Use it in a `with` block: leaving it, also by Ctrl-C, ends the bars and gives the cursor back.
    """

    def __init__(self) -> None:
        self._live = sys.stderr.isatty()
        self._bars: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        self._started: dict[str, float] = {}
        self._logged_at = 0.0

    def __enter__(self) -> ConsoleReporter:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def info(self, sentence: str) -> None:
        """One sentence, on a line of its own, above the bars."""
        sentence = escape_controls(sentence)  # it may hold what a provider or a file said
        if self._bars is None:
            print(sentence, file=sys.stderr, flush=True)
        else:
            self._bars.console.print(sentence, markup=False, highlight=False, emoji=False)

    def progress(self, what: str, done: float, total: float, detail: str = "") -> None:
        """A bar with the share done and the time left; where there is no terminal, a line every few seconds."""
        what = escape_controls(what)  # it may hold a file's or a model's name
        counted = escape_controls(f"{done:.0f}/{total:.0f} {detail}" if total > 1 else detail)
        finished = done >= total
        if not self._live:
            self._log(what, min(done / total, 1.0) if total else 1.0, counted)
            return
        bars = self._bars or self._open()
        if what not in self._tasks:
            self._tasks[what] = bars.add_task(what, total=total, detail=counted)
        bars.update(self._tasks[what], completed=min(done, total), total=total, detail=counted)
        if finished:
            del self._tasks[what]
            if not self._tasks:
                self._close()

    def confirm(self, question: str) -> bool:
        """Ask on a terminal; without one, go on: a script has given its budget."""
        if not (sys.stdin.isatty() and self._live):
            return True
        self._close()
        return input(f"{escape_controls(question)} [y/N] ").strip().lower() in ("y", "yes")

    def _log(self, what: str, share: float, detail: str) -> None:
        now = time.monotonic()
        took = now - self._started.setdefault(what, now)
        if share < 1 and now - self._logged_at < LOG_INTERVAL_S:
            return
        self._logged_at = now
        timing = f"{took * (1 - share) / share:.0f} s left" if 0 < share < 1 else f"{took:.0f} s"
        print(f"{what}: {share:.0%}, {timing}, {detail}".rstrip(", "), file=sys.stderr, flush=True)
        if share == 1:
            del self._started[what]

    def _open(self) -> Progress:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
        from rich.table import Column

        rest = Column(ratio=1, no_wrap=True, overflow="ellipsis")  # what the other columns leave
        self._bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(BAR_WIDTH),
            TaskProgressColumn(),
            TimeRemainingColumn(elapsed_when_finished=True),
            TextColumn("{task.fields[detail]}", markup=False, table_column=rest),
            console=Console(stderr=True),
            refresh_per_second=REFRESHES_PER_S,
            expand=True,
        )
        self._bars.start()
        return self._bars

    def _close(self) -> None:
        if self._bars is not None:
            self._bars.stop()
            self._bars, self._tasks = None, {}
