"""Scores into probabilities: softmax, the label prior, temperature. Functions of arrays; they do not read or write."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def log_softmax(scores: NDArray[np.floating]) -> Array:
    """(N, K) scores -> (N, K) log-probabilities."""
    scores = np.asarray(scores, dtype=np.float64)
    shifted = scores - scores.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))


def softmax(scores: NDArray[np.floating], temperature: float = 1.0) -> Array:
    """(N, K) scores -> (N, K) probabilities at `temperature`."""
    return np.exp(log_softmax(np.asarray(scores, dtype=np.float64) / temperature))


def sigmoid(scores: NDArray[np.floating]) -> Array:
    """Scores -> probabilities, each by itself."""
    return np.exp(log_sigmoid(scores))


def log_sigmoid(scores: NDArray[np.floating]) -> Array:
    """Scores -> log-probabilities, each by itself."""
    scores = np.asarray(scores, dtype=np.float64)
    return np.asarray(np.minimum(scores, 0) - np.log1p(np.exp(-np.abs(scores))))


def one_hot(gold: NDArray[np.integer], n_labels: int) -> NDArray[np.float32]:
    """(N,) label columns -> (N, K) float32 probabilities."""
    return np.asarray(np.eye(n_labels, dtype=np.float32)[gold])


def match_prior(scores: NDArray[np.floating], prior: NDArray[np.floating], rounds: int = 200) -> Array:
    """The (K,) offsets that make the mean probability of each label over N unlabelled texts equal `prior`.

    Add them to any scores of the same teacher. A small language model prefers some label words whatever the
    text says; fitting only K numbers, on texts without labels, removes that preference. Batch calibration
    (Zhou et al. 2024) divides by the mean once; this iterates to the fixed point, as Sinkhorn does.

    Args:
        scores: (N, K) natural-log scores.
        prior: (K,) label frequencies, all above zero, summing to one.
    """
    log_prior = np.log(np.asarray(prior, dtype=np.float64))
    offsets = np.zeros(len(log_prior))
    for _ in range(rounds):
        mean = softmax(np.asarray(scores, dtype=np.float64) + offsets).mean(axis=0)
        step = log_prior - np.log(np.maximum(mean, 1e-300))
        offsets += step
        if np.abs(step).max() < 1e-9:
            break
    return np.asarray(offsets - offsets.mean())


def match_rates(scores: NDArray[np.floating], rates: NDArray[np.floating]) -> Array:
    """The (K,) offsets that make the mean sigmoid of each label over N texts equal its rate.

    What `match_prior` is where each label is decided by itself.

    Args:
        scores: (N, K) natural-log scores.
        rates: (K,) how often a text has each label, in (0, 1).
    """
    scores = np.asarray(scores, dtype=np.float64)
    low, high = (bound - end for bound, end in ((-40.0, scores.max(axis=0)), (40.0, scores.min(axis=0))))
    for _ in range(60):
        middle = (low + high) / 2
        short = sigmoid(scores + middle).mean(axis=0) < rates
        low, high = np.where(short, middle, low), np.where(short, high, middle)
    return np.asarray((low + high) / 2)


def fit_temperature(scores: NDArray[np.floating], gold: NDArray[np.integer]) -> float:
    """The temperature in [0.05, 20] with the least log-loss of (N, K) scores on (N,) gold columns (Guo et al. 2017)."""
    # Late: a bundle reads softmax from here, and a machine that only serves has no scipy.
    from scipy.optimize import minimize_scalar

    scores = np.asarray(scores, dtype=np.float64)
    rows = np.arange(len(gold))

    def loss(log_temperature: float) -> float:
        return float(-log_softmax(scores / np.exp(log_temperature))[rows, gold].mean())

    return float(np.exp(minimize_scalar(loss, bounds=(np.log(0.05), np.log(20.0)), method="bounded").x))


def temperature_for_accuracy(scores: NDArray[np.floating], accuracy: float) -> float:
    """The temperature in [0.05, 20] at which (N, K) scores are as sure on average as they are right: `accuracy`.

    For scores whose accuracy is known, and the texts they are right on are not.
    """
    low, high = 0.05, 20.0
    for _ in range(40):
        middle = float(np.sqrt(low * high))
        sure = softmax(scores, middle).max(axis=1).mean() > accuracy
        low, high = (middle, high) if sure else (low, middle)
    return float(np.sqrt(low * high))


@dataclass(frozen=True)
class Calibration:
    """How a teacher's scores are read: add the (K,) `offsets`, divide by `temperature`, softmax."""

    offsets: tuple[float, ...]
    temperature: float = 1.0

    def apply(self, scores: NDArray[np.floating]) -> Array:
        """(N, K) scores -> (N, K) probabilities."""
        return softmax(np.asarray(scores, dtype=np.float64) + np.asarray(self.offsets), self.temperature)


@dataclass(frozen=True)
class MultilabelCalibration(Calibration):
    """How the scores of a teacher that says several labels are read: as the log-probability of each label by itself."""

    def apply(self, scores: NDArray[np.floating]) -> Array:
        """(N, K) scores -> (N, K) probabilities."""
        return np.exp(np.minimum(np.asarray(scores, dtype=np.float64), 0.0))


def smoothed_prior(gold: NDArray[np.integer], n_labels: int, strength: float = 2.0) -> Array:
    """(K,) label frequencies of (N,) gold columns, drawn towards uniform as by `strength` more labels of each class."""
    counts = np.bincount(np.asarray(gold, dtype=np.int64), minlength=n_labels) + strength
    return np.asarray(counts / counts.sum())
