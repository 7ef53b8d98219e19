"""An order becomes prospects: priced, measured if that is wished, weighed for the budget and around it."""

from __future__ import annotations

from functools import partial

import numpy as np

from potstill.ledger.prices import micros_to_usd
from potstill.planning.measure_curve import measure_learning_curve
from potstill.planning.option_prices import OptionPrices, estimate_prices
from potstill.planning.records import CostToMatch, ImitationSummary, OptionComparison
from potstill.procedures.allocate.expected_scores import PilotScores, PriorScores
from potstill.procedures.allocate.strategies import BudgetComparison, Strategy, compare_budgets, compare_strategies
from potstill.run.inputs import RunInputs
from potstill.run.run import training_reserve

BUDGET_SHARES = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)  # shares of the budget that the chart shows
TEACHER_ACCURACIES = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)  # of teachers, for the curve that is shown
BISECTION_STEPS = 12


def compare_options(order: RunInputs, *, measure: bool = False) -> OptionComparison:
    """Weigh every way that has a price, for the order's budget and for parts and multiples of it.

    Raises:
        BadData: `measure`, and too few labels.
    """
    spec, pool, task = order.spec, order.pool, order.task
    owned, texts = len(pool.subset("train")), float(len(pool.subset("pool")))
    priced = estimate_prices(order)
    outlook: PriorScores | PilotScores
    if measure:
        outlook, basis = measure_learning_curve(order, with_large=priced.costs.teacher_training is not None)
    else:
        outlook = PriorScores(task.n_labels, n_owned=owned, seed=spec.seed)
        basis = "Prior: experience with other data sets, not yours; --measure tries it on the labels there are."
    budget = micros_to_usd(spec.limit_micros - training_reserve(spec))
    verdicts, turns = compare_budgets(
        outlook, priced.costs, [budget * share for share in BUDGET_SHARES], n_labels_owned=owned, n_unlabelled=texts
    )
    asked = partial(compare_strategies, outlook, priced.costs, n_labels_owned=owned, n_unlabelled=texts)
    return OptionComparison(
        basis=basis,
        budget_usd=budget,
        n_labels=owned,
        owned_usd=None if priced.costs.usd_per_label is None else priced.costs.usd_per_label * owned,
        comparisons=verdicts,
        turning_points=turns,
        unpriced=priced.missing,
        imitation=_copied(outlook, min(verdicts, key=lambda each: abs(each.budget_usd - budget))),
        cached=priced.had,
        next_student_usd=_again(priced, owned, texts),
        cost_to_match=_reach(asked, verdicts[-1]) if verdicts else None,
    )


def _copied(outlook: PriorScores | PilotScores, verdict: BudgetComparison) -> tuple[ImitationSummary, ...]:
    """Teacher accuracy -> student accuracy, for each way through a teacher, at the texts it would be taught on."""
    rows = []
    large: Strategy = next(
        (each.strategy for each in verdict.strategies if each.strategy in ("distil", "mix")), "distil"
    )
    ways: tuple[Strategy, ...] = (large, "llm")
    for way in ways:
        curve = outlook.llm_curve if way == "llm" else outlook.distillation_curve
        found = next((each for each in verdict.strategies if each.strategy == way), None)
        if found is None or found.allocation.texts < 1:
            continue
        said = outlook.llm_accuracy if way == "llm" else outlook.large_accuracy(found.allocation.labels)
        scores = {
            each: float(np.median(curve.student_accuracy(each, found.allocation.texts, found.allocation.labels)))
            for each in TEACHER_ACCURACIES
            if each > curve.chance
        }
        low, middle, high = np.quantile(said, (0.1, 0.5, 0.9))
        expected = (float(middle), float(low), float(high))
        rows.append(ImitationSummary(way, found.allocation.texts, *expected, scores, curve.source))
    return tuple(rows)


def _again(priced: OptionPrices, owned: int, pool: float) -> float:
    """What another student of the same labels and answers would cost: all but its own training is there."""
    return priced.student_usd * (owned + pool)


def _reach(asked: partial[BudgetComparison], largest: BudgetComparison) -> CostToMatch | None:
    """The least money with which the best way is expected to be where labels alone are with the largest budget."""
    alone = largest.get("annotate")
    if alone is None or largest.best.strategy == "annotate":
        return None
    low, high, found = 0.0, largest.budget_usd, largest
    for _ in range(BISECTION_STEPS):
        middle = (low + high) / 2
        tried = asked(middle)
        if tried.strategies and tried.best.score.value >= alone.score.value:
            high, found = middle, tried
        else:
            low = middle
    return CostToMatch(alone.score.value, largest.budget_usd, high, found.best.strategy)
