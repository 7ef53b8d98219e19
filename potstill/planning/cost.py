"""Before any money moves: what a teacher will cost, how far the budget reaches, how long it takes, what leaves.

The prompts are real: the teacher is opened as the run will open it and says what a sample of the texts will consume,
at least and at most. Nobody is asked. A local model is loaded and timed, which costs its time and no money.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from potstill.errors import BadData
from potstill.evaluation.calibration import one_hot
from potstill.ledger.prices import Usage, to_micros, to_usd
from potstill.procedures.annotate_options import read_options as read_annotate
from potstill.procedures.pgkd.brief import read_options
from potstill.procedures.pgkd.cost import Calls, quote_writing
from potstill.run import bought_before
from potstill.run.few_shot import offered_examples
from potstill.run.inputs import Order
from potstill.run.run import open_teacher, training_reserve
from potstill.run.spec import Named, check_kind
from potstill.run.training_time import Forecast, forecast, trained_as
from potstill.teachers.base import Expected, Teacher

FORMAT = 1
TIMED = 32  # texts that a trained teacher is timed on
SAMPLE = 200  # texts that prompts are built for
DRAWS = 500
ASSUMED_S = 1.5  # a request's way there and back, where nothing was measured
ROUND_S = (5.0, 60.0)  # a request that writes many texts


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
        writes: True if the teacher writes the `n_texts` rather than answers about them.
        besides: what it is asked beside that, in words; empty if nothing.
        simulated: True if the teacher only replays labels.
        had: answers that other runs of this workspace bought, in words; empty if there are none.
        taught: of a teacher that is trained first, what that takes, in words; else empty.
        taught_usd: and what it costs.
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
    writes: bool = False
    besides: str = ""
    had: str = ""
    taught: str = ""
    taught_usd: float = 0.0
    format: int = FORMAT

    @property
    def costs_money(self) -> bool:
        """True if texts go to somebody who sends a bill."""
        return bool(self.host) and not self.simulated and self.high_usd > 0

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary."""
        return asdict(self)

    @property
    def _basis(self) -> str:
        return "a brief of its size" if self.writes else f"the prompts of {self.sampled:,} texts"

    def line(self) -> str:
        """All that matters, in one line."""
        reach = "all" if self.low_texts == self.n_texts else f"{self.low_texts:,} to {self.high_texts:,}"
        what = f"Asking {self.teacher} about {self.n_texts:,} texts costs"
        if self.writes:
            what = f"Letting {self.teacher} write up to {self.n_texts:,} texts costs"
        return (
            f"{what} ${self.low_usd:.4f} to ${self.high_usd:.4f}; "
            f"the budget of ${self.limit_usd:.2f} reaches for {reach} of them, in {_span(self.low_s, self.high_s)}."
        )

    def to_text(self) -> str:
        """A page for a terminal."""
        where = "No text leaves this machine."
        if self.host:
            redacted = "addresses and numbers taken out" if self.redacted else "as they are (redact = true mends it)"
            where = f"{self.high_texts:,} texts and {self.examples} gold examples go to {self.host}, {redacted}."
            if self.writes:
                where = f"Training texts with their labels go to {self.host}, {redacted}."
        lines = [
            self.line(),
            "",
            f"  price      {self.price}",
            f"  estimate   from {self._basis}; one call holds ${self.hold_usd:.6f} at most",
            f"  training   ${self.reserve_usd:.4f} of the budget is left for it",
            f"  time       {_span(self.low_s, self.high_s)}, {self.pace}",
            f"  egress     {where}",
        ]
        if self.had:
            lines.insert(3, f"  bought     {self.had}")
        if self.besides:
            lines.insert(3, f"  besides    {self.besides}; that is in the price above")
        if self.taught:
            lines.insert(3, f"  teacher    {self.taught}")
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
    check_kind(spec, task.kind)
    gold = pool.part("train")
    shown = offered_examples(gold, spec, task)
    taught = _taught(order)
    if taught is None:
        teacher = open_teacher(spec, task, spec.teacher or Named(name="local"), shown, asks=False)
    else:
        teacher = _teacher_of(order, taught)
    asked = _written(order, teacher) if spec.procedure.kind == "pgkd" else _asked(order, teacher)
    low = _mean_micros(teacher, [each.low for each in asked.expected], np.quantile, 0.025) * asked.per_text
    high = _mean_micros(teacher, [each.high for each in asked.expected], np.quantile, 0.975) * asked.per_text
    reserve = training_reserve(spec)
    free = max(spec.limit_micros - reserve - (0 if taught is None else to_micros(max(taught.usd, 1e-6))), 0)
    seconds = _seconds(teacher, spec.teacher.options if spec.teacher else {}, list(asked.expected))
    if asked.per_text < 1 and not asked.expected[0].high.seconds:
        seconds = _Pace(*ROUND_S, f"{ROUND_S[0]:.0f} to {ROUND_S[1]:.0f} s assumed for what is written at once")
    n = asked.n
    had = bought_before(task, teacher, () if spec.procedure.kind == "pgkd" else pool.part("pool").texts)
    if asked.micros is not None and n:
        low, high = asked.micros[0] / n, asked.micros[1] / n
    return Plan(
        teacher=teacher.name,
        price=teacher.price.source,
        n_texts=n,
        sampled=len(asked.expected),
        low_usd=to_usd(round(low * n)),
        high_usd=to_usd(round(high * n)),
        hold_usd=to_usd(teacher.price.cost_micros(asked.bound)),
        limit_usd=to_usd(spec.limit_micros),
        reserve_usd=to_usd(reserve),
        low_texts=min(n, int(free / high)) if high else n,
        high_texts=min(n, int(free / low)) if low else n,
        low_s=seconds.low * n * asked.per_text,
        high_s=seconds.high * n * asked.per_text,
        pace=seconds.pace,
        host=str(teacher.about.get("host") or ""),
        examples=len(shown),
        redacted=bool(spec.teacher and spec.teacher.options.get("redact")),
        simulated=teacher.simulated,
        writes=spec.procedure.kind == "pgkd",
        besides=asked.besides,
        had=had.sentence() if had.texts else "",
        taught="" if taught is None else taught.sentence(),
        taught_usd=0.0 if taught is None else taught.usd,
    )


def _taught(order: Order) -> Forecast | None:
    """What training the teacher takes; None for one that is not trained."""
    named, gold = order.spec.teacher, order.pool.part("train")
    if named is None or named.kind != "trained":
        return None
    if not gold.texts:
        raise BadData(f"The teacher {named.name} learns from labelled texts and there are none.", "Label some.")
    targets = one_hot(gold.gold, order.task.n_labels)
    rates, seed = order.spec.compute_rates, order.spec.seed
    return forecast(trained_as(named), order.task, gold.texts, targets, rates, seed=seed)


def _teacher_of(order: Order, taught: Forecast) -> Teacher:
    """The student of the probe as the teacher: it knows nothing yet, and answers as fast as it will."""
    given: dict[str, Any] = {"student": taught.student, "key": "probe", "price": order.spec.compute_rates}
    teacher = open_teacher(order.spec, order.task, order.spec.teacher or Named(name="trained"), **given)
    texts = order.pool.part("pool").texts or order.pool.part("train").texts
    for _ in range(2):  # the first call warms up
        teacher.answer(texts[:TIMED])
    return teacher


@dataclass(frozen=True)
class _Calls:
    """What is asked: n texts, what a sample of the calls will consume, the bound of one, and calls a text.

    `micros` are all of it in micro-dollars, at least and at most, where it is not n times the sample; `besides` says in
    words what else is asked.
    """

    n: int
    expected: tuple[Expected, ...]
    bound: Usage
    per_text: float = 1.0
    micros: tuple[float, float] | None = None
    besides: str = ""


def _asked(order: Order, teacher: Teacher) -> _Calls:
    texts = order.pool.part("pool").texts or order.pool.part("train").texts
    some = [texts[i] for i in np.random.default_rng(order.spec.seed).permutation(len(texts))[:SAMPLE]]
    expected = tuple(teacher.expect([text]) for text in some)
    n = len(texts)
    if order.spec.procedure.kind == "annotate":
        n = min(read_annotate(order.spec.procedure.options).n or n, n)
    return _Calls(n, expected, teacher.bound(some[: teacher.batch]))


def _written(order: Order, teacher: Teacher) -> _Calls:
    """What writing takes: the dearer of its two ends at most, the cheaper at least."""
    gold, pool = order.pool.part("train"), order.pool.part("pool").texts
    if not gold.texts:
        raise BadData("PGKD needs labelled texts and there are none.", "Label some, or take --procedure kd.")
    options = read_options(order.spec.procedure.options)
    quote = quote_writing(order.task, gold, len(pool), teacher, options)
    n = options.rounds * options.texts
    some = (*pool, *gold.texts)[:SAMPLE]
    answers = [teacher.expect([text]) for text in some] if max(quote.few.asked, quote.many.asked) else []

    def usd(calls: Calls, low: bool) -> float:
        write = quote.expected.low if low else quote.expected.high
        total = _mean_micros(teacher, [write], np.quantile, 0.5) * calls.written * quote.a_text
        if calls.asked:
            each = [answer.low if low else answer.high for answer in answers]
            total += _mean_micros(teacher, each, np.quantile, 0.025 if low else 0.975) * calls.asked
        return total

    ends = (quote.few, quote.many)
    low, high = min(usd(each, True) for each in ends), max(usd(each, False) for each in ends)
    return _Calls(n, (quote.expected,), quote.bound, quote.a_text, (low, high), quote.words)


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
    looks_s = getattr(teacher, "looks_s", None)
    if looks_s is not None:
        return _Pace(looks_s[0], looks_s[1], "people's own; nobody has measured them")
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
