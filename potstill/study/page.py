"""A study as one HTML file that needs nothing else: charts that answer to the reader, tables that stand without them.

The figures are in the page once, as JSON; a small script of our own draws them. Without a script, and on paper, the
tables say the same. Series differ by colour (a palette made for the colour-blind), by mark and by dash.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from potstill.reports.environment import jinja_environment
from potstill.study import sentences as words
from potstill.study.advice import recommend_by_size
from potstill.study.analysis import GridPoint, PointScore, metric_name, point_scores
from potstill.study.records import PROCEDURE_TITLES, StudyResult
from potstill.study.tables import score_record

FIELDS = ("procedure", "backbone", "n", "value", "low", "high", "seeds", "labels_usd", "compute_usd", "llm_usd",
          "total_usd", "seconds", "parameters", "flops", "texts_per_s", "p50_ms", "size_mb")  # fmt: skip


def render_page(study: StudyResult) -> str:
    """The study as one self-contained HTML file; everything in it that came from outside is escaped."""
    pages = jinja_environment()
    pages.filters.update(
        percent=words.format_percent, usd=words.format_usd, ms=words.format_ms, count=words.format_count
    )
    sections = [_section(study, name, i) for i, name in enumerate(study.data)]
    done = sum(result.state == "done" for result in study.results.values())
    page = pages.get_template("compare.html.j2").render(
        study=study,
        sections=sections,
        done=done,
        failures=words.failure_sentences(study),
        figures=_script_safe([section["figures"] for section in sections]),
        seeds=len(study.seeds),
    )
    return page.encode("utf-8", "replace").decode("utf-8")


def _script_safe(figures: Any) -> str:
    """JSON that cannot end the script it stands in."""
    written = json.dumps(figures, ensure_ascii=False, allow_nan=False)
    return written.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _section(study: StudyResult, name: str, number: int) -> dict[str, Any]:
    facts, means = study.data[name], point_scores(study, name)
    sizes = sorted({point.n for point in means if point.n})
    return {
        "key": f"d{number}",
        "facts": facts,
        "metric": metric_name(facts),
        "advised": words.advice_sentences(study, name),
        "readings": words.analysis_sentences(study, name),
        "sizes": sizes,
        "rows": [_row(means, who, sizes) for who in _series(means)],
        "weights": list(_weights(means)),
        "by_size": [
            {"n": each.n, "best": words.point_title(each.best.point), "best_score": each.best.score,
             "take": words.point_title(each.choice.point), "take_score": each.choice.score, "p50_ms": each.choice.footprint.p50_ms}
            for each in recommend_by_size(means)
        ],
        "figures": {
            "metric": metric_name(facts),
            "points": [{key: score_record(mean)[key] for key in FIELDS} for mean in means.values()],
            "titles": {f"{p}|{b}": words.point_title(GridPoint(p, b, 0)) for p, b in _series(means)},
        },
    }  # fmt: skip


def _series(means: Mapping[GridPoint, PointScore]) -> list[tuple[str, str]]:
    return list(dict.fromkeys((point.procedure, point.backbone) for point in means))


def _row(means: Mapping[GridPoint, PointScore], who: tuple[str, str], sizes: list[int]) -> dict[str, Any]:
    alone = means.get(GridPoint(*who, 0))
    return {
        "title": words.point_title(GridPoint(*who, 0)),
        "baseline": who[0] in PROCEDURE_TITLES and who[0] in ("majority", "tf-idf", "zero-encoder", "zero-llm"),
        "alone": None if alone is None else alone.score,
        "cells": [mean.score if (mean := means.get(GridPoint(*who, n))) is not None else None for n in sizes],
    }


def _weights(means: Mapping[GridPoint, PointScore]) -> list[dict[str, Any]]:
    seen: dict[tuple[str, bool], dict[str, Any]] = {}
    for point, mean in means.items():
        key = (point.backbone or point.procedure, point.procedure == "p")
        if key in seen or (mean.footprint.texts_per_s is None and not mean.footprint.note.startswith("not exported")):
            continue
        name = f"{point.backbone or words.point_title(point)}{', prompted' * (point.procedure == 'p')}"
        seen[key] = {"name": name, "weight": mean.footprint}
    return list(seen.values())
