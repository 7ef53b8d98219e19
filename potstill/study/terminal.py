"""A study for the terminal: for each data set a table of scores, one of footprints, and the findings."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from io import StringIO
from typing import TYPE_CHECKING

from potstill.reports.environment import string_console
from potstill.study import sentences
from potstill.study.analysis import GridPoint, PointScore, metric_name, point_scores
from potstill.study.records import StudyResult

if TYPE_CHECKING:
    from rich.console import Console


def render_study(study: StudyResult, *, width: int = 80, color: bool = False, page: str = "") -> str:
    """The study as lines of at most `width` columns.

    Args:
        study: the results.
        width: columns, at least 60.
        color: with ANSI colours.
        page: path of the HTML page, to be printed.
    """
    from rich.text import Text

    out = StringIO()
    console = string_console(out, max(60, width), color=color)
    done = sum(result.state == "done" for result in study.results.values())
    console.print(Text(f"potstill · {study.name} · {done} of {len(study.results)} cells", style="bold"))
    if study.simulation:
        console.print(Text(study.simulation, style="bold red"))
    if study.stop_reason:
        console.print(Text(f"{study.stop_reason} The same command goes on.", style="bold"))
    for name in study.data:
        _data(console, study, name)
    if study.layout == "setfit":
        console.print(Text(setfit_table(study)), soft_wrap=True)
    for sentence in sentences.failure_sentences(study):
        console.print(Text(sentence, style="bold red"))
    console.print(
        Text(f"This study has used {sentences.format_usd(study.charged_usd)} of compute and model calls.", style="dim")
    )
    if page:
        console.print(Text(f"report   {page}"), soft_wrap=True)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


def _data(console: Console, study: StudyResult, name: str) -> None:
    from rich.text import Text

    summary, means = study.data[name], point_scores(study, name)
    console.print()
    size = f"{sentences.answer_words(summary)}, {len(summary.gold):,} test texts, {summary.unlabelled:,} unlabelled"
    size += "; " * (summary.form is not None) + sentences.gold_words(summary)
    console.print(Text(f"{name}: {metric_name(summary)} in %, mean and 95 % interval ({size})", style="bold"))
    if summary.leaks:
        warning = f"{summary.leaks:,} texts are in train and in test: these figures are too high."
        console.print(Text(warning, style="bold red"))
    if not means:
        console.print("No cell is done yet.")
        return
    _print_scores(console, means)
    _print_footprints(console, means)
    for sentence in sentences.analysis_sentences(study, name):
        console.print(Text(f"• {sentence}"))
    for sentence in sentences.advice_sentences(study, name):
        console.print(Text(f"→ {sentence}", style="bold" if sentence.startswith("Take") else ""))


def _print_scores(console: Console, means: Mapping[GridPoint, PointScore]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    sizes = sorted({point.n for point in means if point.n})
    shown = sizes if len(sizes) * 18 + 30 <= console.width else sizes[:: -(-len(sizes) * 18 // (console.width - 30))]
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    table.add_column("")
    for n in shown:
        table.add_column(f"{n:,} labels", justify="right", no_wrap=True)
    for procedure, backbone in dict.fromkeys((point.procedure, point.backbone) for point in means):
        without_gold = GridPoint(procedure, backbone, 0)
        cells = [_format_score(means.get(GridPoint(procedure, backbone, n))) for n in shown]
        if without_gold in means:
            cells = [_format_score(means[without_gold]), *("" for _ in shown[1:])]
        table.add_row(sentences.point_title(without_gold), *cells)
    console.print(table)


def _format_score(mean: PointScore | None) -> str:
    if mean is None:
        return "–"
    score = mean.score
    return f"{100 * score.value:.1f} [{100 * score.low:.1f}, {100 * score.high:.1f}]"


def _print_footprints(console: Console, means: Mapping[GridPoint, PointScore]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    for name in ("as exported", "params", "FLOPs", "texts/s", "p50", "p99", "MB", "J/1000"):
        table.add_column(name, justify="left" if name == "as exported" else "right", no_wrap=name != "as exported")
    shown = set()
    for point, mean in means.items():
        weight = mean.footprint
        key = (point.backbone or point.procedure, point.procedure == "p")
        if (weight.parameters is None and weight.texts_per_s is None) or key in shown:
            continue
        shown.add(key)
        prompted = ", prompted" * (point.procedure == "p")
        table.add_row(
            f"{point.backbone or sentences.point_title(point)}{prompted} {weight.dtype}",
            sentences.format_count(weight.parameters),
            sentences.format_count(weight.flops),
            "–" if weight.texts_per_s is None else f"{weight.texts_per_s:,.0f}",
            sentences.format_ms(weight.p50_ms),
            sentences.format_ms(weight.p99_ms),
            "–" if weight.size_mb is None else f"{weight.size_mb:.1f}",
            "–" if weight.joules_per_1000 is None else f"{weight.joules_per_1000:.1f}",
        )
    if table.row_count:
        console.print(table)


def setfit_table(study: StudyResult) -> str:
    """The layout of the table in SetFit's paper: a block for each number of shots, methods by data sets, the average.

    A cell is the mean and the standard deviation over the seeds, in the metric of the data set.
    """
    names = list(study.data)
    means = {name: point_scores(study, name) for name in names}
    series = list(dict.fromkeys((p.procedure, p.backbone) for name in names for p in means[name] if p.n))
    lines = [f"{'method':<32}" + "".join(f"{name[:14]:>15}" for name in names) + f"{'average':>15}"]
    for shots, sizes in _sizes_by_shots(study).items():
        lines.append(f"|N| = {shots}" + ("" if shots == "full" else f" per {study.per}"))
        for procedure, backbone in series:
            row = [means[name].get(GridPoint(procedure, backbone, sizes.get(name, -1))) for name in names]
            if any(row):
                title = sentences.point_title(GridPoint(procedure, backbone, 0))
                lines.append(f"{title:<32}" + "".join(f"{cell:>15}" for cell in _setfit_cells(row)))
    metrics = ", ".join(f"{name}: {metric_name(study.data[name])}" for name in names)
    return "\n".join([*lines, f"Mean (standard deviation) over {len(study.seeds)} splits, x 100; {metrics}."])


def _sizes_by_shots(study: StudyResult) -> dict[str, dict[str, int]]:
    """Shots, or "full" -> data set -> gold labels in all."""
    shots: dict[str, dict[str, int]] = {}
    for name, data in study.data.items():
        for n in data.sizes:
            n_shots = n // len(data.labels) if study.per == "class" else n
            is_full = study.spec.get("sizes", [])[-1:] == ["all"] and n == data.sizes[-1]
            shots.setdefault("full" if is_full else str(n_shots), {})[name] = n
    return shots


def _setfit_cells(row: Sequence[PointScore | None]) -> list[str]:
    """The cells of a line, and their average if none is missing."""
    cells = ["–" if mean is None else _format_mean(mean.score.value, mean.sd) for mean in row]
    measured = [mean for mean in row if mean is not None]
    if len(measured) < len(row):
        return [*cells, "–"]
    n = len(measured)
    return [*cells, _format_mean(sum(mean.score.value for mean in measured) / n, sum(mean.sd for mean in measured) / n)]


def _format_mean(value: float, sd: float) -> str:
    return f"{100 * value:.1f}" + ("" if math.isnan(sd) else f" ({100 * sd:.1f})")
