"""How fast something predicts, measured here and now. Functions of a callable; nothing is kept."""

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
MIN_SINGLE_CALLS, MAX_SINGLE_CALLS = 5, 2000
MAX_ROUNDS = 50


@dataclass(frozen=True)
class Latency:
    """What `measure` saw.

    Attributes:
        texts_per_s: median over the rounds, all texts in one call.
        p50_ms, p99_ms: of one text alone, a call each.
        batch_s: median of a call with `BATCH` texts; None if it was not asked for.
        alone: how many texts were asked alone: of fewer than a hundred, p99 is hardly more than the slowest.
        joules_per_text: used by the whole device while all texts were in one call; None if nothing counts them.
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
        predict: anything that takes texts.
        texts: what it is timed on; those of a batch and alone are taken from them in turn.
        seconds: for each of the two, or three.
        batch: also time calls of `BATCH` texts.
        meter: counts joules while all texts are in one call.

    Raises:
        ValueError: no texts.
    """
    if not texts:
        raise ValueError("speed is measured on at least one text")
    predict(texts[:32])
    before = meter.read() if meter is not None else 0.0
    took = _timed(predict, [texts], seconds, fewest=1, most=MAX_ROUNDS)
    used = meter.read() - before if meter is not None else 0.0
    whole = [list(islice(cycle(texts), at, at + BATCH)) for at in range(0, max(len(texts), BATCH), BATCH)]
    batches = _timed(predict, whole, seconds, fewest=1, most=MAX_ROUNDS) if batch else []
    alone = _timed(predict, [[text] for text in texts], seconds, fewest=MIN_SINGLE_CALLS, most=MAX_SINGLE_CALLS)
    return Latency(
        texts_per_s=len(texts) / median(took),
        p50_ms=median(alone) * 1000,
        p99_ms=quantiles(alone, n=100)[98] * 1000,
        batch_s=median(batches) if batches else None,
        n_single=len(alone),
        joules_per_text=used / (len(texts) * len(took)) if used > 0 else None,
    )


def _timed(
    predict: PredictFunction, calls: Sequence[Sequence[str]], seconds: float, *, fewest: int, most: int
) -> list[float]:
    """Seconds of each call, in turn, until the time is up."""
    took: list[float] = []
    until = time.perf_counter() + seconds
    while len(took) < fewest or (time.perf_counter() < until and len(took) < most):
        began = time.perf_counter()
        predict(calls[len(took) % len(calls)])
        took.append(time.perf_counter() - began)
    return took
