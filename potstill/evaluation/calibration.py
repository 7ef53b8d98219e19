"""Turns scores into probabilities: softmax, label prior, temperature. Functions of arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
MIN_PRIOR_GOLD = 16  # labelled texts below which their log-losses say nothing about the prior


def log_softmax(scores: NDArray[np.floating]) -> Array:
    """(N, K) scores -> (N, K) log-probabilities."""
    scores = np.asarray(scores, dtype=np.float64)
    shifted = scores - scores.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))


def softmax(scores: NDArray[np.floating], temperature: float = 1.0) -> Array:
    """(N, K) scores -> (N, K) probabilities at `temperature`."""
    return np.exp(log_softmax(np.asarray(scores, dtype=np.float64) / temperature))


def sigmoid(scores: NDArray[np.floating]) -> Array:
    """Scores -> probabilities, elementwise."""
    return np.exp(log_sigmoid(scores))


def log_sigmoid(scores: NDArray[np.floating]) -> Array:
    """Scores -> log-probabilities, elementwise."""
    scores = np.asarray(scores, dtype=np.float64)
    return np.asarray(np.minimum(scores, 0) - np.log1p(np.exp(-np.abs(scores))))


def one_hot(gold: NDArray[np.integer], n_labels: int) -> NDArray[np.float32]:
    """(N,) label columns -> (N, K) float32 probabilities."""
    return np.asarray(np.eye(n_labels, dtype=np.float32)[gold])


def match_prior(scores: NDArray[np.floating], prior: NDArray[np.floating], rounds: int = 200) -> Array:
    """(K,) offsets that make the mean probability of each label over N unlabelled texts equal `prior`.

    Small language models prefer some label words whatever the text; K offsets, fitted on texts without labels, remove
    that preference. Batch calibration (Zhou et al. 2024) divides by the mean once; this iterates to the fixed point,
    as Sinkhorn's algorithm does.

    Args:
        scores: (N, K) natural-log scores.
        prior: (K,) label frequencies, all above zero, summing to one.
        rounds: most iterations.

    Returns:
        (K,) offsets with mean zero, to be added to any scores of the same teacher.
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


@dataclass(frozen=True)
class PriorChoice:
    """Whether the label prior was matched, and what that was decided on.

    Attributes:
        offsets: (K,) to be added to scores; zeros if it was not matched.
        matched: whether it was.
        n_gold: labelled texts it was compared on; 0 if there were too few.
        raw_loss, matched_loss: mean log-loss on them without and with the offsets, each at its own best temperature.
    """

    offsets: tuple[float, ...]
    matched: bool
    n_gold: int = 0
    raw_loss: float = 0.0
    matched_loss: float = 0.0

    def sentence(self, name: str) -> str:
        """What was decided about the teacher `name`, and why."""
        done = "is matched to the frequency of the labels" if self.matched else "stays as it is"
        basis = f"log-loss {self.raw_loss:.2f} raw and {self.matched_loss:.2f} matched on {self.n_gold} gold texts"
        why = basis if self.n_gold else "its rule, as there are too few gold texts to compare on"
        return f"The label bias of {name} {done}: {why} (match_prior decides)."


def choose_prior(
    on_unlabelled: NDArray[np.floating],
    prior: NDArray[np.floating],
    on_gold: NDArray[np.floating],
    gold: NDArray[np.integer],
    *,
    default: bool,
) -> PriorChoice:
    """Match the label prior or not, as labelled texts decide.

    Matching helps a prompt that says little and can harm a good one. Both are compared by their log-loss on labelled
    texts; unless the difference is larger than its standard error, or with fewer than `MIN_PRIOR_GOLD` texts, the
    default holds.

    Args:
        on_unlabelled: (N, K) natural-log scores of unlabelled texts.
        prior: (K,) label frequencies.
        on_gold: (M, K) scores of labelled texts that the prompt does not show.
        gold: (M,) their columns.
        default: whether it is matched if the labelled texts do not decide.
    """
    offsets = match_prior(on_unlabelled, prior)
    zeros, n = (0.0,) * len(offsets), len(gold)
    if n < MIN_PRIOR_GOLD:
        return PriorChoice(tuple(offsets.tolist()) if default else zeros, default)
    raw, matched = (_text_losses(on_gold + each, gold) for each in (np.zeros(len(offsets)), offsets))
    gain = raw - matched
    decided = bool(gain.mean() > 0) if abs(gain.mean()) > gain.std(ddof=1) / np.sqrt(n) else default
    chosen = tuple(offsets.tolist()) if decided else zeros
    return PriorChoice(chosen, decided, n, float(raw.mean()), float(matched.mean()))


def choose_rates(
    on_unlabelled: NDArray[np.floating],
    rates: NDArray[np.floating],
    on_gold: NDArray[np.floating],
    gold: NDArray[np.integer],
) -> PriorChoice:
    """`choose_prior` where a text may have several labels: whether to match each label's rate.

    Args:
        on_unlabelled: (N, K) log-probabilities of each label by itself, of unlabelled texts.
        rates: (K,) share of texts with each label, in (0, 1).
        on_gold: (M, K) the same of labelled texts.
        gold: (M, K) zeros and ones.
    """
    offsets, n = match_rates(logits_of(on_unlabelled), rates), len(gold)
    if n < MIN_PRIOR_GOLD:
        return PriorChoice(tuple(offsets.tolist()), matched=True)
    losses = [_set_losses(logits_of(on_gold) + each, gold) for each in (np.zeros(len(offsets)), offsets)]
    gain = losses[0] - losses[1]
    harms = bool(gain.mean() < 0 and -gain.mean() > gain.std(ddof=1) / np.sqrt(n))
    chosen = (0.0,) * len(offsets) if harms else tuple(offsets.tolist())
    return PriorChoice(chosen, not harms, n, float(losses[0].mean()), float(losses[1].mean()))


def _set_losses(logits: NDArray[np.floating], gold: NDArray[np.integer]) -> Array:
    """(N,) mean binary log-loss of (N, K) logits over the labels."""
    return np.asarray(-np.where(gold == 1, log_sigmoid(logits), log_sigmoid(-logits)).mean(axis=1))


def _text_losses(scores: NDArray[np.floating], gold: NDArray[np.integer]) -> Array:
    """(N,) log-losses of (N, K) scores at the temperature that fits them best."""
    return np.asarray(-log_softmax(scores / fit_temperature(scores, gold))[np.arange(len(gold)), gold])


def match_rates(scores: NDArray[np.floating], rates: NDArray[np.floating]) -> Array:
    """(K,) offsets that make the mean sigmoid of each label over N texts equal its rate: the multi-label `match_prior`.

    Args:
        scores: (N, K) natural-log scores.
        rates: (K,) share of texts with each label, in (0, 1).
    """
    scores = np.asarray(scores, dtype=np.float64)
    low, high = (bound - end for bound, end in ((-40.0, scores.max(axis=0)), (40.0, scores.min(axis=0))))
    for _ in range(60):
        middle = (low + high) / 2
        too_low = sigmoid(scores + middle).mean(axis=0) < rates
        low, high = np.where(too_low, middle, low), np.where(too_low, high, middle)
    return np.asarray((low + high) / 2)


def fit_temperature(scores: NDArray[np.floating], gold: NDArray[np.integer]) -> float:
    """The temperature in [0.05, 20] that minimises the log-loss of (N, K) scores on (N,) gold (Guo et al. 2017)."""
    # Imported late: a bundle uses softmax from here on machines without scipy.
    from scipy.optimize import minimize_scalar

    scores = np.asarray(scores, dtype=np.float64)
    rows = np.arange(len(gold))

    def loss(log_temperature: float) -> float:
        return float(-log_softmax(scores / np.exp(log_temperature))[rows, gold].mean())

    return float(np.exp(minimize_scalar(loss, bounds=(np.log(0.05), np.log(20.0)), method="bounded").x))


def temperature_for_accuracy(scores: NDArray[np.floating], accuracy: float) -> float:
    """The temperature in [0.05, 20] at which the mean confidence of (N, K) scores equals a known accuracy.

    Needs no labels: calibrates scores whose accuracy was measured elsewhere.
    """
    low, high = 0.05, 20.0
    for _ in range(40):
        middle = float(np.sqrt(low * high))
        overconfident = softmax(scores, middle).max(axis=1).mean() > accuracy
        low, high = (middle, high) if overconfident else (low, middle)
    return float(np.sqrt(low * high))


@dataclass(frozen=True)
class Calibration:
    """Scores -> probabilities of one label a text: add the (K,) `offsets`, divide by `temperature`, softmax."""

    offsets: tuple[float, ...]
    temperature: float = 1.0

    def apply(self, scores: NDArray[np.floating]) -> Array:
        """(N, K) scores -> (N, K) probabilities."""
        return softmax(np.asarray(scores, dtype=np.float64) + np.asarray(self.offsets), self.temperature)


@dataclass(frozen=True)
class MultilabelCalibration(Calibration):
    """Log-probabilities of each label by itself -> probabilities, for multi-label teachers; `offsets` are of logits."""

    def apply(self, scores: NDArray[np.floating]) -> Array:
        """(N, K) scores -> (N, K) probabilities."""
        if not any(self.offsets):
            return np.exp(np.minimum(np.asarray(scores, dtype=np.float64), 0.0))
        return sigmoid(logits_of(scores) + np.asarray(self.offsets))


def logits_of(log_probs: NDArray[np.floating]) -> Array:
    """Log-probabilities -> logits, elementwise; finite."""
    logs = np.clip(np.asarray(log_probs, dtype=np.float64), -700.0, -1e-12)
    return np.asarray(logs - np.log(-np.expm1(logs)))


def smoothed_prior(gold: NDArray[np.integer], n_labels: int, strength: float = 2.0) -> Array:
    """(K,) label frequencies of (N,) gold columns, smoothed by `strength` pseudo-counts a label."""
    counts = np.bincount(np.asarray(gold, dtype=np.int64), minlength=n_labels) + strength
    return np.asarray(counts / counts.sum())
