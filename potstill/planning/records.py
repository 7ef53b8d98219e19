"""The comparison of strategies as records: on a terminal, as JSON, and as a page with a chart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from potstill.procedures.allocate.strategies import BudgetComparison, Strategy, StrategyEstimate
from potstill.reports import charts
from potstill.reports.environment import jinja_environment
from potstill.run import CachedAnswers

FORMAT = 2
STRATEGY_TITLES: dict[Strategy, str] = {
    "annotate": "labels by people only",
    "distil": "the existing labels train a large model, which teaches the student",
    "mix": "more labels, then the same through a large model",
    "llm": "answers of the language model",
    "pgkd": "texts the language model writes",
}


@dataclass(frozen=True)
class ImitationSummary:
    """Expected accuracy of a student, for each accuracy of its teacher.

    Attributes:
        strategy: the strategy that trains on this teacher's labels.
        texts: how many texts the student trains on.
        accuracy, low, high: of the teacher, with its 80 % interval.
        scores: accuracy of the teacher -> median accuracy of the student.
        source: "prior", or what it was measured on.
    """

    strategy: Strategy
    texts: int
    accuracy: float
    low: float
    high: float
    scores: Mapping[float, float]
    source: str

    def sentence(self) -> str:
        """The summary for a terminal."""
        students = ", ".join(f"{accuracy:.0%} {100 * score:.0f}" for accuracy, score in self.scores.items())
        return (
            f"{self.strategy}: a teacher right in 50–95 % makes, with {self.texts:,} texts, students of: {students}. "
            f"Expected of this one: {100 * self.accuracy:.0f} ({100 * self.low:.0f}–{100 * self.high:.0f}). "
            f"{self.source[0].upper()}{self.source[1:]}."
        )


@dataclass(frozen=True)
class CostToMatch:
    """The least budget that reaches the score which labels alone reach with the largest budget.

    Attributes:
        score: what labels alone are expected to reach with `labels_only_usd`.
        labels_only_usd: the largest budget that was compared.
        usd: the budget with which `strategy` reaches the same.
        strategy: the best strategy at that budget.
    """

    score: float
    labels_only_usd: float
    usd: float
    strategy: Strategy

    def sentence(self) -> str:
        """The record for a terminal."""
        ratio = self.labels_only_usd / max(self.usd, 1e-9)
        return (
            f"What labels alone are expected to reach with ${self.labels_only_usd:,.2f} ({100 * self.score:.1f} %), "
            f"{self.strategy} reaches with ${self.usd:,.2f}: {ratio:.1f} times less."
        )


@dataclass(frozen=True)
class StrategyRow:
    """One strategy at one budget, as it is printed and stored.

    Attributes:
        strategy, title: its name, and what it is in words.
        score, low, high: expected score with its 80 % interval.
        win_probability: share of the draws in which it is the best.
        labels, texts: human labels in all, and texts a teacher labels, answers or generates.
        labels_usd, compute_usd, llm_usd, usd: what it spends, in parts and in all.
        all_in_usd: with the price of the labels that are already there.
    """

    strategy: Strategy
    title: str
    score: float
    low: float
    high: float
    win_probability: float
    labels: int
    texts: int
    labels_usd: float
    compute_usd: float
    llm_usd: float
    usd: float
    all_in_usd: float

    @classmethod
    def of(cls, estimate: StrategyEstimate, owned_usd: float) -> StrategyRow:
        """The row of an estimate; `owned_usd` is what the existing labels would cost today."""
        allocation, score = estimate.allocation, estimate.score
        return cls(
            strategy=estimate.strategy,
            title=STRATEGY_TITLES[estimate.strategy],
            score=score.value,
            low=score.low,
            high=score.high,
            win_probability=estimate.win_probability,
            labels=allocation.labels,
            texts=allocation.texts,
            labels_usd=allocation.labels_usd,
            compute_usd=allocation.compute_usd,
            llm_usd=allocation.llm_usd,
            usd=allocation.usd,
            all_in_usd=allocation.usd + owned_usd,
        )


@dataclass(frozen=True)
class OptionComparison:
    """What each strategy is expected to reach, at the budget and around it.

    Attributes:
        basis: "Measured" or "Prior", and on what, in words.
        budget_usd: the budget that was asked for, less what is left for training.
        n_labels: existing labels.
        owned_usd: what they would cost today; None if labels have no price.
        comparisons: by rising budget.
        turning_points: budgets at which another strategy becomes the best.
        unpriced: strategies that cannot be compared, each with what is missing.
        imitation: one for each strategy that has a teacher.
        cached: answers of the language model that other runs bought.
        next_student_usd: training another student on the same rows, at most; their labels and answers are paid for.
        cost_to_match: None if no strategy reaches what labels alone reach with the largest budget.
    """

    basis: str
    budget_usd: float
    n_labels: int
    owned_usd: float | None
    comparisons: tuple[BudgetComparison, ...]
    turning_points: tuple[float, ...]
    unpriced: tuple[str, ...] = ()
    imitation: tuple[ImitationSummary, ...] = ()
    cached: CachedAnswers | None = None
    next_student_usd: float = 0.0
    cost_to_match: CostToMatch | None = None

    def page(self) -> str:
        """The chart and the tables as one self-contained HTML file."""
        template = jinja_environment().get_template("option_comparison.html.j2")
        return template.render(comparison=self, chart=self.chart())

    @property
    def at_budget(self) -> BudgetComparison:
        """The comparison at the budget that was asked for."""
        return min(self.comparisons, key=lambda each: abs(each.budget_usd - self.budget_usd))

    def rows(self, comparison: BudgetComparison) -> list[StrategyRow]:
        """The strategies of one budget, the best first."""
        return [StrategyRow.of(estimate, self.owned_usd or 0.0) for estimate in comparison.strategies]

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary."""
        return {
            "format": FORMAT,
            "basis": self.basis,
            "budget_usd": self.budget_usd,
            "n_labels": self.n_labels,
            "owned_usd": self.owned_usd,
            "turning_points": list(self.turning_points),
            "unpriced": list(self.unpriced),
            "imitation": [
                {**asdict(each), "scores": {f"{at:g}": score for at, score in each.scores.items()}}
                for each in self.imitation
            ],
            "cached": None if self.cached is None else asdict(self.cached),
            "next_student_usd": self.next_student_usd,
            "cost_to_match": None if self.cost_to_match is None else asdict(self.cost_to_match),
            "comparisons": [
                {
                    "budget_usd": each.budget_usd,
                    "sure": each.sure,
                    "strategies": [asdict(row) for row in self.rows(each)],
                }
                for each in self.comparisons
            ],
        }

    def to_text(self) -> str:
        """A table for a terminal."""
        lines = [f"Distill or annotate? {self.basis}", "", *self._table(self.at_budget)]
        lines += ["", *_best_strip(self.comparisons), *self._turning()]
        lines += [f"  {sentence}" for sentence in self.paid_notes]
        lines += ["", *(f"  {each.sentence()}" for each in self.imitation)] if self.imitation else []
        lines += [f"  Not compared: {sentence}" for sentence in self.unpriced]
        return "\n".join(lines)

    def _table(self, comparison: BudgetComparison) -> list[str]:
        if not comparison.strategies:
            return []
        budget = f"with ${comparison.budget_usd:,.2f}"
        lines = [f"  {budget:<13}    accuracy  best in    labels    texts     spends     all in"]
        for row in self.rows(comparison):
            score = f"{100 * row.score:5.1f} ({100 * row.low:.0f}–{100 * row.high:.0f})"
            counts = f"{row.labels:>8,} {row.texts:>8,} {f'${row.usd:,.2f}':>10} {f'${row.all_in_usd:,.2f}':>10}"
            lines.append(f"  {row.strategy:<10} {score:>15}  {row.win_probability:>6.0%}  {counts}")
        if not comparison.sure:
            lines.append("  Too close to call: no strategy is the best in nine draws of ten.")
        return lines

    @property
    def best_by_budget(self) -> str:
        """Which strategy is the best from which budget on, in words."""
        phrases: list[str] = []
        before = ""
        for comparison in self.comparisons:
            if comparison.strategies and comparison.best.strategy != before:
                before = comparison.best.strategy
                phrases.append(f"{before} {'from' if phrases else 'with'} {_short_usd(comparison.budget_usd)}")
        return ", ".join(phrases)

    @property
    def paid_notes(self) -> tuple[str, ...]:
        """What is already paid for, what can be used again, and how far the money reaches: sentences."""
        notes = []
        if self.owned_usd:
            notes.append(
                f"The {self.n_labels:,} existing labels count as paid; "
                f"bought today they are ${self.owned_usd:,.2f} more (all in)."
            )
        if self.cached is not None and self.cached.n_cached:
            notes.append(self.cached.sentence())
        if self.comparisons and self.at_budget.strategies:
            notes.append(
                "Labels, answers and a trained teacher are stored: another student of the same texts costs "
                f"${self.next_student_usd:,.4f} at most."
            )
        if self.cost_to_match is not None:
            notes.append(self.cost_to_match.sentence())
        return tuple(notes)

    def _turning(self) -> list[str]:
        budgets = ", ".join(f"${budget:,.2f}" for budget in self.turning_points)
        return [f"  The answer turns at about {budgets}."] if budgets else []

    def chart(self) -> str:
        """Budget on x (doubling), the best strategy's expected score on y, as inline SVG."""
        shown = [each for each in self.comparisons if each.strategies]
        if len(shown) < 2:
            return ""
        places = [float(x) for x in np.linspace(0, 1, len(shown))]
        dots = [
            charts.Dot(x, each.best.score.value, each.best.score.low, each.best.score.high)
            for x, each in zip(places, shown, strict=True)
        ]
        axis = [charts.Tick(x, _short_usd(each.budget_usd)) for x, each in zip(places, shown, strict=True)]
        at = shown.index(self.at_budget) if self.at_budget in shown else 0
        title = "The best strategy and its score"
        return charts.line_chart(dots, key="options", title=title, axis=axis, highlight=dots[at])


def _short_usd(usd: float) -> str:
    """A sum short enough that six fit side by side on a phone."""
    return f"${usd:,.0f}" if usd >= 10 else f"${usd:.2g}"


def _best_strip(comparisons: Sequence[BudgetComparison]) -> list[str]:
    """Budgets, and below each the best strategy and its score."""
    shown = [each for each in comparisons if each.strategies]
    if not shown:
        return []
    width = max(11, *(len(f"${each.budget_usd:,.2f}") + 2 for each in shown))
    columns = [
        (
            f"${each.budget_usd:,.2f}",
            each.best.strategy + ("" if each.sure else "?"),
            f"{100 * each.best.score.value:.1f} %",
        )
        for each in shown
    ]
    names = ("budget", "best", "accuracy")
    return [f"  {name:<11}" + "".join(f"{column[i]:>{width}}" for column in columns) for i, name in enumerate(names)]
