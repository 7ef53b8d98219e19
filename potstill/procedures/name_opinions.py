"""Opinions without a gold label: what the names of the labels say, balanced and refined over the pool.

An embedding is closer to some label names than to others whatever the text says, so a label's scores are moved towards
equal frequency (`match_prior`, Sinkhorn's algorithm on one side), by half, since labels are seldom equally frequent.
Then each label's name gives way to the mean of the texts that are taken for it (EM of a mixture with one centre a
label), and the names' scores stay an opinion beside the centres', which keeps them from drifting. Functions of arrays.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from potstill.evaluation.calibration import log_softmax, match_prior, softmax

Floats = NDArray[np.float32]
BALANCE = 0.5  # share of the offsets that would make all labels equally frequent
SHARPNESS = 4.0  # standard deviation, in nats, that the scores of an opinion get
PRIOR_ROUNDS = 10
NAME_ROUNDS = 3  # of EM


def refine_names(
    scores: Sequence[Floats], vectors: Sequence[Floats], weights: Sequence[float], rounds: int
) -> list[Floats]:
    """(N, K) log-probabilities of each opinion, balanced and after `rounds` of EM on what all opinions found.

    Args:
        scores: (N, K) of each opinion, in nats, from label names.
        vectors: (N, D) of each opinion, of length one; D may differ.
        weights: of the opinions, in sum one.
        rounds: 0 only balances them.
    """
    names = [balance_labels(standardize(each)) for each in scores]
    refined = names
    for _ in range(rounds):
        mean = np.zeros_like(names[0])
        for weight, each in zip(weights, refined, strict=True):
            mean += np.float32(weight) * each
        probs = softmax(mean)
        refined = [
            balance_labels((name + standardize(_centre_cosines(each, probs))) / 2)
            for name, each in zip(names, vectors, strict=True)
        ]
    return [log_softmax(each).astype(np.float32) for each in refined]


def standardize(scores: NDArray[np.floating]) -> Floats:
    """(N, K) scores with the mean of each row zero, and `SHARPNESS` as the standard deviation of all."""
    centred = scores - scores.mean(axis=1, keepdims=True)
    return np.asarray(SHARPNESS * centred / max(float(centred.std()), 1e-9), dtype=np.float32)


def balance_labels(scores: NDArray[np.floating], share: float = BALANCE) -> Floats:
    """(N, K) scores moved by `share` of the offsets under which all labels would be equally frequent."""
    n_labels = scores.shape[1]
    offsets = match_prior(scores, np.full(n_labels, 1 / n_labels), rounds=PRIOR_ROUNDS)
    return np.asarray(scores + share * offsets, dtype=np.float32)


def _centre_cosines(vectors: Floats, probs: NDArray[np.floating]) -> Floats:
    """(N, K) cosines of N texts to the mean vector of each label's texts."""
    centres = np.asarray(probs, dtype=np.float32).T @ vectors
    centres /= np.maximum(np.linalg.norm(centres, axis=1, keepdims=True), np.float32(1e-12))
    return np.asarray(vectors @ centres.T, dtype=np.float32)
