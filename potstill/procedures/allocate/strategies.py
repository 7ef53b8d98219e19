"""Distill or annotate: what each way to spend a budget can be expected to bring, and which is best.

The question of Kang et al. 2023 ("Distill or Annotate?"): money can buy human labels, or compute in which a large model
is taught the labels there are and a small one is taught by it, or answers of a language model, or a mix. `weigh` sets
them side by side for one budget; `flips` finds the budgets at which another becomes the best.

Works on draws: every quantity is an array of equally likely values, so that the doubt in the curves and in the prices
reaches the verdict. Where the draws come from is an `Outlook` (`outlooks.py`). Spends
nothing and measures nothing.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from potstill.procedures.allocate.learning_curves import N_DRAWS, Estimate

Floats = NDArray[np.float64]
Strategy = Literal["annotate", "distil", "mix", "llm", "pgkd"]
LABEL_SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)  # of the budget that a mix gives to labels
SURE_WIN_SHARE = 0.9  # the share of draws that makes a verdict sure


@dataclass(frozen=True)
class UnitCosts:
    """What things cost here, in US dollars. Where a figure is itself in doubt it is a (DRAWS,) array.

    Attributes:
        label: a human label; None where nobody labels.
        teacher: teaching the large model, as a function of the number of labels; None where there is none.
        distilled: a text labelled by that teacher and learnt by the student.
        answer: a language model's answer about a text, learnt by the student; None where there is none.
        answered: answers of it that are there already.
        written: a text that a language model writes to a brief, learnt by the student; None likewise.
        writes: so many texts it is asked to write at most.
        student: teaching the student once, as a function of the number of labels.
    """

    usd_per_label: float | None = None
    teacher_training: Callable[[float], float | Floats] | None = None
    usd_per_distilled: float | Floats = 0.0
    usd_per_answer: float | None = None
    n_answered: int = 0
    usd_per_generated: float | None = None
    max_generated: float = np.inf
    student_training: Callable[[float], float] = field(default=lambda n: 0.0)


class ScoreModel(Protocol):
    """What is expected of the student, as (DRAWS,) scores in [0, 1]."""

    def after_labels(self, labels: float) -> Floats:
        """After learning so many human labels."""

    def after_distillation(self, labels: float, texts: Floats) -> Floats:
        """After learning from a large model that learnt `labels`; (DRAWS,) `texts` is how many it is taught on."""

    def after_answers(self, texts: float) -> Floats | None:
        """After learning a language model's answers about so many texts; None where nothing is known."""

    def after_generation(self, texts: float) -> Floats | None:
        """After so many texts written to its needs; None where nothing is known."""


@dataclass(frozen=True)
class Allocation:
    """One way to spend: so many labels in all, so many texts for the teacher, and what each part costs.

    `free_usd` is what may go into compute; where the texts end before the money does, `compute_usd` is less.
    """

    strategy: Strategy
    labels: int
    texts: int
    labels_usd: float
    compute_usd: float
    llm_usd: float
    compute_limit_usd: float = 0.0

    @property
    def usd(self) -> float:
        """All of it."""
        return self.labels_usd + self.compute_usd + self.llm_usd


@dataclass(frozen=True)
class StrategyEstimate:
    """What one way is expected to bring: its best split, its score, and how likely it is the best of all ways."""

    strategy: Strategy
    allocation: Allocation
    score: Estimate
    win_probability: float
    draws: Floats = field(repr=False, compare=False)


@dataclass(frozen=True)
class BudgetComparison:
    """All ways for one budget, the most promising first. `sure` if it is the best in nine draws of ten."""

    budget_usd: float
    strategies: tuple[StrategyEstimate, ...]

    @property
    def best(self) -> StrategyEstimate:
        """The way with the highest expected score."""
        return self.strategies[0]

    @property
    def sure(self) -> bool:
        """Whether the best way is the best in `SURE` of the draws, or the only one."""
        return bool(self.strategies) and self.best.win_probability >= SURE_WIN_SHARE

    def exclude_unmeasured(self, ways: Sequence[Strategy], measured: bool) -> tuple[StrategyEstimate, ...]:
        """All ways less those of `ways`, if nobody measured them here and they are not sure to be better.

        A prior is reason enough to measure a way, but not to spend the money on it.
        """
        if measured or sum(each.win_probability for each in self.strategies if each.strategy in ways) >= SURE_WIN_SHARE:
            return self.strategies
        others = tuple(each for each in self.strategies if each.strategy not in ways)
        return others or self.strategies

    def get(self, way: Strategy) -> StrategyEstimate | None:
        """The figures of one way; None where it cannot be afforded or is not known."""
        return next((each for each in self.strategies if each.strategy == way), None)


def compare_strategies(
    outlook: ScoreModel,
    costs: UnitCosts,
    budget_usd: float,
    *,
    n_labels_owned: int,
    n_unlabelled: float,
    strategies: Sequence[Strategy] | None = None,
) -> BudgetComparison:
    """Every way to spend one budget.

    Args:
        outlook: what is expected of the student.
        costs: what things cost.
        budget_usd: all that may be spent from now on.
        owned: labels that are already paid for.
        pool: unlabelled texts there are.
        ways: those to consider; None considers all that have a price.
    """
    found: list[StrategyEstimate] = []
    for way in strategies or ("annotate", "distil", "mix", "llm", "pgkd"):
        options = [
            _expected(outlook, costs, each, n_unlabelled)
            for each in _splits(way, costs, budget_usd, n_labels_owned, n_unlabelled)
        ]
        known = [(split, draws) for split, draws in options if draws is not None]
        if known:
            split, draws = max(known, key=lambda pair: float(np.median(pair[1])))
            found.append(StrategyEstimate(way, split, _expect(draws), 0.0, draws))
    if not found:
        return BudgetComparison(budget_usd, ())
    table = np.stack([each.draws for each in found])
    # The best way need not be one: equal draws are shared among the equals.
    top = table >= table.max(axis=0) - 1e-12
    wins = (top / top.sum(axis=0)).mean(axis=1)
    ranked = [
        StrategyEstimate(each.strategy, each.allocation, each.score, float(won), each.draws)
        for each, won in zip(found, wins, strict=True)
    ]
    return BudgetComparison(
        budget_usd, tuple(sorted(ranked, key=lambda each: (-each.score.value, each.allocation.labels_usd)))
    )


def compare_budgets(
    outlook: ScoreModel, costs: UnitCosts, budgets: Sequence[float], *, n_labels_owned: int, n_unlabelled: float
) -> tuple[tuple[BudgetComparison, ...], tuple[float, ...]]:
    """The verdicts of rising budgets, and the budgets at which the best way is another than just below."""
    verdicts = tuple(
        compare_strategies(outlook, costs, budget, n_labels_owned=n_labels_owned, n_unlabelled=n_unlabelled)
        for budget in sorted(budgets)
    )
    there = [verdict for verdict in verdicts if verdict.strategies]
    turns = tuple(
        above.budget_usd for below, above in itertools.pairwise(there) if below.best.strategy != above.best.strategy
    )
    return verdicts, turns


@dataclass(frozen=True)
class InformationValue:
    """What it is worth to measure a way before money is spent, both in score: `gains` by choosing better, `costs`."""

    gain: float
    cost: float

    @property
    def is_worth_it(self) -> bool:
        """Whether it gains more than it costs."""
        return self.gain > self.cost


def value_of_information(
    compare: Callable[[float], BudgetComparison],
    budget_usd: float,
    price_usd: float,
    ways: Sequence[Strategy],
    noise: float,
) -> InformationValue:
    """Whether a measurement of some ways is worth its price: the expected value of sample information.

    It is worth something only where it can turn the choice (Raiffa and Schlaifer 1961; normal approximation): what
    these ways are expected to be better than the others by is in doubt by s, and the measurement tells it up to its
    noise. What it costs is what the best way brings less with less money.

    Args:
        asked: the verdict for a budget.
        budget_usd: all there is. price_usd: of the measurement.
        ways: those that it is about.
        noise: standard deviation of what it measures, as a score.
    """
    now = compare(budget_usd)
    there = [each for each in now.strategies if each.strategy in ways]
    others = [each for each in now.strategies if each.strategy not in ways]
    if not now.strategies or price_usd >= budget_usd:
        return InformationValue(0.0, 1.0)
    less = compare(budget_usd - price_usd)
    costs = max(now.best.score.value - less.best.score.value, 0.0) if less.strategies else 1.0
    if not there or not others:
        return InformationValue(0.0, costs)
    ahead = there[0].draws - others[0].draws
    doubt, mean = float(ahead.std()), abs(float(ahead.mean()))
    told = doubt**2 / max(float(np.hypot(doubt, noise)), 1e-9)
    if told < 1e-9:
        return InformationValue(0.0, costs)
    z = mean / told
    gains = told * (math.exp(-z * z / 2) / math.sqrt(2 * math.pi) - z * math.erfc(z / math.sqrt(2)) / 2)
    return InformationValue(max(gains, 0.0), costs)


@dataclass(frozen=True)
class ExpectedLead:
    """By how much some ways are expected to be better than the others, as a score: mean and standard deviation."""

    mean: float = 0.0
    spread: float = math.inf

    def posterior_mean(self, seen: float, error: float) -> float:
        """The mean after a difference of `seen` was measured with this standard error (normal prior, normal errors)."""
        if not math.isfinite(self.spread):
            return seen
        prior, measured = max(self.spread, 1e-9) ** -2, max(error, 1e-9) ** -2
        return (self.mean * prior + seen * measured) / (prior + measured)


def expected_lead(
    verdict: BudgetComparison, ways: Sequence[Strategy], others: Sequence[Strategy] = ("annotate",)
) -> ExpectedLead:
    """How far the best of `ways` is expected to be ahead of the best of the others; unknown if either is absent."""
    mine = next((each for each in verdict.strategies if each.strategy in ways), None)
    theirs = next((each for each in verdict.strategies if each.strategy in others), None)
    if mine is None or theirs is None:
        return ExpectedLead()
    apart = mine.draws - theirs.draws
    return ExpectedLead(float(apart.mean()), float(apart.std()))


def _splits(way: Strategy, costs: UnitCosts, budget: float, owned: int, pool: float) -> list[Allocation]:
    if way == "annotate" and costs.usd_per_label is not None:
        return [_labelled("annotate", costs, budget, budget, owned, pool)]
    if way == "distil" and costs.teacher_training is not None:
        return [_labelled("distil", costs, 0.0, budget, owned, pool)]
    if way == "mix" and costs.usd_per_label is not None and costs.teacher_training is not None:
        return [_labelled("mix", costs, budget * share, budget, owned, pool) for share in LABEL_SHARES]
    if way == "llm" and costs.usd_per_answer:
        spare = max(0.0, budget - costs.student_training(owned))
        n = min(pool, costs.n_answered + spare / costs.usd_per_answer)
        return [
            Allocation("llm", owned, int(n), 0.0, budget - spare, max(n - costs.n_answered, 0.0) * costs.usd_per_answer)
        ]
    if way == "pgkd" and costs.usd_per_generated:
        spare = max(0.0, budget - costs.student_training(owned))
        n = min(costs.max_generated, spare / costs.usd_per_generated)
        return [Allocation("pgkd", owned, int(n), 0.0, budget - spare, n * costs.usd_per_generated)]
    return []


def _labelled(way: Strategy, costs: UnitCosts, for_labels: float, budget: float, owned: int, pool: float) -> Allocation:
    """So much for labels, the rest (if this way distils) for the teacher and the texts it is asked about."""
    labels = owned
    if costs.usd_per_label is not None and for_labels > 0:
        spare = max(0.0, for_labels - (costs.student_training(owned) if way == "annotate" else 0.0))
        labels += int(spare / costs.usd_per_label)
    spent = (labels - owned) * (costs.usd_per_label or 0.0)
    if way == "annotate":
        return Allocation(way, labels, 0, spent, costs.student_training(labels), 0.0)
    free = budget - spent
    texts = int(np.median(_texts(costs, labels, free, pool)))
    assert costs.teacher_training is not None
    teaching = float(np.median(costs.teacher_training(labels))) + costs.student_training(labels)
    return Allocation(
        way, labels, texts, spent, min(free, teaching + texts * float(np.median(costs.usd_per_distilled))), 0.0, free
    )


def _texts(costs: UnitCosts, labels: float, money: float, pool: float) -> Floats:
    """(DRAWS,) how many texts are left to be distilled after the teacher is taught."""
    assert costs.teacher_training is not None
    spare = np.maximum(money - costs.teacher_training(labels) - costs.student_training(labels), 0.0)
    return np.broadcast_to(np.minimum(spare / np.maximum(costs.usd_per_distilled, 1e-12), pool), (N_DRAWS,))


def _expected(
    outlook: ScoreModel, costs: UnitCosts, split: Allocation, pool: float
) -> tuple[Allocation, Floats | None]:
    if split.strategy == "annotate":
        return split, outlook.after_labels(split.labels)
    if split.strategy == "llm":
        return split, outlook.after_answers(split.texts)
    if split.strategy == "pgkd":
        return split, outlook.after_generation(split.texts)
    return split, outlook.after_distillation(split.labels, _texts(costs, split.labels, split.compute_limit_usd, pool))


def _expect(draws: Floats) -> Estimate:
    low, middle, high = np.quantile(draws, (0.1, 0.5, 0.9))
    return Estimate(float(middle), float(low), float(high))
