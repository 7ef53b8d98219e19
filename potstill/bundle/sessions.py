"""A graph file, open in onnxruntime: the options that make it fast, and its errors in one sentence.

Needs onnxruntime. Independent of texts, labels and bundles.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from potstill.errors import BadInput, MissingExtra, RunNotFound

THREADS_VARIABLE = "POTSTILL_THREADS"
# onnxruntime would fuse a layer norm with the addition before it, and its fused kernel for processors takes six times
# as long as the two steps one after the other: a sixth of all the time of a small encoder (docs/log.md).
DISABLED_FUSIONS = ["SkipLayerNormFusion"]


def open_session(file: Path) -> Any:
    """An `onnxruntime.InferenceSession` on the CPU, one thread a call; any number of threads may call it at once.

    Raises:
        RunNotFound: it is not a graph that onnxruntime can run.
        MissingExtra: onnxruntime is not installed.
    """
    try:
        import onnxruntime
    except ModuleNotFoundError as error:
        raise MissingExtra(
            "Predicting with a bundle needs onnxruntime, which is not installed.",
            "Install it with: pip install onnxruntime",
        ) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(
            str(file), options, providers=["CPUExecutionProvider"], disabled_optimizers=DISABLED_FUSIONS
        )
    except Exception as error:  # onnxruntime raises its own classes, straight from Exception
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise RunNotFound(
            f"{file} is not a graph that onnxruntime can run: {first}.", "Copy or export the bundle again."
        ) from error


def available_cpus() -> int:
    """Processors to use: `POTSTILL_THREADS` if set, else what affinity and a container's quota allow.

    Raises:
        BadInput: the variable is not a whole number above zero.
    """
    wanted = os.environ.get(THREADS_VARIABLE, "")
    if wanted:
        if not wanted.isdecimal() or int(wanted) < 1:
            raise BadInput(
                f"{THREADS_VARIABLE} is {wanted!r}.", f"Set it to a number of threads, such as {THREADS_VARIABLE}=2."
            )
        return int(wanted)
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(allowed, _quota()))


def _quota() -> int:
    """Whole processors of the control group's quota; a container with two of 64 would otherwise start 64 threads."""
    try:
        limit, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        return 1_000_000 if limit == "max" else -(-int(limit) // int(period))
    except (OSError, ValueError, ZeroDivisionError):
        return 1_000_000
