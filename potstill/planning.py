"""Before any money moves: what a teacher will cost, how far the budget reaches, how long it takes, what leaves.

The prompts are real: the teacher is opened as the run will open it and says what a sample of the texts will consume,
at least and at most. Nobody is asked. A local model is loaded and timed, which costs its time and no money.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from potstill.examples import offered_examples
from potstill.money import Usage, to_usd
from potstill.order import Order
from potstill.run import open_teacher, training_reserve
from potstill.spec import Named
from potstill.teachers.base import Teacher

FORMAT = 1
SAMPLE = 200  # texts that prompts are built for
DRAWS = 500
ASSUMED_S = 1.5  # a request's way there and back, where nothing was measured


@dataclass(frozen=True)
class Plan:
    """What asking the teacher about all unlabelled texts takes. Pairs are at least / at most.

    Attributes:
        teacher: its name. price: where its price comes from, with the date or version of the list.
        n_texts: unlabelled texts. sampled: for so many of them prompts were built.
        low_usd, high_usd: what all of them cost.
        hold_usd: the most that one call is held for.
        limit_usd: the budget. reserve_usd: the part of it that is left for training.
        low_texts, high_texts: how many texts the budget buys, `n_texts` at most.
        low_s, high_s: how long it takes.
        pace: what the time rests on.
        host: where texts go; empty if they stay here.
        examples: gold examples that go along.
        redacted: whether addresses, numbers and the like are taken out first.
        simulated: True if the teacher only replays labels.
    """

    teacher: str
    price: str
    n_texts: int
    sampled: int
    low_usd: float
    high_usd: float
    hold_usd: float
    limit_usd: float
    reserve_usd: float
    low_texts: int
    high_texts: int
    low_s: float
    high_s: float
    pace: str
    host: str = ""
    examples: int = 0
    redacted: bool = False
    simulated: bool = False
    format: int = FORMAT

    @property
    def costs_money(self) -> bool:
        """True if texts go to somebody who sends a bill."""
        return bool(self.host) and not self.simulated and self.high_usd > 0

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary."""
        return asdict(self)

    def line(self) -> str:
        """All that matters, in one line."""
        reach = "all" if self.low_texts == self.n_texts else f"{self.low_texts:,} to {self.high_texts:,}"
        return (
            f"Asking {self.teacher} about {self.n_texts:,} texts costs ${self.low_usd:.4f} to ${self.high_usd:.4f}; "
            f"the budget of ${self.limit_usd:.2f} reaches for {reach} of them, in {_span(self.low_s, self.high_s)}."
        )

    def to_text(self) -> str:
        """A page for a terminal."""
        where = "No text leaves this machine."
        if self.host:
            redacted = "addresses and numbers taken out" if self.redacted else "as they are (redact = true mends it)"
            where = f"{self.high_texts:,} texts and {self.examples} gold examples go to {self.host}, {redacted}."
        lines = [
            self.line(),
            "",
            f"  price      {self.price}",
            f"  estimate   from the prompts of {self.sampled:,} texts; one call holds ${self.hold_usd:.6f} at most",
            f"  training   ${self.reserve_usd:.4f} of the budget is left for it",
            f"  time       {_span(self.low_s, self.high_s)}, {self.pace}",
            f"  egress     {where}",
        ]
        if self.simulated:
            lines.append("  This is a simulation: the teacher replays labels that are already known.")
        return "\n".join(lines)


def make_plan(order: Order) -> Plan:
    """The plan for an order.

    Raises:
        BadInput: the teacher cannot be opened as asked.
        UnknownPrice: nobody knows what it costs.
    """
    spec, task, pool = order.spec, order.task, order.pool
    gold, texts = pool.part("train"), pool.part("pool").texts or pool.part("train").texts
    shown = offered_examples(gold, spec, task)
    teacher = open_teacher(spec, task, spec.teacher or Named(name="local"), shown, asks=False)
    some = [texts[i] for i in np.random.default_rng(spec.seed).permutation(len(texts))[:SAMPLE]]
    expected = [teacher.expect([text]) for text in some]
    low = _mean_micros(teacher, [each.low for each in expected], np.quantile, 0.025)
    high = _mean_micros(teacher, [each.high for each in expected], np.quantile, 0.975)
    reserve = training_reserve(spec)
    free = spec.limit_micros - reserve
    seconds = _seconds(teacher, spec.teacher.options if spec.teacher else {}, expected)
    n = len(texts)
    return Plan(
        teacher=teacher.name,
        price=teacher.price.source,
        n_texts=n,
        sampled=len(some),
        low_usd=to_usd(round(low * n)),
        high_usd=to_usd(round(high * n)),
        hold_usd=to_usd(teacher.price.cost_micros(teacher.bound(some[: teacher.batch]))),
        limit_usd=to_usd(spec.limit_micros),
        reserve_usd=to_usd(reserve),
        low_texts=min(n, int(free / high)) if high else n,
        high_texts=min(n, int(free / low)) if low else n,
        low_s=seconds.low * n,
        high_s=seconds.high * n,
        pace=seconds.pace,
        host=str(teacher.about.get("host") or ""),
        examples=len(shown),
        redacted=bool(spec.teacher and spec.teacher.options.get("redact")),
        simulated=teacher.simulated,
    )


def _mean_micros(teacher: Teacher, usages: list[Usage], quantile: Any, at: float) -> float:
    """The price of an average text in micro-dollars: a bootstrap bound over the sample."""
    # A thousand times a text, so that rounding up to a micro-dollar does not count.
    each = np.array([teacher.price.cost_micros(_times(usage, 1000)) / 1000 for usage in usages])
    draws = np.random.default_rng(0).choice(each, (DRAWS, len(each))).mean(axis=1)
    return float(quantile(draws, at))


def _times(usage: Usage, n: int) -> Usage:
    return Usage(**{name: value * n for name, value in asdict(usage).items()})


@dataclass(frozen=True)
class _Pace:
    """Seconds a text, at least and at most, and what they rest on."""

    low: float
    high: float
    pace: str


def _seconds(teacher: Teacher, options: dict[str, Any], expected: list[Any]) -> _Pace:
    timed_low = float(np.mean([each.low.seconds for each in expected]))
    timed_high = float(np.mean([each.high.seconds for each in expected]))
    if timed_high:
        return _Pace(timed_low, timed_high, "timed on this machine")
    words = f"{teacher.parallel} calls in flight, {ASSUMED_S} s each assumed"
    slowest = ASSUMED_S / teacher.parallel
    if options.get("requests_per_minute"):
        slowest = max(slowest, 60 / options["requests_per_minute"])
        words = f"at {options['requests_per_minute']} requests a minute"
    if options.get("tokens_per_minute"):
        tokens = float(np.mean([each.high.input_tokens + each.high.output_tokens for each in expected]))
        slowest = max(slowest, 60 * tokens / options["tokens_per_minute"])
        words += f" and {options['tokens_per_minute']} tokens a minute"
    return _Pace(slowest / 2, slowest, words)


def _span(low_s: float, high_s: float) -> str:
    if high_s < 120:
        return f"{low_s:.0f} to {high_s:.0f} seconds"
    if high_s < 7200:
        return f"{low_s / 60:.0f} to {high_s / 60:.0f} minutes"
    return f"{low_s / 3600:.1f} to {high_s / 3600:.1f} hours"
