"""allocate on toy data; the annotators and the language model are simulations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.keyword_task import world

from potstill.data.pool import Pool, PoolOptions, build_pool
from potstill.data.tables import Table
from potstill.data.task import Task
from potstill.errors import BadData, BadSpec, UnknownName, Waiting
from potstill.procedures.allocate.decisions import BuyLabels, Decision, DecisionBasis, Stop
from potstill.procedures.allocate.priors import TeacherPriors
from potstill.procedures.allocate.recipe import allocate
from potstill.reports.finish_run import finish_run
from potstill.run.notes import Allocated
from potstill.run.run import Run
from potstill.run.spec import Spec

LARGE = {"large_model": "linear", "pilot_labels": 40, "pilot_seeds": 1, "annotator": {"simulate_from": "pool"}}


@pytest.fixture(scope="module")
def rows() -> Pool:
    return build_pool(Table.from_columns(world(200)), options=PoolOptions(gold=45)).pool


def begin(folder: Path, pool: Pool, budget: float = 20, prices: Any = None, **over: Any) -> Run:
    own = {key: over.pop(key) for key in list(over) if key not in ("teacher", "student")}
    record = {
        "budget": budget,
        "student": "linear",
        "procedure": {"name": "allocate", **LARGE, **own},
        "prices": {"usd_per_label": 0.1, "usd_per_hour": 0.1} if prices is None else prices,
        **over,
    }
    return Run.open(folder, Spec.from_dict(record), Task(pool.labels, name="world"), pool)


def plans(run: Run) -> list[Decision]:
    return [note.record for note in run.notes() if isinstance(note.record, Decision)]


def bases(run: Run) -> list[DecisionBasis]:
    return [decision.basis for decision in plans(run)]


def test_labels_are_bought_while_they_are_expected_to_gain_and_never_over_the_budget(
    tmp_path: Path, rows: Pool
) -> None:
    with begin(tmp_path / "run", rows, budget=8) as run:
        allocate(run)
        assert run.ledger.free >= 0
        assert isinstance(plans(run)[0], BuyLabels)
        labelled = [call for call in run.store.calls() if call.category == "human"]
        assert 0 < sum(call.n_texts for call in labelled) <= 80
        done = [note.record for note in run.notes() if isinstance(note.record, Allocated)][-1]
        assert done.n_labels > 36
        assert done.candidate in done.sentence()


def test_simulated_annotators_make_the_whole_report_a_simulation(tmp_path: Path, rows: Pool) -> None:
    for _ in range(2):  # also when it is taken up again
        with begin(tmp_path / "run", rows, budget=8) as run:
            allocate(run)
            assert run.simulated_teachers == {"human"}
    with begin(tmp_path / "run", rows, budget=8) as run:
        report = finish_run(run, allocate(run))
    assert report.simulation.startswith("Simulation: human returns")


def test_the_same_command_again_decides_and_buys_nothing_anew(tmp_path: Path, rows: Pool) -> None:
    with begin(tmp_path / "run", rows) as run:
        first = allocate(run).predict_logits(["bank loan", "storm wind"])
        before = len(run.store.calls())
    with begin(tmp_path / "run", rows) as run:
        again = allocate(run).predict_logits(["bank loan", "storm wind"])
        assert len(run.store.calls()) == before
    assert (first == again).all()


def test_a_gain_that_is_too_small_for_its_price_ends_the_buying(tmp_path: Path, rows: Pool) -> None:
    with begin(tmp_path / "run", rows, min_gain=1000.0) as run:
        allocate(run)
        (decision,) = plans(run)
        assert isinstance(decision, Stop)
        assert "min_gain is 1000.0" in decision.reason


def test_without_a_price_for_labels_a_language_model_may_be_asked(
    tmp_path: Path,
    keyword_labels: Path,
) -> None:
    rows = build_pool(Table.from_columns(world(200)), options=PoolOptions(gold=60)).pool
    teacher = {"name": "replay", "file": str(keyword_labels), "accuracy": 0.9, "usd_per_million_tokens": 1.0}
    with begin(tmp_path / "run", rows, prices={}, teacher=teacher, large_model="") as run:
        allocate(run)
        assert [each.strategy for each in bases(run)[0].strategies] == ["llm"]
        assert not any(call.category == "human" for call in run.store.calls())


def test_no_labels_and_no_annotator_are_reported_in_one_sentence(tmp_path: Path) -> None:
    texts = world(50)["text"]
    bare = build_pool(
        Table.from_columns({"text": texts}), labels=("money", "sport", "weather"), options=PoolOptions()
    ).pool
    with (
        begin(tmp_path / "run", bare, prices={}) as run,
        pytest.raises(BadData, match="a human label has no price"),
    ):
        allocate(run)


def test_if_nothing_can_be_bought_the_student_is_trained_on_the_labels_there_are(tmp_path: Path) -> None:
    all_known = build_pool(Table.from_columns(world(60)), options=PoolOptions()).pool
    assert not len(all_known.subset("pool"))
    with begin(tmp_path / "run", all_known, prices={}) as run:
        allocate(run)
        assert [type(decision) for decision in plans(run)] == [Stop]
        assert "has a price" in plans(run)[0].reason


def test_a_run_can_begin_without_any_label(tmp_path: Path) -> None:
    rows = build_pool(Table.from_columns(world(120)), options=PoolOptions(gold=3, validation_share=0)).pool
    with begin(tmp_path / "run", rows, budget=10) as run:
        student = allocate(run)
        test = rows.subset("test")
        assert (student.predict_proba(test.texts).argmax(axis=1) == test.gold).mean() > 0.6
        first = next(call for call in run.store.calls() if call.category == "human")
        assert first.n_texts > 0


def test_a_run_waits_for_annotators(tmp_path: Path, rows: Pool) -> None:
    with begin(tmp_path / "run", rows, annotator={}) as run, pytest.raises(Waiting):
        allocate(run)


@pytest.mark.parametrize("strategy", ["random", "margin", "entropy", "diverse", "badge", "uncertainty_herding"])
def test_each_query_strategy_buys_distinct_texts(tmp_path: Path, rows: Pool, strategy: str) -> None:
    with begin(tmp_path / "run", rows, budget=8, query_strategy=strategy) as run:
        allocate(run)
        bought = [each.rows for each in plans(run) if isinstance(each, BuyLabels)]
        assert bought
        assert all(len(set(each)) == len(each) for each in bought)


def test_an_option_that_does_not_exist_names_the_nearest(tmp_path: Path, rows: Pool) -> None:
    with begin(tmp_path / "run", rows, min_gian=1) as run, pytest.raises(BadSpec) as caught:
        allocate(run)
    assert "min_gain" in caught.value.hint


def test_the_compared_strategies_are_stored_with_their_estimates(tmp_path: Path, rows: Pool) -> None:
    with begin(tmp_path / "run", rows, budget=8) as run:
        allocate(run)
        basis = bases(run)[0]
        assert "annotate" in {each.strategy for each in basis.strategies}
        assert len(basis.curve) == 4
        assert all(0 <= each.score.low <= each.score.value <= each.score.high <= 1 for each in basis.strategies)
        assert np.isclose(sum(each.win_probability for each in basis.strategies), 1)


def test_a_large_model_that_cannot_change_the_choice_is_neither_timed_nor_trained(tmp_path: Path, rows: Pool) -> None:
    with begin(tmp_path / "run", rows, budget=8) as run:
        allocate(run)
        decision = bases(run)[0].findings.information_values["large"]
        assert not decision.done
        assert decision.gain < decision.cost
        assert not any("probe" in call.description for call in run.store.calls())


def test_a_large_model_that_may_win_is_timed_and_measured_and_the_probe_is_paid(
    tmp_path: Path, rows: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TeacherPriors, "LARGE_LABELS", 10)  # a prior by which a large model helps with few labels
    monkeypatch.setattr(TeacherPriors, "LARGE_ERROR", 0.5)
    with begin(tmp_path / "run", rows, budget=8) as run:
        allocate(run)
        basis = bases(run)[0]
        assert {each.strategy for each in basis.strategies} == {"annotate", "distil", "mix"}
        assert basis.findings.teacher_cost is not None
        assert basis.findings.teacher_cost.training_usd_per_label > 0
        assert "measured" in basis.sources.distillation or not basis.findings.information_values["large"].done
        assert any("probe" in call.description for call in run.store.calls())


def test_no_measurement_costs_more_than_a_fifth_of_the_money(tmp_path: Path, rows: Pool) -> None:
    prices = {"usd_per_label": 0.1, "usd_per_hour": 20_000}
    with begin(tmp_path / "run", rows, budget=8, prices=prices) as run:
        allocate(run)
        decisions = [each.findings.information_values.get("large") for each in bases(run)]
        assert all(not each.done or each.usd <= 0.2 * 8 for each in decisions if each)


@pytest.mark.parametrize(
    "wrong", [{"large_model": "liner"}, {"large_model_options": {"foo": 1}}, {"generation": {"round": 3}}]
)
def test_a_wrong_option_is_reported_before_anything_is_bought(
    tmp_path: Path, rows: Pool, wrong: dict[str, Any]
) -> None:
    with begin(tmp_path / "run", rows, **wrong) as run:
        with pytest.raises((BadSpec, UnknownName)):
            allocate(run)
        assert not run.store.calls()


def test_a_large_model_that_is_expensive_to_time_is_left_out(tmp_path: Path, rows: Pool) -> None:
    prices = {"usd_per_label": 0.1, "usd_per_hour": 400}
    with begin(tmp_path / "run", rows, budget=8, prices=prices, large_model="encoder:gte-small") as run:
        allocate(run)
        decision = bases(run)[0].findings.information_values["large"]
        assert not decision.done
        assert decision.cost == 1
        assert not any("gte-small" in call.description for call in run.store.calls())
