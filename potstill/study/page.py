"""A study as one HTML file that needs nothing else: charts that answer to the reader, tables that stand without them.

The figures are in the page once, as JSON; a small script of our own draws them. Without a script, and on paper, the
tables say the same. Series differ by colour (a palette made for the colour-blind), by mark and by dash.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from potstill.reports.templates import templates
from potstill.study import words
from potstill.study.advice import by_size
from potstill.study.readings import Mean, Point, means_of, metric_name
from potstill.study.records import TITLES, Study
from potstill.study.tables import mean_json

FIELDS = ("procedure", "backbone", "n", "value", "low", "high", "seeds", "labels_usd", "compute_usd", "llm_usd",
          "total_usd", "seconds", "parameters", "flops", "texts_per_s", "p50_ms", "size_mb")  # fmt: skip


def render_page(study: Study) -> str:
    """The study as one self-contained HTML file; everything in it that came from outside is escaped."""
    pages = templates()
    pages.filters.update(percent=words.percent, usd=words.usd, ms=words.milliseconds, count=words.count)
    sections = [_section(study, name, i) for i, name in enumerate(study.data)]
    done = sum(result.state == "done" for result in study.results.values())
    page = pages.get_template("compare.html.j2").render(
        study=study,
        sections=sections,
        done=done,
        failures=words.failures(study),
        figures=_script_safe([section["figures"] for section in sections]),
        seeds=len(study.seeds),
    )
    return page.encode("utf-8", "replace").decode("utf-8")


def _script_safe(figures: Any) -> str:
    """JSON that cannot end the script it stands in."""
    written = json.dumps(figures, ensure_ascii=False, allow_nan=False)
    return written.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _section(study: Study, name: str, number: int) -> dict[str, Any]:
    facts, means = study.data[name], means_of(study, name)
    sizes = sorted({point.n for point in means if point.n})
    return {
        "key": f"d{number}",
        "facts": facts,
        "metric": metric_name(facts),
        "advised": words.advised(study, name),
        "readings": words.readings(study, name),
        "sizes": sizes,
        "rows": [_row(means, who, sizes) for who in _series(means)],
        "weights": list(_weights(means)),
        "by_size": [
            {"n": each.n, "best": words.title(each.best.point), "best_score": each.best.score,
             "take": words.title(each.take.point), "take_score": each.take.score, "p50_ms": each.take.footprint.p50_ms}
            for each in by_size(means)
        ],
        "figures": {
            "metric": metric_name(facts),
            "points": [{key: mean_json(mean)[key] for key in FIELDS} for mean in means.values()],
            "titles": {f"{p}|{b}": words.title(Point(p, b, 0)) for p, b in _series(means)},
        },
    }  # fmt: skip


def _series(means: Mapping[Point, Mean]) -> list[tuple[str, str]]:
    return list(dict.fromkeys((point.procedure, point.backbone) for point in means))


def _row(means: Mapping[Point, Mean], who: tuple[str, str], sizes: list[int]) -> dict[str, Any]:
    alone = means.get(Point(*who, 0))
    return {
        "title": words.title(Point(*who, 0)),
        "baseline": who[0] in TITLES and who[0] in ("majority", "tf-idf", "zero-encoder", "zero-llm"),
        "alone": None if alone is None else alone.score,
        "cells": [mean.score if (mean := means.get(Point(*who, n))) is not None else None for n in sizes],
    }


def _weights(means: Mapping[Point, Mean]) -> list[dict[str, Any]]:
    seen: dict[tuple[str, bool], dict[str, Any]] = {}
    for point, mean in means.items():
        key = (point.backbone or point.procedure, point.procedure == "p")
        if key in seen or (mean.footprint.texts_per_s is None and not mean.footprint.note.startswith("not exported")):
            continue
        name = f"{point.backbone or words.title(point)}{', prompted' * (point.procedure == 'p')}"
        seen[key] = {"name": name, "weight": mean.footprint}
    return list(seen.values())
