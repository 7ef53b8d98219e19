"""A served annotation page, and a real browser if one is installed."""

from __future__ import annotations

import re
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.browser import Page, browsing, chromium


@dataclass
class Served:
    """A process that serves a run's labels."""

    process: subprocess.Popen[str]
    url: str

    def kill(self) -> None:
        """End it with SIGKILL."""
        self.process.kill()
        self.process.wait()


def _like_a_terminal_with_few_files() -> None:
    # A job in the background of a script ignores Ctrl-C, and so would its children.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))  # as on macOS


@pytest.fixture
def served() -> Iterator[Callable[..., Served]]:
    """Call it with a run's folder, and a port if it must be a certain one."""
    running: list[Served] = []

    def start(run: Path, port: int = 0) -> Served:
        command = [sys.executable, "-m", "potstill", "annotate", str(run), "--port", str(port)]
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=_like_a_terminal_with_few_files,
        )
        assert process.stderr is not None
        line = process.stderr.readline()
        found = re.search(r"http://127\.0\.0\.1:\d+/", line)
        assert found, line + process.stderr.read()
        running.append(Served(process, found.group()))
        return running[-1]

    yield start
    for each in running:
        each.kill()


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Page]:
    """A page of a real Chromium; the test is skipped if none is installed."""
    if chromium() is None:
        pytest.skip("no Chromium on this machine (apt install chromium, or set POTSTILL_CHROMIUM)")
    with browsing(tmp_path / "profile") as page:
        page.size(1280, 800)
        yield page
