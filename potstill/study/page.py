"""A study as one self-contained HTML file: interactive charts, and tables that can be read without them.

The figures are in the page once, as JSON; a small script draws them. Without a script, and in print, the tables hold
the same figures. Series differ by colour (a palette for colour-blind readers), by mark and by dash.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from potstill.evaluation.metrics import Score
from potstill.reports.environment import jinja_environment
from potstill.study import sentences
from potstill.study.advice import recommend_by_size
from potstill.study.analysis import GridPoint, PointScore, joint_front, metric_name, point_scores
from potstill.study.records import BASELINES, DatasetSummary, Footprint, StudyResult
from potstill.study.tables import PointRow, point_row


@dataclass(frozen=True)
class Figures:
    """What the charts of a data set are drawn from; `titles` maps "procedure|backbone" to a series' title."""

    metric: str
    points: tuple[PointRow, ...]
    titles: Mapping[str, str]


@dataclass(frozen=True)
class ScoreTableRow:
    """A line of the table of scores: a series, with a score for each size, or `alone` if it needs no gold."""

    title: str
    baseline: bool
    alone: Score | None
    cells: tuple[Score | None, ...]


@dataclass(frozen=True)
class FootprintTableRow:
    """A line of the table of footprints."""

    name: str
    footprint: Footprint


@dataclass(frozen=True)
class SizeTableRow:
    """A line of the table by size: the best student, and the fastest within a point of it."""

    n: int
    best: str
    best_score: Score
    choice: str
    choice_score: Score
    p50_ms: float | None


@dataclass(frozen=True)
class JointFrontRow:
    """A point that no other beats in compute, labels and quality at once."""

    n: int
    title: str
    score: Score
    footprint: Footprint


@dataclass(frozen=True)
class PageSection:
    """What the template shows of one data set."""

    key: str
    data: DatasetSummary
    metric: str
    answers: str
    gold_words: str
    advice: Sequence[str]
    analysis: Sequence[str]
    sizes: tuple[int, ...]
    rows: tuple[ScoreTableRow, ...]
    footprints: tuple[FootprintTableRow, ...]
    by_size: tuple[SizeTableRow, ...]
    joint_front: tuple[JointFrontRow, ...]
    figures: Figures


def render_page(study: StudyResult) -> str:
    """The study as one HTML file; everything that came from outside is escaped."""
    pages = jinja_environment()
    pages.filters.update(
        percent=sentences.format_percent,
        usd=sentences.format_usd,
        ms=sentences.format_ms,
        title=lambda name: name[:1].upper() + name[1:],  # "macro F1" stays
        count=sentences.format_count,
    )
    sections = [_section(study, name, i) for i, name in enumerate(study.data)]
    page = pages.get_template("compare.html.j2").render(
        study=study,
        sections=sections,
        done=sum(result.state == "done" for result in study.results.values()),
        failures=sentences.failure_sentences(study),
        figures=_script_safe([section.figures for section in sections]),
        seeds=len(study.seeds),
    )
    return page.encode("utf-8", "replace").decode("utf-8")


def _script_safe(figures: Sequence[Figures]) -> str:
    """JSON that cannot end the script element it is in."""
    written = json.dumps([asdict(each) for each in figures], allow_nan=False)
    return written.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _section(study: StudyResult, name: str, number: int) -> PageSection:
    summary, means = study.data[name], point_scores(study, name)
    sizes = tuple(sorted({point.n for point in means if point.n}))
    series = list(dict.fromkeys((point.procedure, point.backbone) for point in means))
    return PageSection(
        key=f"d{number}",
        data=summary,
        metric=metric_name(summary),
        answers=sentences.answer_words(summary),
        gold_words=sentences.gold_words(summary),
        advice=sentences.advice_sentences(study, name),
        analysis=sentences.analysis_sentences(study, name),
        sizes=sizes,
        rows=tuple(_score_row(means, procedure, backbone, sizes) for procedure, backbone in series),
        footprints=_footprint_rows(means),
        by_size=tuple(
            SizeTableRow(
                n=each.n,
                best=sentences.point_title(each.best.point),
                best_score=each.best.score,
                choice=sentences.point_title(each.choice.point),
                choice_score=each.choice.score,
                p50_ms=each.choice.footprint.p50_ms,
            )
            for each in recommend_by_size(means)
        ),
        joint_front=tuple(
            JointFrontRow(mean.point.n, sentences.point_title(mean.point), mean.score, mean.footprint)
            for mean in joint_front(means).points
        ),
        figures=Figures(
            metric=metric_name(summary),
            points=tuple(point_row(mean) for mean in means.values()),
            titles={f"{p}|{b}": sentences.point_title(GridPoint(p, b, 0)) for p, b in series},
        ),
    )


def _score_row(
    means: Mapping[GridPoint, PointScore], procedure: str, backbone: str, sizes: Sequence[int]
) -> ScoreTableRow:
    alone = means.get(GridPoint(procedure, backbone, 0))
    by_size = [means.get(GridPoint(procedure, backbone, n)) for n in sizes]
    return ScoreTableRow(
        title=sentences.point_title(GridPoint(procedure, backbone, 0)),
        baseline=procedure in BASELINES,
        alone=None if alone is None else alone.score,
        cells=tuple(None if mean is None else mean.score for mean in by_size),
    )


def _footprint_rows(means: Mapping[GridPoint, PointScore]) -> tuple[FootprintTableRow, ...]:
    rows: dict[tuple[str, bool], FootprintTableRow] = {}
    for point, mean in means.items():
        key = (point.backbone or point.procedure, point.procedure == "p")
        if key in rows or (mean.footprint.texts_per_s is None and not mean.footprint.note.startswith("not exported")):
            continue
        name = f"{point.backbone or sentences.point_title(point)}{', prompted' * (point.procedure == 'p')}"
        rows[key] = FootprintTableRow(name, mean.footprint)
    return tuple(rows.values())
