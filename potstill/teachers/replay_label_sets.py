"""The simulated answer about a text that may have several labels; see `replay.py`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from potstill.data.task import Answer

Truth = int | tuple[int, ...]  # the column of the right label, or the columns of the right labels
MIN_PROBABILITY = 1e-6


def replay_label_set(
    truth: tuple[int, ...], confidence: float, shares: NDArray[np.float64], rng: np.random.Generator
) -> Answer:
    """The right set with probability `confidence`, else one with one label removed, added or exchanged.

    Args:
        truth: the right columns.
        confidence: in [0, 1]; the predicted labels get this probability, the others share the rest.
        shares: (K,) distribution of wrongly added labels.
        rng: source of the errors.
    """
    predicted = set(truth)
    if rng.random() >= confidence:
        others = shares.copy()
        others[list(predicted)] = 0.0
        error = rng.integers(3)  # 0 removes a label, 1 adds one, 2 exchanges one
        if predicted and error != 1:
            predicted.remove(int(rng.choice(sorted(predicted))))
        if (error != 0 or not truth) and others.sum() > 0:
            predicted.add(int(rng.choice(len(others), p=others / others.sum())))
    remaining = (1 - confidence) / max(len(shares) - len(predicted), 1)
    probs = np.full(len(shares), min(remaining, 0.49))
    probs[list(predicted)] = max(confidence, 0.51)
    scores = np.log(np.clip(probs, MIN_PROBABILITY, 1 - MIN_PROBABILITY))
    return Answer("ok", tuple(float(score) for score in scores), "stated", ", ".join(map(str, sorted(predicted))))
