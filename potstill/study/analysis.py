"""The analysis of a study: means with intervals, Pareto fronts, and the crossover of prompting and fine-tuning.

Every interval is a bootstrap over the test texts and over the seeds (each a gold subset and an initialisation), with
the same draws for every cell, so that differences are paired. With three seeds the variance over seeds is itself
uncertain. Functions of records and arrays.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, field
from typing import cast

import numpy as np
from numpy.typing import NDArray

from potstill.evaluation.metrics import Score, accuracy, macro_f1, mcc
from potstill.evaluation.text2text.answer_metrics import METRIC_NAMES
from potstill.study.form_gold import FormGold
from potstill.study.records import Cell, CellCost, DatasetSummary, Footprint, StudyResult

Floats = NDArray[np.float64]
Predictions = tuple[int, ...] | tuple[str, ...]
DRAWS = 1000
SLOW_DRAWS = 200  # for metrics that are not a mean over texts
ROUNDING = 1e-9  # tolerance, so that 0.80 is within 0.01 of 0.81
METRIC_TITLES: Mapping[str, str] = {
    "accuracy": "accuracy",
    "macro_f1": "macro F1",
    "mcc": "Matthews correlation",
    "entity_f1": "entity F1",
    **{str(name): title for name, title in METRIC_NAMES.items()},
}
METRICS = {"accuracy": accuracy, "macro_f1": macro_f1, "mcc": mcc}


@dataclass(frozen=True)
class GridPoint:
    """A procedure and a backbone at a number of gold labels."""

    procedure: str
    backbone: str
    n: int


@dataclass(frozen=True, eq=False)
class PointScore:
    """A point's score and cost over its seeds.

    Attributes:
        point: the point.
        score: the mean and its interval.
        sd: standard deviation over the seeds; nan with one seed.
        seeds: number of seeds.
        draws: (D,) the mean in each bootstrap draw.
        half_scores: the mean on each half of the test texts.
        cost, seconds: means over the seeds.
        footprint: of its student.
    """

    point: GridPoint
    score: Score
    sd: float
    seeds: int
    draws: Floats = field(repr=False)
    half_scores: tuple[float, float]
    cost: CellCost
    seconds: float
    footprint: Footprint


def point_scores(study: StudyResult, data: str, seed: int = 0) -> dict[GridPoint, PointScore]:
    """Every point of one data set that has a finished cell, in the order of the grid."""
    cells: dict[GridPoint, list[Cell]] = {}
    for cell, result in study.results.items():
        if cell.data == data and result.state == "done":
            cells.setdefault(GridPoint(cell.procedure, cell.backbone, cell.n), []).append(cell)
    if not cells:
        return {}
    resamples = _Resamples.draw(study, data, seed)
    return {point: _point_score(study, point, those, resamples) for point, those in cells.items()}


@dataclass(frozen=True)
class _Resamples:
    """The bootstrap draws that all points of a data set share.

    Attributes:
        metric: (gold, predictions, weights of the texts) -> score.
        gold: (N,) label columns, or entities or answers in words.
        texts: (D, N) how often each text is drawn.
        seeds: (D, S) which seeds are drawn, by their position in the study.
        half: (N,) the half of the test texts that a text is in.
    """

    metric: str
    gold: NDArray[np.int64] | FormGold
    texts: Floats
    seeds: NDArray[np.int64]
    half: NDArray[np.int64]

    @classmethod
    def draw(cls, study: StudyResult, data: str, seed: int) -> _Resamples:
        summary = study.data[data]
        is_sum = summary.metric == "accuracy" or summary.form is not None
        n, n_draws = len(summary.gold), DRAWS if is_sum else SLOW_DRAWS
        rng = np.random.default_rng(seed)
        texts = np.stack([np.bincount(rng.integers(0, n, n), minlength=n) for _ in range(n_draws)])
        seeds = rng.integers(0, len(study.seeds), (n_draws, len(study.seeds)))
        half = np.random.default_rng(seed + 1).permutation(n) % 2
        return cls(summary.metric, summary.gold, texts.astype(np.float64), seeds, half)

    def scores(self, given: Predictions) -> Floats:
        """(D,) the score of N predictions on each draw of the texts."""
        if isinstance(self.gold, FormGold):
            return self.gold.summed_score(self.texts @ self.gold.counts(cast(Sequence[str], given)))
        predictions = np.array(given)
        if self.metric == "accuracy":
            return np.asarray(self.texts @ (predictions == self.gold).astype(np.float64) / len(self.gold))
        return np.array([METRICS[self.metric](self.gold, predictions, weights) for weights in self.texts])

    def score(self, given: Predictions, half: int | None = None) -> float:
        """The score on all texts, or on one half of them."""
        rows = np.full(len(self.gold), True) if half is None else self.half == half
        if isinstance(self.gold, FormGold):
            counts = self.gold.counts(cast(Sequence[str], given))[rows]
            return float(self.gold.summed_score(counts.sum(axis=0)[None])[0])
        predictions = np.array(given)
        return float(METRICS[self.metric](self.gold[rows], predictions[rows], np.ones(int(rows.sum()))))


def _point_score(study: StudyResult, point: GridPoint, cells: Sequence[Cell], resamples: _Resamples) -> PointScore:
    predictions = [study.results[cell].predictions for cell in cells]
    positions = {each: i for i, each in enumerate(study.seeds)}
    values = np.stack([resamples.scores(each) for each in predictions], axis=1)
    draws = _mean_over_seeds(values, [positions.get(cell.seed, 0) for cell in cells], resamples.seeds)
    scores = [resamples.score(each) for each in predictions]
    halves = [float(np.mean([resamples.score(each, half) for each in predictions])) for half in (0, 1)]
    costs = [study.cost(cell) for cell in cells]
    low, high = np.percentile(draws, [2.5, 97.5])
    return PointScore(
        point=point,
        score=Score(float(np.mean(scores)), float(low), float(high)),
        sd=float(np.std(scores, ddof=1)) if len(scores) > 1 else math.nan,
        seeds=len(cells),
        draws=draws,
        half_scores=(halves[0], halves[1]),
        cost=CellCost(*(float(mean) for mean in np.mean([astuple(each) for each in costs], axis=0))),
        seconds=float(np.mean([study.results[cell].usage.seconds for cell in cells])),
        footprint=study.footprint(cells[0]),
    )


def _mean_over_seeds(values: Floats, columns: Sequence[int], drawn: NDArray[np.int64]) -> Floats:
    """(D,) means of (D, S) values over the drawn seeds; `columns` are the seeds' positions in the study."""
    if values.shape[1] == 1:
        return np.asarray(values[:, 0])
    picked = np.zeros((len(drawn), values.shape[1]))
    for s, column in enumerate(columns):
        picked[:, s] = (drawn == column).sum(axis=1)
    empty = picked.sum(axis=1) == 0
    picked[empty] = 1
    return np.asarray((values * picked).sum(axis=1) / picked.sum(axis=1))


def pareto(quality: Sequence[float], cost: Sequence[float]) -> list[int]:
    """The indices of the points that no other dominates (at least as good and cheaper, or better and as cheap)."""
    best, front = -math.inf, []
    for i in sorted(range(len(cost)), key=lambda i: (cost[i], -quality[i])):
        if math.isfinite(cost[i]) and quality[i] > best:
            front.append(i)
            best = quality[i]
    return front


def undominated(quality: Floats, costs: Floats) -> list[int]:
    """The indices of the N points that no other dominates: no worse in (N,) quality and (N, C) costs, better in one."""
    front = []
    for i in range(len(quality)):
        no_worse = (quality >= quality[i]) & (costs <= costs[i]).all(axis=1)
        better = (quality > quality[i]) | (costs < costs[i]).any(axis=1)
        if not (no_worse & better).any():
            front.append(i)
    return front


@dataclass(frozen=True, eq=False)
class JointFront:
    """The points that no other beats in compute, labels and quality at once (Aina et al. 2022).

    Attributes:
        points: those with gold labels whose FLOPs were counted and that are undominated, by labels and FLOPs.
        shares: procedure -> share of the bootstrap draws in which a point of it is on the front.
    """

    points: tuple[PointScore, ...]
    shares: Mapping[str, float]


def joint_front(means: Mapping[GridPoint, PointScore]) -> JointFront:
    """The joint front of the points with gold labels and counted FLOPs; empty if there are none."""
    rows = [mean for point, mean in means.items() if point.n and mean.footprint.flops is not None]
    if not rows:
        return JointFront((), {})
    costs = np.array([[mean.footprint.flops or 0.0, mean.point.n] for mean in rows])
    values = np.array([mean.score.value for mean in rows])
    draws = np.stack([mean.draws for mean in rows], axis=1)
    fronts = [{rows[i].point.procedure for i in undominated(row, costs)} for row in draws]
    front = sorted((rows[i] for i in undominated(values, costs)), key=lambda mean: (mean.point.n, mean.footprint.flops))
    shares = {
        name: float(np.mean([name in each for each in fronts])) for name in {mean.point.procedure for mean in rows}
    }
    return JointFront(tuple(front), shares)


@dataclass(frozen=True)
class Crossover:
    """The number of labels at which FT overtakes P.

    Attributes:
        p, ft: the backbones.
        sizes: gold labels at which both were run.
        differences: P minus FT at each size, with intervals.
        n: the number of labels where the difference first falls to zero (log-linear between sizes); 0 if P is never
            ahead, inf if it is ahead at every size.
        low, high: its interval.
        lead_share: share of the draws in which P is ahead at the smallest size.
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
    """One for each pair of a prompted and a fine-tuned backbone with at least two sizes in common."""
    prompted = dict.fromkeys(point.backbone for point in means if point.procedure == "p")
    finetuned = dict.fromkeys(point.backbone for point in means if point.procedure == "ft")
    candidates = (_crossover(means, p, ft) for p in prompted for ft in finetuned)
    return [each for each in candidates if each is not None]


def _crossover(means: Mapping[GridPoint, PointScore], p: str, ft: str) -> Crossover | None:
    sizes = sorted({a.n for a in means if a.procedure == "p" and a.backbone == p}
                   & {a.n for a in means if a.procedure == "ft" and a.backbone == ft})  # fmt: skip
    if len(sizes) < 2:
        return None
    pairs = [(means[GridPoint("p", p, n)], means[GridPoint("ft", ft, n)]) for n in sizes]
    values = np.array([a.score.value - b.score.value for a, b in pairs])
    draws = np.stack([a.draws - b.draws for a, b in pairs], axis=1)
    crossings = np.sort([crossing_size(sizes, row) for row in draws])
    # Order statistics rather than interpolated percentiles: some values are infinite.
    low, high = crossings[int(0.025 * len(crossings))], crossings[int(0.975 * len(crossings))]
    differences = tuple(
        Score(float(value), *(float(each) for each in np.percentile(draws[:, i], [2.5, 97.5])))
        for i, value in enumerate(values)
    )
    lead_share = float((draws[:, 0] > 0).mean())
    n = crossing_size(sizes, values)
    return Crossover(p, ft, tuple(sizes), differences, n, float(low), float(high), lead_share)


def crossing_size(sizes: Sequence[int], differences: Sequence[float] | Floats) -> float:
    """The size at which the differences first fall to zero, log-linear between two sizes; 0 or inf outside them."""
    if differences[0] <= 0:
        return 0.0
    for i in range(1, len(sizes)):
        if differences[i] <= 0:
            share = differences[i - 1] / (differences[i - 1] - differences[i])
            return float(math.exp(math.log(sizes[i - 1]) + share * (math.log(sizes[i]) - math.log(sizes[i - 1]))))
    return math.inf


def smallest_near_best(
    means: Mapping[GridPoint, PointScore], n: int, points: float = 0.01
) -> tuple[PointScore, PointScore] | None:
    """At `n` labels the best point, and of those within `points` of it the one with the fewest parameters."""
    candidates = [mean for point, mean in means.items() if point.n in (0, n) and mean.footprint.parameters]
    if not candidates:
        return None
    best = max(candidates, key=lambda mean: mean.score.value)
    near = [mean for mean in candidates if mean.score.value >= best.score.value - points - ROUNDING]
    return best, min(near, key=lambda mean: (mean.footprint.parameters or 0, -mean.score.value))


def metric_name(data: DatasetSummary) -> str:
    """The metric, as it is shown."""
    return METRIC_TITLES[data.metric]
