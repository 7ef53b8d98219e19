"""Simulated student scores: logits, and labels drawn from their probabilities."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from potstill.evaluation.calibration import softmax


@dataclass(frozen=True)
class Scores:
    """(N, K) logits, and the (N,) labels drawn from their softmax at the true temperature and shift."""

    logits: NDArray[np.float64]
    gold: NDArray[np.int64]


def drawn(
    n: int, k: int = 4, *, temperature: float = 1.0, shift: NDArray[np.float64] | float = 0.0, seed: int = 0
) -> Scores:
    rng = np.random.default_rng(seed)
    logits = rng.normal(scale=3.0, size=(n, k))
    probs = softmax(logits / temperature + shift)
    gold = (probs.cumsum(axis=1) > rng.random((n, 1))).argmax(axis=1)
    return Scores(logits, gold.astype(np.int64))
