"""A report as one HTML file that needs nothing else: no script, no font, no request.

Lays out the records of a report with the sentences of `text` and the drawings of `charts`; the markup is the template.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from potstill.evaluation.metrics import ClassScore, EvaluationResult, Score
from potstill.reports import charts
from potstill.reports import text as words
from potstill.reports.answer_text import SecondMetric, answer_sentence, second_metric
from potstill.reports.environment import jinja_environment
from potstill.reports.records import Report, ShownFacts
from potstill.reports.rounds import draw_rounds
from potstill.run.notes import list_reasons

MAX_CLASSES = 12
MAX_CONFUSIONS = 8
SAMPLE_CHARACTERS = 240


@dataclass(frozen=True)
class ModelRow:
    """One row of the quality table."""

    role: charts.Role
    name: str
    description: str
    accuracy: Score | None
    macro_f1: Score | None
    texts_per_s: float | None = None


@dataclass(frozen=True)
class SpendingRow:
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
    pages = jinja_environment()
    pages.filters.update(
        percent=words.percent,
        interval=words.interval,
        usd=words.usd,
        reasons=list_reasons,
        clock=words.clock,
        number=words.number,
        ms=words.milliseconds,
        tight=words.nonbreaking,
        unreadable=words.unreadable_sentence,
        purposes=words.spending_by_purpose,
        reply=words.unreadable_reply,
        line=lambda text: words.one_line(str(text), SAMPLE_CHARACTERS),
    )
    return words.strip_control_characters(pages.get_template("report.html.j2").render(_view(report)))


def _view(report: Report) -> dict[str, object]:
    models = tuple(_models(report))
    rows = _classes(report)
    return {
        "report": report,
        "headline": words.headline(report),
        "tested": words.test_set_sentence(report),
        "figure": _headed(report),
        "simulated": words.simulation_sentence(report),
        "verdicts": words.comparison_sentences(report),
        "entities": "" if report.entities is None else words.entity_sentence(report.entities),
        "answers": "" if report.free_text is None else answer_sentence(report.free_text),
        "second": _capital(second_metric(report).name),
        "reliability": words.reliability_sentences(report),
        "method": words.method_notes(report),
        "cards": _cards(report),
        "models": models,
        "spending": tuple(_spending(report)),
        "classes": rows,
        "first_classes": MAX_CLASSES,
        "first_confusions": MAX_CONFUSIONS,
        "has_teacher_samples": any(sample.teacher is not None for sample in report.samples),
        "has_gold_samples": any(sample.gold is not None for sample in report.samples),
        "facts": _facts(report),
        "chart": _charts(report, models),
        "swatch": charts.swatch,
        "dots": charts.dot_plot,
        "meter": charts.share_bar,
    }


def _headed(report: Report) -> str:
    return _capital(words.main_metric_name(report))


def _capital(name: str) -> str:
    return name[0].upper() + name[1:]


def _models(report: Report) -> Iterator[ModelRow]:
    second, student, teacher = second_metric(report), report.student, report.teacher
    yield _model("student", student.name, student.evaluation, second, student.texts_per_s)
    if teacher is not None:
        yield _model("teacher", teacher.name, teacher.evaluation, second, teacher.texts_per_s)
    for each in report.baselines:
        yield ModelRow("baseline", each.name, each.description or "baseline", each.main_score, second.of(each))


def _model(
    role: charts.Role, name: str, result: EvaluationResult | None, second: SecondMetric, texts_per_s: float | None
) -> ModelRow:
    if result is None:
        return ModelRow(role, name, role, None, None, texts_per_s)
    return ModelRow(role, name, role, result.main_score, second.of(result), texts_per_s)


def _cards(report: Report) -> tuple[tuple[str, str, str], ...]:
    """(name, figure, small print) of the four figures at the top."""
    student, teacher, money = report.student, report.teacher, report.money
    result = student.evaluation
    speed = [f"single text {words.milliseconds(student.p50_ms)}"] if student.p50_ms is not None else []
    if teacher is not None and teacher.texts_per_s and student.texts_per_s:
        speed.insert(0, f"{words.format_ratio(student.texts_per_s / teacher.texts_per_s)} its teacher")
    used = f"{words.percent(money.charged_usd / money.limit_usd)} of the budget" if money.limit_usd > 0 else ""
    return (
        (
            _headed(report),
            words.percent(None if result is None else result.main_score.value),
            "" if result is None else f"95 % interval {words.interval(result.main_score)}",
        ),
        ("Speed", words.texts_per_s(student.texts_per_s), " · ".join(speed)),
        ("Size", words.megabytes(student.size_mb), student.name),
        ("Spent", words.usd(money.charged_usd), used),
    )


def _spending(report: Report) -> Iterator[SpendingRow]:
    money = report.money
    names: dict[str, tuple[str, charts.Role]] = {
        "llm": ("LLM answers", "llm"),
        "human": ("Human labels", "human"),
        "compute": ("Compute", "compute"),
    }
    for category, usd in money.by_category.items():
        name, role = names.get(category, (category, "lost"))
        if usd:
            yield SpendingRow(name, usd, role)
    if money.held_usd:
        yield SpendingRow("Held", money.held_usd, "held")
    free = money.limit_usd - money.charged_usd - money.held_usd
    if free > 0:
        yield SpendingRow("Free", free, "free")


def _charts(report: Report, models: tuple[ModelRow, ...]) -> dict[str, str]:
    drawn = {"money": "", "accuracy": "", "speed": "", "price": "", "curve": _curve(report)}
    drawn["rounds"] = "" if report.rounds is None else draw_rounds(report.rounds)
    scored = [
        charts.Bar(
            f"{m.name} ({m.description})" if m.role != "baseline" else m.name,
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
        drawn["accuracy"] = charts.bar_chart(scored, key="accuracy", title=title, top=1.0, ticks=ticks)
    fast = [(m, m.texts_per_s) for m in models if m.texts_per_s]
    if fast:
        rows = [charts.Bar(m.description, rate, words.texts_per_s(rate), m.role) for m, rate in fast]
        top = max(rate for _, rate in fast)
        drawn["speed"] = charts.bar_chart(rows, key="speed", title="Texts a second", top=top)
    money = report.money
    prices: list[tuple[charts.Role, float | None]] = [
        ("student", money.student_usd_per_million_texts),
        ("teacher", money.teacher_usd_per_million_texts),
    ]
    priced = [(role, price) for role, price in prices if price is not None]
    if priced:
        rows = [charts.Bar(role, price, words.usd(price), role) for role, price in priced]
        top = max(price for _, price in priced)
        drawn["price"] = charts.bar_chart(rows, key="price", title="US dollars for a million texts", top=top)
    if money.limit_usd > 0:
        whole = max(money.limit_usd, money.charged_usd + money.held_usd)
        parts = [charts.Segment(spent.name, spent.usd / whole, spent.role) for spent in _spending(report)]
        if money.lost_usd:
            lost = money.lost_usd / whole
            parts.append(charts.Segment("of the charged sum lost", lost, "lost", money.charged_usd / whole - lost))
        drawn["money"] = charts.stacked_bar(parts, key="money", title="Where the budget went")
    return drawn


def _curve(report: Report) -> str:
    found = report.reliability
    if found is None or len(found.curve) < 2:
        return ""
    dots = [charts.Dot(point.coverage, point.accuracy, point.low, point.high) for point in found.curve]
    mark = None
    if found.confident_share and found.confident_accuracy is not None:
        mark = charts.Dot(
            found.confident_share,
            found.confident_accuracy.value,
            found.confident_accuracy.low,
            found.confident_accuracy.high,
        )
    title = "Accuracy on the most confident share of the test texts"
    return charts.line_chart(
        dots, key="curve", title=title, target=found.target_precision if found.n_held_out else None, highlight=mark
    )


def _classes(report: Report) -> tuple[ClassRow, ...]:
    """The labels, the student's weakest first."""
    student = report.student.evaluation
    if student is None:
        return ()
    teacher = report.teacher.evaluation if report.teacher is not None else None
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
        asked |= {f"… {words.answer_state(state)}": f"{n:,}" for state, n in answers.by_state.items()}
        asked["Learned from"] = words.score_sources(answers.score_source)
    how = {
        "Procedure": settings.procedure,
        "Seed": "" if settings.seed is None else str(settings.seed),
        "Duration": words.duration(report.duration_s),
        "Finished": words.clock(report.finished_at),
        "Machine": settings.machine,
        "potstill": settings.potstill,
    }
    tables = {
        "Data": counts,
        "The teacher’s answers": asked,
        "The run": how,
        "Teacher": _named(report.teacher.metadata) if report.teacher is not None else {},
        "Student": _named(report.student.metadata),
        "Options": _shown(settings.options),
        "Versions": _shown(settings.versions),
    }
    return {
        title: {name: value for name, value in table.items() if value}
        for title, table in tables.items()
        if any(table.values())
    }


def _named(facts: ShownFacts) -> dict[str, str]:
    """Facts whose names are not typed by a user: "size_mb" -> "size mb"."""
    return {name.replace("_", " "): value for name, value in _shown(facts).items()}


def _shown(facts: ShownFacts) -> dict[str, str]:
    return {str(name): str(value) for name, value in facts.items() if value is not None}
