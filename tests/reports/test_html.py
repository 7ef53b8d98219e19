"""reports/html.py: one file that loads nothing, runs nothing, and shows hostile words as words."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.reports import HOSTILE, empty, evaluation, full, partly, reliability

from potstill.evaluation.metrics import compute_metrics
from potstill.reports import Baseline, Report, SamplePrediction, StudentSummary, render_html, render_terminal
from potstill.reports import text as words


class Page(HTMLParser):
    """All tags, attributes and visible text of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self._hidden = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes.extend(attrs)
        self._hidden = tag == "style"

    def handle_endtag(self, tag: str) -> None:
        self._hidden = False

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.text += data


@pytest.mark.parametrize("report", [full(), empty(), *partly()])
def test_the_page_renders_whatever_is_missing(report: Report) -> None:
    html = render_html(report)
    text = Page(html).text
    assert words.headline(report) in text.replace("\u00a0", " ")
    assert "None" not in text
    assert "nan" not in html
    assert html.encode("utf-8")


def test_the_page_loads_nothing() -> None:
    html = render_html(full())
    page = Page(html)
    assert not {"script", "link", "img", "iframe", "object", "embed", "base", "form", "a"} & set(page.tags)
    assert not [name for name, _ in page.attributes if name in {"src", "href", "srcset", "action", "xlink:href"}]
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert "http:" not in html
    assert "https:" not in html
    assert "@import" not in html
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", html))
    assert "default-src 'none'" in html


def test_hostile_labels_and_texts_are_shown_and_not_run() -> None:
    report = full(labels=(HOSTILE, "b" + HOSTILE, "</style></title>"), say=HOSTILE)
    html = render_html(report)
    page = Page(html)
    assert "script" not in page.tags
    assert page.tags.count("style") == 1
    assert "<script" not in html
    assert "{{ 7*7 }}" in page.text
    assert not re.search("[\x00\x1b\u202e\ud800]", html)
    html.encode("utf-8")


def test_the_page_is_for_phones_for_the_dark_and_for_paper() -> None:
    html = render_html(full())
    assert 'name="viewport"' in html
    assert "prefers-color-scheme: dark" in html
    assert "@media print" in html


def test_ids_on_a_page_are_given_once() -> None:
    ids = [value for name, value in Page(render_html(full())).attributes if name == "id"]
    swatches = {"swatch-held", "swatch-lost"}
    assert len([name for name in ids if name not in swatches]) == len({name for name in ids if name not in swatches})


def test_simulated_figures_are_called_so_at_the_top() -> None:
    sentence = "The labels were replayed from the data set."
    report = replace(full(), simulation=sentence)
    text = Page(render_html(report)).text
    assert text.index(sentence) < text.index("Quality")
    assert sentence in render_terminal(report).splitlines()[1]
    assert "Simulated" not in Page(render_html(replace(report, simulation=""))).text


def test_many_labels_show_the_weakest_first_and_keep_the_others() -> None:
    labels = tuple(f"label-{nth:02d}" for nth in range(77))
    gold = np.arange(77 * 4) % 77
    predicted = np.where(gold == 5, 6, gold)
    evaluation = compute_metrics(gold, np.eye(77)[predicted], labels, n_resamples=20)
    html = render_html(replace(empty(), labels=labels, student=StudentSummary(name="linear", evaluation=evaluation)))
    text = Page(html).text[Page(html).text.index("weakest first") :]
    assert text.index("label-05") < text.index("label-06") < text.index("label-00")
    assert "The other 65 labels" in text
    assert all(label in text for label in labels)


def test_a_baseline_that_is_as_good_stands_on_the_page() -> None:
    ahead = replace(full(), baselines=(Baseline.from_evaluation("frozen + LR", evaluation(90, 100)),))
    assert "“frozen + LR” is at least as good, at 90.0 %" in Page(render_html(ahead)).text.replace("\u00a0", " ")


@settings(deadline=None, max_examples=25)
@given(st.text(max_size=40))
def test_any_words_can_be_reported(say: str) -> None:
    report = replace(
        empty(), task=say, notes=(say,), samples=(SamplePrediction(text=say, student=say),), next_command=say
    )
    page = Page(render_html(report))
    assert page.tags.count("h1") == 1
    render_terminal(report).encode("utf-8")


def test_the_page_compares_the_guarantees_with_the_test_texts() -> None:
    page = Page(render_html(full())).text.replace("\u00a0", " ")
    assert "It is confident from a probability of" in page
    assert "with 90 % confidence, is at least 95 %" in page
    assert "label sets for a coverage of 90 %" in page
    none = Page(render_html(replace(full(), reliability=reliability(held_out=0)))).text
    assert "Too few labelled texts were held out" in none
    assert "How far to trust it" not in Page(render_html(replace(full(), reliability=None))).text


@pytest.mark.parametrize("rate", [7.0, 130_993.0, 9_130_993.0])
@pytest.mark.parametrize("width", [80, 60])
def test_a_models_name_is_never_cut_however_wide_the_figures_are(rate: float, width: int) -> None:
    name = "openai:some-rather-long-model-name"
    student = replace(full().student, name=name, texts_per_s=rate)
    printed = render_terminal(replace(full(), student=student), width=width)
    column = "".join(line[: 1 + len(f"student {name}")].split("  ")[0].strip() for line in printed.splitlines())
    assert f"student{name}" in column.replace(" ", "")


def test_a_report_without_reliability_is_still_read() -> None:
    record = full().to_json()
    assert Report.from_json(record) == full()
    del record["reliability"]
    assert Report.from_json(record).reliability is None
