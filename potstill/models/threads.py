"""The number of threads PyTorch computes with: as many as there are idle cores.

At every operation the threads wait for the slowest. One that shares its core with another process holds up all others,
so that two threads beside a busy core can be ten times slower than one (bench/busy_machine.py).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

CPU_SAMPLE_S = 0.06
REFRESH_S = 10.0  # the idle cores are counted anew after so long
FEW_ROWS = 256  # fewer are computed in less time than counting takes


def idle_cores() -> int:
    """Number of idle cores this process may use; at least one.

    Two threads beside one busy process can be fifty times slower than one thread, as each waits for the other at every
    step. So the idle time of the machine is measured for `CPU_SAMPLE_S` seconds.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if os.environ.get("OMP_NUM_THREADS", "").isdigit():
        allowed = max(1, min(allowed, int(os.environ["OMP_NUM_THREADS"])))
    if allowed == 1:
        return 1
    try:
        before = _idle_seconds()
        time.sleep(CPU_SAMPLE_S)
        idle = (_idle_seconds() - before) / CPU_SAMPLE_S
    except (OSError, ValueError, IndexError):  # not Linux
        return allowed
    return max(1, min(allowed, round(idle)))


def _idle_seconds() -> float:
    fields = Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()
    return (int(fields[4]) + int(fields[5])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def torch_threads(n: int) -> Iterator[None]:
    """Set PyTorch's number of threads inside the block, and restore it afterwards."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def idle_threads(n_rows: int | None = None) -> Iterator[Callable[[], None]]:
    """Inside the block PyTorch computes with as many threads as there are idle cores, at most as many as before.

    Args:
        n_rows: how many rows are computed; with few nothing is changed. None for many.

    Yields:
        A function to call between steps: it counts the idle cores anew if the last count is `REFRESH_S` seconds old.
    """
    import torch

    before = torch.get_num_threads()
    if before == 1 or (n_rows is not None and n_rows < FEW_ROWS):
        yield lambda: None
        return
    try:
        _follow(before)
        yield lambda: _follow(before)
    finally:
        torch.set_num_threads(before)


def _follow(limit: int) -> None:
    """Set PyTorch's threads to the idle cores of the last count, after a new one if that is old."""
    import torch

    if time.monotonic() - _last.counted_at >= REFRESH_S:
        _last.cores = idle_cores()
        _last.counted_at = time.monotonic()
    if torch.get_num_threads() != (wanted := min(limit, _last.cores)):
        torch.set_num_threads(wanted)


@dataclass
class _Count:
    cores: int = 1
    counted_at: float = float("-inf")


_last = _Count()  # of this process: all networks share its threads
