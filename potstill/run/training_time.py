"""Estimates how long training a student takes on this machine, by a short timed probe scaled by the work.

Work is counted in passes over the rows (their number is the student's `training_passes`) and, for transformers, in
floating-point operations: 2 a parameter and token forwards, 6 in training (Kaplan et al. 2020, without the quadratic
part of attention). The estimate is no bound: training stops where the money held for it ends.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from potstill.data.task import JsonObject, Task
from potstill.errors import PotstillError
from potstill.ledger.amounts import seconds_range, usd_amount
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
    """The estimated time and price of training a student.

    Attributes:
        low_s, high_s: seconds, probably at least and at most.
        usd: price of the middle of them.
        flops: operations in all; None if they cannot be counted.
        flops_per_s: operations a second that the probe reached; None likewise.
        probe_s: seconds the probe took.
        student: the student of the probe, which was trained on a few rows.
    """

    low_s: float
    high_s: float
    usd: float
    flops: float | None
    flops_per_s: float | None
    probe_s: float
    student: Student

    def sentence(self) -> str:
        """The estimate for a plan."""
        middle = (self.low_s + self.high_s) / 2
        span = seconds_range(self.low_s, self.high_s)
        took = span if middle < 1 else f"about {seconds_range(middle, middle)} ({span})"
        sentence = f"training it takes {took}, {usd_amount(self.usd)}"
        if self.flops is not None and self.flops_per_s is not None:
            sentence += f"; {self.flops:.1e} FLOPs at {self.flops_per_s / 1e9:.0f} GFLOP/s, timed here"
        return sentence


@dataclass(frozen=True)
class _Probe:
    """A student trained on a few rows, and the seconds that took."""

    student: Student
    seconds: float


@dataclass(frozen=True)
class _Work:
    """The seconds of the whole training, of one row and pass, and the probe they were scaled from."""

    seconds: float
    seconds_per_row: float
    probe: _Probe


@dataclass(frozen=True)
class _Prober:
    """Trains the student on a few of its N rows, and measures the time."""

    component: ComponentSpec
    task: Task
    texts: Sequence[str]
    targets: Floats
    order: NDArray[np.int64]

    def rows(self, n: int) -> list[int]:
        """At most n rows, two labels among them if there are two: a student cannot be trained on one."""
        rows = [int(row) for row in self.order[:n]]
        labels = np.asarray(self.targets).argmax(axis=1)
        others = [int(row) for row in self.order if labels[row] != labels[rows[0]]]
        if others and all(labels[row] == labels[rows[0]] for row in rows):
            rows[-1] = others[0]
        return rows

    def train(self, rows: Sequence[int], epochs: float | None = None) -> _Probe:
        """A student of these rows; `epochs` replaces the number of its options."""
        options: JsonObject = self.component.options
        if epochs is not None:
            options = {**options, "epochs": epochs} | ({"n_averaged": 1} if "n_averaged" in options else {})
        task = self.task
        config = StudentConfig(task.labels, self.component.model, task.descriptions, options, task.kind)
        student = student_kind(self.component.kind)(config)
        student.check_requirements()
        began = time.perf_counter()
        targets = np.asarray(self.targets, dtype=np.float32)[list(rows)]
        student.fit(TrainingData([self.texts[row] for row in rows], targets))
        return _Probe(student, time.perf_counter() - began)

    def by_rows(self, rows: Sequence[int]) -> _Work:
        """Training time that is proportional to the rows: from half of the probe's rows and all of them."""
        half, whole = self.train(rows[: len(rows) // 2]), self.train(rows)
        per_row = max(whole.seconds - half.seconds, 1e-9) / max(len(rows) - len(rows) // 2, 1)
        return _Work(whole.seconds + per_row * (len(self.texts) - len(rows)), per_row, whole)

    def by_passes(self, rows: Sequence[int], passes: float) -> _Work:
        """Training time that is proportional to rows and passes: from one epoch and three."""
        one, three = self.train(rows, epochs=1.0), self.train(rows, epochs=3.0)
        per_row = max(three.seconds - one.seconds, 1e-6) / (2 * len(rows))
        forward = FORWARD_FLOPS / TRAINING_FLOPS  # the passes that only read
        fixed = max(one.seconds - len(rows) * per_row * (1 + forward), 0.0)  # loading, the head
        return _Work(fixed + len(self.texts) * per_row * (passes + forward), per_row, three)


def estimate_training_time(
    component: ComponentSpec, task: Task, texts: Sequence[str], targets: Floats, rates: Rates, *, seed: int = 0
) -> TrainingTime:
    """Estimate the training of a student on N texts; takes the time of the probe.

    Args:
        component: the student and its options.
        task: with K labels.
        texts: N texts; none for a student that is made of the label names.
        targets: (N, K).
        rates: the price of this machine's time.
        seed: draws the rows of the probe.

    Raises:
        PotstillError: the student cannot be made, or cannot be trained on so few rows.
    """
    began = time.perf_counter()
    prober = _Prober(component, task, texts, targets, np.random.default_rng(seed).permutation(len(texts)))
    if not len(texts):
        whole = prober.train([])
        usd = micros_to_usd(rates.cost_micros(Usage(seconds=whole.seconds)))
        return TrainingTime(whole.seconds, whole.seconds, usd, None, None, whole.seconds, whole.student)
    passes = student_kind(component.kind).training_passes(component.options, len(texts))
    prober.train(prober.rows(8), epochs=1.0 if passes else None)  # the first training is slower
    if passes:
        work = prober.by_passes(prober.rows(PROBE_ROWS), passes)
    else:
        work = prober.by_rows(prober.rows(PROBE_ROWS_OTHER if passes is None else PROBE_ROWS_FROZEN))
    flops, flops_per_s = None, None
    parameters = None if passes is None else _count_parameters(work.probe.student)
    if parameters and passes is not None:
        n_tokens = TOKENS_PER_WORD * float(np.mean([len(text.split()) for text in texts]))
        flops = parameters * n_tokens * len(texts) * (TRAINING_FLOPS * passes + FORWARD_FLOPS)
        flops_per_s = (TRAINING_FLOPS if passes else FORWARD_FLOPS) * parameters * n_tokens / work.seconds_per_row
    low_s, high_s = LOW_FACTOR * work.seconds, HIGH_FACTOR * work.seconds
    usd = micros_to_usd(rates.cost_micros(Usage(seconds=(low_s + high_s) / 2)))
    return TrainingTime(low_s, high_s, usd, flops, flops_per_s, time.perf_counter() - began, work.probe.student)


def _count_parameters(student: Student) -> int | None:
    """Parameters applied to every token: all but the embeddings, read from the header of the student's weights."""
    try:
        folder = find_weights(getattr(student, "weights", "")).folder
    except PotstillError:
        return None
    total = 0
    for file in sorted(folder.glob("*.safetensors")):
        with file.open("rb") as handle:
            header = json.loads(handle.read(int.from_bytes(handle.read(8), "little")))
        shapes = [each["shape"] for name, each in header.items() if name != "__metadata__" and "embed" not in name]
        total += sum(int(np.prod(shape)) for shape in shapes)
    return total or None
