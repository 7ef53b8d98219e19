"""What a replaying teacher says of a text that may have several labels: a simulation, as `replay.py` says."""

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
        confidence: in [0, 1]; the labels it says get this probability, the others share what is left.
        shares: (K,) how likely each other label is taken for the text's.
        draw: draws what goes wrong.
    """
    said = set(truth)
    if draw.random() >= confidence:
        others = shares.copy()
        others[list(said)] = 0.0
        slip = draw.integers(3)
        if said and slip != 1:
            said.remove(int(draw.choice(sorted(said))))
        if (slip != 0 or not truth) and others.sum() > 0:
            said.add(int(draw.choice(len(others), p=others / others.sum())))
    left = (1 - confidence) / max(len(shares) - len(said), 1)
    probs = np.full(len(shares), min(left, 0.49))
    probs[list(said)] = max(confidence, 0.51)
    scores = np.log(np.clip(probs, MIN_PROBABILITY, 1 - MIN_PROBABILITY))
    return Answer("ok", tuple(float(score) for score in scores), "stated", ", ".join(map(str, sorted(said))))
