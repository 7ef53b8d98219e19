"""The cost of serving: student beside teacher, their ratios, and when the distillation has paid for itself.

Records and their sentences; measures nothing. Times are compared on one device only: a ratio between a model on a GPU
and a price on a CPU (as in a headline of Palo et al. 2024) is meaningless.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from io import StringIO
from typing import Literal

from potstill.data.task import JsonObject
from potstill.reports import text as words

FORMAT = 2


@dataclass(frozen=True, kw_only=True)
class ServingRow:
    """One model on one device. What was not measured is None.

    Attributes:
        name: "student fp32". role: "student" or "teacher". device: "cpu, 2 cores"; of an API its host.
        speed_from, price_from: where the times and the price come from.
        batch_s: seconds for 64 texts at once. p50_ms, p99_ms: latency of a single text.
        usd_per_million: US dollars for a million texts.
        joules_per_thousand: of the whole device, for a thousand texts. energy: the counter, or why there is none.
        note: what a reader must know of this row.
    """

    name: str
    role: Literal["student", "teacher"]
    device: str
    speed_from: str = ""
    price_from: str = ""
    batch_s: float | None = None
    texts_per_s: float | None = None
    p50_ms: float | None = None
    p99_ms: float | None = None
    usd_per_million: float | None = None
    joules_per_thousand: float | None = None
    energy: str = "not measured"
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """The teacher's figure divided by the student's."""

    student: str
    teacher: str
    quantity: Literal["time of 64 texts", "time of a text in bulk", "price of a text"]
    device: str
    ratio: float


@dataclass(frozen=True, kw_only=True)
class BreakEven:
    """The number of predictions after which the distillation has paid for itself; None if never, with the `reason`.

    predictions = charged / (teacher's price of a text - student's price of a text).
    """

    charged_usd: float
    predictions: int | None
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class ServingTable:
    """The cost and latency table of a run or a bundle.

    Attributes:
        source: the folder. texts: the number that was timed; texts_from: their origin.
        rows: the served student first.
        simulation: empty, or a sentence on the simulated figures.
    """

    source: str
    texts: int
    texts_from: str
    mean_characters: float
    rows: tuple[ServingRow, ...]
    break_even: BreakEven | None = None
    simulation: str = ""
    format: int = FORMAT

    @property
    def ratios(self) -> tuple[Ratio, ...]:
        """Teacher / student; of times only where both were on one device."""
        return tuple(_ratios(self.rows))

    def to_json(self) -> JsonObject:
        """A plain dictionary."""
        return {**asdict(self), "ratios": [asdict(each) for each in self.ratios]}

    def to_text(self) -> str:
        """A table for a terminal."""
        return "\n".join(_lines(self))


def break_even(charged_usd: float, student: ServingRow | None, teacher: ServingRow | None) -> BreakEven | None:
    """When the savings reach the sum charged; None without a teacher.

    Args:
        charged_usd: the cost of the distillation.
        student: the row with its price of a text.
        teacher: the same of the teacher.
    """
    if teacher is None or student is None:
        return None
    if teacher.usd_per_million is None or student.usd_per_million is None:
        return BreakEven(charged_usd=charged_usd, predictions=None, reason="One of the two prices is unknown.")
    saved = (teacher.usd_per_million - student.usd_per_million) / 1e6
    if saved <= 0:
        return BreakEven(charged_usd=charged_usd, predictions=None, reason="Never: the student is not cheaper.")
    return BreakEven(charged_usd=charged_usd, predictions=-int(-charged_usd // saved))


def _ratios(rows: tuple[ServingRow, ...]) -> Iterator[Ratio]:
    for teacher in (row for row in rows if row.role == "teacher"):
        for student in (row for row in rows if row.role == "student"):
            names = {"student": student.name, "teacher": teacher.name}
            if student.device == teacher.device:
                if student.batch_s and teacher.batch_s:
                    times = teacher.batch_s / student.batch_s
                    yield Ratio(**names, quantity="time of 64 texts", device=student.device, ratio=times)
                if student.texts_per_s and teacher.texts_per_s:
                    times = student.texts_per_s / teacher.texts_per_s
                    yield Ratio(**names, quantity="time of a text in bulk", device=student.device, ratio=times)
            if student.usd_per_million and teacher.usd_per_million:
                where = student.device if student.device == teacher.device else f"{teacher.device} / {student.device}"
                times = teacher.usd_per_million / student.usd_per_million
                yield Ratio(**names, quantity="price of a text", device=where, ratio=times)


def _lines(serving: ServingTable) -> Iterator[str]:
    from rich.console import Console
    from rich.table import Table

    yield f"{serving.source}: {serving.texts} texts of {serving.mean_characters:.0f} characters ({serving.texts_from})"
    if serving.simulation:
        yield serving.simulation
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("model", overflow="fold")
    for column in ("64 texts", "texts/s", "p50", "p99", "$ / million", "J / 1,000"):
        table.add_column(column, justify="right")
    for row in serving.rows:
        table.add_row(
            words.one_line(f"{row.name} ({row.device})", 60),
            "-" if row.batch_s is None else words.milliseconds(row.batch_s * 1000),
            "-" if row.texts_per_s is None else words.number(row.texts_per_s),
            "-" if row.p50_ms is None else words.milliseconds(row.p50_ms),
            "-" if row.p99_ms is None else words.milliseconds(row.p99_ms),
            "-" if row.usd_per_million is None else words.usd(row.usd_per_million),
            "-" if row.joules_per_thousand is None else words.number(row.joules_per_thousand),
        )
    out = StringIO()
    Console(file=out, width=110, highlight=False, markup=False).print(table)
    yield from (line.rstrip() for line in out.getvalue().rstrip().splitlines())
    yield ""
    for row in serving.rows:
        sources = [f"times: {row.speed_from}" if row.speed_from else "times not measured"]
        sources += [f"price: {row.price_from}" if row.price_from else "price unknown", f"energy: {row.energy}"]
        yield f"{row.name}: {'; '.join(sources)}.{' ' + row.note if row.note else ''}"
    for ratio in serving.ratios:
        verb = "as expensive" if ratio.quantity == "price of a text" else "as slow"
        times = words.format_ratio(ratio.ratio)
        yield f"{ratio.teacher} is {times} {verb} as {ratio.student} ({ratio.quantity}; {ratio.device})."
    if serving.break_even is not None:
        yield _break_even_sentence(serving.break_even)


def _break_even_sentence(found: BreakEven) -> str:
    if found.predictions is None:
        return f"Break-even: {found.reason}"
    return f"Break-even: the {words.usd(found.charged_usd)} charged are saved after {found.predictions:,} predictions."
