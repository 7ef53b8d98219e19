"""What a study says, in sentences: crossovers, the smallest good model, what to take and what that hangs on."""

from __future__ import annotations

import math

from potstill.study.advice import Advice, advise
from potstill.study.readings import Crossover, Mean, Point, crossovers, means_of, metric_name, smallest_within
from potstill.study.records import TITLES, Study


def title(point: Point) -> str:
    """Procedure and backbone."""
    return f"{TITLES[point.procedure]} {point.backbone}".strip()


def at(point: Point) -> str:
    """Procedure, backbone and labels."""
    return f"{title(point)} on {point.n:,} labels" if point.n else title(point)


def percent(value: float) -> str:
    """0.8412 -> "84.1 %"."""
    return f"{100 * value:.1f} %"


def usd(value: float) -> str:
    """Dollars with as many places as they need."""
    if value == 0:
        return "$0"
    return f"${value:,.2f}" if value >= 0.1 else f"${value:.4f}" if value >= 0.0001 else "<$0.0001"


def milliseconds(value: float | None) -> str:
    """A latency, or "not measured"."""
    return "not measured" if value is None else f"{value:.2f} ms" if value < 10 else f"{value:.0f} ms"


def count(value: float | None) -> str:
    """1234567 -> "1.2 M"; None is "not measured"."""
    if value is None:
        return "not measured"
    for size, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= size:
            scaled = value / size
            return f"{scaled:.0f}{unit}" if scaled >= 100 else f"{scaled:.1f}{unit}"
    return f"{value:.0f}"


def crossover(found: Crossover) -> str:
    """Where P stops beating FT, with its interval."""
    who, whom, largest = f"P {found.p}", f"FT {found.ft}", found.sizes[-1]
    smallest = f"at {found.sizes[0]:,} labels it is {_points(found.gaps[0].value)} (95 %: {_range(found, 0)})"
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
    return f"{100 * found.gaps[i].low:+.1f} to {100 * found.gaps[i].high:+.1f}"


def smallest(best: Mean, small: Mean, n: int) -> str:
    """The smallest model that is nearly the best at one size."""
    if small.point == best.point:
        return (
            f"With {n:,} labels {title(best.point)} is the best ({percent(best.score.value)}); nothing smaller is near."
        )
    return (
        f"With {n:,} labels the smallest within a point of the best is {title(small.point)}: "
        f"{percent(small.score.value)} with {count(small.footprint.parameters)} parameters; the best, "
        f"{title(best.point)}, reaches {percent(best.score.value)} with {count(best.footprint.parameters)}."
    )


def recommendation(advice: Advice, metric: str) -> list[str]:
    """What to take, and what that hangs on."""
    take, best = advice.take, advice.best
    latency = take.footprint.p50_ms
    first = f"Take {at(take.point)}: {metric} {percent(take.score.value)} for {usd(take.total_usd)} in all"
    first += f", {milliseconds(latency)} a text." if latency is not None else "."
    if take.point == best.point:
        first += " Nothing tried is better."
    else:
        first += f" The best, {at(best.point)}, reaches {percent(best.score.value)} for {usd(best.total_usd)}."
    held = percent(advice.held_out)
    told = [first, f"Chosen on one half of the test texts and measured on the other, this rule reaches {held}."]
    sure = f"With texts and seeds drawn again, the same procedure and backbone are taken {advice.sure:.0%} of the time"
    told.append(f"{sure}." if advice.instead is None else f"{sure}; next comes {at(advice.instead)}.")
    told += [f"If {other.when}, it would be {at(other.point)}." for other in advice.otherwise]
    return told


def readings(study: Study, data: str) -> list[str]:
    """All sentences about one data set but the recommendation."""
    means = means_of(study, data)
    told = [crossover(each) for each in crossovers(means)]
    trained = sorted({point.n for point in means if point.n})
    for n in trained[-1:]:
        found = smallest_within(means, n)
        if found is not None:
            told.append(smallest(*found, n))
    return told


def advised(study: Study, data: str) -> list[str]:
    """The recommendation for one data set; empty where nothing was done."""
    advice = advise(means_of(study, data))
    return [] if advice is None else recommendation(advice, metric_name(study.data[data]))


def failures(study: Study) -> list[str]:
    """The cells that failed, with their reasons, one sentence for those that failed alike."""
    alike: dict[tuple[str, str, str], int] = {}
    for cell, result in study.results.items():
        if result.state == "failed":
            key = (cell.data, cell.title, result.reason)
            alike[key] = alike.get(key, 0) + 1
    return [f"{data}, {who}: {n} cell{'s' * (n != 1)} failed. {why}" for (data, who, why), n in alike.items()]
