"""How much texts differ from each other: distinct word pairs, and BLEU of each against the others. Pure functions."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np


def distinct_2(texts: Sequence[str]) -> float:
    """Distinct pairs of neighbouring words, of all such pairs (Li et al. 2016)."""
    pairs = [pair for text in texts for pair in _ngrams(text.lower().split(), 2)]
    return len(set(pairs)) / max(len(pairs), 1)


def self_bleu(texts: Sequence[str]) -> float:
    """Mean BLEU-4 of each text against all others (Zhu et al. 2018), a count of zero smoothed to 0.1."""
    split = [text.lower().split() for text in texts]
    return float(np.mean([_bleu(each, split[:i] + split[i + 1 :]) for i, each in enumerate(split)])) if split else 0.0


def _bleu(words: list[str], others: Sequence[list[str]]) -> float:
    logs = []
    for n in range(1, 5):
        counts = Counter(_ngrams(words, n))
        if not counts:
            continue
        most: Counter[tuple[str, ...]] = Counter()
        for other in others:
            most |= Counter(_ngrams(other, n))
        shared = sum(min(count, most[gram]) for gram, count in counts.items())
        logs.append(math.log(max(shared, 0.1) / sum(counts.values())))
    nearest = min((abs(len(other) - len(words)), len(other)) for other in others)[1] if others else len(words)
    return math.exp(min(0.0, 1 - nearest / max(len(words), 1)) + sum(logs) / max(len(logs), 1))


def _ngrams(words: Sequence[str], n: int) -> Iterator[tuple[str, ...]]:
    return (tuple(words[i : i + n]) for i in range(len(words) - n + 1))
