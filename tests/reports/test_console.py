"""reports/console.py: bars on a terminal, lines in a log, and a cursor that comes back."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from potstill.reports.console import ConsoleReporter

WORK = """
from potstill.reports.console import ConsoleReporter
with ConsoleReporter() as reporter:
    reporter.progress("training", 0.2, 1.0, "epoch 1 [b]")
    reporter.info("A sentence with [brackets].")
    raise KeyboardInterrupt
"""


def test_in_a_log_the_first_and_the_last_line_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with ConsoleReporter() as reporter:
        reporter.info("Reading [tickets].")
        for done in range(1, 101):
            reporter.progress("asking", done, 100, "3 failed")
    printed = capsys.readouterr()
    assert printed.out == ""
    first, begun, ended = printed.err.splitlines()
    assert first == "Reading [tickets]."
    assert begun.startswith("asking: 1%")
    assert ended.startswith("asking: 100%")
    assert ended.endswith("100/100 3 failed")


def test_on_a_terminal_ctrl_c_ends_the_bar_and_gives_the_cursor_back() -> None:
    pty = pytest.importorskip("pty")
    leader, follower = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, "-c", WORK], stderr=follower, stdout=subprocess.DEVNULL, env={**os.environ, "TERM": "xterm"}
    )
    child.wait(timeout=60)
    os.set_blocking(leader, False)
    shown = os.read(leader, 65536).decode("utf-8", "replace")
    os.close(leader)
    os.close(follower)
    assert "training" in shown
    assert "epoch 1 [b]" in shown
    assert "A sentence with [brackets]." in shown
    assert shown.index("\x1b[?25l") < shown.index("\x1b[?25h") < shown.index("KeyboardInterrupt")
