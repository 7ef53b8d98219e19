"""The recommendation: the cheapest point that is nearly the best, and the assumptions it depends on.

The choice is made on the test texts, so its score is slightly too high. By how much is estimated: the same rule is
applied to one half of the test texts and its choice evaluated on the other half.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from potstill.study.analysis import ROUNDING, GridPoint, PointScore

NEAR_BEST = 0.01  # a score within this of the best is nearly the best
OTHER_TOLERANCES = (0.005, 0.02)
PRICE_FACTORS = (0.1, 10.0)


@dataclass(frozen=True)
class Alternative:
    """The point that would be recommended under another condition."""

    condition: str
    point: GridPoint


@dataclass(frozen=True)
class Recommendation:
    """The recommendation for one data set.

    Attributes:
        choice: the cheapest point within 0.01 of the best.
        best: the point with the highest score.
        held_out: score of the rule's choice on test texts that it was not chosen on.
        stability: share of the bootstrap draws in which the rule chooses the same procedure and backbone.
        runner_up: what it chooses most often otherwise.
        alternatives: conditions under which another point is chosen.
    """

    choice: PointScore
    best: PointScore
    held_out: float
    stability: float
    runner_up: GridPoint | None
    alternatives: tuple[Alternative, ...]


@dataclass(frozen=True)
class SizeRecommendation:
    """The best point at one size, and the fastest within 0.01 of it."""

    n: int
    best: PointScore
    choice: PointScore


def recommend(means: Mapping[GridPoint, PointScore]) -> Recommendation | None:
    """The recommendation; None if no cell is done."""
    rows = list(means.values())
    if not rows:
        return None
    values = np.array([row.score.value for row in rows])
    costs = np.array([row.cost.total_usd for row in rows])
    latency = np.array([row.footprint.p50_ms if row.footprint.p50_ms is not None else np.inf for row in rows])
    labels = np.array([row.cost.labels_usd for row in rows])

    def choose(quality: np.ndarray, within: float = NEAR_BEST, price: float = 1.0) -> int:
        total = costs + (price - 1) * labels
        near = np.flatnonzero(quality >= quality.max() - within - ROUNDING)
        return int(near[np.lexsort((latency[near], total[near]))[0]])

    choice = choose(values)
    halves = np.array([row.half_scores for row in rows])
    held_out = float(np.mean([halves[choose(halves[:, h]), 1 - h] for h in (0, 1)]))
    draws = np.stack([row.draws for row in rows], axis=1)
    counts = Counter(rows[i].point for i in map(choose, draws))
    chosen = rows[choice].point
    others = {point: count for point, count in counts.items() if _series(point) != _series(chosen)}
    same = sum(counts.values()) - sum(others.values())
    return Recommendation(
        choice=rows[choice],
        best=rows[int(values.argmax())],
        held_out=held_out,
        stability=same / len(draws),
        runner_up=max(others, key=lambda point: (others[point], *_series(point), point.n)) if others else None,
        alternatives=tuple(_alternatives(rows, choice, values, choose)),
    )


def _series(point: GridPoint) -> tuple[str, str]:
    return point.procedure, point.backbone


def _alternatives(
    rows: Sequence[PointScore], choice: int, values: np.ndarray, choose: Callable[..., int]
) -> list[Alternative]:
    alternatives = []
    for within in OTHER_TOLERANCES:
        i = choose(values, within=within)
        if i != choice:
            condition = f"{100 * within:g} points less than the best are accepted"
            alternatives.append(Alternative(condition, rows[i].point))
    if any(row.cost.labels_usd for row in rows):
        for price in PRICE_FACTORS:
            i = choose(values, price=price)
            if i != choice:
                factor = "ten times as much" if price > 1 else "a tenth"
                alternatives.append(Alternative(f"a label costs {factor}", rows[i].point))
    return alternatives


def recommend_by_size(means: Mapping[GridPoint, PointScore]) -> list[SizeRecommendation]:
    """For each size the best point, and of those within 0.01 of it the one with the lowest latency."""
    rows = []
    for n in sorted({point.n for point in means if point.n}):
        candidates = [mean for point, mean in means.items() if point.n in (0, n)]
        best = max(candidates, key=lambda mean: mean.score.value)
        near = [mean for mean in candidates if mean.score.value >= best.score.value - NEAR_BEST - ROUNDING]
        rows.append(SizeRecommendation(n, best, min(near, key=_latency)))
    return rows


def _latency(mean: PointScore) -> tuple[float, float]:
    p50 = mean.footprint.p50_ms
    return (np.inf if p50 is None else p50, -mean.score.value)
