"""The decisions of `allocate`: buy human labels, buy a language model's answers, generate texts, or stop.

A decision is stored in the run together with the estimates it rests on. A run that is started again, for example after
it waited for annotators, reads the stored decisions and so repeats them. `potstill show RUN` prints them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Annotated, Any, Literal, Self

from pydantic import Field, TypeAdapter

from potstill.data.task import JsonObject
from potstill.procedures.allocate.learning_curves import CurvePoint, Estimate
from potstill.procedures.allocate.pilot import DISTILLATION_STRATEGIES, PilotFindings
from potstill.procedures.allocate.strategies import Allocation, ExpectedLead, Strategy
from potstill.run.notes import NoteRecord

MIN_WIN_PROBABILITY = 0.1  # distillation is tried at the end if it won in at least this share of the draws


@dataclass(frozen=True)
class StrategySummary:
    """A strategy as it was compared: its expected score, how it splits the budget, and how often it won the draws."""

    strategy: Strategy
    win_probability: float
    score: Estimate
    allocation: Allocation


@dataclass(frozen=True)
class CurveSources:
    """What each expectation rests on, in words: "prior", or what was measured. Empty if the strategy has no price."""

    distillation: str = ""
    llm: str = ""
    generation: str = ""


@dataclass(frozen=True)
class DecisionBasis:
    """The measurements and estimates behind a decision.

    Attributes:
        free_usd: money left beside the training reserve.
        score: validation accuracy of the student trained on all labels.
        is_sure: whether the best strategy won in nine of ten draws.
        curve: the pilot's learning curve.
        findings: what the pilots have measured so far; the next pilot starts from it.
        n_sampled: how many of the unlabelled texts, from the first on, the pilot asked the language model about.
        sources: what the expectations rest on.
        leads: candidate name of `model_selection` -> its expected lead over training on the labels only.
        strategies: all strategies that were compared, the best first.
    """

    free_usd: float
    score: float
    is_sure: bool
    curve: tuple[CurvePoint, ...]
    findings: PilotFindings
    n_sampled: int
    sources: CurveSources = CurveSources()
    leads: Mapping[str, ExpectedLead] = field(default_factory=dict)
    strategies: tuple[StrategySummary, ...] = ()

    @property
    def distillation_may_win(self) -> bool:
        """Whether a large teacher won often enough to be worth training at the end."""
        wins = sum(each.win_probability for each in self.strategies if each.strategy in DISTILLATION_STRATEGIES)
        return wins >= MIN_WIN_PROBABILITY


@dataclass(frozen=True, kw_only=True)
class Decision(NoteRecord):
    """The base of the four decisions.

    Attributes:
        reason: why, in words.
        basis: the estimates it rests on.
    """

    name = "decision"
    reason: str
    basis: DecisionBasis

    @classmethod
    def from_json(cls, record: JsonObject) -> Self:
        """The decision that `to_json` wrote: the one of the four that "action" names."""
        found: Self = _reader().validate_python(record)
        return found


@dataclass(frozen=True, kw_only=True)
class BuyLabels(Decision):
    """Buy human labels of `rows` of the unlabelled texts; after the last purchase there is nothing left to compare."""

    action: Literal["buy_labels"] = "buy_labels"
    rows: tuple[int, ...]
    is_last: bool


@dataclass(frozen=True, kw_only=True)
class BuyAnswers(Decision):
    """Buy the language model's answers about more unlabelled texts, until it was asked about `n_texts` in all."""

    action: Literal["buy_answers"] = "buy_answers"
    n_texts: int


@dataclass(frozen=True, kw_only=True)
class GenerateTexts(Decision):
    """Run one round of PGKD, from which `points_per_usd` accuracy points a dollar are expected."""

    action: Literal["generate_texts"] = "generate_texts"
    points_per_usd: float


@dataclass(frozen=True, kw_only=True)
class Stop(Decision):
    """Buy nothing more."""

    action: Literal["stop"] = "stop"


@cache
def _reader() -> TypeAdapter[Any]:
    return TypeAdapter(Annotated[BuyLabels | BuyAnswers | GenerateTexts | Stop, Field(discriminator="action")])
