"""The findings of a study as sentences: crossovers, the smallest good model, and the recommendation."""

from __future__ import annotations

import math
from collections import Counter

from potstill.study.advice import Recommendation, recommend
from potstill.study.analysis import (
    Crossover,
    GridPoint,
    JointFront,
    PointScore,
    crossovers,
    joint_front,
    metric_name,
    point_scores,
    smallest_near_best,
)
from potstill.study.records import DatasetSummary, StudyResult, procedure_title


def point_title(point: GridPoint) -> str:
    """Procedure and backbone."""
    return f"{procedure_title(point.procedure)} {point.backbone}".strip()


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


def answer_words(data: DatasetSummary) -> str:
    """What the texts of a data set are answered with."""
    if data.form == "free":
        return "answers in words"
    return f"{len(data.labels)} {'classes' if data.form is None else 'types of entities'}"


def gold_words(data: DatasetSummary) -> str:
    """What one of the gold labels is that are counted; empty for labels."""
    return {
        None: "",
        "entities": "a label is a text with its entities marked",
        "free": "a label is a text with its answers",
    }[data.form]


def crossover_sentence(crossover: Crossover) -> str:
    """The number of labels up to which P beats FT, with its interval."""
    p, ft, largest, first = f"P {crossover.p}", f"FT {crossover.ft}", crossover.sizes[-1], crossover.differences[0]
    ahead = f"{abs(100 * first.value):.1f} points {'ahead' if first.value > 0 else 'behind'}"
    interval = f"{100 * first.low:+.1f} to {100 * first.high:+.1f}"
    smallest = f"at {crossover.sizes[0]:,} labels it is {ahead} (95 %: {interval})"
    if crossover.n == 0:
        finding = f"{p} does not beat {ft} at any size: {smallest}"
    elif math.isinf(crossover.n):
        finding = f"{p} beats {ft} at every size up to {largest:,} labels: {smallest}"
    else:
        finding = f"{p} beats {ft} below about {crossover.n:.0f} labels: {smallest}"
    low, high = (_format_crossing(each, largest) for each in (crossover.low, crossover.high))
    return f"{finding}; the crossing's 95 % interval: {low if low == high else f'{low} to {high}'}."


def _format_crossing(n: float, largest: int) -> str:
    return "never ahead" if n == 0 else f"beyond {largest:,}" if math.isinf(n) else f"{n:.0f}"


def smallest_sentence(best: PointScore, small: PointScore, n: int) -> str:
    """The smallest model that is nearly the best at one size."""
    best_score, best_size = format_percent(best.score.value), format_count(best.footprint.parameters)
    if small.point == best.point:
        return f"With {n:,} labels {point_title(best.point)} is the best ({best_score}); nothing smaller is near."
    return (
        f"With {n:,} labels the smallest within a point of the best is {point_title(small.point)}: "
        f"{format_percent(small.score.value)} with {format_count(small.footprint.parameters)} parameters; the best, "
        f"{point_title(best.point)}, reaches {best_score} with {best_size}."
    )


def recommendation_sentences(recommendation: Recommendation, metric: str) -> list[str]:
    """The recommendation, and what it depends on."""
    choice, best, runner_up = recommendation.choice, recommendation.best, recommendation.runner_up
    latency = choice.footprint.p50_ms
    score, usd = format_percent(choice.score.value), format_usd(choice.cost.total_usd)
    first = f"Take {point_description(choice.point)}: {metric} {score} for {usd} in all"
    first += f", {format_ms(latency)} a text." if latency is not None else "."
    if choice.point == best.point:
        first += " Nothing tried is better."
    else:
        score, usd = format_percent(best.score.value), format_usd(best.cost.total_usd)
        first += f" The best, {point_description(best.point)}, reaches {score} for {usd}."
    held_out = format_percent(recommendation.held_out)
    stability = (
        "With texts and seeds drawn again, the same procedure and backbone are chosen "
        f"{recommendation.stability:.0%} of the time"
    )
    return [
        first,
        f"Chosen on one half of the test texts and measured on the other, this rule reaches {held_out}.",
        f"{stability}." if runner_up is None else f"{stability}; next comes {point_description(runner_up)}.",
        *(f"If {each.condition}, it would be {point_description(each.point)}." for each in recommendation.alternatives),
    ]


def joint_front_sentence(front: JointFront, metric: str) -> str:
    """Which procedures are on the joint front, and how surely."""
    rows = sorted(front.shares.items(), key=lambda row: (-row[1], row[0]))
    listed = ", ".join(f"{procedure_title(name)} in {share:.0%}" for name, share in rows if share > 0)
    return (
        f"On the joint front of compute, labels and {metric}, with texts and seeds drawn again: {listed} of the draws."
    )


def analysis_sentences(study: StudyResult, data: str) -> list[str]:
    """All sentences about one data set but the recommendation."""
    means = point_scores(study, data)
    sentences = [crossover_sentence(each) for each in crossovers(means)]
    largest = max((point.n for point in means), default=0)
    near_best = smallest_near_best(means, largest) if largest else None
    if near_best is not None:
        sentences.append(smallest_sentence(*near_best, largest))
    front = joint_front(means)
    if front.points:
        sentences.append(joint_front_sentence(front, metric_name(study.data[data])))
    return sentences


def advice_sentences(study: StudyResult, data: str) -> list[str]:
    """The recommendation for one data set; empty if no cell is done."""
    recommendation = recommend(point_scores(study, data))
    return [] if recommendation is None else recommendation_sentences(recommendation, metric_name(study.data[data]))


def failure_sentences(study: StudyResult) -> list[str]:
    """The cells that failed with their reasons; one sentence for all cells of a series with the same reason."""
    counts = Counter(
        (cell.data, cell.title, result.reason) for cell, result in study.results.items() if result.state == "failed"
    )
    return [
        f"{data}, {title}: {n} cell{'s' * (n != 1)} failed. {reason}" for (data, title, reason), n in counts.items()
    ]
