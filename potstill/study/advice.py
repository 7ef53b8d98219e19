"""What to take: the cheapest procedure that is nearly the best, and what that answer hangs on. Functions of records.

The choice is made on the very texts that measure it, so the chosen figure flatters a little. How much is told: the same
rule is applied to one half of the test texts and its choice measured on the other half.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from potstill.study.analysis import ROUNDING, GridPoint, PointScore

NEAR_BEST = 0.01  # of the best: "nearly"
OTHER_TOLERANCES = (0.005, 0.02)
PRICE_FACTORS = (0.1, 10.0)


@dataclass(frozen=True)
class Alternative:
    """What would be taken if something were otherwise: `when` it is, and the point taken then."""

    condition: str
    point: GridPoint


@dataclass(frozen=True)
class Recommendation:
    """The recommendation for one data set.

    Attributes:
        take: the cheapest point within a point of the best; `best` is that.
        held_out: what the same rule's choice reaches on test texts it was not chosen on.
        sure: in which share of the draws the rule takes the same procedure and backbone.
        instead: what it takes most often otherwise.
        otherwise: the assumptions under which another point is taken.
    """

    choice: PointScore
    best: PointScore
    held_out: float
    stability: float
    runner_up: GridPoint | None
    alternatives: tuple[Alternative, ...]


@dataclass(frozen=True)
class SizeRecommendation:
    """With so many labels: the best point, and the cheapest to serve within a point of it."""

    n: int
    best: PointScore
    choice: PointScore


def recommend(means: Mapping[GridPoint, PointScore]) -> Recommendation | None:
    """The recommendation; None where nothing was done."""
    rows = list(means.values())
    if not rows:
        return None
    values = np.array([row.score.value for row in rows])
    costs = np.array([row.total_usd for row in rows])
    latency = np.array([row.footprint.p50_ms if row.footprint.p50_ms is not None else np.inf for row in rows])
    labels = np.array([row.labels_usd for row in rows])

    def choose(quality: np.ndarray, within: float = NEAR_BEST, price: float = 1.0) -> int:
        total = costs + (price - 1) * labels
        near = np.flatnonzero(quality >= quality.max() - within - ROUNDING)
        return int(near[np.lexsort((latency[near], total[near]))[0]])

    taken = choose(values)
    halves = np.array([row.half_scores for row in rows])
    held_out = float(np.mean([halves[choose(halves[:, h]), 1 - h] for h in (0, 1)]))
    draws = np.stack([row.draws for row in rows], axis=1)
    seen = Counter((rows[i].point.procedure, rows[i].point.backbone, rows[i].point.n) for i in map(choose, draws))
    mine = rows[taken].point
    same = sum(k for (how, who, _), k in seen.items() if (how, who) == (mine.procedure, mine.backbone))
    others = [(k, each) for each, k in seen.items() if each[:2] != (mine.procedure, mine.backbone)]
    return Recommendation(
        choice=rows[taken],
        best=rows[int(values.argmax())],
        held_out=held_out,
        stability=same / len(draws),
        runner_up=GridPoint(*max(others)[1]) if others else None,
        alternatives=tuple(_otherwise(rows, taken, values, choose)),
    )


def _otherwise(
    rows: Sequence[PointScore], taken: int, values: np.ndarray, choose: Callable[..., int]
) -> list[Alternative]:
    found = []
    for within in OTHER_TOLERANCES:
        i = choose(values, within=within)
        if i != taken:
            found.append(Alternative(f"{100 * within:g} points less than the best are accepted", rows[i].point))
    if any(row.labels_usd for row in rows):
        for price in PRICE_FACTORS:
            i = choose(values, price=price)
            if i != taken:
                how = "ten times as much" if price > 1 else "a tenth"
                found.append(Alternative(f"a label costs {how}", rows[i].point))
    return found


def recommend_by_size(means: Mapping[GridPoint, PointScore]) -> list[SizeRecommendation]:
    """For each number of labels the best, and of those within a point of it the quickest to answer one text."""
    found = []
    for n in sorted({point.n for point in means if point.n}):
        there = [mean for point, mean in means.items() if point.n in (0, n)]
        best = max(there, key=lambda mean: mean.score.value)
        near = [mean for mean in there if mean.score.value >= best.score.value - NEAR_BEST - ROUNDING]
        found.append(SizeRecommendation(n, best, min(near, key=_latency)))
    return found


def _latency(mean: PointScore) -> tuple[float, float]:
    p50 = mean.footprint.p50_ms
    return (np.inf if p50 is None else p50, -mean.score.value)
