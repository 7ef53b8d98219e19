"""Accuracy without gold labels, from how often two opinions agree; and how many gold labels measure it. Arrays only.

Two classifiers that err independently agree rarely by chance, so their agreement bounds their errors (Platanios et al.
2014). Two models that read the same label names share errors, and then agree more often than they are right: the
estimate is too high by as much as they share. It is a hint until some texts are labelled.
"""

from __future__ import annotations

from math import sqrt

from numpy.typing import ArrayLike

from potstill.evaluation.metrics import accuracy
from potstill.evaluation.reliability import wilson_score

HALF_WIDTH = 0.05  # of the interval, five points
MAX_LABELS = 1_000_000


def accuracy_from_agreement(one: ArrayLike, other: ArrayLike, n_labels: int) -> float:
    """The accuracy of two equally accurate opinions, if they err independently and on any other label alike.

    Solves  agreement = p^2 + (1 - p)^2 / (K - 1)  for the p above chance; agreement below chance gives chance.

    Args:
        one: (N,) label columns, N > 0.
        other: (N,) likewise.
        n_labels: K, at least two.
    """
    chance = 1 / n_labels
    above_chance = max(accuracy(one, other) - chance, 0.0) / (1 - chance)
    return chance + (1 - chance) * sqrt(above_chance)


def labels_for_interval(expected: float, half_width: float = HALF_WIDTH) -> int:
    """How many labelled test texts measure an accuracy to within `half_width`, by Wilson's 95 % interval.

    Args:
        expected: the accuracy, in [0, 1]; 0.5 needs the most.
        half_width: in (0, 0.5).
    """
    low, high = 1, MAX_LABELS
    while low < high:
        n = (low + high) // 2
        found = wilson_score(round(expected * n), n)
        low, high = (low, n) if found.high - found.low <= 2 * half_width else (n + 1, high)
    return low
