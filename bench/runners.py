"""Runners of `runtime.py`: callables from texts to labels and time, in this process or in that of the rivals."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Timing:
    """One call: labels, wall seconds, processor seconds of the whole process."""

    labels: Sequence[str]
    seconds: float
    cpu_s: float


Runner = Callable[[Sequence[str]], Timing]


def local_runner(predict: Callable[[Sequence[str]], Sequence[str]]) -> Runner:
    """A runner in this process."""

    def run(texts: Sequence[str]) -> Timing:
        began, used = time.perf_counter(), time.process_time()
        labels = predict(texts)
        return Timing(labels, time.perf_counter() - began, time.process_time() - used)

    return run


class Rivals:
    """The process of `runtime_rivals.py`."""

    names = ("OpenVINO, bf16", "OpenVINO, fp32", "adaptive-classifier", "model2vec + regression")

    def __init__(self, python: Path, setup: dict[str, Any]) -> None:
        command = [str(python), str(Path(__file__).with_name("runtime_rivals.py"))]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._send(setup)

    def open(self, name: str) -> Runner | None:
        """The rival, trained if necessary; None, and a printed reason, if it cannot run."""
        self._send({"open": name})
        reply = self._reply()
        if "error" in reply:
            print(f"{name}: {reply['error']}")
            return None

        def run(texts: Sequence[str]) -> Timing:
            self._send({"run": name, "texts": list(texts)})
            reply = self._reply()
            return Timing(reply["labels"], reply["seconds"], reply["cpu_seconds"])

        return run

    def close(self) -> None:
        """End the process."""
        self._process.communicate()

    def _send(self, what: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(what) + "\n")
        self._process.stdin.flush()

    def _reply(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        reply: dict[str, Any] = json.loads(self._process.stdout.readline())
        return reply
