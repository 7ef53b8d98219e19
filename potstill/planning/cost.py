"""What a recipe's purchases will cost: the record, and its page for a terminal."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from potstill.ledger.amounts import seconds_range, usd_range
from potstill.reports.text import usd

FORMAT = 2
NO_EGRESS = "No text leaves this machine."
NOT_REDACTED = "as they are (--redact takes addresses and numbers out)"
LABELLED_PRICED = (
    "all have a label, so these are priced; distill needs texts without one: --pool FILE, or --procedure finetune"
)


@dataclass(frozen=True)
class CostPlan:
    """What a recipe's purchases from a teacher cost, before one is made. `low` and `high` are at least and at most.

    Attributes:
        teacher: its name.
        price_source: where its price comes from, with the date or version of the list.
        n_texts: texts that the main purchase answers or generates.
        n_sampled: units for which prompts were built.
        low_usd, high_usd: what all purchases cost; 0 and the budget where `quoted` is false.
        max_call_usd: the most that is held for one call.
        limit_usd: the budget.
        reserve_usd: the part of it that is left for training.
        low_texts, high_texts: how many of the `n_texts` the budget buys.
        low_s, high_s: seconds the main purchase takes.
        time_basis: what the time rests on, in words.
        host: where texts are sent; empty if they stay on this machine or the teacher does not say.
        n_examples: gold examples that are sent along.
        redacted: whether addresses, numbers and the like are taken out first.
        simulated: whether the teacher only replays labels.
        generates: whether the teacher writes the `n_texts` instead of answering about them.
        extra_calls: what it is asked besides, in words; empty if nothing.
        cached: answers that other runs of this workspace bought, in words; empty if there are none.
        teacher_training: of a teacher that is trained first, what that takes, in words; else empty.
        teacher_training_usd: and what it costs.
        remote: whether the teacher sends texts away.
        quoted: whether the recipe says what it buys.
        asked: how the teacher is asked, in words; empty if it does not say.
        model_status: what the teacher's server says about its model, in words; empty if it was not asked.
        shutdown_date: the day the server announces for the model's end, as YYYY-MM-DD; empty if none is known.
        low_output_tokens, high_output_tokens: tokens that all purchases have written; 0 if they are not counted.
        model_ends: whether the server says that the model ends, or has ended.
        n_undescribed: labels without a description that the teacher could write; 0 if it is on this machine.
        low_description_usd, high_description_usd: what these descriptions cost, beside the budget.
        lacks_pool: whether the recipe needs unlabelled texts and has none, so that labelled ones are priced.
    """

    teacher: str
    price_source: str
    n_texts: int
    n_sampled: int
    low_usd: float
    high_usd: float
    max_call_usd: float
    limit_usd: float
    reserve_usd: float
    low_texts: int
    high_texts: int
    low_s: float
    high_s: float
    time_basis: str
    host: str = ""
    n_examples: int = 0
    redacted: bool = False
    simulated: bool = False
    generates: bool = False
    extra_calls: str = ""
    cached: str = ""
    teacher_training: str = ""
    teacher_training_usd: float = 0.0
    remote: bool = False
    quoted: bool = True
    asked: str = ""
    model_status: str = ""
    shutdown_date: str = ""
    model_ends: bool = False
    low_output_tokens: int = 0
    high_output_tokens: int = 0
    n_undescribed: int = 0
    low_description_usd: float = 0.0
    high_description_usd: float = 0.0
    lacks_pool: bool = False
    format: int = FORMAT

    @property
    def costs_money(self) -> bool:
        """Whether texts are sent to a provider that bills for them."""
        return self.remote and not self.simulated and self.high_usd > 0

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary."""
        return asdict(self)

    def summary(self) -> str:
        """All that matters, in one line."""
        if not self.quoted:
            return f"What this recipe buys from {self.teacher} is unknown: at most the budget of {usd(self.limit_usd)}."
        reach = "all" if self.low_texts == self.n_texts else f"{self.low_texts:,} to {self.high_texts:,}"
        what = f"Asking {self.teacher} about {self.n_texts:,} texts costs"
        if self.generates:
            what = f"Letting {self.teacher} write up to {self.n_texts:,} texts costs"
        return (
            f"{what} {usd_range(self.low_usd, self.high_usd)}; the budget of {usd(self.limit_usd)} reaches for {reach} "
            f"of them, in {seconds_range(self.low_s, self.high_s)}."
        )

    @property
    def egress(self) -> str:
        """What is sent, and to which host."""
        if not self.host:
            return "The teacher may send texts away; it does not say where." if self.remote else NO_EGRESS
        redacted = "addresses and numbers taken out" if self.redacted else NOT_REDACTED
        if not self.quoted:
            return f"Texts go to {self.host}, {redacted}."
        if self.generates:
            return f"Training texts with their labels go to {self.host}, {redacted}."
        texts, examples = _count(self.high_texts, "text"), _count(self.n_examples, "gold example")
        return f"{texts} and {examples} go to {self.host}, {redacted}."

    def _descriptions(self) -> str:
        """What missing descriptions cost; empty if none is missing."""
        if not self.n_undescribed:
            return ""
        have, them = ("has", "it") if self.n_undescribed == 1 else ("have", "them")
        cost = usd_range(self.low_description_usd, self.high_description_usd)
        return (
            f"{self.n_undescribed:,} {have} no description; init --describe has {them} written for {cost}, beside the "
            "price above and the budget"
        )

    def to_text(self) -> str:
        """A page for a terminal."""
        basis = "a request of its size" if self.generates else f"the prompts of {self.n_sampled:,} texts"
        rows = [
            ("texts", LABELLED_PRICED if self.lacks_pool else ""),
            ("price", self.price_source),
            ("teacher", self.teacher_training),
            ("model", self.model_status),
            ("asked", self.asked),
            (
                "output",
                f"{self.low_output_tokens:,} to {self.high_output_tokens:,} tokens" if self.high_output_tokens else "",
            ),
            ("besides", f"{self.extra_calls}; that is in the price above" if self.extra_calls else ""),
            ("labels", self._descriptions()),
            ("bought", self.cached),
            ("estimate", f"from {basis}; one call holds ${self.max_call_usd:.6f} at most" if self.quoted else ""),
            ("training", f"{usd(self.reserve_usd)} of the budget is left for it"),
            ("time", f"{seconds_range(self.low_s, self.high_s)}, {self.time_basis}" if self.quoted else ""),
            ("egress", self.egress),
        ]
        lines = [self.summary(), "", *(f"  {name:<10} {text}" for name, text in rows if text)]
        if self.simulated:
            lines.append("  This is a simulation: the teacher replays labels that are already known.")
        return "\n".join(lines)


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'' if n == 1 else 's'}"
