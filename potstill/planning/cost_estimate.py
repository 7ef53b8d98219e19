"""Prices what a recipe plans to buy: one sum over the purchases of `Recipe.quote`, for any recipe and any teacher.

The prompts are real: the teacher is opened as the run will open it and estimates the usage of a sample of the texts.
It is not asked about a text. A teacher on this machine is loaded and timed, which costs its time and no money.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date

import numpy as np

from potstill.errors import BadSpec
from potstill.evaluation.calibration import one_hot
from potstill.ledger.prices import Usage, micros_to_usd, parse_usd
from potstill.planning.cost import CostPlan
from potstill.planning.description_cost import with_descriptions
from potstill.procedures.base import Ask, QuoteInputs
from potstill.procedures.kinds import recipe_kind
from potstill.procedures.soft_labels import zero_shot_component
from potstill.run import find_cached_answers
from potstill.run.few_shot import select_examples
from potstill.run.inputs import RunInputs
from potstill.run.open_teacher import open_teacher, training_reserve
from potstill.run.spec import ComponentSpec, Spec, teacher_backbone
from potstill.run.training_time import TrainingTime, estimate_training_time
from potstill.teachers import DEFAULT_TEACHER
from potstill.teachers.base import Teacher, TrainedStudent
from potstill.teachers.kinds import teacher_kind
from potstill.teachers.model_status import ReportsModelStatus

TIMED_TEXTS = 32  # texts that a teacher trained on this machine is timed on
DRAWS = 500  # bootstrap draws of a mean price
LOW_QUANTILE, HIGH_QUANTILE = 0.025, 0.975
ASSUMED_LATENCY_S = 1.5  # of a request, if nothing was measured
GENERATION_LATENCY_S = (5.0, 60.0)  # of a request that generates many texts


@dataclass(frozen=True)
class PlannedTeacher:
    """The teacher a plan prices.

    Attributes:
        teacher: opened to plan.
        component: its name and options.
        n_examples: gold examples in its prompt.
        training: what training it takes; None if it needs none.
        remote: whether its kind sends texts away.
    """

    teacher: Teacher
    component: ComponentSpec
    n_examples: int
    training: TrainingTime | None
    remote: bool

    @property
    def training_micros(self) -> int:
        """Micro-dollars that training it takes."""
        return 0 if self.training is None else parse_usd(max(self.training.usd, 1e-6))


@dataclass(frozen=True)
class Pace:
    """Seconds a unit takes, at least and at most, and what they rest on."""

    low_s: float
    high_s: float
    basis: str


def estimate_cost(inputs: RunInputs, *, check: bool = False) -> CostPlan | None:
    """Price what the spec's recipe plans to buy; None if it asks no teacher.

    With `check` the teacher's server is asked whether it has the model and when that ends; else nothing is sent.

    Raises:
        BadInput: the teacher cannot be opened as asked, or the recipe cannot do the task.
        UnknownPrice: the teacher's price is unknown.
    """
    spec = inputs.spec
    recipe = recipe_kind(spec.procedure.name)
    recipe.check(spec, inputs.task)
    if not recipe.asks(spec):
        return None
    planned = open_planned_teacher(inputs)
    asks = recipe.purchases(QuoteInputs(inputs, planned.teacher, recipe.read_options(spec)))
    if asks is None:
        cost = _unknown_cost(inputs, planned)
    elif asks:
        cost = _sum(inputs, planned, asks)
        cost = cost if inputs.task.form is None else _with_output_tokens(cost, asks)
    else:
        return None
    cost = replace(cost, lacks_pool=recipe.needs_pool and not inputs.pool.subset("pool").texts)
    cost = with_descriptions(cost, inputs, planned.teacher)
    return _with_model_status(cost, planned.teacher) if check else cost


def _with_model_status(cost: CostPlan, teacher: Teacher) -> CostPlan:
    """The plan with what the teacher's server says about its model, if the teacher has a server."""
    if not isinstance(teacher, ReportsModelStatus):
        return cost
    status = teacher.model_status()
    day = status.life.shutdown if status.life else None
    return replace(
        cost,
        model_status=status.sentence(date.today()),
        shutdown_date=day.isoformat() if day else "",
        model_ends=status.ends,
    )


def is_remote(spec: Spec) -> bool:
    """Whether the spec's teacher sends texts away."""
    name = DEFAULT_TEACHER if spec.teacher is None else spec.teacher.kind
    return teacher_kind(name).capabilities.remote


def open_planned_teacher(inputs: RunInputs) -> PlannedTeacher:
    """Open the spec's teacher for a plan; one that needs a student gets the student of a short timed training."""
    spec, gold = inputs.spec, inputs.pool.subset("train")
    component = spec.teacher or ComponentSpec(name=DEFAULT_TEACHER)
    capabilities = teacher_kind(component.kind).capabilities
    examples = select_examples(gold, spec, inputs.task)
    if not capabilities.needs_student:
        teacher = open_teacher(spec, inputs.task, component, examples)
        return PlannedTeacher(teacher, component, len(examples), None, capabilities.remote)
    if inputs.task.form is not None:
        raise BadSpec(
            f"What the teacher {component.name!r} takes to be trained is not estimated in a task of the kind "
            f"{inputs.task.kind!r}.",
            "Distil without a plan: with --budget USD training and asking end where the money does.",
        )
    training = _time_teacher_training(inputs, component)
    trained = TrainedStudent(training.student, "probe", spec.compute_rates)
    teacher = open_teacher(spec, inputs.task, component, student=trained)
    texts = inputs.pool.subset("pool").texts or gold.texts
    for _ in range(2):  # the first call warms up
        teacher.answer(texts[:TIMED_TEXTS])
    return PlannedTeacher(teacher, component, len(examples), training, capabilities.remote)


def _time_teacher_training(inputs: RunInputs, component: ComponentSpec) -> TrainingTime:
    gold = inputs.pool.subset("train")
    backbone = teacher_backbone(component) if gold.texts else zero_shot_component(teacher_backbone(component))
    targets = one_hot(gold.gold, inputs.task.n_labels)
    rates, seed = inputs.spec.compute_rates, inputs.spec.seed
    return estimate_training_time(backbone, inputs.task, gold.texts, targets, rates, seed=seed)


def _sum(inputs: RunInputs, planned: PlannedTeacher, asks: Sequence[Ask]) -> CostPlan:
    """The plan of at least one purchase; texts and time are those of the first."""
    spec, main = inputs.spec, asks[0]
    low, high = sum_micros(asks)
    n_texts = round(max(main.low_units, main.high_units) * main.texts_per_unit)
    reserve = training_reserve(spec)
    free = max(spec.limit_micros - reserve - planned.training_micros, 0)
    pace = _pace(main, planned.component.options)
    units = n_texts / main.texts_per_unit
    pool = inputs.pool.subset("pool").texts if main.verb == "answer" else ()
    cached = find_cached_answers(inputs.task, planned.teacher, pool)
    return CostPlan(
        teacher=planned.teacher.name,
        price_source=planned.teacher.price.source,
        n_texts=n_texts,
        n_sampled=len(main.unit_usage),
        low_usd=micros_to_usd(round(low)),
        high_usd=micros_to_usd(math.ceil(round(high, 3))),  # what costs a part of a micro-dollar is not free
        max_call_usd=micros_to_usd(main.teacher.price.cost_micros(main.max_call_usage)),
        limit_usd=micros_to_usd(spec.limit_micros),
        reserve_usd=micros_to_usd(reserve),
        low_texts=_affordable(n_texts, free, high),
        high_texts=_affordable(n_texts, free, low),
        low_s=pace.low_s * units,
        high_s=pace.high_s * units,
        time_basis=pace.basis,
        host=planned.teacher.metadata.host,
        n_examples=planned.n_examples,
        redacted=bool(planned.component.options.get("redact")),
        simulated=planned.teacher.simulated,
        generates=main.verb == "generate",
        extra_calls="; ".join(ask.note for ask in asks[1:] if ask.note),
        cached=cached.sentence() if cached.n_cached else "",
        teacher_training="" if planned.training is None else planned.training.sentence(),
        teacher_training_usd=0.0 if planned.training is None else planned.training.usd,
        remote=planned.remote,
        asked=str(planned.teacher.metadata.extra.get("asked", "")),
    )


def _with_output_tokens(cost: CostPlan, asks: Sequence[Ask]) -> CostPlan:
    """The plan with the tokens that its purchases have written; those of labels are too few to matter."""
    low = sum(min(ask.low_units, ask.high_units) * _mean([each.low for each in ask.unit_usage]) for ask in asks)
    high = sum(max(ask.low_units, ask.high_units) * _mean([each.high for each in ask.unit_usage]) for ask in asks)
    return replace(cost, low_output_tokens=round(low), high_output_tokens=round(high))


def _mean(usages: Sequence[Usage]) -> float:
    """The mean number of output tokens."""
    return sum(usage.output_tokens for usage in usages) / max(len(usages), 1)


def _unknown_cost(inputs: RunInputs, planned: PlannedTeacher) -> CostPlan:
    """The plan of a recipe that does not say what it buys: from nothing to the whole budget."""
    limit = micros_to_usd(inputs.spec.limit_micros)
    return CostPlan(
        teacher=planned.teacher.name,
        price_source=planned.teacher.price.source,
        n_texts=0,
        n_sampled=0,
        low_usd=0.0,
        high_usd=limit,
        max_call_usd=limit,
        limit_usd=limit,
        reserve_usd=micros_to_usd(training_reserve(inputs.spec)),
        low_texts=0,
        high_texts=0,
        low_s=0.0,
        high_s=0.0,
        time_basis="",
        host=planned.teacher.metadata.host,
        n_examples=planned.n_examples,
        redacted=bool(planned.component.options.get("redact")),
        simulated=planned.teacher.simulated,
        remote=planned.remote,
        quoted=False,
    )


def sum_micros(asks: Sequence[Ask]) -> tuple[float, float]:
    """(Least, most) micro-dollars of all purchases, over the recipe's two courses."""
    low_prices = [_mean_micros(ask, [usage.low for usage in ask.unit_usage], LOW_QUANTILE) for ask in asks]
    high_prices = [_mean_micros(ask, [usage.high for usage in ask.unit_usage], HIGH_QUANTILE) for ask in asks]
    courses = ([ask.low_units for ask in asks], [ask.high_units for ask in asks])
    low = min(float(np.dot(units, low_prices)) for units in courses)
    high = max(float(np.dot(units, high_prices)) for units in courses)
    return low, high


def _mean_micros(ask: Ask, usages: Sequence[Usage], quantile: float) -> float:
    """The price of an average unit in micro-dollars: a bootstrap quantile of the mean over the sample."""
    if not usages:
        return 0.0
    # A thousand units each, so that rounding up to a micro-dollar does not count.
    prices = np.array([ask.teacher.price.cost_micros(_times(usage, 1000)) / 1000 for usage in usages])
    means = np.random.default_rng(0).choice(prices, (DRAWS, len(prices))).mean(axis=1)
    return float(np.quantile(means, quantile))


def _times(usage: Usage, n: int) -> Usage:
    return Usage(**{name: value * n for name, value in asdict(usage).items()})


def _affordable(n_texts: int, free_micros: int, micros: float) -> int:
    """How many of the texts `free_micros` buys if all of them cost `micros`."""
    return min(n_texts, int(free_micros * n_texts / micros)) if micros else n_texts


def _pace(ask: Ask, options: Mapping[str, object]) -> Pace:
    """Seconds a unit takes: people's own, timed, or assumed from the calls in flight and the teacher's rate limits."""
    people_s = getattr(ask.teacher, "seconds_per_text", None)
    if people_s is not None:
        return Pace(people_s[0], people_s[1], "people's own; not measured")
    timed_low = float(np.mean([usage.low.seconds for usage in ask.unit_usage]))
    timed_high = float(np.mean([usage.high.seconds for usage in ask.unit_usage]))
    if timed_high:
        return Pace(timed_low, timed_high, "timed on this machine")
    if ask.verb == "generate":
        low_s, high_s = GENERATION_LATENCY_S
        return Pace(low_s, high_s, f"{low_s:.0f} to {high_s:.0f} s a request assumed")
    return _request_pace(ask, options)


def _request_pace(ask: Ask, options: Mapping[str, object]) -> Pace:
    basis = f"{ask.teacher.parallel} calls in flight, {ASSUMED_LATENCY_S} s each assumed"
    slowest = ASSUMED_LATENCY_S / ask.teacher.parallel
    requests, tokens = options.get("requests_per_minute"), options.get("tokens_per_minute")
    if isinstance(requests, int | float) and requests:
        slowest = max(slowest, 60 / requests)
        basis = f"at {requests} requests a minute"
    if isinstance(tokens, int | float) and tokens:
        used = float(np.mean([usage.high.input_tokens + usage.high.output_tokens for usage in ask.unit_usage]))
        slowest = max(slowest, 60 * used / tokens)
        basis += f" and {tokens} tokens a minute"
    return Pace(slowest / 2, slowest, basis)
