"""How long teaching a student will take here, and what that costs: a short timed probe, scaled by what has to be done.

The work is counted as passes over the rows (their number follows the student's own rule) and, for transformers, as
floating-point operations: 2 a parameter and token forwards, 6 in training (Kaplan et al. 2020, without attention's
quadratic part). Not a bound: what training may take at most is what is held for it, and there it stops.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from potstill.data.task import Task
from potstill.errors import PotstillError
from potstill.ledger.prices import Rates, Usage, micros_to_usd
from potstill.models.weights import find_weights
from potstill.run.spec import ComponentSpec
from potstill.students.base import Floats, Student, StudentConfig, TrainingData
from potstill.students.kinds import student_kind

PROBE_ROWS = 16  # rows that a transformer is probed with
PROBE_ROWS_FROZEN = 48  # rows that a frozen transformer is probed with
PROBE_ROWS_OTHER = 200  # rows that any other student is probed with
FORWARD_FLOPS, TRAINING_FLOPS = 2, 6  # operations a parameter and token
# Training may end early, and a machine is not always as busy as while it was probed.
LOW_FACTOR, HIGH_FACTOR = 0.5, 1.6
TOKENS_PER_WORD = 1.4


@dataclass(frozen=True)
class TrainingTime:
    """What teaching a student will take.

    Attributes:
        low_s, high_s: seconds, probably at least and at most.
        usd: what the middle of them costs.
        flops: operations in all; None where they cannot be counted.
        flops_per_s: those the probe reached here; None likewise.
        probed_s: how long the probe took.
        student: the student of the probe, which has learnt next to nothing.
    """

    low_s: float
    high_s: float
    usd: float
    flops: float | None
    flops_per_s: float | None
    probe_s: float
    student: Student

    def sentence(self) -> str:
        """One for a plan."""
        middle = (self.low_s + self.high_s) / 2
        took = f"{middle:.0f} seconds" if middle < 120 else f"{middle / 60:.0f} minutes"
        span = f"{self.low_s:.0f} to {self.high_s:.0f} s"
        told = f"training it takes about {took} ({span}), ${self.usd:.4f}"
        if self.flops is not None and self.flops_per_s is not None:
            told += f"; {self.flops:.1e} FLOPs at {self.flops_per_s / 1e9:.0f} GFLOP/s, timed here"
        return told


def estimate_training_time(
    named: ComponentSpec, task: Task, texts: Sequence[str], targets: Floats, rates: Rates, *, seed: int = 0
) -> TrainingTime:
    """What teaching `named` N texts will take; spends the time of the probe.

    Args:
        named: a student of the menu, with its options.
        task: with K labels.
        texts, targets: all that it will learn, (N, K).
        rates: the price of this machine's time.
        seed: draws the rows of the probe.

    Raises:
        PotstillError: the student cannot be made, or learns nothing from so few rows.
    """
    began = time.perf_counter()
    n = len(texts)
    passes = student_kind(named.kind).training_passes(named.options, n)
    order = np.random.default_rng(seed).permutation(n)
    _Probe.of(named, task, texts, targets, _varied(order, targets, 8), epochs=1.0 if passes else None)  # warms up
    some = _varied(order, targets, PROBE_ROWS_OTHER if passes is None else PROBE_ROWS if passes else PROBE_ROWS_FROZEN)
    if not passes:
        half = _Probe.of(named, task, texts, targets, some[: len(some) // 2])
        whole = _Probe.of(named, task, texts, targets, some)
        each = max(whole.seconds - half.seconds, 1e-9) / max(len(some) - len(some) // 2, 1)
        seconds = whole.seconds + each * (n - len(some))
    else:
        half = _Probe.of(named, task, texts, targets, some, epochs=1.0)
        whole = _Probe.of(named, task, texts, targets, some, epochs=3.0)
        each = max(whole.seconds - half.seconds, 1e-6) / (2 * len(some))
        # What is neither training nor reading: loading, the head.
        rest = max(half.seconds - len(some) * each * (1 + FORWARD_FLOPS / TRAINING_FLOPS), 0.0)
        seconds = rest + n * each * (passes + FORWARD_FLOPS / TRAINING_FLOPS)
    flops, speed = None, None
    parameters = None if passes is None else _parameters(named)
    if parameters and passes is not None:
        tokens = TOKENS_PER_WORD * float(np.mean([len(text.split()) for text in texts]))
        flops = parameters * tokens * n * (TRAINING_FLOPS * passes + FORWARD_FLOPS)
        speed = (TRAINING_FLOPS if passes else FORWARD_FLOPS) * parameters * tokens / each
    usd = micros_to_usd(rates.cost_micros(Usage(seconds=seconds * (LOW_FACTOR + HIGH_FACTOR) / 2)))
    took = time.perf_counter() - began
    return TrainingTime(LOW_FACTOR * seconds, HIGH_FACTOR * seconds, usd, flops, speed, took, whole.student)


@dataclass(frozen=True)
class _Probe:
    """A student that learnt a few rows, and how long that took."""

    student: Student
    seconds: float

    @classmethod
    def of(
        cls,
        named: ComponentSpec,
        task: Task,
        texts: Sequence[str],
        targets: Floats,
        rows: Sequence[int],
        epochs: float | None = None,
    ) -> _Probe:
        options: dict[str, Any] = dict(named.options)
        if epochs is not None:
            options |= {"epochs": epochs} | ({"n_averaged": 1} if "n_averaged" in options else {})
        made = student_kind(named.kind)(StudentConfig(task.labels, named.model, task.descriptions, options, task.kind))
        made.check_requirements()
        began = time.perf_counter()
        made.fit(TrainingData([texts[i] for i in rows], np.asarray(targets, dtype=np.float32)[list(rows)]))
        return cls(made, time.perf_counter() - began)


def _varied(order: Any, targets: Floats, n: int) -> list[int]:
    """At most n rows, two labels among them if there are two: nothing can be learnt from one."""
    rows = [int(i) for i in order[:n]]
    likeliest = np.asarray(targets).argmax(axis=1)
    others = [int(i) for i in order if likeliest[i] != likeliest[rows[0]]]
    if others and all(likeliest[i] == likeliest[rows[0]] for i in rows):
        rows[-1] = others[0]
    return rows


def _parameters(named: ComponentSpec) -> int | None:
    """Parameters that every token meets: all but the embeddings, read from the header of the weights."""
    try:
        folder = find_weights(named.model or "minilm", kind="encoder").folder
    except PotstillError:
        return None
    total = 0
    for file in sorted(Path(folder).glob("*.safetensors")):
        with file.open("rb") as handle:
            header = json.loads(handle.read(int.from_bytes(handle.read(8), "little")))
        shapes = [each["shape"] for name, each in header.items() if name != "__metadata__" and "embed" not in name]
        total += sum(int(np.prod(shape)) for shape in shapes)
    return total or None
