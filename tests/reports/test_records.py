"""reports/: the record survives JSON, its sentences come from it, and the terminal holds its width."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.reports import HOSTILE, empty, evaluation, full, partly

from potstill.errors import RunNotFound
from potstill.evaluation.metrics import McNemar
from potstill.ledger.prices import LedgerTotals
from potstill.reports import Baseline, CostSummary, Report, read_report, render_terminal
from potstill.reports import text as words

# --- the record --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("report", [full(), empty(), *partly()])
def test_a_report_survives_json(report: Report) -> None:
    assert Report.from_json(json.loads(json.dumps(report.to_json()))) == report


def test_the_document_has_the_keys_that_others_read() -> None:
    record = full().to_json()
    assert record["format"] == 2
    assert record["task"] == "fine"
    assert record["teacher"].keys() >= {"name", "accuracy", "macro_f1", "texts_per_s"}
    assert record["teacher"]["accuracy"] == 0.79
    assert record["student"].keys() >= {"name", "bundle", "accuracy", "macro_f1", "texts_per_s", "p50_ms", "size_mb"}
    assert record["student"]["accuracy"].keys() == {"value", "low", "high"}
    assert record["student"]["accuracy"]["value"] == 0.84
    assert isinstance(record["student"]["macro_f1"], float)
    assert record["money"].keys() >= {"limit_usd", "charged_usd", "paid_usd", "by_category", "lost_usd", "by_purpose"}
    assert record["money"]["by_category"].keys() == {"llm", "human", "compute"}
    assert record["money"]["teacher_usd_per_million_texts"] == 0.62
    assert record["money"]["student_usd_per_million_texts"] == 0.0153
    assert record["baselines"][0]["accuracy"].keys() == {"value", "low", "high"}
    assert record["duration_s"] == 252.3
    assert record["simulated"] is True


def test_the_document_can_always_be_written_as_utf_8() -> None:
    record = full(labels=(HOSTILE, "b", "c"), say=HOSTILE).to_json()
    text = json.dumps(record, ensure_ascii=False).encode("utf-8")
    assert Report.from_json(json.loads(text)).to_json() == record


def test_what_was_not_measured_is_null_in_the_document() -> None:
    record = empty().to_json()
    assert record["teacher"] is None
    assert record["student"]["accuracy"] is record["student"]["texts_per_s"] is None
    assert record["money"]["by_category"] == {"llm": 0.0, "human": 0.0, "compute": 0.0}
    assert record["simulated"] is False


def test_the_ledgers_micro_dollars_become_dollars() -> None:
    totals = LedgerTotals(
        limit=20_000,
        held=5,
        charged=6_100,
        paid=5_800,
        by_category={"compute": 6_100},
        by_purpose={"teach": 6_100},
        lost=7,
        calls=3,
    )
    money = CostSummary.from_totals(totals, student_usd_per_million=0.5)
    assert (money.limit_usd, money.held_usd, money.charged_usd, money.paid_usd) == (0.02, 5e-6, 0.0061, 0.0058)
    assert money.by_category == {"llm": 0.0, "human": 0.0, "compute": 0.0061}
    assert (money.lost_usd, money.calls, money.student_usd_per_million_texts) == (7e-6, 3, 0.5)


def test_a_report_is_read_from_its_file(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text(json.dumps(full().to_json()), encoding="utf-8")
    assert read_report(path) == full()


@pytest.mark.parametrize(
    "content", ["", "[]", "3", "{}", '{"format": 3}', '{"format": 1}', '{"format": 2}', "\x00", None]
)
def test_what_is_no_report_is_refused_in_one_sentence(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "report.json"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    with pytest.raises(RunNotFound) as refused:
        read_report(path)
    assert refused.value.hint
    assert "\n" not in str(refused.value)


# --- sentences ---------------------------------------------------------------------------------------------


def test_the_headline_tells_student_teacher_and_money() -> None:
    assert words.headline(full()) == (
        "A 23 MB student answers 1,850 texts/s at 84.0 % accuracy – its teacher reached 79.0 % at 46 texts/s; "
        "$0.0061 of $0.02 spent."
    )


def test_the_headline_leaves_out_what_was_not_measured() -> None:
    assert words.headline(empty()) == "A student was trained; $0 of $20.00 spent."
    for report in partly():
        assert "not measured" not in words.headline(report)
        assert "None" not in words.headline(report)


@settings(deadline=None, max_examples=40)
@given(
    st.integers(0, 100),
    st.integers(0, 100),
    st.floats(0.01, 1e6),
    st.floats(0.001, 1e4),
    st.floats(1e-6, 1e4),
)
def test_every_number_of_the_headline_comes_from_the_record(
    student_right: int, teacher_right: int, rate: float, size_mb: float, charged: float
) -> None:
    whole = full()
    assert whole.teacher is not None
    report = replace(
        whole,
        student=replace(whole.student, evaluation=evaluation(student_right, 100), texts_per_s=rate, size_mb=size_mb),
        teacher=replace(whole.teacher, evaluation=evaluation(teacher_right, 100), texts_per_s=rate / 7),
        money=CostSummary(limit_usd=2 * charged, charged_usd=charged),
    )
    figures = [float(figure.replace(",", "")) for figure in re.findall(r"\d[\d,]*\.?\d*", words.headline(report))]
    size = 1000 * size_mb if size_mb < 0.1 else size_mb
    expected = [size, rate, student_right, teacher_right, rate / 7, charged, 2 * charged]
    assert len(figures) == len(expected)
    for figure, truth in zip(figures, expected, strict=True):
        assert figure == pytest.approx(truth, rel=0.06, abs=1e-9)


@pytest.mark.parametrize(
    ("sum_usd", "text"),
    [
        (0, "$0"),
        (20, "$20.00"),
        (1234.5, "$1,234.50"),
        (0.5, "$0.50"),
        (0.02, "$0.02"),
        (0.0061, "$0.0061"),
        (0.000004, "$0.000004"),
        (0.019996, "$0.02"),
        (0.99999, "$1.00"),
        (None, "not measured"),
    ],
)
def test_dollars_are_written_for_people(sum_usd: float | None, text: str) -> None:
    assert words.usd(sum_usd) == text


@pytest.mark.parametrize(
    ("shown", "text"),
    [
        (words.number(1850.3), "1,850"),
        (words.number(46.2), "46"),
        (words.number(1.72), "1.7"),
        (words.number(0.0213), "0.021"),
        (words.number(9.99), "10"),
        (words.number(0), "0"),
        (words.megabytes(0.04), "40 kB"),
        (words.megabytes(0), "0 kB"),
        (words.duration(42.4), "42 s"),
        (words.duration(59.9), "1 min 0 s"),
        (words.duration(252.3), "4 min 12 s"),
        (words.duration(7500), "2 h 5 min"),
        (words.p_value(0.0004), "p < 0.001"),
        (words.p_value(0.034), "p = 0.034"),
        (words.format_ratio(40.2), "40×"),
    ],
)
def test_figures_are_written_for_people(shown: str, text: str) -> None:
    assert shown == text


@pytest.mark.parametrize(
    ("test", "begins"),
    [
        (McNemar(93, 42, 0.00002, 0.00001), "The student beats its teacher: "),
        (McNemar(42, 93, 0.00002, 0.00001), "The student is behind its teacher: "),
        (McNemar(50, 48, 0.9, 0.85), "Student and teacher are too close to call: "),
    ],
)
def test_the_verdict_follows_the_test(test: McNemar, begins: str) -> None:
    assert words.comparison_sentences(replace(full(), mcnemar=test))[1].startswith(begins)


def test_the_first_sentence_says_how_much_faster_and_cheaper_the_student_is() -> None:
    whole = full()
    assert whole.teacher is not None
    fast = replace(
        whole, student=replace(whole.student, texts_per_s=1105.0), teacher=replace(whole.teacher, texts_per_s=8.5)
    )
    prices = replace(whole.money, teacher_usd_per_million_texts=3.2, student_usd_per_million_texts=0.025)
    priced = replace(fast, money=prices)
    assert words.comparison_sentences(priced)[0] == (
        "The student is 130× as fast as its teacher and 128× as cheap, both on this machine."
    )
    away = replace(priced, teacher=replace(fast.teacher, metadata={"host": "api.example.com"}))
    assert words.comparison_sentences(away)[0].endswith(" as cheap, here, the teacher at api.example.com.")
    unpriced = replace(fast, money=replace(prices, student_usd_per_million_texts=None))
    assert words.comparison_sentences(unpriced)[0].endswith("130× as fast as its teacher, both on this machine.")
    assert not any("fast" in each for each in words.comparison_sentences(empty()))
    people = replace(priced, money=replace(prices, by_category={"human": 1.5}))
    assert not any("fast" in each for each in words.comparison_sentences(people))


def test_one_of_the_samples_is_right_if_any_is() -> None:
    wrong = [replace(full().samples[0], text=f"wrong {i}", gold="a", student="b") for i in range(4)]
    right = replace(wrong[0], text="a right one", gold="b")
    assert "a right one" in render_terminal(replace(full(), samples=(*wrong, right)))


def test_the_sentence_names_the_texts_the_teacher_was_asked_about() -> None:
    whole = full()
    assert whole.teacher is not None
    assert words.test_set_sentence(whole) == "Accuracy on 100 test texts, none of them used for training."
    fewer = replace(whole, teacher=replace(whole.teacher, evaluation=evaluation(40, 50)))
    assert "the teacher was asked about 50 of them" in words.test_set_sentence(fewer)
    assert "the teacher was asked about 50" in " ".join(render_terminal(fewer).split())


def test_a_perfect_score_has_a_bound_that_its_bootstrap_interval_lacks() -> None:
    perfect = replace(full(), teacher=None, student=replace(full().student, evaluation=evaluation(42, 42)))
    assert words.test_set_sentence(perfect).endswith(
        "All are right: on other texts like these it is at least 93.1 % (exact binomial, 95 % confidence)."
    )
    assert "All are right" not in words.test_set_sentence(full())


@pytest.mark.parametrize("simulation", ["", "Simulation: labels were replayed.", "Labels were replayed."])
def test_a_simulation_is_called_one_once(simulation: str) -> None:
    sentence = words.simulation_sentence(replace(full(), simulation=simulation))
    assert sentence.lower().count("simulat") == bool(simulation)


def test_a_baseline_that_is_as_good_is_not_hidden() -> None:
    ahead = replace(full(), baselines=(Baseline.from_evaluation("frozen + LR", evaluation(90, 100)),))
    assert "“frozen + LR” is at least as good, at 90.0 %" in words.comparison_sentences(ahead)[-1]


# --- the terminal ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("report", [full(), empty(), *partly()])
@pytest.mark.parametrize("width", [50, 80, 120])
def test_the_terminal_holds_its_width_and_ends_with_what_to_type(report: Report, width: int) -> None:
    lines = render_terminal(report, width=width).splitlines()
    free = [line for line in lines if not line.startswith(("Next:", "student  "))]
    assert max(map(len, free)) <= width
    assert "None" not in "".join(lines)
    if report.next_command:
        assert lines[-1] == f"Next: {report.next_command}"


def test_the_terminal_tells_the_figures() -> None:
    text = render_terminal(full())
    for figure in ("84.0 %", "79.0 %", "62.0 %", "1,850", "46", "1.7 ms", "$0.0061", "$0.02", "$0.62", "4 min 12 s"):
        assert figure in text, figure
    assert "\x1b" not in text


def test_colour_is_only_there_when_asked_for_and_changes_no_word() -> None:
    coloured = render_terminal(full(), color=True)
    assert "\x1b[" in coloured
    plain = re.sub("\x1b\\[[0-9;]*m", "", coloured)
    assert [line.rstrip() for line in plain.splitlines()] == render_terminal(full()).splitlines()


def test_hostile_labels_cannot_drive_the_terminal() -> None:
    text = render_terminal(full(labels=(HOSTILE, "b", "c"), say=HOSTILE), color=True)
    assert "[bold]" in text
    assert "\x1b[31m" not in text
    assert not re.search("[\x00\u202e\ud800]", text)
    text.encode("utf-8")


def test_states_sources_and_purposes_are_words() -> None:
    assert [words.answer_state(state) for state in ("ok", "unasked", "new")] == [
        "answered",
        "not asked, as the budget ended",
        "new",
    ]
    assert words.score_sources("logprobs, one-hot") == "log-probabilities of the reply, the label alone"
    spent = {"measure": 0.001, "teach": 0.003, "other": 0.1, "train": 0.0}
    assert words.spending_by_purpose(spent) == "$0.003 for the teacher’s answers, $0.001 for measuring, $0.10 for other"


def test_a_baseline_is_named_with_what_it_is() -> None:
    alone = Baseline.from_evaluation("linear on 32 labels", evaluation(60, 100), "the student without a teacher")
    sentences = words.comparison_sentences(replace(full(), baselines=(alone,)))
    assert sentences[-1] == "The best baseline, “linear on 32 labels” (the student without a teacher), reaches 60.0 %."
