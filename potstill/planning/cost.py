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
from potstill.ledger.prices import Usage, micros_to_usd, parse_usd
from potstill.procedures.annotate_options import AnnotateOptions
from potstill.procedures.pgkd.generation_request import read_pgkd_options
from potstill.procedures.pgkd.quote import CallCounts, estimate_generation_cost
from potstill.registry import read_options
from potstill.run import find_cached_answers
from potstill.run.few_shot import select_examples
from potstill.run.inputs import RunInputs
from potstill.run.run import open_teacher, training_reserve
from potstill.run.spec import ComponentSpec, check_task_kind
from potstill.run.training_time import TrainingTime, estimate_training_time, trained_as
from potstill.teachers.base import Teacher, UsageEstimate

FORMAT = 1
TIMED_TEXTS = 32  # texts that a trained teacher is timed on
SAMPLE_TEXTS = 200  # texts that prompts are built for
DRAWS = 500
ASSUMED_LATENCY_S = 1.5  # a request's way there and back, where nothing was measured
GENERATION_LATENCY_S = (5.0, 60.0)  # a request that writes many texts


@dataclass(frozen=True)
class CostPlan:
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
        return "a brief of its size" if self.generates else f"the prompts of {self.n_sampled:,} texts"

    def summary(self) -> str:
        """All that matters, in one line."""
        reach = "all" if self.low_texts == self.n_texts else f"{self.low_texts:,} to {self.high_texts:,}"
        what = f"Asking {self.teacher} about {self.n_texts:,} texts costs"
        if self.generates:
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
            where = f"{self.high_texts:,} texts and {self.n_examples} gold examples go to {self.host}, {redacted}."
            if self.generates:
                where = f"Training texts with their labels go to {self.host}, {redacted}."
        lines = [
            self.summary(),
            "",
            f"  price      {self.price_source}",
            f"  estimate   from {self._basis}; one call holds ${self.max_call_usd:.6f} at most",
            f"  training   ${self.reserve_usd:.4f} of the budget is left for it",
            f"  time       {_span(self.low_s, self.high_s)}, {self.time_basis}",
            f"  egress     {where}",
        ]
        if self.cached:
            lines.insert(3, f"  bought     {self.cached}")
        if self.extra_calls:
            lines.insert(3, f"  besides    {self.extra_calls}; that is in the price above")
        if self.teacher_training:
            lines.insert(3, f"  teacher    {self.teacher_training}")
        if self.simulated:
            lines.append("  This is a simulation: the teacher replays labels that are already known.")
        return "\n".join(lines)


def estimate_cost(inputs: RunInputs) -> CostPlan:
    """The plan for an order.

    Raises:
        BadInput: the teacher cannot be opened as asked.
        UnknownPrice: nobody knows what it costs.
    """
    spec, task, pool = inputs.spec, inputs.task, inputs.pool
    check_task_kind(spec, task.kind)
    gold = pool.subset("train")
    shown = select_examples(gold, spec, task)
    taught = _taught(inputs)
    if taught is None:
        teacher = open_teacher(spec, task, spec.teacher or ComponentSpec(name="local"), shown, asks=False)
    else:
        teacher = _teacher_of(inputs, taught)
    asked = _written(inputs, teacher) if spec.procedure.kind == "pgkd" else _asked(inputs, teacher)
    low = _mean_micros(teacher, [each.low for each in asked.expected], np.quantile, 0.025) * asked.per_text
    high = _mean_micros(teacher, [each.high for each in asked.expected], np.quantile, 0.975) * asked.per_text
    reserve = training_reserve(spec)
    free = max(spec.limit_micros - reserve - (0 if taught is None else parse_usd(max(taught.usd, 1e-6))), 0)
    seconds = _seconds(teacher, spec.teacher.options if spec.teacher else {}, list(asked.expected))
    if asked.per_text < 1 and not asked.expected[0].high.seconds:
        seconds = _Pace(
            *GENERATION_LATENCY_S,
            f"{GENERATION_LATENCY_S[0]:.0f} to {GENERATION_LATENCY_S[1]:.0f} s assumed for what is written at once",
        )
    n = asked.n
    had = find_cached_answers(task, teacher, () if spec.procedure.kind == "pgkd" else pool.subset("pool").texts)
    if asked.micros is not None and n:
        low, high = asked.micros[0] / n, asked.micros[1] / n
    return CostPlan(
        teacher=teacher.name,
        price_source=teacher.price.source,
        n_texts=n,
        n_sampled=len(asked.expected),
        low_usd=micros_to_usd(round(low * n)),
        high_usd=micros_to_usd(round(high * n)),
        max_call_usd=micros_to_usd(teacher.price.cost_micros(asked.bound)),
        limit_usd=micros_to_usd(spec.limit_micros),
        reserve_usd=micros_to_usd(reserve),
        low_texts=min(n, int(free / high)) if high else n,
        high_texts=min(n, int(free / low)) if low else n,
        low_s=seconds.low * n * asked.per_text,
        high_s=seconds.high * n * asked.per_text,
        time_basis=seconds.time_basis,
        host=str(teacher.metadata.get("host") or ""),
        n_examples=len(shown),
        redacted=bool(spec.teacher and spec.teacher.options.get("redact")),
        simulated=teacher.simulated,
        generates=spec.procedure.kind == "pgkd",
        extra_calls=asked.extra_calls,
        cached=had.sentence() if had.n_cached else "",
        teacher_training="" if taught is None else taught.sentence(),
        teacher_training_usd=0.0 if taught is None else taught.usd,
    )


def _taught(inputs: RunInputs) -> TrainingTime | None:
    """What training the teacher takes; None for one that is not trained."""
    named, gold = inputs.spec.teacher, inputs.pool.subset("train")
    if named is None or named.kind != "trained":
        return None
    if not gold.texts:
        raise BadData(f"The teacher {named.name} learns from labelled texts and there are none.", "Label some.")
    targets = one_hot(gold.gold, inputs.task.n_labels)
    rates, seed = inputs.spec.compute_rates, inputs.spec.seed
    return estimate_training_time(trained_as(named), inputs.task, gold.texts, targets, rates, seed=seed)


def _teacher_of(inputs: RunInputs, taught: TrainingTime) -> Teacher:
    """The student of the probe as the teacher: it knows nothing yet, and answers as fast as it will."""
    given: dict[str, Any] = {"student": taught.student, "key": "probe", "price": inputs.spec.compute_rates}
    teacher = open_teacher(inputs.spec, inputs.task, inputs.spec.teacher or ComponentSpec(name="trained"), **given)
    texts = inputs.pool.subset("pool").texts or inputs.pool.subset("train").texts
    for _ in range(2):  # the first call warms up
        teacher.answer(texts[:TIMED_TEXTS])
    return teacher


@dataclass(frozen=True)
class _Calls:
    """What is asked: n texts, what a sample of the calls will consume, the bound of one, and calls a text.

    `micros` are all of it in micro-dollars, at least and at most, where it is not n times the sample; `besides` says in
    words what else is asked.
    """

    n: int
    expected: tuple[UsageEstimate, ...]
    bound: Usage
    per_text: float = 1.0
    micros: tuple[float, float] | None = None
    extra_calls: str = ""


def _asked(inputs: RunInputs, teacher: Teacher) -> _Calls:
    texts = inputs.pool.subset("pool").texts or inputs.pool.subset("train").texts
    some = [texts[i] for i in np.random.default_rng(inputs.spec.seed).permutation(len(texts))[:SAMPLE_TEXTS]]
    expected = tuple(teacher.estimate_usage([text]) for text in some)
    n = len(texts)
    if inputs.spec.procedure.kind == "annotate":
        options = read_options(AnnotateOptions, "procedure 'annotate'", inputs.spec.procedure.options)
        n = min(options.n_texts or n, n)
    return _Calls(n, expected, teacher.max_usage(some[: teacher.batch_size]))


def _written(inputs: RunInputs, teacher: Teacher) -> _Calls:
    """What writing takes: the dearer of its two ends at most, the cheaper at least."""
    gold, pool = inputs.pool.subset("train"), inputs.pool.subset("pool").texts
    if not gold.texts:
        raise BadData("PGKD needs labelled texts and there are none.", "Label some, or take --procedure kd.")
    options = read_pgkd_options(inputs.spec.procedure.options)
    quote = estimate_generation_cost(inputs.task, gold, len(pool), teacher, options)
    n = options.rounds * options.texts
    some = (*pool, *gold.texts)[:SAMPLE_TEXTS]
    answers = (
        [teacher.estimate_usage([text]) for text in some]
        if max(quote.low_calls.n_asked, quote.high_calls.n_asked)
        else []
    )

    def usd(calls: CallCounts, low: bool) -> float:
        write = quote.expected.low if low else quote.expected.high
        total = _mean_micros(teacher, [write], np.quantile, 0.5) * calls.n_generated * quote.calls_per_text
        if calls.n_asked:
            each = [answer.low if low else answer.high for answer in answers]
            total += _mean_micros(teacher, each, np.quantile, 0.025 if low else 0.975) * calls.n_asked
        return total

    ends = (quote.low_calls, quote.high_calls)
    low, high = min(usd(each, True) for each in ends), max(usd(each, False) for each in ends)
    return _Calls(n, (quote.expected,), quote.bound, quote.calls_per_text, (low, high), quote.description)


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
    time_basis: str


def _seconds(teacher: Teacher, options: dict[str, Any], expected: list[Any]) -> _Pace:
    looks_s = getattr(teacher, "seconds_per_text", None)
    if looks_s is not None:
        return _Pace(looks_s[0], looks_s[1], "people's own; nobody has measured them")
    timed_low = float(np.mean([each.low.seconds for each in expected]))
    timed_high = float(np.mean([each.high.seconds for each in expected]))
    if timed_high:
        return _Pace(timed_low, timed_high, "timed on this machine")
    words = f"{teacher.parallel} calls in flight, {ASSUMED_LATENCY_S} s each assumed"
    slowest = ASSUMED_LATENCY_S / teacher.parallel
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
