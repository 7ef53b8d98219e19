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


def test_without_measuring_it_says_prior(spec: Path) -> None:
    comparison = compare_options(read_inputs(spec, None, {}))
    assert comparison.basis.startswith("Prior")
    assert comparison.at_budget.get("annotate") is not None
    assert "Prior" in comparison.to_text()


def test_with_measuring_it_says_measured_and_expects_much_of_this_easy_data(spec: Path) -> None:
    comparison = compare_options(read_inputs(spec, None, {}), measure=True)
    assert comparison.basis.startswith("Measured")
    annotate = comparison.at_budget.get("annotate")
    assert annotate is not None
    assert annotate.score.value > 0.7


def test_a_larger_budget_never_expects_less(spec: Path) -> None:
    comparison = compare_options(read_inputs(spec, None, {}))
    scores = [each.best.score.value for each in comparison.comparisons]
    assert scores == sorted(scores)
    assert [each.budget_usd for each in comparison.comparisons] == sorted(v.budget_usd for v in comparison.comparisons)


def test_labels_without_a_price_are_not_compared_and_the_hint_is_named(spec: Path) -> None:
    spec.write_text(spec.read_text().split("[prices]")[0].replace('teacher = "human"\n', ""))
    comparison = compare_options(read_inputs(spec, None, {}))
    assert any("--usd-per-label" in sentence for sentence in comparison.unpriced)
    assert comparison.owned_usd is None


def test_too_few_labels_to_measure_say_how_many_are_missing(spec: Path) -> None:
    spec.write_text(spec.read_text().replace("gold = 120", "gold = 30"))
    with pytest.raises(BadData) as caught:
        compare_options(read_inputs(spec, None, {}), measure=True)
    assert "more" in caught.value.hint


def test_the_plan_shows_them_and_writes_a_page_that_needs_nothing_else(spec: Path, tmp_path: Path) -> None:
    page = tmp_path / "plan.html"
    comparison = plan(spec, page=page)
    assert comparison.options is not None
    assert "Distill or annotate?" in comparison.to_text()
    written = page.read_text(encoding="utf-8")
    assert "<svg" in written
    assert "http" not in written.replace("http-equiv", "").replace("http://www.w3.org", "")
    assert comparison.to_json()["options"]["comparisons"][0]["strategies"]


def test_it_says_what_is_paid_and_what_can_be_used_again(spec: Path) -> None:
    comparison = compare_options(read_inputs(spec, None, {}))
    text = comparison.to_text()
    assert "count as paid" in text
    assert "another student" in text
    first = comparison.to_json()["comparisons"][0]["strategies"][0]
    assert first["all_in_usd"] == pytest.approx(first["usd"] + comparison.to_json()["owned_usd"])


def test_a_teacher_that_generates_is_compared_by_a_prior(spec: Path, tmp_path: Path) -> None:
    lines = (tmp_path / "texts.jsonl").read_text(encoding="utf-8")
    (tmp_path / "known.jsonl").write_text(lines, encoding="utf-8")
    replay = '{name = "replay", file = "known.jsonl", generate_from = "known.jsonl", usd_per_million_tokens = 1.0}'
    spec.write_text(spec.read_text().replace('"human"', replay))
    comparison = compare_options(read_inputs(spec, None, {}))
    generated, answered = comparison.at_budget.get("pgkd"), comparison.at_budget.get("llm")
    assert generated is not None
    assert answered is not None
    assert generated.allocation.texts == 320
    assert 0 < generated.allocation.llm_usd < comparison.budget_usd
    (imitation,) = [each for each in comparison.imitation if each.strategy == "llm"]
    assert imitation.source == "prior"
    assert list(imitation.scores.values()) == sorted(imitation.scores.values())
    assert "a teacher right in" in comparison.to_text()
    assert "what a student has of its teacher" in comparison.page()


def test_answers_that_other_runs_bought_are_counted_as_paid(
    spec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = (tmp_path / "texts.jsonl").read_text(encoding="utf-8")
    (tmp_path / "known.jsonl").write_text(lines, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    replay = '{name = "replay", file = "known.jsonl", usd_per_million_tokens = 1.0}'
    spec.write_text(spec.read_text().replace('"human"', replay) + '[procedure]\nname = "kd"\n')
    distill(spec, reporter=None)
    comparison = compare_options(read_inputs(spec, None, {}))
    assert comparison.cached is not None
    assert comparison.cached.n_cached == comparison.cached.n_texts > 0
    assert comparison.cached.usd > 0
    assert "nothing is paid for them" in comparison.to_text()
    assert "nothing is paid for them" in estimate_cost(read_inputs(spec, None, {})).to_text()
