"""A report for the terminal: a few lines that end with the next command to type."""

from __future__ import annotations

from collections.abc import Iterator
from io import StringIO
from typing import TYPE_CHECKING

from potstill.evaluation.metrics import EvaluationResult, Score
from potstill.evaluation.text2text.entities import EntityScores
from potstill.reports import text as words
from potstill.reports.answer_text import SecondMetric, answer_sentence, second_metric
from potstill.reports.environment import string_console
from potstill.reports.records import Report

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_STYLES = {"student": "bold dark_orange3", "teacher": "bold steel_blue1", "": ""}
SAMPLES = 3
MAX_TYPES = 20
_BLOCKS = " ▏▎▍▌▋▊▉█"


def render_terminal(report: Report, *, width: int = 80, color: bool = False, page: str = "") -> str:
    """The report as lines of at most `width` columns (forty at least).

    Args:
        report: the records to show.
        width: columns.
        color: with ANSI colours.
        page: the path of the HTML page, to be named.
    """
    from rich.text import Text

    out = StringIO()
    console = string_console(out, max(40, width), color=color)
    title = Text("potstill", style="bold")
    title.append(f" · {words.one_line(report.task, 60)}", style="bold")
    if report.duration_s is not None:
        title.append(f" · {words.duration(report.duration_s)}", style="dim")
    console.print(title)
    if report.simulation:
        console.print(Text(words.one_line(words.simulation_sentence(report), 400), style="bold red"))
    console.print(Text(words.strip_control_characters(words.headline(report))))
    for sentence in words.comparison_sentences(report):
        console.print(Text(words.strip_control_characters(sentence), style="dim"))
    console.print()
    console.print(_models(report, console.width))
    if report.student.evaluation is not None:
        console.print(Text(words.test_set_sentence(report), style="dim"))
    if report.entities is not None:
        console.print(Text(words.entity_sentence(report.entities), style="dim"))
        console.print()
        console.print(_types(report.entities))
    if report.free_text is not None:
        console.print(Text(answer_sentence(report.free_text), style="dim"))
    for sentence in words.reliability_sentences(report)[:1]:
        console.print(Text(words.strip_control_characters(sentence), style="dim"))
    _samples(console, report)
    console.print()
    _money(console, report)
    _notes(console, report)
    for what, path in (("student", report.student.bundle), ("report", page)):
        if path:
            console.print(Text(f"{what:<8} {words.one_line(path)}"), soft_wrap=True)
    if report.next_command:
        console.print()
        console.print(Text("Next: ", style="dim").append(words.one_line(report.next_command), "bold"), soft_wrap=True)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


def _notes(console: Console, report: Report) -> None:
    """The notes, and the replies that could not be read."""
    from rich.text import Text

    for note in (*report.notes, report.egress):
        if note:
            console.print(Text(f"• {words.one_line(note, 400)}", style="dim"))
    for unreadable in report.unreadable:
        console.print(Text(f"• {words.one_line(words.unreadable_sentence(unreadable), 400)}"))
        for reply in unreadable.replies:
            console.print(Text(f"    {words.unreadable_reply(reply)}", style="dim"))


def _types(scores: EntityScores) -> Table:
    """The scores of each type, the most frequent first."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0), header_style="dim")
    table.add_column("type", overflow="fold")
    for head in ("F1, %", "precision", "recall", "entities"):
        table.add_column(head, justify="right", no_wrap=True)
    ranked = sorted(scores.per_type, key=lambda each: -each.support)
    for each in ranked[:MAX_TYPES]:
        shares = (f"{100 * each.precision:.1f}", f"{100 * each.recall:.1f}", f"{each.support:,}")
        table.add_row(Text(words.one_line(each.type, 40)), words.with_interval(each.f1), *shares)
    if len(ranked) > MAX_TYPES:
        table.add_row(Text(f"and {len(ranked) - MAX_TYPES} more, in the page", style="dim"))
    return table


def _samples(console: Console, report: Report) -> None:
    """A few predictions for test texts."""
    from rich.text import Text

    samples = list(report.samples[:SAMPLES])
    if not samples:
        return
    right_ones = [each for each in report.samples if each.gold == each.student]
    if right_ones and not any(each in right_ones for each in samples):
        samples[-1] = right_ones[0]  # what it gets right is seen, too
    console.print()
    widest = max(len(words.one_line(each.student, 24)) for each in samples)
    for each in samples:
        confidence = "     " if each.confidence is None else f"{100 * each.confidence:3.0f} %"
        right = " " if each.gold is None else ("✓" if each.gold == each.student else "✗")
        line = Text(f"{right} {words.one_line(each.student, 24):<{widest}} {confidence}  ")
        line.append(words.one_line(each.text, max(12, console.width - widest - 10)), style="dim")
        console.print(line, no_wrap=True, overflow="ellipsis")


def _models(report: Report, width: int) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    wide = width >= 72
    rows = list(_rows(report))
    figures = [f"{words.main_metric_name(report)}, %", f"{second_metric(report).name}, %"]
    heads = [*figures, "texts/s", "p50"] if wide else figures
    shown = [row.cells if wide else [cell.partition(" (")[0] for cell in row.cells[:2]] for row in rows]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0), header_style="dim")
    # Nothing is cut: the figures keep their width, a name that is longer than the rest of it goes on in the next line.
    widths = [max(len(head), *(len(cells[nth]) for cells in shown)) for nth, head in enumerate(heads)]
    table.add_column("", overflow="fold", max_width=width - sum(widths) - 2 * len(heads) - 1)
    for head, size in zip(heads, widths, strict=True):
        table.add_column(head, justify="right", no_wrap=True, min_width=size)
    for row, cells in zip(rows, shown, strict=True):
        table.add_row(Text(words.one_line(row.name, 60), style=_STYLES[row.role]), *(Text(cell) for cell in cells))
    return table


class _Row:
    """One model's cells; a dash where nothing was measured."""

    def __init__(self, role: str, name: str, main: Score | None, second: Score | None) -> None:
        self.role = role
        self.name = name
        self.main = "–" if main is None else words.with_interval(main)
        self.second = "–" if second is None else words.with_interval(second)
        self.texts_per_s = ""
        self.p50 = ""

    @property
    def cells(self) -> list[str]:
        return [self.main, self.second, self.texts_per_s, self.p50]

    def speed(self, rate: float | None, p50_ms: float | None) -> _Row:
        self.texts_per_s = "–" if rate is None else words.number(rate)
        self.p50 = "–" if p50_ms is None else words.milliseconds(p50_ms)
        return self


def _rows(report: Report) -> Iterator[_Row]:
    student, teacher, second = report.student, report.teacher, second_metric(report)
    yield _evaluated("student", f"student {student.name}", student.evaluation, second).speed(
        student.texts_per_s, student.p50_ms
    )
    if teacher is not None:
        yield _evaluated("teacher", f"teacher {teacher.name}", teacher.evaluation, second).speed(
            teacher.texts_per_s, teacher.p50_ms
        )
    for baseline in report.baselines:
        yield _Row("", baseline.name, baseline.main_score, second.of(baseline))


def _evaluated(role: str, name: str, result: EvaluationResult | None, second: SecondMetric) -> _Row:
    if result is None:
        return _Row(role, name, None, None)
    return _Row(role, name, result.main_score, second.of(result))


def _money(console: Console, report: Report) -> None:
    from rich.text import Text

    money = report.money
    share = min(1.0, money.charged_usd / money.limit_usd) if money.limit_usd > 0 else 0.0
    line = Text("money    ")
    line.append(_bar(share, 20), style="dark_orange3")
    line.append(f" {words.usd(money.charged_usd)} of {words.usd(money.limit_usd)} charged")
    line.append(f" · paid {words.usd(money.paid_usd)}")
    console.print(line)
    spent = [f"{name} {words.usd(usd)}" for name, usd in money.by_category.items() if usd]
    spent += [f"held {words.usd(money.held_usd)}"] if money.held_usd else []
    spent += [f"lost {words.usd(money.lost_usd)}"] if money.lost_usd else []
    if spent:
        console.print(Text("         " + " · ".join(spent), style="dim"))
    prices = [
        f"{who} {words.usd(price)}"
        for who, price in (
            ("teacher", money.teacher_usd_per_million_texts),
            ("student", money.student_usd_per_million_texts),
        )
        if price is not None
    ]
    if prices:
        console.print(Text(f"         a million texts: {' · '.join(prices)}", style="dim"))


def _bar(share: float, cells: int) -> str:
    eighths = round(share * cells * 8)
    full, rest = divmod(eighths, 8)
    return (("█" * full) + (_BLOCKS[rest] if rest else "")).ljust(cells, "░")
