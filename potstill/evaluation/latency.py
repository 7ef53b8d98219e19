"""Measures latency and throughput of a predict function on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from statistics import median, quantiles
from typing import Any

from potstill.evaluation.energy import EnergyMeter

PredictFunction = Callable[[Sequence[str]], Any]
BATCH = 64  # texts, as in the paper's table (Palo et al. 2024, table 5)
MIN_SINGLE_CALLS, MAX_SINGLE_CALLS = 5, 500
MAX_ROUNDS = 20


@dataclass(frozen=True)
class Latency:
    """What `measure_latency` measured.

    Attributes:
        texts_per_s: median over the rounds, all texts in one call.
        p50_ms, p99_ms: median and 99th percentile of calls with one text.
        batch_s: median seconds of a call with `BATCH` texts; None if not measured.
        n_single: calls with one text; with fewer than a hundred, p99 is hardly more than the slowest.
        joules_per_text: energy of the whole device during the calls with all texts; None without a counter.
    """

    texts_per_s: float
    p50_ms: float
    p99_ms: float
    batch_s: float | None = None
    n_single: int = 0
    joules_per_text: float | None = None


def measure_latency(
    predict: PredictFunction,
    texts: Sequence[str],
    *,
    seconds: float = 1.5,
    batch: bool = False,
    meter: EnergyMeter | None = None,
) -> Latency:
    """Time `predict` on all texts at once and on one at a time, about `seconds` each after a warm-up.

    Args:
        predict: takes a sequence of texts.
        texts: the texts to predict; batches and single texts are taken from them in turn.
        seconds: time for each kind of call.
        batch: also time calls of `BATCH` texts.
        meter: counts joules during the calls with all texts.

    Raises:
        ValueError: no texts.
    """
    if not texts:
        raise ValueError("latency is measured on at least one text")
    predict(texts[:32])
    before = meter.read() if meter is not None else 0.0
    whole = _call_seconds(predict, [texts], seconds, n_min=1, n_max=MAX_ROUNDS)
    joules = meter.read() - before if meter is not None else 0.0
    chunks = [list(islice(cycle(texts), at, at + BATCH)) for at in range(0, max(len(texts), BATCH), BATCH)]
    batches = _call_seconds(predict, chunks, seconds, n_min=1, n_max=MAX_ROUNDS) if batch else []
    singles = [[text] for text in texts]
    single = _call_seconds(predict, singles, seconds, n_min=MIN_SINGLE_CALLS, n_max=MAX_SINGLE_CALLS)
    return Latency(
        texts_per_s=len(texts) / median(whole),
        p50_ms=median(single) * 1000,
        p99_ms=quantiles(single, n=100)[98] * 1000,
        batch_s=median(batches) if batches else None,
        n_single=len(single),
        joules_per_text=joules / (len(texts) * len(whole)) if joules > 0 else None,
    )


def _call_seconds(
    predict: PredictFunction, calls: Sequence[Sequence[str]], seconds: float, *, n_min: int, n_max: int
) -> list[float]:
    """Seconds of each call, in turn, from `n_min` to `n_max` calls until the time is up."""
    durations: list[float] = []
    end = time.perf_counter() + seconds
    while len(durations) < n_min or (time.perf_counter() < end and len(durations) < n_max):
        start = time.perf_counter()
        predict(calls[len(durations) % len(calls)])
        durations.append(time.perf_counter() - start)
    return durations
