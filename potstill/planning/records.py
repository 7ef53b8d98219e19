"""What was weighed, told: on a terminal, as JSON, and as a page with its chart. Decides and measures nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from potstill.procedures.allocate.strategies import BudgetComparison, Strategy, StrategyEstimate
from potstill.reports import charts
from potstill.reports.environment import jinja_environment
from potstill.run import CachedAnswers

STRATEGY_TITLES: dict[Strategy, str] = {
    "annotate": "labels by people only",
    "distil": "the labels there are teach a large model, that teaches the student",
    "mix": "more labels, then the same through a large model",
    "llm": "answers of the language model",
    "pgkd": "texts the language model writes",
}


@dataclass(frozen=True)
class ImitationSummary:
    """What a student has of its teacher: its expected accuracy for each of the teacher's, and the teacher's expected.

    Attributes:
        way: that goes through this teacher. texts: that the student is taught on.
        accuracy, low, high: of the teacher, with its interval of 80 %.
        scores: accuracy of the teacher -> median accuracy of the student.
        source: "prior", or what it was measured on.
    """

    way: Strategy
    texts: int
    accuracy: float
    low: float
    high: float
    scores: Mapping[float, float]
    source: str

    def sentence(self) -> str:
        """One for a terminal."""
        said = ", ".join(f"{each:.0%} {100 * score:.0f}" for each, score in self.scores.items())
        return (
            f"{self.way}: a teacher right in 50–95 % makes, with {self.texts:,} texts, students of: {said}. "
            f"Expected of this one: {100 * self.accuracy:.0f} ({100 * self.low:.0f}–{100 * self.high:.0f}). "
            f"{self.source[0].upper()}{self.source[1:]}."
        )


@dataclass(frozen=True)
class CostToMatch:
    """The `score` that labels alone are expected to bring for `alone_usd`, and the least the best way needs for it."""

    score: float
    labels_only_usd: float
    usd: float
    way: Strategy

    def sentence(self) -> str:
        """One for a plan."""
        return (
            f"What labels alone are expected to reach with ${self.labels_only_usd:,.2f} ({100 * self.score:.1f} %), "
            f"{self.way} reaches with ${self.usd:,.2f}: {self.labels_only_usd / max(self.usd, 1e-9):.1f} times less."
        )


@dataclass(frozen=True)
class OptionComparison:
    """What each way is expected to bring, for the budget and around it.

    Attributes:
        basis: "measured" or "prior", and on what, in words.
        owned: labels there are. owned_usd: what they would cost today; None where labels have no price.
        verdicts: by rising budget; `budget_usd` is the one that was asked for.
        turns: budgets at which another way becomes the best.
        missing: ways that cannot be weighed, each with what is missing.
        copied: teacher accuracy -> student accuracy, for each way that has a teacher.
        had: answers of the language model that other runs bought.
        again_usd: teaching another student the same rows, at most: labels, answers and a taught teacher are there.
        reach: dollars to what labels alone reach with the largest budget; None where no way gets there.
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
        """The chart and the table as one self-contained HTML file."""
        return (
            jinja_environment()
            .get_template("prospects.html.j2")
            .render(told=self, words=STRATEGY_TITLES, chart=self.chart())
        )

    @property
    def at_budget(self) -> BudgetComparison:
        """The verdict for the budget that was asked for."""
        return min(self.comparisons, key=lambda verdict: abs(verdict.budget_usd - self.budget_usd))

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary."""
        return {
            "basis": self.basis,
            "owned": self.n_labels,
            "owned_usd": self.owned_usd,
            "turns": list(self.turning_points),
            "missing": list(self.unpriced),
            "copied": [
                {**asdict(each), "scores": {f"{at:g}": y for at, y in each.scores.items()}} for each in self.imitation
            ],
            "had": None if self.cached is None else asdict(self.cached),
            "again_usd": self.next_student_usd,
            "reach": None if self.cost_to_match is None else asdict(self.cost_to_match),
            "budgets": [
                {
                    "budget_usd": verdict.budget_usd,
                    "sure": verdict.sure,
                    "ways": [_plain(each, self.owned_usd or 0.0) for each in verdict.strategies],
                }
                for verdict in self.comparisons
            ],
        }

    def to_text(self) -> str:
        """A table for a terminal."""
        lines = [f"Distill or annotate? {self.basis}", ""]
        verdict = self.at_budget
        if verdict.strategies:
            head = f"  {f'with ${verdict.budget_usd:,.2f}':<13}"
            lines.append(f"{head}    accuracy  best in    labels    texts     spends     all in")
        for each in verdict.strategies:
            score = f"{100 * each.score.value:5.1f} ({100 * each.score.low:.0f}–{100 * each.score.high:.0f})"
            usd, all_in = each.allocation.usd, each.allocation.usd + (self.owned_usd or 0.0)
            counts = (
                f"{each.allocation.labels:>8,} {each.allocation.texts:>8,} {f'${usd:,.2f}':>10} {f'${all_in:,.2f}':>10}"
            )
            lines.append(f"  {each.strategy:<10} {score:>15}  {each.win_probability:>6.0%}  {counts}")
        if verdict.strategies and not verdict.sure:
            lines.append("  Too close to call: no way is the best in nine draws of ten.")
        lines += ["", *_strip(self.comparisons), *self._turning()]
        lines += [f"  {sentence}" for sentence in self.paid_notes]
        lines += ["", *(f"  {each.sentence()}" for each in self.imitation)] if self.imitation else []
        lines += [f"  Not weighed: {sentence}" for sentence in self.unpriced]
        return "\n".join(lines)

    @property
    def best_by_budget(self) -> str:
        """Which way is the best from which budget on, in words."""
        said: list[str] = []
        before = ""
        for verdict in self.comparisons:
            if verdict.strategies and verdict.best.strategy != before:
                before = verdict.best.strategy
                said.append(f"{before} {'from' if said else 'with'} {_short(verdict.budget_usd)}")
        return ", ".join(said)

    @property
    def paid_notes(self) -> tuple[str, ...]:
        """What is already paid for, what of a purchase can be used again, and how far the money reaches: sentences."""
        said = []
        if self.owned_usd:
            worth = f"bought today they are ${self.owned_usd:,.2f} more (all in)."
            said.append(f"The {self.n_labels:,} labels there are count as paid; {worth}")
        if self.cached is not None and self.cached.n_cached:
            said.append(self.cached.sentence())
        if self.comparisons and self.at_budget.strategies:
            kept = "Labels, answers and a taught teacher are kept: another student of the same texts costs"
            said.append(f"{kept} ${self.next_student_usd:,.4f} at most.")
        if self.cost_to_match is not None:
            said.append(self.cost_to_match.sentence())
        return tuple(said)

    def _turning(self) -> list[str]:
        if not self.turning_points:
            return []
        said = ", ".join(f"${turn:,.2f}" for turn in self.turning_points)
        return [f"  The answer turns at about {said}."]

    def chart(self) -> str:
        """Budget on x (doubling), the best way and its expected score on y, as inline SVG."""
        there = [verdict for verdict in self.comparisons if verdict.strategies]
        if len(there) < 2:
            return ""
        places = np.linspace(0, 1, len(there))
        dots = [
            charts.Dot(float(x), v.best.score.value, v.best.score.low, v.best.score.high)
            for x, v in zip(places, there, strict=True)
        ]
        axis = [charts.Tick(float(x), _short(v.budget_usd)) for x, v in zip(places, there, strict=True)]
        at = there.index(self.at_budget) if self.at_budget in there else 0
        return charts.line_chart(
            dots, key="prospects", title="The best way and its score", axis=axis, highlight=dots[at]
        )


def _short(usd: float) -> str:
    """A sum that six of fit side by side on a phone."""
    return f"${usd:,.0f}" if usd >= 10 else f"${usd:.2g}"


def _strip(verdicts: Sequence[BudgetComparison]) -> list[str]:
    there = [verdict for verdict in verdicts if verdict.strategies]
    if not there:
        return []
    width = max(11, *(len(f"${verdict.budget_usd:,.2f}") + 2 for verdict in there))
    return [
        "  budget     " + "".join(f"{f'${verdict.budget_usd:,.2f}':>{width}}" for verdict in there),
        "  best       "
        + "".join(f"{verdict.best.strategy + ('' if verdict.sure else '?'):>{width}}" for verdict in there),
        "  accuracy   " + "".join(f"{f'{100 * verdict.best.score.value:.1f} %':>{width}}" for verdict in there),
    ]


def _plain(each: StrategyEstimate, owned_usd: float) -> dict[str, Any]:
    split, score = each.allocation, each.score
    return {
        "way": each.strategy,
        "is": STRATEGY_TITLES[each.strategy],
        "score": score.value,
        "low": score.low,
        "high": score.high,
        "best": each.win_probability,
        "labels": split.labels,
        "texts": split.texts,
        "labels_usd": split.labels_usd,
        "compute_usd": split.compute_usd,
        "llm_usd": split.llm_usd,
        "usd": split.usd,
        "all_in_usd": split.usd + owned_usd,
    }
