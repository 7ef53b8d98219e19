"""What a study says, in sentences: crossovers, the smallest good model, what to take and what that hangs on."""

from __future__ import annotations

import math

from potstill.study.advice import Recommendation, recommend
from potstill.study.analysis import (
    Crossover,
    GridPoint,
    PointScore,
    crossovers,
    metric_name,
    point_scores,
    smallest_near_best,
)
from potstill.study.records import PROCEDURE_TITLES, StudyResult


def point_title(point: GridPoint) -> str:
    """Procedure and backbone."""
    return f"{PROCEDURE_TITLES[point.procedure]} {point.backbone}".strip()


def point_description(point: GridPoint) -> str:
    """Procedure, backbone and labels."""
    return f"{point_title(point)} on {point.n:,} labels" if point.n else point_title(point)


def format_percent(value: float) -> str:
    """0.8412 -> "84.1 %"."""
    return f"{100 * value:.1f} %"


def format_usd(value: float) -> str:
    """Dollars with as many places as they need."""
    if value == 0:
        return "$0"
    return f"${value:,.2f}" if value >= 0.1 else f"${value:.4f}" if value >= 0.0001 else "<$0.0001"


def format_ms(value: float | None) -> str:
    """A latency, or "not measured"."""
    return "not measured" if value is None else f"{value:.2f} ms" if value < 10 else f"{value:.0f} ms"


def format_count(value: float | None) -> str:
    """1234567 -> "1.2 M"; None is "not measured"."""
    if value is None:
        return "not measured"
    for size, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= size:
            scaled = value / size
            return f"{scaled:.0f}{unit}" if scaled >= 100 else f"{scaled:.1f}{unit}"
    return f"{value:.0f}"


def crossover_sentence(found: Crossover) -> str:
    """Where P stops beating FT, with its interval."""
    who, whom, largest = f"P {found.p}", f"FT {found.ft}", found.sizes[-1]
    smallest = f"at {found.sizes[0]:,} labels it is {_points(found.differences[0].value)} (95 %: {_range(found, 0)})"
    if found.n == 0:
        told = f"{who} does not beat {whom} at any size: {smallest}"
    elif math.isinf(found.n):
        told = f"{who} beats {whom} at every size up to {largest:,} labels: {smallest}"
    else:
        told = f"{who} beats {whom} below about {found.n:.0f} labels: {smallest}"
    low, high = (_place(each, largest) for each in (found.low, found.high))
    return f"{told}; the crossing's 95 % interval: {low if low == high else f'{low} to {high}'}."


def _place(n: float, largest: int) -> str:
    return "never ahead" if n == 0 else f"beyond {largest:,}" if math.isinf(n) else f"{n:.0f}"


def _points(gap: float) -> str:
    return f"{abs(100 * gap):.1f} points {'ahead' if gap > 0 else 'behind'}"


def _range(found: Crossover, i: int) -> str:
    return f"{100 * found.differences[i].low:+.1f} to {100 * found.differences[i].high:+.1f}"


def smallest_sentence(best: PointScore, small: PointScore, n: int) -> str:
    """The smallest model that is nearly the best at one size."""
    if small.point == best.point:
        return f"With {n:,} labels {point_title(best.point)} is the best ({format_percent(best.score.value)}); nothing smaller is near."
    return (
        f"With {n:,} labels the smallest within a point of the best is {point_title(small.point)}: "
        f"{format_percent(small.score.value)} with {format_count(small.footprint.parameters)} parameters; the best, "
        f"{point_title(best.point)}, reaches {format_percent(best.score.value)} with {format_count(best.footprint.parameters)}."
    )


def recommendation_sentences(advice: Recommendation, metric: str) -> list[str]:
    """What to take, and what that hangs on."""
    take, best = advice.choice, advice.best
    latency = take.footprint.p50_ms
    first = f"Take {point_description(take.point)}: {metric} {format_percent(take.score.value)} for {format_usd(take.total_usd)} in all"
    first += f", {format_ms(latency)} a text." if latency is not None else "."
    if take.point == best.point:
        first += " Nothing tried is better."
    else:
        first += f" The best, {point_description(best.point)}, reaches {format_percent(best.score.value)} for {format_usd(best.total_usd)}."
    held = format_percent(advice.held_out)
    told = [first, f"Chosen on one half of the test texts and measured on the other, this rule reaches {held}."]
    sure = f"With texts and seeds drawn again, the same procedure and backbone are taken {advice.stability:.0%} of the time"
    told.append(
        f"{sure}." if advice.runner_up is None else f"{sure}; next comes {point_description(advice.runner_up)}."
    )
    told += [f"If {other.condition}, it would be {point_description(other.point)}." for other in advice.alternatives]
    return told


def analysis_sentences(study: StudyResult, data: str) -> list[str]:
    """All sentences about one data set but the recommendation."""
    means = point_scores(study, data)
    told = [crossover_sentence(each) for each in crossovers(means)]
    trained = sorted({point.n for point in means if point.n})
    for n in trained[-1:]:
        found = smallest_near_best(means, n)
        if found is not None:
            told.append(smallest_sentence(*found, n))
    return told


def advice_sentences(study: StudyResult, data: str) -> list[str]:
    """The recommendation for one data set; empty where nothing was done."""
    advice = recommend(point_scores(study, data))
    return [] if advice is None else recommendation_sentences(advice, metric_name(study.data[data]))


def failure_sentences(study: StudyResult) -> list[str]:
    """The cells that failed, with their reasons, one sentence for those that failed alike."""
    alike: dict[tuple[str, str, str], int] = {}
    for cell, result in study.results.items():
        if result.state == "failed":
            key = (cell.data, cell.title, result.reason)
            alike[key] = alike.get(key, 0) + 1
    return [f"{data}, {who}: {n} cell{'s' * (n != 1)} failed. {why}" for (data, who, why), n in alike.items()]
