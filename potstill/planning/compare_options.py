"""An order becomes prospects: priced, measured if that is wished, weighed for the budget and around it."""

from __future__ import annotations

from functools import partial

import numpy as np

from potstill.ledger.prices import to_usd
from potstill.planning.measured import measure_student
from potstill.planning.option_prices import Priced, price_ways
from potstill.planning.records import Copied, Prospects, Reach
from potstill.procedures.allocate.expected_scores import Experience, Piloted
from potstill.procedures.allocate.strategies import Verdict, Way, flips, weigh
from potstill.run.inputs import Order
from potstill.run.run import training_reserve

BUDGETS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)  # shares of the budget that the chart shows
ACCURACIES = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)  # of teachers, for the curve that is shown
HALVINGS = 12


def make_prospects(order: Order, *, measure: bool = False) -> Prospects:
    """Weigh every way that has a price, for the order's budget and for parts and multiples of it.

    Raises:
        BadData: `measure`, and too few labels.
    """
    spec, pool, task = order.spec, order.pool, order.task
    owned, texts = len(pool.part("train")), float(len(pool.part("pool")))
    priced = price_ways(order)
    outlook: Experience | Piloted
    if measure:
        outlook, basis = measure_student(order, with_large=priced.costs.teacher is not None)
    else:
        outlook = Experience(task.n_labels, owned=owned, seed=spec.seed)
        basis = "Prior: experience with other data sets, not yours; --measure tries it on the labels there are."
    budget = to_usd(spec.limit_micros - training_reserve(spec))
    verdicts, turns = flips(outlook, priced.costs, [budget * share for share in BUDGETS], owned=owned, pool=texts)
    asked = partial(weigh, outlook, priced.costs, owned=owned, pool=texts)
    return Prospects(
        basis=basis,
        budget_usd=budget,
        owned=owned,
        owned_usd=None if priced.costs.label is None else priced.costs.label * owned,
        verdicts=verdicts,
        turns=turns,
        missing=priced.missing,
        copied=_copied(outlook, min(verdicts, key=lambda each: abs(each.budget_usd - budget))),
        had=priced.had,
        again_usd=_again(priced, owned, texts),
        reach=_reach(asked, verdicts[-1]) if verdicts else None,
    )


def _copied(outlook: Experience | Piloted, verdict: Verdict) -> tuple[Copied, ...]:
    """Teacher accuracy -> student accuracy, for each way through a teacher, at the texts it would be taught on."""
    rows = []
    large: Way = next((each.way for each in verdict.ways if each.way in ("distil", "mix")), "distil")
    ways: tuple[Way, ...] = (large, "llm")
    for way in ways:
        curve = outlook.asking if way == "llm" else outlook.distilling
        found = next((each for each in verdict.ways if each.way == way), None)
        if found is None or found.split.texts < 1:
            continue
        said = outlook.llm if way == "llm" else outlook.large(found.split.labels)
        scores = {
            each: float(np.median(curve.student(each, found.split.texts, found.split.labels)))
            for each in ACCURACIES
            if each > curve.chance
        }
        low, middle, high = np.quantile(said, (0.1, 0.5, 0.9))
        expected = (float(middle), float(low), float(high))
        rows.append(Copied(way, found.split.texts, *expected, scores, curve.source))
    return tuple(rows)


def _again(priced: Priced, owned: int, pool: float) -> float:
    """What another student of the same labels and answers would cost: all but its own training is there."""
    return priced.student_usd * (owned + pool)


def _reach(asked: partial[Verdict], largest: Verdict) -> Reach | None:
    """The least money with which the best way is expected to be where labels alone are with the largest budget."""
    alone = largest.of("annotate")
    if alone is None or largest.best.way == "annotate":
        return None
    low, high, found = 0.0, largest.budget_usd, largest
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        tried = asked(middle)
        if tried.ways and tried.best.score.value >= alone.score.value:
            high, found = middle, tried
        else:
            low = middle
    return Reach(alone.score.value, largest.budget_usd, high, found.best.way)
