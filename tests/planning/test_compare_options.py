"""Which way to spend the budget promises most, before any money moves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.keyword_task import world

from potstill.api import distill, plan
from potstill.errors import BadData
from potstill.planning import compare_options
from potstill.planning.cost_estimate import estimate_cost
from potstill.run.inputs import read_inputs


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    table = world(120)
    lines = [json.dumps(dict(zip(table, row, strict=True))) for row in zip(*table.values(), strict=True)]
    (tmp_path / "texts.jsonl").write_text("\n".join(lines), encoding="utf-8")
    path = tmp_path / "potstill.toml"
    path.write_text(
        'budget = 20\nstudent = "linear"\nteacher = "human"\n'
        '[data]\nfile = "texts.jsonl"\ngold = 120\n[prices]\nusd_per_label = 0.1\n',
        encoding="utf-8",
    )
    return path


def test_without_measuring_it_is_called_a_prior(spec: Path) -> None:
    told = compare_options(read_inputs(spec, None, {}))
    assert told.basis.startswith("Prior")
    assert told.at_budget.get("annotate") is not None
    assert "Prior" in told.to_text()


def test_measured_on_the_labels_there_are_it_says_so_and_knows_this_easy_data(spec: Path) -> None:
    told = compare_options(read_inputs(spec, None, {}), measure=True)
    assert told.basis.startswith("Measured")
    annotate = told.at_budget.get("annotate")
    assert annotate is not None
    assert annotate.score.value > 0.7


def test_more_money_never_promises_less(spec: Path) -> None:
    told = compare_options(read_inputs(spec, None, {}))
    scores = [verdict.best.score.value for verdict in told.comparisons]
    assert scores == sorted(scores)
    assert [verdict.budget_usd for verdict in told.comparisons] == sorted(v.budget_usd for v in told.comparisons)


def test_labels_without_a_price_are_not_weighed_and_the_mend_is_named(spec: Path) -> None:
    spec.write_text(spec.read_text().split("[prices]")[0].replace('teacher = "human"\n', ""))
    told = compare_options(read_inputs(spec, None, {}))
    assert any("usd_per_label" in sentence for sentence in told.unpriced)
    assert told.owned_usd is None


def test_too_few_labels_to_measure_say_how_many_are_missing(spec: Path) -> None:
    spec.write_text(spec.read_text().replace("gold = 120", "gold = 30"))
    with pytest.raises(BadData) as caught:
        compare_options(read_inputs(spec, None, {}), measure=True)
    assert "more" in caught.value.hint


def test_the_plan_shows_them_and_writes_a_page_that_needs_nothing_else(spec: Path, tmp_path: Path) -> None:
    page = tmp_path / "plan.html"
    told = plan(spec, page=page)
    assert told.options is not None
    assert "Distill or annotate?" in told.to_text()
    written = page.read_text(encoding="utf-8")
    assert "<svg" in written
    assert "http" not in written.replace("http-equiv", "").replace("http://www.w3.org", "")
    assert told.to_json()["options"]["comparisons"][0]["strategies"]


def test_what_is_paid_what_is_kept_and_how_far_the_money_reaches_is_said(spec: Path) -> None:
    told = compare_options(read_inputs(spec, None, {}))
    text = told.to_text()
    assert "count as paid" in text
    assert "another student" in text
    first = told.to_json()["comparisons"][0]["strategies"][0]
    assert first["all_in_usd"] == pytest.approx(first["usd"] + told.to_json()["owned_usd"])


def test_a_teacher_that_can_write_is_weighed_by_a_prior_that_says_so(spec: Path, tmp_path: Path) -> None:
    lines = (tmp_path / "texts.jsonl").read_text(encoding="utf-8")
    (tmp_path / "known.jsonl").write_text(lines, encoding="utf-8")
    replay = '{name = "replay", file = "known.jsonl", generate_from = "known.jsonl", usd_per_million_tokens = 1.0}'
    spec.write_text(spec.read_text().replace('"human"', replay))
    told = compare_options(read_inputs(spec, None, {}))
    written, asked = told.at_budget.get("pgkd"), told.at_budget.get("llm")
    assert written is not None
    assert asked is not None
    assert written.allocation.texts == 320
    assert 0 < written.allocation.llm_usd < told.budget_usd
    (copied,) = [each for each in told.imitation if each.strategy == "llm"]
    assert copied.source == "prior"
    assert list(copied.scores.values()) == sorted(copied.scores.values())
    assert "a teacher right in" in told.to_text()
    assert "what a student has of its teacher" in told.page()


def test_answers_that_other_runs_bought_are_said_to_be_paid(
    spec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = (tmp_path / "texts.jsonl").read_text(encoding="utf-8")
    (tmp_path / "known.jsonl").write_text(lines, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    replay = '{name = "replay", file = "known.jsonl", usd_per_million_tokens = 1.0}'
    spec.write_text(spec.read_text().replace('"human"', replay) + '[procedure]\nname = "kd"\n')
    distill(spec, reporter=None)
    told = compare_options(read_inputs(spec, None, {}))
    assert told.cached is not None
    assert told.cached.n_cached == told.cached.n_texts > 0
    assert told.cached.usd > 0
    assert "nothing is paid for them" in told.to_text()
    assert "nothing is paid for them" in estimate_cost(read_inputs(spec, None, {})).to_text()
