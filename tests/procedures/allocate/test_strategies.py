"""Distill or annotate: which strategy is expected to be best for a budget."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.procedures.allocate.expected_scores import InterpolatedScores, Measurement
from potstill.procedures.allocate.learning_curves import N_DRAWS, Estimate
from potstill.procedures.allocate.strategies import (
    Allocation,
    BudgetComparison,
    ExpectedLead,
    StrategyEstimate,
    UnitCosts,
    compare_budgets,
    compare_strategies,
    expected_lead,
    value_of_information,
)

GRID = [
    *(Measurement(n, 0, s) for n, s in ((100, 0.45), (1000, 0.50), (10_000, 0.80))),
    *(Measurement(n, 10_000, s) for n, s in ((100, 0.44), (1000, 0.70), (10_000, 0.78))),
    *(Measurement(n, 100_000, s) for n, s in ((100, 0.44), (1000, 0.72), (10_000, 0.84))),
]
COSTS = UnitCosts(usd_per_label=0.2, teacher_training=lambda n: 5 + n / 1000 * 8, usd_per_distilled=0.001)


def test_a_small_extra_budget_after_a_thousand_labels_is_best_distilled() -> None:
    comparison = compare_strategies(
        InterpolatedScores(GRID), COSTS, 50, n_labels_owned=1000, n_unlabelled=1e6, strategies=("annotate", "distil")
    )
    assert comparison.best.strategy == "distil"
    assert comparison.sure
    annotate = comparison.get("annotate")
    assert annotate is not None
    assert annotate.allocation.labels == 1000 + 250


def test_a_teacher_that_costs_more_than_the_budget_leaves_annotating() -> None:
    dear = UnitCosts(usd_per_label=0.2, teacher_training=lambda n: 1000.0, usd_per_distilled=0.001)
    comparison = compare_strategies(InterpolatedScores(GRID), dear, 50, n_labels_owned=1000, n_unlabelled=1e6)
    assert comparison.best.strategy == "annotate"
    distil = comparison.get("distil")
    assert distil is not None
    assert distil.allocation.texts == 0
    assert distil.score.value == 0


def test_a_strategy_without_a_price_is_not_compared() -> None:
    comparison = compare_strategies(
        InterpolatedScores(GRID), UnitCosts(usd_per_label=0.2), 50, n_labels_owned=1000, n_unlabelled=1e6
    )
    assert [each.strategy for each in comparison.strategies] == ["annotate"]
    assert comparison.best.win_probability == 1


def test_the_budgets_at_which_the_best_strategy_changes_are_returned() -> None:
    # Below about $13 the teacher cannot be trained; above it distilling 1,000 labels wins.
    comparisons, turning_points = compare_budgets(
        InterpolatedScores(GRID), COSTS, (5, 10, 20, 50, 100), n_labels_owned=1000, n_unlabelled=1e6
    )
    assert [comparison.budget_usd for comparison in comparisons] == [5, 10, 20, 50, 100]
    assert comparisons[0].best.strategy == "annotate"
    assert comparisons[-1].best.strategy != "annotate"
    assert 20 in turning_points or 50 in turning_points


def test_equal_strategies_are_not_sure() -> None:
    flat = InterpolatedScores(
        [Measurement(100, 0, 0.6), Measurement(1000, 0, 0.6), Measurement(100, 10, 0.6), Measurement(1000, 10, 0.6)]
    )
    comparison = compare_strategies(
        flat,
        UnitCosts(usd_per_label=1.0, teacher_training=lambda n: 0.0, usd_per_distilled=0.1),
        10,
        n_labels_owned=500,
        n_unlabelled=1e6,
    )
    assert not comparison.sure


def test_the_uncertainty_of_a_price_is_part_of_the_comparison() -> None:
    doubtful = UnitCosts(
        usd_per_label=0.2,
        teacher_training=lambda n: np.where(np.arange(N_DRAWS) % 2, 1.0, 1000.0),
        usd_per_distilled=0.001,
    )
    comparison = compare_strategies(
        InterpolatedScores(GRID), doubtful, 50, n_labels_owned=1000, n_unlabelled=1e6, strategies=("annotate", "distil")
    )
    distil = comparison.get("distil")
    assert distil is not None
    assert distil.win_probability == pytest.approx(0.5, abs=0.01)


@given(st.floats(0.01, 1e5), st.integers(0, 20_000), st.floats(0, 1e6))
def test_no_strategy_spends_more_than_the_budget(budget: float, owned: int, pool: float) -> None:
    costs = UnitCosts(
        usd_per_label=0.2,
        teacher_training=lambda n: n / 1000,
        usd_per_distilled=0.001,
        usd_per_answer=0.002,
        usd_per_generated=0.01,
    )
    for each in compare_strategies(
        InterpolatedScores(GRID), costs, budget, n_labels_owned=owned, n_unlabelled=pool
    ).strategies:
        assert each.allocation.labels_usd + each.allocation.compute_usd + each.allocation.llm_usd <= budget * (1 + 1e-9)
        assert 0 <= each.score.low <= each.score.value <= each.score.high <= 1
        assert each.allocation.labels >= owned


def two_strategies(mean: float, spread: float) -> Callable[[float], BudgetComparison]:
    """Annotating is 0.7 and a little better with money; distilling is that plus something in doubt."""
    draws = np.random.default_rng(0).standard_normal(N_DRAWS)

    def compare(budget: float) -> BudgetComparison:
        alone = np.full(N_DRAWS, 0.7 + budget / 1000)
        both = [("annotate", alone), ("distil", alone + mean + spread * draws)]
        split = Allocation("annotate", 0, 0, 0.0, 0.0, 0.0)
        estimates = [StrategyEstimate(way, split, Estimate(float(np.median(d)), 0.0, 1.0), 0.5, d) for way, d in both]  # type: ignore[arg-type]
        return BudgetComparison(budget, tuple(sorted(estimates, key=lambda each: -each.score.value)))

    return compare


def test_a_measurement_is_worth_most_if_the_choice_is_open() -> None:
    open_, settled, known = (
        value_of_information(two_strategies(*at), 10, 0.1, ("distil",), 0.02)
        for at in ((0, 0.05), (-0.2, 0.05), (0, 0))
    )
    assert open_.gain > 0.01
    assert settled.gain < 1e-3
    assert known.gain == 0
    assert open_.is_worth_it
    assert not settled.is_worth_it


def test_a_measurement_that_costs_more_than_it_can_gain_is_not_worth_it() -> None:
    assert value_of_information(two_strategies(0, 0.02), 100, 0.5, ("distil",), 0.01).is_worth_it
    assert not value_of_information(two_strategies(0, 0.02), 100, 50, ("distil",), 0.01).is_worth_it
    assert not value_of_information(two_strategies(0, 0.5), 100, 101, ("distil",), 0.01).is_worth_it


def test_a_noisy_measurement_is_worth_less() -> None:
    gains = [
        value_of_information(two_strategies(0, 0.05), 10, 0.1, ("distil",), noise).gain for noise in (0.001, 0.05, 0.5)
    ]
    assert gains == sorted(gains, reverse=True)


@given(st.floats(-0.5, 0.5), st.floats(0, 0.5), st.floats(0.001, 1))
def test_a_measurement_never_costs_or_gains_less_than_nothing(mean: float, spread: float, noise: float) -> None:
    value = value_of_information(two_strategies(mean, spread), 10, 1, ("distil",), noise)
    assert value.gain >= 0
    assert value.cost >= 0


def test_the_posterior_lies_between_the_expected_and_the_measured_lead() -> None:
    lead = expected_lead(two_strategies(0.05, 0.02)(10), ("distil",))
    assert lead.mean == pytest.approx(0.05, abs=0.01)
    assert -0.05 < lead.posterior_mean(-0.05, 0.02) < 0.05
    assert lead.posterior_mean(-0.05, 1e-6) == pytest.approx(-0.05, abs=1e-3)
    assert ExpectedLead().posterior_mean(0.03, 0.1) == 0.03
    assert expected_lead(two_strategies(0, 1)(10), ("llm",)) == ExpectedLead()


def test_an_unmeasured_strategy_is_bought_only_if_it_is_sure() -> None:
    open_, sure = two_strategies(0.02, 0.05)(10), two_strategies(0.2, 0.05)(10)
    assert open_.best.strategy == "distil"
    open_ = replace(
        open_,
        strategies=tuple(replace(w, win_probability=0.6 if w.strategy == "distil" else 0.4) for w in open_.strategies),
    )
    sure = replace(
        sure,
        strategies=tuple(replace(w, win_probability=1.0 if w.strategy == "distil" else 0.0) for w in sure.strategies),
    )
    assert open_.exclude_unmeasured(("distil",), measured=False)[0].strategy == "annotate"
    assert open_.exclude_unmeasured(("distil",), measured=True)[0].strategy == "distil"
    assert sure.exclude_unmeasured(("distil",), measured=False)[0].strategy == "distil"
    alone = replace(open_, strategies=open_.strategies[:1])
    assert alone.exclude_unmeasured(("distil",), measured=False) == alone.strategies
