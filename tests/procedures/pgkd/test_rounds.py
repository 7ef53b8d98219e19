"""reports/rounds.py: the rounds of a run, read from its notes, drawn over the money, shown on the page."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from support.reports import HOSTILE, full
from support.toy_data import OpenRun, finished_rounds, script_teacher

from potstill.data.task import LabelledText
from potstill.procedures.pgkd.recipe import pgkd
from potstill.reports import Report, render_html
from potstill.reports.finish_run import finish_run
from potstill.reports.rounds import RoundHistory, draw_rounds, read_rounds
from potstill.run.notes import AcquisitionCounts, Opened, RoundFacts, TimedNote


def row(number: int, usd: float, **more: Any) -> RoundFacts:
    share = 0.5 + number / 20
    facts = {
        "round": number,
        "n_train": 40 + 32 * number,
        "validation_loss": 1 - number / 10,
        "accuracy": share,
        "accuracy_low": share - 0.1,
        "accuracy_high": share + 0.1,
        "macro_f1": share,
        "f1": {},
        "charged_usd": usd,
        "is_best": True,
    }
    return RoundFacts(**{**facts, **more})


def rounds(text: str = "fine") -> RoundHistory:
    return RoundHistory(
        rounds=(
            row(0, 0.01, f1={text: 0.4, "other": 0.8}),
            row(
                1, 0.02, f1={text: 0.7, "other": 0.75}, acquired=AcquisitionCounts("generate", 32, 30, {text: 2}, 0.01)
            ),
        ),
        best_round=1,
        accepted_samples=(f"{text}: a text",),
        rejected_samples=(f"copies test: {text}",),
    )


def test_a_page_shows_curve_rounds_labels_and_texts_and_hostile_words_as_words() -> None:
    page = render_html(replace(full(), rounds=rounds(HOSTILE)))
    assert "<script" not in page
    assert "Round by round" in page
    assert "30 of 32" in page
    assert "copies test" in page
    assert "+30.0" in page
    assert "$0.02" in page


def test_a_report_with_rounds_survives_json() -> None:
    report = replace(full(), rounds=rounds())
    assert Report.from_json(json.loads(json.dumps(report.to_json()))).rounds == report.rounds


def test_without_rounds_the_page_has_no_such_section() -> None:
    assert "Round by round" not in render_html(full())
    assert read_rounds([TimedNote(0.0, Opened(1.0))]) is None


def test_one_round_or_no_money_draws_no_curve() -> None:
    assert draw_rounds(replace(rounds(), rounds=(row(0, 0.01),))) == ""
    assert draw_rounds(replace(rounds(), rounds=(row(0, 0.0), row(1, 0.0)))) == ""


def test_a_run_that_is_taken_up_again_keeps_the_money_of_the_first_time(
    begin: OpenRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    with begin(rounds=2) as run:
        script_teacher(
            run,
            monkeypatch,
            lambda original, request: [*original.generate(request).texts[1:], LabelledText("x", "sport")],
        )
        first = pgkd(run)
        noted = finished_rounds(run)
        pgkd(run)
        report = finish_run(run, first)
    found = report.rounds
    assert found is not None
    assert [each.round for each in found.rounds] == [0, 1, 2]
    assert [each.charged_usd for each in found.rounds[1:]] == [each.charged_usd for each in noted]
    assert found.rounds[0].charged_usd < found.rounds[1].charged_usd < found.rounds[2].charged_usd
    assert found.rounds[1].acquired.rejected_by_reason == {"too short": 1}
    assert any("too short: x" in each for each in found.rejected_samples)
    assert found.best_round == min(found.rounds, key=lambda each: each.validation_loss).round
