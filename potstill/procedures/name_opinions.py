"""Opinions without a gold label: what the names of the labels say, balanced and refined over the pool.

An embedding is closer to some label names than to others whatever the text says, so a label's scores are moved towards
equal frequency (`match_prior`, Sinkhorn's algorithm on one side), by half, since labels are seldom equally frequent.
Then each label's name gives way to the mean of the texts that are taken for it (EM of a mixture with one centre a
label), and the names' scores stay an opinion beside the centres', which keeps them from drifting. Functions of arrays.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from potstill.evaluation.calibration import log_softmax, match_prior, softmax
from potstill.evaluation.kept_round import KeptRound, keep_round

Floats = NDArray[np.float32]
BALANCE = 0.5  # share of the offsets that would make all labels equally frequent
SHARPNESS = 4.0  # standard deviation, in nats, that the scores of an opinion get
PRIOR_ROUNDS = 10


@dataclass(frozen=True)
class RefinedNames:
    """Opinions after the round that is kept, and what the rounds showed.

    Attributes:
        scores: (N, K) log-probabilities of each opinion.
        kept: the round, and why.
        changed: for each round the share of labels that it changed.
        agreement: of two opinions that were refined alone, before the first round and after each; else empty.
    """

    scores: tuple[Floats, ...]
    kept: KeptRound
    changed: tuple[float, ...]
    agreement: tuple[float, ...] = ()


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
    return list(next(islice(_rounds(scores, vectors, weights), rounds, None)))


def refine_until_settled(
    scores: Sequence[Floats], vectors: Sequence[Floats], weights: Sequence[float], rounds: int | None = None
) -> RefinedNames:
    """`refine_names` for as many rounds as it takes until `keep_round` ends them, or for a given number.

    Args:
        scores: (N, K) of each opinion, in nats, from label names.
        vectors: (N, D) of each opinion, of length one; D may differ.
        weights: of the opinions, in sum one.
        rounds: None lets `keep_round` decide.
    """
    alone = [_rounds([one], [own], [1.0]) for one, own in zip(scores, vectors, strict=True)] if len(scores) == 2 else []
    labels: list[NDArray[np.int64]] = []
    changed: list[float] = []
    agreement: list[float] = []
    for refined in _rounds(scores, vectors, weights):
        labels = [*labels[-1:], _mean(refined, weights).argmax(axis=1)]
        if len(labels) == 2:
            changed.append(float((labels[0] != labels[1]).mean()))
        if alone:
            one, other = (next(each)[0].argmax(axis=1) for each in alone)
            agreement.append(float((one == other).mean()))
        if rounds is None:
            kept = keep_round(changed, agreement, len(labels[0]))
        else:
            kept = KeptRound(rounds, "given") if len(changed) == rounds else None
        if kept is not None:
            break
    assert kept is not None  # `_rounds` has no end
    last = kept.round == len(changed)
    found = refined if last else tuple(refine_names(scores, vectors, weights, kept.round))
    return RefinedNames(found, kept, tuple(changed), tuple(agreement))


def _rounds(
    scores: Sequence[Floats], vectors: Sequence[Floats], weights: Sequence[float]
) -> Iterator[tuple[Floats, ...]]:
    """(N, K) log-probabilities of each opinion, balanced, then after each round of EM, without end."""
    names = [balance_labels(standardize(each)) for each in scores]
    refined = names
    while True:
        yield tuple(log_softmax(each).astype(np.float32) for each in refined)
        probs = softmax(_mean(refined, weights))
        refined = [
            balance_labels((name + standardize(_centre_cosines(each, probs))) / 2)
            for name, each in zip(names, vectors, strict=True)
        ]


def _mean(opinions: Sequence[Floats], weights: Sequence[float]) -> Floats:
    """(N, K) weighted mean of the opinions' scores."""
    mean = np.zeros_like(opinions[0])
    for weight, each in zip(weights, opinions, strict=True):
        mean += np.float32(weight) * each
    return mean


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
