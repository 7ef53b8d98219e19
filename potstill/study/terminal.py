"""A study for the terminal: a table a data set, what each student weighs, and the sentences that follow."""

from __future__ import annotations

import math
from collections.abc import Mapping
from io import StringIO
from typing import TYPE_CHECKING

from potstill.reports.environment import string_console
from potstill.study import sentences as words
from potstill.study.analysis import GridPoint, PointScore, metric_name, point_scores
from potstill.study.records import StudyResult

if TYPE_CHECKING:
    from rich.console import Console


def render_study(study: StudyResult, *, width: int = 80, color: bool = False, page: str = "") -> str:
    """The study as lines of at most `width` columns (sixty at least).

    Args:
        study: what to tell.
        width: columns.
        color: with ANSI colours.
        page: where the HTML page lies, to be named.
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
    for sentence in words.failure_sentences(study):
        console.print(Text(sentence, style="bold red"))
    console.print(
        Text(f"This study has used {words.format_usd(study.charged_usd)} of compute and model calls.", style="dim")
    )
    if page:
        console.print(Text(f"report   {page}"), soft_wrap=True)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


def _data(console: Console, study: StudyResult, name: str) -> None:
    from rich.text import Text

    facts, means = study.data[name], point_scores(study, name)
    console.print()
    about = f"{len(facts.labels)} classes, {len(facts.gold):,} test texts, {facts.unlabelled:,} unlabelled"
    console.print(Text(f"{name}: {metric_name(facts)} in %, mean and 95 % interval ({about})", style="bold"))
    if facts.leaks:
        console.print(Text(f"{facts.leaks:,} texts are in train and in test: these figures flatter.", style="bold red"))
    if not means:
        console.print("Nothing is done yet.")
        return
    _quality(console, means)
    _weights(console, means)
    for sentence in words.analysis_sentences(study, name):
        console.print(Text(f"• {sentence}"))
    for sentence in words.advice_sentences(study, name):
        console.print(Text(f"→ {sentence}", style="bold" if sentence.startswith("Take") else ""))


def _quality(console: Console, means: Mapping[GridPoint, PointScore]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    sizes = sorted({point.n for point in means if point.n})
    shown = sizes if len(sizes) * 18 + 30 <= console.width else sizes[:: -(-len(sizes) * 18 // (console.width - 30))]
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    table.add_column("")
    for n in shown:
        table.add_column(f"{n:,} labels", justify="right", no_wrap=True)
    for who in dict.fromkeys((point.procedure, point.backbone) for point in means):
        alone = means.get(GridPoint(*who, 0))
        cells = [_cell(means.get(GridPoint(*who, n))) for n in shown]
        if alone is not None:
            cells = [_cell(alone), *("" for _ in shown[1:])]
        table.add_row(words.point_title(GridPoint(*who, 0)), *cells)
    console.print(table)


def _cell(mean: PointScore | None) -> str:
    if mean is None:
        return "–"
    score = mean.score
    return f"{100 * score.value:.1f} [{100 * score.low:.1f}, {100 * score.high:.1f}]"


def _weights(console: Console, means: Mapping[GridPoint, PointScore]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    for name in ("as exported", "params", "FLOPs", "texts/s", "p50", "p99", "MB", "J/1000"):
        table.add_column(name, justify="left" if name == "as exported" else "right", no_wrap=name != "as exported")
    seen = set()
    for point, mean in means.items():
        weight = mean.footprint
        key = (point.backbone or point.procedure, point.procedure == "p")
        if (weight.parameters is None and weight.texts_per_s is None) or key in seen:
            continue
        seen.add(key)
        speed = "–" if weight.texts_per_s is None else f"{weight.texts_per_s:,.0f}"
        size = "–" if weight.size_mb is None else f"{weight.size_mb:.1f}"
        energy = "–" if weight.joules_per_1000 is None else f"{weight.joules_per_1000:.1f}"
        name = f"{point.backbone or words.point_title(point)}{', prompted' * (point.procedure == 'p')} {weight.dtype}"
        table.add_row(name, words.format_count(weight.parameters), words.format_count(weight.flops), speed,
                      words.format_ms(weight.p50_ms), words.format_ms(weight.p99_ms), size, energy)  # fmt: skip
    if table.row_count:
        console.print(table)


def setfit_table(study: StudyResult) -> str:
    """The table layout of SetFit's paper: a block a number of shots, a row a method, a column a data set, the average.

    Mean over the seeds, their standard deviation below it, in the metric of each data set.
    """
    names = list(study.data)
    means = {name: point_scores(study, name) for name in names}
    shots: dict[str, list[tuple[str, int]]] = {}
    for name in names:
        classes = len(study.data[name].labels)
        for n in study.data[name].sizes:
            each = n // classes if study.per == "class" else n
            full = study.spec.get("sizes", [])[-1:] == ["all"] and n == study.data[name].sizes[-1]
            shots.setdefault("full" if full else str(each), []).append((name, n))
    rows = [f"{'method':<32}" + "".join(f"{name[:14]:>15}" for name in names) + f"{'average':>15}"]
    for shot, columns in shots.items():
        rows.append(f"|N| = {shot}" + ("" if shot == "full" else f" per {study.per}"))
        sizes = dict(columns)
        for who in dict.fromkeys((p.procedure, p.backbone) for name in names for p in means[name] if p.n):
            found = [means[name].get(GridPoint(*who, sizes[name])) if name in sizes else None for name in names]
            if not any(found):
                continue
            cells = ["–" if mean is None else _spread(mean.score.value, mean.sd) for mean in found]
            there = [mean for mean in found if mean is not None]
            average = sum(mean.score.value for mean in there) / len(there)
            spread = sum(mean.sd for mean in there) / len(there)
            cells.append(_spread(average, spread) if len(there) == len(names) else "–")
            rows.append(f"{words.point_title(GridPoint(*who, 0)):<32}" + "".join(f"{cell:>15}" for cell in cells))
    metrics = ", ".join(f"{name}: {metric_name(study.data[name])}" for name in names)
    return "\n".join([*rows, f"Mean (standard deviation) over {len(study.seeds)} splits, x 100; {metrics}."])


def _spread(value: float, sd: float) -> str:
    return f"{100 * value:.1f}" + ("" if math.isnan(sd) else f" ({100 * sd:.1f})")
