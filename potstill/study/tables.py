"""A study as JSON and as CSV: every cell, and what follows from them. Format 1."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

from potstill.data.atomic import atomic_file
from potstill.study.advice import Recommendation, recommend, recommend_by_size
from potstill.study.analysis import Crossover, PointScore, crossovers, pareto, point_scores, smallest_near_best
from potstill.study.records import FORMAT, PROCEDURE_TITLES, StudyResult

COLUMNS = (
    "data", "procedure", "backbone", "labels", "seed", "state", "reason", "accuracy", "macro_f1", "mcc", "trained_on",
    "chosen_on", "seconds", "teacher_seconds", "labels_usd", "compute_usd", "llm_usd", "total_usd", "parameters",
    "flops", "texts_per_s", "p50_ms", "p99_ms", "size_mb", "joules_per_1000",
)  # fmt: skip


def cell_rows(study: StudyResult) -> list[dict[str, Any]]:
    """A flat dictionary a cell, in the order of the grid; None is "not measured"."""
    found = []
    for cell, result in study.results.items():
        cost, weight = study.cost(cell), study.footprint(cell)
        done = result.state == "done"
        found.append(
            {
                "data": cell.data,
                "procedure": PROCEDURE_TITLES[cell.procedure],
                "backbone": cell.backbone,
                "labels": cell.n,
                "seed": cell.seed,
                "state": result.state,
                "reason": result.reason,
                **{name: result.scores.get(name) for name in ("accuracy", "macro_f1", "mcc")},
                "trained_on": result.n_train,
                "chosen_on": result.n_validation,
                "seconds": result.seconds if done else None,
                "teacher_seconds": result.teacher_seconds if done else None,
                "labels_usd": cost.labels_usd,
                "compute_usd": cost.compute_usd if done else None,
                "llm_usd": cost.llm_usd if done else None,
                "total_usd": cost.total_usd if done else None,
                **{name: getattr(weight, name) for name in COLUMNS[18:]},
            }
        )
    return found


def study_record(study: StudyResult) -> dict[str, Any]:
    """The whole study: what was asked, the cells, the means, and the readings of each data set."""
    return {
        "format": FORMAT,
        "name": study.name,
        "asked": study.spec,
        "data": {name: _data(study, name) for name in study.data},
        "cells": cell_rows(study),
        "footprints": {name: asdict(each) for name, each in study.footprints.items()},
        "charged_usd": study.charged_usd,
        "seconds": study.seconds,
        "stopped": study.stop_reason,
        "simulation": study.simulation,
        "machine": study.machine,
        "finished": study.finished,
    }


def write_tables(study: StudyResult, folder: Path) -> None:
    """Write `compare.json` and `cells.csv` into the study's folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_file(folder / "compare.json") as path:
        path.write_text(json.dumps(study_record(study), ensure_ascii=False, indent=1), encoding="utf-8")
    with atomic_file(folder / "cells.csv") as path, path.open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, COLUMNS)
        table.writeheader()
        table.writerows(cell_rows(study))


def _data(study: StudyResult, name: str) -> dict[str, Any]:
    facts, means = study.data[name], point_scores(study, name)
    advice = recommend(means)
    fronts = {}
    for what in ("p50_ms", "total_usd"):
        rows = [mean for mean in means.values() if score_cost(mean, what) is not None]
        front = pareto([row.score.value for row in rows], [score_cost(row, what) or 0.0 for row in rows])
        fronts[what] = [asdict(rows[i].point) for i in front]
    largest = max((point.n for point in means), default=0)
    small = smallest_near_best(means, largest)
    return {
        "labels": list(facts.labels),
        "metric": facts.metric,
        "test": len(facts.gold),
        "train": facts.train,
        "unlabelled": facts.unlabelled,
        "sizes": list(facts.sizes),
        "source": facts.source,
        "notes": list(facts.notes),
        "leaks": facts.leaks,
        "means": [score_record(mean) for mean in means.values()],
        "pareto": fronts,
        "crossovers": [_crossover(each) for each in crossovers(means)],
        "smallest_within_a_point": None if small is None else {"n": largest, "best": asdict(small[0].point),
                                                              "smallest": asdict(small[1].point)},
        "by_size": [{"n": each.n, "best": asdict(each.best.point), "take": asdict(each.choice.point)}
                    for each in recommend_by_size(means)],
        "advice": None if advice is None else _advice(advice),
    }  # fmt: skip


def score_cost(mean: PointScore, what: str) -> float | None:
    """A mean's `p50_ms` or `total_usd`; None where it was not measured."""
    return mean.total_usd if what == "total_usd" else mean.footprint.p50_ms


def score_record(mean: PointScore) -> dict[str, Any]:
    """A mean as a flat dictionary."""
    return {
        **asdict(mean.point),
        "value": mean.score.value,
        "low": mean.score.low,
        "high": mean.score.high,
        "sd": None if math.isnan(mean.sd) else mean.sd,
        "seeds": mean.seeds,
        "labels_usd": mean.labels_usd,
        "compute_usd": mean.compute_usd,
        "llm_usd": mean.llm_usd,
        "total_usd": mean.total_usd,
        "seconds": mean.seconds,
        **{name: getattr(mean.footprint, name) for name in COLUMNS[18:]},
    }


def _crossover(found: Crossover) -> dict[str, Any]:
    record = {**asdict(found), "sizes": list(found.sizes), "gaps": [asdict(each) for each in found.differences]}
    # JSON has no infinity: null stands for "not up to the largest size".
    return {key: None if value == math.inf else value for key, value in record.items()}


def _advice(advice: Recommendation) -> dict[str, Any]:
    return {
        "take": asdict(advice.choice.point),
        "best": asdict(advice.best.point),
        "held_out": advice.held_out,
        "sure": advice.stability,
        "instead": None if advice.runner_up is None else asdict(advice.runner_up),
        "otherwise": [{"when": each.condition, **asdict(each.point)} for each in advice.alternatives],
    }
