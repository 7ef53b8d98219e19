"""How fast something predicts, measured here and now. Functions of a callable; nothing is kept."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median, quantiles
from typing import Any

Predict = Callable[[Sequence[str]], Any]


@dataclass(frozen=True)
class Speed:
    """What `measure` saw.

    Attributes:
        texts_per_s: median over the rounds, all texts in one call.
        p50_ms, p99_ms: of one text alone, a call each.
    """

    texts_per_s: float
    p50_ms: float
    p99_ms: float


def measure(predict: Predict, texts: Sequence[str], *, seconds: float = 1.5) -> Speed:
    """Time `predict` on all texts at once and on one at a time, about `seconds` each after a warm-up.

    Raises:
        ValueError: no texts.
    """
    if not texts:
        raise ValueError("speed is measured on at least one text")
    predict(texts[:32])
    rates: list[float] = []
    until = time.perf_counter() + seconds
    while not rates or (time.perf_counter() < until and len(rates) < 50):
        began = time.perf_counter()
        predict(texts)
        rates.append(len(texts) / (time.perf_counter() - began))
    single_ms: list[float] = []
    until = time.perf_counter() + seconds
    while len(single_ms) < 5 or (time.perf_counter() < until and len(single_ms) < 2000):
        text = texts[len(single_ms) % len(texts)]
        began = time.perf_counter()
        predict([text])
        single_ms.append((time.perf_counter() - began) * 1000)
    return Speed(median(rates), median(single_ms), quantiles(single_ms, n=100)[98])
