"""The simulated answer about a text that may have several labels; see `replay.py`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from potstill.data.task import Answer

Truth = int | tuple[int, ...]  # the column of the right label, or the columns of the right labels
MIN_PROBABILITY = 1e-6


def replay_label_set(
    truth: tuple[int, ...], confidence: float, shares: NDArray[np.float64], draw: np.random.Generator
) -> Answer:
    """The right set with probability `confidence`, else one with one label lost, added or exchanged.

    Args:
        truth: the right columns.
        confidence: in [0, 1]; the predicted labels get this probability, the others share the rest.
        shares: (K,) how likely each other label is taken for the text's.
        draw: draws what goes wrong.
    """
    predicted = set(truth)
    if draw.random() >= confidence:
        others = shares.copy()
        others[list(predicted)] = 0.0
        slip = draw.integers(3)
        if predicted and slip != 1:
            predicted.remove(int(draw.choice(sorted(predicted))))
        if (slip != 0 or not truth) and others.sum() > 0:
            predicted.add(int(draw.choice(len(others), p=others / others.sum())))
    left = (1 - confidence) / max(len(shares) - len(predicted), 1)
    probs = np.full(len(shares), min(left, 0.49))
    probs[list(predicted)] = max(confidence, 0.51)
    scores = np.log(np.clip(probs, MIN_PROBABILITY, 1 - MIN_PROBABILITY))
    return Answer("ok", tuple(float(score) for score in scores), "stated", ", ".join(map(str, sorted(predicted))))
