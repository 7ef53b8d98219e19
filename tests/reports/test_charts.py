"""charts.py: well-formed, escaped, within its frame, and described in words."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from potstill.reports import charts
from potstill.reports.charts import Bar, Segment, Tick

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = '"><script>alert(1)</script>&'


def parsed(markup: str) -> ElementTree.Element:
    # Inline SVG in HTML needs no namespace; the XML parser does.
    return ElementTree.fromstring(markup.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1))


def share(element: ElementTree.Element, name: str) -> float:
    return float(element.attrib[name].removesuffix("%"))


def test_a_bar_is_as_long_as_its_share_of_the_top() -> None:
    chart = parsed(charts.bar_chart([Bar("half", 5, "5", "student")], key="k", title="t", top=10))
    track, bar = chart.findall(f"{SVG}rect")
    assert (share(track, "width"), share(bar, "width")) == (100, 50)


def test_the_whisker_ends_where_the_interval_ends() -> None:
    chart = parsed(charts.bar_chart([Bar("x", 0.8, "80 %", low=0.7, high=0.9)], key="k", title="t", top=1.0))
    whisker = chart.findall(f"{SVG}line")[1]
    assert (share(whisker, "x1"), share(whisker, "x2")) == (70, 90)


def test_a_bar_without_an_interval_has_no_whisker() -> None:
    chart = parsed(charts.bar_chart([Bar("x", 0.8, "80 %")], key="k", title="t", top=1.0))
    assert chart.findall(f"{SVG}line") == []


@settings(deadline=None)
@given(
    st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=5), st.floats(0, 1e6), st.lists(st.floats(0, 1e6), max_size=3)
)
def test_nothing_leaves_the_frame(values: list[float], top: float, ticks: list[float]) -> None:
    rows = [Bar("x", value, "", low=value - 1, high=value + 1) for value in values]
    chart = parsed(charts.bar_chart(rows, key="k", title="t", top=top, ticks=[Tick(at, "") for at in ticks]))
    for element in chart.iter():
        for name in ("x", "x1", "x2", "width"):
            if element.attrib.get(name, "").endswith("%"):
                assert 0 <= share(element, name) <= 100


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_the_parts_of_a_stack_follow_each_other_and_end_at_the_whole(shares: list[float]) -> None:
    chart = parsed(charts.stacked_bar([Segment("p", part, "llm") for part in shares], key="k", title="t"))
    drawn = chart.findall(f"{SVG}rect")
    left = 0.0
    for rect in drawn:
        assert share(rect, "x") == pytest.approx(left, abs=0.02)
        left = share(rect, "x") + share(rect, "width")
    assert left == pytest.approx(min(100.0, 100 * sum(shares)), abs=0.1)


def test_a_part_of_what_is_shown_lies_over_it_and_moves_nothing() -> None:
    parts = [Segment("Compute", 0.5, "compute"), Segment("Free", 0.5, "free")]
    over = parsed(charts.stacked_bar([*parts, Segment("lost", 0.1, "lost", 0.4)], key="m", title="t")).findall(
        f"{SVG}rect"
    )
    alone = parsed(charts.stacked_bar(parts, key="m", title="t")).findall(f"{SVG}rect")
    assert [rect.attrib for rect in over[:2]] == [rect.attrib for rect in alone]
    assert (share(over[2], "x"), share(over[2], "width")) == (40, 10)


def test_lost_money_is_shown_by_pattern_and_not_by_colour_alone() -> None:
    chart = charts.stacked_bar(
        [Segment("Held", 0.2, "held"), Segment("Lost", 0.1, "lost"), Segment("LLM", 0.7, "llm")], key="m", title="t"
    )
    fills = [rect.attrib["style"].split(";")[0] for rect in parsed(chart).findall(f"{SVG}rect")]
    assert fills[:2] == ["fill:url(#m-held)", "fill:url(#m-lost)"]
    assert "url" not in fills[2]


def test_every_chart_says_its_figures_to_those_who_do_not_see_it() -> None:
    chart = parsed(charts.bar_chart([Bar("student", 0.8, "80.0 %")], key="quality", title="Accuracy", top=1))
    title, described = chart.find(f"{SVG}title"), chart.find(f"{SVG}desc")
    assert title is not None
    assert described is not None
    assert title.text == "Accuracy"
    assert described.text == "student: 80.0 %"
    assert chart.attrib["aria-labelledby"].split() == [title.attrib["id"], described.attrib["id"]]
    assert chart.attrib["role"] == "img"


def test_hostile_names_are_text_in_every_chart() -> None:
    drawn = [
        charts.bar_chart([Bar(HOSTILE, 1, HOSTILE)], key="k", title=HOSTILE, top=1, ticks=[Tick(1, HOSTILE)]),
        charts.stacked_bar([Segment(HOSTILE, 1, "free")], key="k", title=HOSTILE),
        charts.dot_plot(0.5, 0.4, label=HOSTILE),
        charts.share_bar(0.5, label=HOSTILE),
    ]
    for chart in drawn:
        assert parsed(chart).find(f".//{SVG}script") is None
        assert "<script" not in chart


def test_student_and_teacher_dots_differ_by_shape() -> None:
    ring, dot = parsed(charts.dot_plot(0.9, 0.5, label="x")).findall(f"{SVG}circle")
    assert (share(ring, "cx"), share(dot, "cx")) == (50, 90)
    assert "stroke" in ring.attrib["style"]
    assert "stroke" not in dot.attrib["style"]


@pytest.mark.parametrize("role", ["student", "held", "lost", "free"])
def test_a_swatch_is_well_formed_and_silent(role: charts.Role) -> None:
    assert parsed(charts.swatch(role)).attrib["aria-hidden"] == "true"


@pytest.mark.parametrize("given_share", [-0.5, 0.25, 7.0])
def test_a_meter_stays_in_its_row(given_share: float) -> None:
    rect = parsed(charts.share_bar(given_share, label="x")).find(f"{SVG}rect")
    assert rect is not None
    assert share(rect, "width") == min(100, max(0, 100 * given_share))


def test_a_curve_shows_its_line_its_band_its_goal_and_its_mark() -> None:
    dots = [charts.Dot(0.1, 1.0, 0.8, 1.0), charts.Dot(0.5, 0.96, 0.92, 0.98), charts.Dot(1.0, 0.85, 0.82, 0.88)]
    svg = charts.line_chart(dots, key="c", title="Accuracy <b>", target=0.95, highlight=dots[1])
    assert "<polyline" in svg
    assert "<polygon" in svg
    assert "<circle" in svg
    assert svg.count("stroke-dasharray") == 2
    assert "Accuracy &lt;b&gt;" in svg
    assert "100.0 % on 10 %; 96.0 % on 50 %; 85.0 % on 100 %" in svg
    assert "nan" not in charts.line_chart(dots[:1], key="c", title="one")


def test_a_curve_of_a_poor_student_starts_no_lower_than_zero() -> None:
    svg = charts.line_chart([charts.Dot(0.5, 0.0, 0.0, 0.1), charts.Dot(1.0, 0.02, 0.0, 0.1)], key="c", title="t")
    assert ">0 %</text>" in svg
    assert "-10 %" not in svg
