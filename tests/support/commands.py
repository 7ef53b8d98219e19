"""Processes of the command line, for studies that kill them: started from the beginning, or forked.

The libraries of a distillation take three seconds of processor time to import. `fork_command` starts from a process
that has imported them: a process like any other, with signals, limits, files and an exit code of its own. It has no
output and, as no interpreter is started, does not test how the command begins.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

LIBRARIES = ["potstill.cli", "sklearn.linear_model", "onnxruntime", "potstill.teachers.openai"]


class Command(Protocol):
    """A running command, as `subprocess.Popen` has it."""

    returncode: int

    def wait(self, timeout: float | None = None) -> Any: ...
    def send_signal(self, sig: int) -> None: ...
    def communicate(self) -> tuple[Any, str]: ...


def heed_signals() -> None:
    """In a child process: heed signals that are ignored in the background of a script, and under nohup."""
    for each in (signal.SIGINT, signal.SIGHUP):
        signal.signal(each, signal.SIG_DFL)


def start_command(arguments: Sequence[str], most_bytes: int | None = None) -> Any:
    """Start potstill with these arguments; no file of it may grow beyond `most_bytes`."""

    def bounded() -> None:
        heed_signals()
        _limit(most_bytes)

    return subprocess.Popen(
        [sys.executable, "-m", "potstill", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=bounded,
    )


class _Forked:
    """A `Command` of `fork_command`."""

    def __init__(self, arguments: Sequence[str], most_bytes: int | None) -> None:
        handle, name = tempfile.mkstemp()
        os.close(handle)
        self._errors = Path(name)
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(LIBRARIES)
        self._process = context.Process(target=_run, args=(tuple(arguments), name, most_bytes))
        self._process.start()

    @property
    def returncode(self) -> int:
        return self._process.exitcode or 0

    def wait(self, timeout: float | None = None) -> None:
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired("potstill", timeout or 0.0)

    def send_signal(self, sig: int) -> None:
        assert self._process.pid is not None
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._process.pid, sig)

    def communicate(self) -> tuple[None, str]:
        self.wait()
        said = self._errors.read_text(encoding="utf-8") if self._errors.exists() else ""
        self._errors.unlink(missing_ok=True)
        return None, said


def fork_command(arguments: Sequence[str], most_bytes: int | None = None) -> Any:
    """The same in a process that is forked from one which has imported the libraries."""
    return _Forked(arguments, most_bytes)


def _run(arguments: tuple[str, ...], errors: str, most_bytes: int | None) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    for number, file in ((1, os.devnull), (2, errors)):
        opened = os.open(file, os.O_WRONLY)
        os.dup2(opened, number)
        os.close(opened)
    _limit(most_bytes)
    from potstill.cli import main

    sys.argv = ["potstill", *arguments]
    main()


def _limit(most_bytes: int | None) -> None:
    if most_bytes is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))
