"""What follows from the numbers: means with intervals, Pareto fronts, where P stops beating FT, what to take.

Every interval is one bootstrap of both doubts: the test texts are drawn again, and with them the seeds (each a gold
subset and an initialisation), the same draw for every cell, so that differences keep what cells share. With three seeds
the second doubt is itself seen dimly. Functions of records and arrays; knows no run.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from potstill.evaluation.metrics import Score, accuracy, macro_f1, mcc
from potstill.study.records import Cell, DatasetSummary, Footprint, StudyResult

Floats = NDArray[np.float64]
DRAWS = 1000
SLOW_DRAWS = 200  # for metrics that are not a mean over texts
ROUNDING = 1e-9  # 0.80 is within 0.01 of 0.81
METRICS = {"accuracy": accuracy, "macro_f1": macro_f1, "mcc": mcc}


@dataclass(frozen=True)
class GridPoint:
    """Procedure and backbone at a number of gold labels."""

    procedure: str
    backbone: str
    n: int


@dataclass(frozen=True, eq=False)
class PointScore:
    """A point's quality over its seeds.

    Attributes:
        score: the mean and its interval.
        sd: over the seeds; nan with one seed.
        seeds: how many are in it.
        draws: (D,) the mean in each draw of the bootstrap.
        halves: the mean on each half of the test texts.
        costs: (labels, compute, llm) in USD, means over the seeds.
        footprint: of its student.
    """

    point: GridPoint
    score: Score
    sd: float
    seeds: int
    draws: Floats = field(repr=False)
    half_scores: tuple[float, float]
    labels_usd: float
    compute_usd: float
    llm_usd: float
    seconds: float
    footprint: Footprint

    @property
    def total_usd(self) -> float:
        """Labels, compute and language model."""
        return self.labels_usd + self.compute_usd + self.llm_usd


def point_scores(study: StudyResult, data: str, seed: int = 0) -> dict[GridPoint, PointScore]:
    """Every point of one data set that has a cell done, in the order of the grid."""
    facts = study.data[data]
    cells = [cell for cell, result in study.results.items() if cell.data == data and result.state == "done"]
    if not cells:
        return {}
    metric = METRICS[facts.metric]
    n, draws = len(facts.gold), DRAWS if facts.metric == "accuracy" else SLOW_DRAWS
    rng = np.random.default_rng(seed)
    texts = np.stack([np.bincount(rng.integers(0, n, n), minlength=n) for _ in range(draws)]).astype(np.float64)
    order = {each: i for i, each in enumerate(study.seeds)}
    drawn = rng.integers(0, len(order), (draws, len(order)))
    half = np.random.default_rng(seed + 1).permutation(n) % 2
    of: dict[GridPoint, list[Cell]] = {}
    for cell in cells:
        of.setdefault(GridPoint(cell.procedure, cell.backbone, cell.n), []).append(cell)
    found = {}
    for point, mine in of.items():
        predicted = [np.array(study.results[cell].predictions) for cell in mine]
        if facts.metric == "accuracy":
            right = np.stack([each == facts.gold for each in predicted]).astype(np.float64)
            values = texts @ right.T / n
        else:
            values = np.array([[metric(facts.gold, each, row) for each in predicted] for row in texts])
        means = _over_seeds(values, [order.get(cell.seed, 0) for cell in mine], drawn)
        scores = [metric(facts.gold, each, np.ones(n)) for each in predicted]
        costs = [study.cost(cell) for cell in mine]
        low, high = np.percentile(means, [2.5, 97.5])
        halves = [
            float(np.mean([metric(facts.gold[half == h], each[half == h], np.ones(int((half == h).sum())))
                           for each in predicted]))
            for h in (0, 1)
        ]  # fmt: skip
        found[point] = PointScore(
            point=point,
            score=Score(float(np.mean(scores)), float(low), float(high)),
            sd=float(np.std(scores, ddof=1)) if len(scores) > 1 else math.nan,
            seeds=len(mine),
            draws=means,
            half_scores=(halves[0], halves[1]),
            labels_usd=float(np.mean([each.labels_usd for each in costs])),
            compute_usd=float(np.mean([each.compute_usd for each in costs])),
            llm_usd=float(np.mean([each.llm_usd for each in costs])),
            seconds=float(np.mean([study.results[cell].seconds for cell in mine])),
            footprint=study.footprint(mine[0]),
        )
    return found


def _over_seeds(values: Floats, columns: Sequence[int], drawn: NDArray[np.int64]) -> Floats:
    """(D,) means of (D, S) values over the seeds of each draw; seeds without a value do not count."""
    if values.shape[1] == 1:
        return np.asarray(values[:, 0])
    picked = np.zeros((len(drawn), values.shape[1]))
    for s, column in enumerate(columns):
        picked[:, s] = (drawn == column).sum(axis=1)
    empty = picked.sum(axis=1) == 0
    picked[empty] = 1
    return np.asarray((values * picked).sum(axis=1) / picked.sum(axis=1))


def pareto(quality: Sequence[float], cost: Sequence[float]) -> list[int]:
    """The places of those that nothing beats: none is at least as good and cheaper, or better and as cheap."""
    best, front = -math.inf, []
    for i in sorted(range(len(cost)), key=lambda i: (cost[i], -quality[i])):
        if math.isfinite(cost[i]) and quality[i] > best:
            front.append(i)
            best = quality[i]
    return front


@dataclass(frozen=True)
class Crossover:
    """Where P stops beating FT.

    Attributes:
        p, ft: the backbones.
        sizes: gold labels at which both were run.
        gaps: P less FT at each, in points of the metric, with intervals.
        n: the number of labels where the gap first falls to zero (log-linear between sizes); 0 if P never led, inf if
            it led at every size.
        low, high: its interval; 0 and inf as above.
        led: in which share of the draws P led at the smallest size.
    """

    p: str
    ft: str
    sizes: tuple[int, ...]
    differences: tuple[Score, ...]
    n: float
    low: float
    high: float
    lead_share: float


def crossovers(means: Mapping[GridPoint, PointScore]) -> list[Crossover]:
    """One for each pair of a prompted and a fine-tuned backbone with two sizes or more in common."""
    return [found for p, ft in _pairs(means) if (found := _crossover(means, p, ft)) is not None]


def _pairs(means: Mapping[GridPoint, PointScore]) -> list[tuple[str, str]]:
    prompted = dict.fromkeys(point.backbone for point in means if point.procedure == "p")
    tuned = dict.fromkeys(point.backbone for point in means if point.procedure == "ft")
    return [(p, ft) for p in prompted for ft in tuned]


def _crossover(means: Mapping[GridPoint, PointScore], p: str, ft: str) -> Crossover | None:
    sizes = sorted({a.n for a in means if a.procedure == "p" and a.backbone == p}
                   & {a.n for a in means if a.procedure == "ft" and a.backbone == ft})  # fmt: skip
    if len(sizes) < 2:
        return None
    ours, theirs = ([means[GridPoint(how, who, n)] for n in sizes] for how, who in (("p", p), ("ft", ft)))
    points = np.array([a.score.value - b.score.value for a, b in zip(ours, theirs, strict=True)])
    draws = np.stack([a.draws - b.draws for a, b in zip(ours, theirs, strict=True)], axis=1)
    crossed = np.sort([crossing_size(sizes, row) for row in draws])
    # Places, not interpolated percentiles: between a number and infinity there is nothing.
    low, high = crossed[int(0.025 * len(crossed))], crossed[min(int(0.975 * len(crossed)), len(crossed) - 1)]
    gaps = tuple(
        Score(float(value), *(float(each) for each in np.percentile(draws[:, i], [2.5, 97.5])))
        for i, value in enumerate(points)
    )
    led = float((draws[:, 0] > 0).mean())
    return Crossover(p, ft, tuple(sizes), gaps, crossing_size(sizes, points), float(low), float(high), led)


def crossing_size(sizes: Sequence[int], gaps: Sequence[float] | Floats) -> float:
    """The size at which the gaps first fall to zero or below, log-linear between two sizes; 0 or inf outside them."""
    if gaps[0] <= 0:
        return 0.0
    for i in range(1, len(sizes)):
        if gaps[i] <= 0:
            share = gaps[i - 1] / (gaps[i - 1] - gaps[i])
            return float(math.exp(math.log(sizes[i - 1]) + share * (math.log(sizes[i]) - math.log(sizes[i - 1]))))
    return math.inf


def smallest_near_best(
    means: Mapping[GridPoint, PointScore], n: int, points: float = 0.01
) -> tuple[PointScore, PointScore] | None:
    """At `n` labels the best of all, and of those within `points` of it the one with the fewest parameters."""
    there = [mean for point, mean in means.items() if point.n in (0, n) and mean.footprint.parameters]
    if not there:
        return None
    best = max(there, key=lambda mean: mean.score.value)
    near = [mean for mean in there if mean.score.value >= best.score.value - points - ROUNDING]
    return best, min(near, key=lambda mean: (mean.footprint.parameters or 0, -mean.score.value))


def metric_name(facts: DatasetSummary) -> str:
    """The metric, as a reader would say it."""
    return {"accuracy": "accuracy", "macro_f1": "macro F1", "mcc": "Matthews correlation"}[facts.metric]
