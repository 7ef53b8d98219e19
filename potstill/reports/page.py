"""A report as one HTML file that needs nothing else: no script, no font, no request.

Lays out what `facts` says in the sentences of `words` and the drawings of `charts`; the markup is the template.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from potstill.evaluation.metrics import ClassScore, Judgement, Score
from potstill.reports import charts, words
from potstill.reports.facts import Report
from potstill.reports.rounds import draw_rounds
from potstill.reports.templates import templates

FIRST_CLASSES = 12
FIRST_CONFUSIONS = 8
SAMPLE_CHARACTERS = 240


@dataclass(frozen=True)
class Model:
    """One row of the quality table."""

    role: charts.Role
    name: str
    about: str
    accuracy: Score | None
    macro_f1: Score | None
    texts_per_s: float | None = None


@dataclass(frozen=True)
class Spent:
    """One row of the money legend."""

    name: str
    usd: float
    role: charts.Role


@dataclass(frozen=True)
class ClassRow:
    """One row of the table of labels."""

    student: ClassScore
    teacher: ClassScore | None


def render_html(report: Report) -> str:
    """The report as one self-contained HTML file: light and dark, phone to paper, everything in it escaped."""
    pages = templates()
    pages.filters.update(
        percent=words.percent,
        interval=words.interval,
        usd=words.usd,
        number=words.number,
        ms=words.milliseconds,
        tight=words.tight,
        line=lambda text: words.one_line(str(text), SAMPLE_CHARACTERS),
    )
    return words.clean(pages.get_template("report.html.j2").render(_view(report)))


def _view(report: Report) -> dict[str, Any]:
    models = tuple(_models(report))
    rows = _classes(report)
    return {
        "report": report,
        "headline": words.headline(report),
        "tested": words.tested(report),
        "figure": _headed(report),
        "simulated": words.simulated(report),
        "verdicts": words.verdicts(report),
        "trusted": words.trusted(report),
        "method": words.method(report),
        "cards": _cards(report),
        "models": models,
        "spent": tuple(_spent(report)),
        "classes": rows,
        "first_classes": FIRST_CLASSES,
        "first_confusions": FIRST_CONFUSIONS,
        "has_teacher_samples": any(sample.teacher is not None for sample in report.samples),
        "has_gold_samples": any(sample.gold is not None for sample in report.samples),
        "facts": _facts(report),
        "chart": _charts(report, models),
        "swatch": charts.swatch,
        "dots": charts.dots,
        "meter": charts.meter,
    }


def _headed(report: Report) -> str:
    name = words.figure(report)
    return name[0].upper() + name[1:]


def _models(report: Report) -> Iterator[Model]:
    student, teacher = report.student, report.teacher
    yield _model("student", student.name, student.judgement, student.texts_per_s)
    if teacher is not None:
        yield _model("teacher", teacher.name, teacher.judgement, teacher.texts_per_s)
    for baseline in report.baselines:
        yield Model("baseline", baseline.name, baseline.about or "baseline", baseline.main, baseline.macro_f1)


def _model(role: charts.Role, name: str, judged: Judgement | None, texts_per_s: float | None) -> Model:
    if judged is None:
        return Model(role, name, role, None, None, texts_per_s)
    return Model(role, name, role, judged.main, judged.macro_f1, texts_per_s)


def _cards(report: Report) -> tuple[tuple[str, str, str], ...]:
    """(what, figure, in small print) for the four figures at the top."""
    student, teacher, money = report.student, report.teacher, report.money
    judged = student.judgement
    speed = [f"one text {words.milliseconds(student.p50_ms)}"] if student.p50_ms is not None else []
    if teacher is not None and teacher.texts_per_s and student.texts_per_s:
        speed.insert(0, f"{words.times(student.texts_per_s / teacher.texts_per_s)} its teacher")
    used = f"{words.percent(money.charged_usd / money.limit_usd)} of the budget" if money.limit_usd > 0 else ""
    return (
        (
            _headed(report),
            words.percent(None if judged is None else judged.main.value),
            "" if judged is None else f"95 % interval {words.interval(judged.main)}",
        ),
        ("Speed", words.texts_per_s(student.texts_per_s), " · ".join(speed)),
        ("Size", words.megabytes(student.size_mb), student.name),
        ("Spent", words.usd(money.charged_usd), used),
    )


def _spent(report: Report) -> Iterator[Spent]:
    money = report.money
    names: dict[str, tuple[str, charts.Role]] = {
        "llm": ("LLM answers", "llm"),
        "human": ("Human labels", "human"),
        "compute": ("Compute", "compute"),
    }
    for category, usd in money.by.items():
        name, role = names.get(category, (category, "lost"))
        if usd:
            yield Spent(name, usd, role)
    if money.held_usd:
        yield Spent("Held", money.held_usd, "held")
    free = money.limit_usd - money.charged_usd - money.held_usd
    if free > 0:
        yield Spent("Free", free, "free")


def _charts(report: Report, models: tuple[Model, ...]) -> dict[str, str]:
    drawn = {"money": "", "accuracy": "", "speed": "", "price": "", "curve": _curve(report)}
    drawn["rounds"] = "" if report.rounds is None else draw_rounds(report.rounds)
    scored = [
        charts.Bar(
            f"{m.name} ({m.about})" if m.role != "baseline" else m.name,
            m.accuracy.value,
            words.percent(m.accuracy.value),
            m.role,
            m.accuracy.low,
            m.accuracy.high,
        )
        for m in models
        if m.accuracy is not None
    ]
    if scored:
        title = f"{_headed(report)} on the test set with 95 % intervals"
        ticks = [charts.Tick(share, f"{100 * share:.0f} %") for share in (0, 0.25, 0.5, 0.75, 1)]
        drawn["accuracy"] = charts.bars(scored, key="accuracy", title=title, top=1.0, ticks=ticks)
    fast = [(m, m.texts_per_s) for m in models if m.texts_per_s]
    if fast:
        rows = [charts.Bar(m.about, rate, words.texts_per_s(rate), m.role) for m, rate in fast]
        top = max(rate for _, rate in fast)
        drawn["speed"] = charts.bars(rows, key="speed", title="Texts a second", top=top)
    money = report.money
    prices: list[tuple[charts.Role, float | None]] = [
        ("student", money.student_usd_per_million_texts),
        ("teacher", money.teacher_usd_per_million_texts),
    ]
    priced = [(role, price) for role, price in prices if price is not None]
    if priced:
        rows = [charts.Bar(role, price, words.usd(price), role) for role, price in priced]
        top = max(price for _, price in priced)
        drawn["price"] = charts.bars(rows, key="price", title="US dollars for a million texts", top=top)
    if money.limit_usd > 0:
        whole = max(money.limit_usd, money.charged_usd + money.held_usd)
        parts = [charts.Part(spent.name, spent.usd / whole, spent.role) for spent in _spent(report)]
        if money.lost_usd:
            lost = money.lost_usd / whole
            parts.append(charts.Part("of the charged sum lost", lost, "lost", money.charged_usd / whole - lost))
        drawn["money"] = charts.stack(parts, key="money", title="Where the budget went")
    return drawn


def _curve(report: Report) -> str:
    exam = report.exam
    if exam is None or len(exam.curve) < 2:
        return ""
    dots = [charts.Dot(point.coverage, point.accuracy, point.low, point.high) for point in exam.curve]
    mark = None
    if exam.sure and exam.sure_accuracy is not None:
        mark = charts.Dot(exam.sure, exam.sure_accuracy.value, exam.sure_accuracy.low, exam.sure_accuracy.high)
    title = "Accuracy on the surest share of the test texts"
    return charts.curve(dots, key="curve", title=title, goal=exam.precision if exam.held_out else None, mark=mark)


def _classes(report: Report) -> tuple[ClassRow, ...]:
    """The labels, the student's worst first."""
    student = report.student.judgement
    if student is None:
        return ()
    teacher = report.teacher.judgement if report.teacher is not None else None
    beside = {row.label: row for row in teacher.per_class} if teacher is not None else {}
    rows = sorted(student.per_class, key=lambda row: (row.f1, row.label))
    return tuple(ClassRow(row, beside.get(row.label)) for row in rows)


def _facts(report: Report) -> dict[str, Mapping[str, str]]:
    """Heading -> (name -> value) of the tables at the end."""
    data, settings, answers = report.data, report.settings, report.answers
    counts = {
        "Labels": f"{len(report.labels):,}" if report.labels else "",
        "Gold labels to learn from": f"{data.gold:,}",
        "Pool, unlabelled": f"{data.pool:,}",
        "Validation": f"{data.validation:,}",
        "Test": f"{data.test:,}",
        "Source": data.source,
    }
    asked = {}
    if answers is not None:
        asked = {"Texts asked": f"{answers.asked:,}"}
        asked |= {f"… {state}": f"{n:,}" for state, n in answers.by_state.items()}
        asked["Answers are"] = answers.how
    how = {
        "Procedure": settings.procedure,
        "Seed": "" if settings.seed is None else str(settings.seed),
        "Took": words.duration(report.seconds),
        "Finished": report.finished,
        "Machine": settings.machine,
        "potstill": settings.potstill,
    }
    tables = {
        "Data": counts,
        "The teacher’s answers": asked,
        "The run": how,
        "Teacher": _shown(report.teacher.about) if report.teacher is not None else {},
        "Student": _shown(report.student.about),
        "Options": _shown(settings.options),
        "Versions": _shown(settings.versions),
    }
    return {
        title: {name: value for name, value in table.items() if value}
        for title, table in tables.items()
        if any(table.values())
    }


def _shown(facts: Mapping[str, Any]) -> dict[str, str]:
    return {str(name): str(value) for name, value in facts.items() if value is not None}
