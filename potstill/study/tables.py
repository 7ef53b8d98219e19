"""A study as JSON and as CSV: its cells, and the analysis of each data set. Format 2."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from potstill.data.atomic import atomic_file
from potstill.data.printable import guarded_cell
from potstill.data.task import JsonObject, OutputForm
from potstill.evaluation.metrics import Score
from potstill.study.advice import Recommendation, recommend, recommend_by_size
from potstill.study.analysis import (
    Crossover,
    GridPoint,
    PointScore,
    crossovers,
    joint_front,
    pareto,
    point_scores,
    smallest_near_best,
)
from potstill.study.form_gold import FormGold
from potstill.study.records import FORMAT, CellCost, CellScores, Footprint, FormCellScores, StudyResult, procedure_title


@dataclass(frozen=True)
class CostColumns:
    """A `CellCost` with its sum. None if the cell was not run; the price of its labels is known all the same."""

    labels_usd: float
    compute_usd: float | None
    llm_usd: float | None
    total_usd: float | None

    @classmethod
    def of(cls, cost: CellCost) -> CostColumns:
        """All of them."""
        return cls(cost.labels_usd, cost.compute_usd, cost.llm_usd, cost.total_usd)


@dataclass(frozen=True)
class CellRow:
    """A cell; as a line of `cells.csv` the columns of its cost and footprint follow its own. None: not measured.

    `form_scores` are the scores of entities or answers in words, by name, and are columns in place of those of labels.
    """

    data: str
    procedure: str
    backbone: str
    labels: int
    seed: int
    state: str
    reason: str
    accuracy: float | None
    macro_f1: float | None
    mcc: float | None
    n_train: int
    n_validation: int
    seconds: float | None
    teacher_seconds: float | None
    cost: CostColumns
    footprint: Footprint
    form_scores: Mapping[str, float] | None = None


LABEL_SCORES = tuple(each.name for each in fields(CellScores))
CSV_COLUMNS = [
    each.name
    for record in (CellRow, CostColumns, Footprint)
    for each in fields(record)
    if each.name not in ("cost", "footprint", "form_scores")
]


@dataclass(frozen=True)
class PointRow:
    """A point's mean over the seeds. None is "not measured"; `sd` is None with one seed."""

    procedure: str
    backbone: str
    n: int
    value: float
    low: float
    high: float
    sd: float | None
    seeds: int
    seconds: float
    cost: CostColumns
    footprint: Footprint


@dataclass(frozen=True)
class ParetoFronts:
    """The points that no other beats: by latency, by total cost, and by compute and labels jointly (`JointFront`)."""

    p50_ms: tuple[GridPoint, ...]
    total_usd: tuple[GridPoint, ...]
    joint: tuple[GridPoint, ...] = ()


@dataclass(frozen=True)
class CrossoverRow:
    """A `Crossover` without infinities: None stands for "beyond the largest size"."""

    p: str
    ft: str
    sizes: tuple[int, ...]
    differences: tuple[Score, ...]
    n: float | None
    low: float | None
    high: float | None
    lead_share: float


@dataclass(frozen=True)
class SmallestRow:
    """The best point at the largest size, and the smallest within a point of it."""

    n: int
    best: GridPoint
    smallest: GridPoint


@dataclass(frozen=True)
class SizeRow:
    """The best point at one size, and the fastest within a point of it."""

    n: int
    best: GridPoint
    choice: GridPoint


@dataclass(frozen=True)
class AlternativeRow:
    """The point that would be recommended under another condition."""

    condition: str
    point: GridPoint


@dataclass(frozen=True)
class RecommendationRow:
    """A `Recommendation` by its points."""

    choice: GridPoint
    best: GridPoint
    held_out: float
    stability: float
    runner_up: GridPoint | None
    alternatives: tuple[AlternativeRow, ...]


@dataclass(frozen=True)
class DatasetRecord:
    """A data set of a study, and its analysis."""

    labels: tuple[str, ...]
    form: OutputForm | None
    metric: str
    n_test: int
    n_train: int
    n_unlabelled: int
    sizes: tuple[int, ...]
    source: str
    notes: tuple[str, ...]
    leaks: int
    means: tuple[PointRow, ...]
    pareto: ParetoFronts
    crossovers: tuple[CrossoverRow, ...]
    smallest_within_a_point: SmallestRow | None
    by_size: tuple[SizeRow, ...]
    recommendation: RecommendationRow | None


@dataclass(frozen=True)
class StudyRecord:
    """A study as `compare.json` holds it."""

    name: str
    spec: JsonObject
    data: Mapping[str, DatasetRecord]
    cells: tuple[CellRow, ...]
    footprints: Mapping[str, Footprint]
    charged_usd: float
    seconds: float
    stop_reason: str
    simulation: str
    machine: str
    finished: str
    format: int = FORMAT

    def to_json(self) -> JsonObject:
        """JSON values."""
        return asdict(self)


def cell_rows(study: StudyResult) -> tuple[CellRow, ...]:
    """A row for each cell, in the order of the grid."""
    rows = []
    for cell, result in study.results.items():
        cost, done = study.cost(cell), result.state == "done"
        scores = result.scores if isinstance(result.scores, CellScores) else None
        rows.append(
            CellRow(
                data=cell.data,
                procedure=procedure_title(cell.procedure),
                backbone=cell.backbone,
                labels=cell.n,
                seed=cell.seed,
                state=result.state,
                reason=result.reason,
                accuracy=None if scores is None else scores.accuracy,
                macro_f1=None if scores is None else scores.macro_f1,
                mcc=None if scores is None else scores.mcc,
                n_train=result.n_train,
                n_validation=result.n_validation,
                seconds=result.usage.seconds if done else None,
                teacher_seconds=result.usage.teacher_seconds if done else None,
                cost=CostColumns.of(cost) if done else CostColumns(cost.labels_usd, None, None, None),
                footprint=study.footprint(cell),
                form_scores=result.scores.values if isinstance(result.scores, FormCellScores) else None,
            )
        )
    return tuple(rows)


def point_row(mean: PointScore) -> PointRow:
    """A point's mean as a record."""
    return PointRow(
        procedure=mean.point.procedure,
        backbone=mean.point.backbone,
        n=mean.point.n,
        value=mean.score.value,
        low=mean.score.low,
        high=mean.score.high,
        sd=None if math.isnan(mean.sd) else mean.sd,
        seeds=mean.seeds,
        seconds=mean.seconds,
        cost=CostColumns.of(mean.cost),
        footprint=mean.footprint,
    )


def study_record(study: StudyResult) -> StudyRecord:
    """The whole study: its specification, cells and footprints, and the analysis of each data set."""
    return StudyRecord(
        name=study.name,
        spec=study.spec,
        data={name: _dataset_record(study, name) for name in study.data},
        cells=cell_rows(study),
        footprints=study.footprints,
        charged_usd=study.charged_usd,
        seconds=study.seconds,
        stop_reason=study.stop_reason,
        simulation=study.simulation,
        machine=study.machine,
        finished=study.finished,
    )


def write_tables(study: StudyResult, folder: Path) -> None:
    """Write `compare.json` and `cells.csv` into the study's folder."""
    folder.mkdir(parents=True, exist_ok=True)
    record = study_record(study)
    with atomic_file(folder / "compare.json") as path:
        path.write_text(json.dumps(record.to_json(), ensure_ascii=False, indent=1), encoding="utf-8")
    with atomic_file(folder / "cells.csv") as path, path.open("w", encoding="utf-8", newline="") as file:
        names = _csv_columns(study)
        table = csv.DictWriter(file, names)
        table.writeheader()
        table.writerows(_csv_line(row, names) for row in record.cells)


def _csv_columns(study: StudyResult) -> list[str]:
    """Those of a study of labels; in another one the scores of its form stand in place of those of labels."""
    gold = next((each.gold for each in study.data.values()), None)
    if not isinstance(gold, FormGold):
        return CSV_COLUMNS
    at = CSV_COLUMNS.index(LABEL_SCORES[0])
    others = [name for name in CSV_COLUMNS if name not in LABEL_SCORES]
    return [*others[:at], *gold.score_names, *others[at:]]


def _csv_line(row: CellRow, names: Sequence[str]) -> dict[str, object]:
    line = asdict(row)
    given = {**line.pop("cost"), **line.pop("footprint"), **line, **(line.pop("form_scores") or {})}
    columns = {name: given.get(name) for name in names}
    return {name: guarded_cell(cell) for name, cell in columns.items()}


def _dataset_record(study: StudyResult, name: str) -> DatasetRecord:
    summary, means = study.data[name], point_scores(study, name)
    largest = max((point.n for point in means), default=0)
    near_best = smallest_near_best(means, largest)
    recommendation = recommend(means)
    return DatasetRecord(
        labels=summary.labels,
        form=summary.form,
        metric=summary.metric,
        n_test=len(summary.gold),
        n_train=summary.train,
        n_unlabelled=summary.unlabelled,
        sizes=summary.sizes,
        source=summary.source,
        notes=summary.notes,
        leaks=summary.leaks,
        means=tuple(point_row(mean) for mean in means.values()),
        pareto=ParetoFronts(
            p50_ms=_front({mean: mean.footprint.p50_ms for mean in means.values()}),
            total_usd=_front({mean: mean.cost.total_usd for mean in means.values()}),
            joint=tuple(mean.point for mean in joint_front(means).points),
        ),
        crossovers=tuple(_crossover_row(each) for each in crossovers(means)),
        smallest_within_a_point=None
        if near_best is None
        else SmallestRow(largest, near_best[0].point, near_best[1].point),
        by_size=tuple(SizeRow(each.n, each.best.point, each.choice.point) for each in recommend_by_size(means)),
        recommendation=None if recommendation is None else _recommendation_row(recommendation),
    )


def _front(costs: Mapping[PointScore, float | None]) -> tuple[GridPoint, ...]:
    """The Pareto front over the points whose cost was measured."""
    measured = [(mean, cost) for mean, cost in costs.items() if cost is not None]
    rows = pareto([mean.score.value for mean, _ in measured], [cost for _, cost in measured])
    return tuple(measured[i][0].point for i in rows)


def _crossover_row(each: Crossover) -> CrossoverRow:
    n, low, high = (None if math.isinf(value) else value for value in (each.n, each.low, each.high))
    return CrossoverRow(each.p, each.ft, each.sizes, each.differences, n, low, high, each.lead_share)


def _recommendation_row(found: Recommendation) -> RecommendationRow:
    return RecommendationRow(
        choice=found.choice.point,
        best=found.best.point,
        held_out=found.held_out,
        stability=found.stability,
        runner_up=found.runner_up,
        alternatives=tuple(AlternativeRow(each.condition, each.point) for each in found.alternatives),
    )
