"""Compares what each strategy is expected to reach: priced, measured if asked for, at the budget and around it."""

from __future__ import annotations

from functools import partial

import numpy as np

from potstill.ledger.prices import micros_to_usd
from potstill.planning.measure_curve import measure_learning_curve
from potstill.planning.option_prices import estimate_prices
from potstill.planning.records import CostToMatch, ImitationSummary, OptionComparison
from potstill.procedures.allocate.expected_scores import PilotScores, PriorScores
from potstill.procedures.allocate.strategies import BudgetComparison, Strategy, compare_budgets, compare_strategies
from potstill.run.inputs import RunInputs
from potstill.run.open_teacher import training_reserve

BUDGET_SHARES = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)  # shares of the budget that the chart shows
TEACHER_ACCURACIES = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)  # of the imitation curves that are shown
BISECTION_STEPS = 12
PRIOR_BASIS = "Prior: experience with other data sets, not yours; --measure tries it on the existing labels."


def compare_options(inputs: RunInputs, *, measure: bool = False) -> OptionComparison:
    """Compare every strategy that has a price, for the spec's budget and for parts and multiples of it.

    Buys nothing. With `measure` students are trained on the existing labels, which takes this machine's time;
    without, the expected scores are priors.

    Raises:
        BadData: `measure`, and too few labels.
    """
    spec = inputs.spec
    n_labels, n_unlabelled = len(inputs.pool.subset("train")), float(len(inputs.pool.subset("pool")))
    prices = estimate_prices(inputs)
    scores: PriorScores | PilotScores = PriorScores(inputs.task.n_labels, n_owned=n_labels, seed=spec.seed)
    basis = PRIOR_BASIS
    if measure:
        scores, basis = measure_learning_curve(inputs, with_large=prices.costs.teacher_training is not None)
    budget_usd = micros_to_usd(spec.limit_micros - training_reserve(spec))
    budgets = [budget_usd * share for share in BUDGET_SHARES]
    comparisons, turning_points = compare_budgets(
        scores, prices.costs, budgets, n_labels_owned=n_labels, n_unlabelled=n_unlabelled
    )
    at_budget = partial(compare_strategies, scores, prices.costs, n_labels_owned=n_labels, n_unlabelled=n_unlabelled)
    usd_per_label = prices.costs.usd_per_label
    nearest = min(comparisons, key=lambda each: abs(each.budget_usd - budget_usd))
    return OptionComparison(
        basis=basis,
        budget_usd=budget_usd,
        n_labels=n_labels,
        owned_usd=None if usd_per_label is None else usd_per_label * n_labels,
        comparisons=comparisons,
        turning_points=turning_points,
        unpriced=prices.unpriced,
        imitation=_summarise_imitation(scores, nearest),
        cached=prices.cached,
        next_student_usd=prices.student_usd * (n_labels + n_unlabelled),
        cost_to_match=_cost_to_match(at_budget, comparisons[-1]) if comparisons else None,
    )


def _summarise_imitation(
    scores: PriorScores | PilotScores, comparison: BudgetComparison
) -> tuple[ImitationSummary, ...]:
    """Teacher accuracy -> student accuracy, for each strategy with a teacher, at the texts it would train on."""
    large: Strategy = "distil" if comparison.get("mix") is None else _first(comparison, ("distil", "mix"))
    strategies: tuple[Strategy, ...] = (large, "llm")
    summaries = (_imitation(scores, comparison, strategy) for strategy in strategies)
    return tuple(summary for summary in summaries if summary is not None)


def _first(comparison: BudgetComparison, strategies: tuple[Strategy, ...]) -> Strategy:
    """The better of these strategies."""
    return next(each.strategy for each in comparison.strategies if each.strategy in strategies)


def _imitation(
    scores: PriorScores | PilotScores, comparison: BudgetComparison, strategy: Strategy
) -> ImitationSummary | None:
    estimate = comparison.get(strategy)
    if estimate is None or estimate.allocation.texts < 1:
        return None
    n_labels, n_texts = estimate.allocation.labels, estimate.allocation.texts
    through_llm = strategy == "llm"
    curve = scores.llm_curve if through_llm else scores.distillation_curve
    accuracies = scores.llm_accuracy if through_llm else scores.large_accuracy(n_labels)
    low, middle, high = (float(value) for value in np.quantile(accuracies, (0.1, 0.5, 0.9)))
    student_scores = {
        accuracy: float(np.median(curve.student_accuracy(accuracy, n_texts, n_labels)))
        for accuracy in TEACHER_ACCURACIES
        if accuracy > curve.chance
    }
    return ImitationSummary(strategy, n_texts, middle, low, high, student_scores, curve.source)


def _cost_to_match(at_budget: partial[BudgetComparison], largest: BudgetComparison) -> CostToMatch | None:
    """The least budget with which the best strategy is expected to reach what labels alone reach with the largest."""
    labels_only = largest.get("annotate")
    if labels_only is None or largest.best.strategy == labels_only.strategy:
        return None
    low, high, found = 0.0, largest.budget_usd, largest
    for _ in range(BISECTION_STEPS):
        middle = (low + high) / 2
        comparison = at_budget(middle)
        if comparison.strategies and comparison.best.score.value >= labels_only.score.value:
            high, found = middle, comparison
        else:
            low = middle
    return CostToMatch(labels_only.score.value, largest.budget_usd, high, found.best.strategy)
