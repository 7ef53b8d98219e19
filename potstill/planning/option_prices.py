"""What each way costs here, before anything is bought: prices of people and models, and short timed probes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from potstill.data.pool import Subset
from potstill.errors import BadSpec, PotstillError, UnknownName, UnknownPrice
from potstill.evaluation.calibration import one_hot
from potstill.ledger.prices import Usage, micros_to_usd
from potstill.procedures.allocate.strategies import UnitCosts
from potstill.procedures.pgkd.generation_request import PgkdOptions
from potstill.procedures.pgkd.quote import estimate_generation_cost
from potstill.registry import read_options
from potstill.run import CachedAnswers, find_cached_answers
from potstill.run.few_shot import select_examples
from potstill.run.inputs import RunInputs
from potstill.run.run import open_teacher
from potstill.run.spec import ComponentSpec
from potstill.run.training_time import estimate_training_time
from potstill.students.base import Student
from potstill.teachers.base import Teacher

DEFAULT_LARGE_MODEL = "encoder:gte-small"
PROBE_TEXTS, SAMPLE_TEXTS, MAX_ROWS = 32, 50, 3000


@dataclass(frozen=True)
class OptionPrices:
    """What things cost, what of it was bought before, and what has no price.

    Attributes:
        student_usd: teaching the student one row, once.
        had: answers of the language model about these texts that other runs bought; None without a language model.
        missing: ways that cannot be weighed, each with what is missing.
    """

    costs: UnitCosts
    student_usd: float
    had: CachedAnswers | None
    missing: tuple[str, ...]


def estimate_prices(order: RunInputs) -> OptionPrices:
    """The prices of an order. Takes the time of the probes; what cannot be priced is named and left out."""
    spec, missing = order.spec, list[str]()
    gold, texts = order.pool.subset("train"), order.pool.subset("pool").texts
    label = None
    try:
        people = open_teacher(spec, order.task, ComponentSpec(name="human"), asks=False)
        label = micros_to_usd(people.price.cost_micros(people.max_usage(texts[:1] or ("",))))
    except UnknownPrice:
        missing.append("people, whose label has no price: set [prices] usd_per_label.")
    student = _student_usd(order, gold, texts)
    own = UnitCosts(usd_per_label=label, student_training=lambda n: student * n)
    llm = _language_model(order, missing)
    had = None if llm is None else find_cached_answers(order.task, llm, texts)
    written, writes = _written(order, llm, gold)
    own = replace(own, usd_per_generated=_plus(written, student), max_generated=writes)
    if not texts:
        missing.append("teaching by a large model or a language model, which needs unlabelled texts.")
        return OptionPrices(own, student, had, tuple(missing))
    answer = None
    if llm is not None:
        answer = float(
            np.mean(
                [micros_to_usd(llm.price.cost_micros(llm.estimate_usage([text]).high)) for text in texts[:SAMPLE_TEXTS]]
            )
        )
    teacher, distilled = None, 0.0
    named = _large(order)
    if len(gold) >= 2 and named is not None:
        try:
            teacher_usd, distilled = _large_usd(order, named, gold, texts)
            teacher = lambda n: teacher_usd * n  # noqa: E731
        except PotstillError as error:
            if isinstance(error, BadSpec | UnknownName):
                raise  # somebody wrote that name
            missing.append(f"a large model: {error.message}")
    costs = replace(
        own, teacher_training=teacher, usd_per_distilled=distilled + student, usd_per_answer=_plus(answer, student)
    )
    return OptionPrices(costs, student, had, tuple(missing))


def _plus(usd: float | None, more: float) -> float | None:
    return None if usd is None else usd + more


def _language_model(order: RunInputs, missing: list[str]) -> Teacher | None:
    named = order.spec.teacher
    if named is None or named.kind in ("human", "trained"):
        return None
    try:
        shown = select_examples(order.pool.subset("train"), order.spec, order.task)
        return open_teacher(order.spec, order.task, named, shown, asks=False)
    except PotstillError as error:
        missing.append(f"the language model: {error.message}")
        return None


def _written(order: RunInputs, llm: Teacher | None, gold: Subset) -> tuple[float | None, float]:
    """What a text that is written costs, and how many are written at most."""
    if llm is None or not llm.capabilities.generates or order.task.kind != "single" or not len(gold):
        return None, 0.0
    kind, given = order.spec.procedure.kind, order.spec.procedure.options
    given = given if kind == "pgkd" else given.get("generation", {}) if kind == "allocate" else {}
    options = read_options(PgkdOptions, "procedure 'pgkd'", given)
    if not options.rounds:
        return None, 0.0
    quote = estimate_generation_cost(order.task, gold, 0, llm, options.model_copy(update={"real": "none"}))
    usd = micros_to_usd(llm.price.cost_micros(quote.expected.high)) * quote.calls_per_text
    return usd + _again_usd(options, llm, gold.texts), float(options.rounds * options.texts)


def _again_usd(options: PgkdOptions, llm: Teacher, texts: Sequence[str]) -> float:
    if not options.relabels:
        return 0.0
    return float(
        np.mean(
            [micros_to_usd(llm.price.cost_micros(llm.estimate_usage([text]).high)) for text in texts[:SAMPLE_TEXTS]]
        )
    )


def _student_usd(order: RunInputs, gold: Subset, texts: Sequence[str]) -> float:
    """Of teaching the student a row, where it learns the labels and what a teacher says of the pool; 0 if unknown."""
    if len(gold) < 2:
        return 0.0
    some, k = texts[:MAX_ROWS], order.task.n_labels
    targets = np.concatenate([one_hot(gold.gold, k), np.full((len(some), k), 1 / k, np.float32)])
    try:
        rates, seed = order.spec.compute_rates, order.spec.seed
        # Beginning with the gold, so that the probe has labels to learn.
        told = estimate_training_time(order.spec.student, order.task, (*gold.texts, *some), targets, rates, seed=seed)
    except PotstillError:
        return 0.0
    return told.usd / len(targets)


def _large(order: RunInputs) -> ComponentSpec | None:
    """The large model that would teach; None where `allocate` is told to do without."""
    if order.spec.procedure.kind != "allocate":
        return ComponentSpec(name=DEFAULT_LARGE_MODEL)
    options = order.spec.procedure.options
    name = options.get("large", DEFAULT_LARGE_MODEL)
    return ComponentSpec(name=name, **options.get("large_model_options", {})) if name else None


def _large_usd(order: RunInputs, named: ComponentSpec, gold: Subset, texts: Sequence[str]) -> tuple[float, float]:
    """(Of teaching the large model a label, of having it label a text)."""
    rates = order.spec.compute_rates
    told = estimate_training_time(
        named, order.task, gold.texts, one_hot(gold.gold, order.task.n_labels), rates, seed=order.spec.seed
    )
    seconds = _seconds(told.student, texts[:PROBE_TEXTS])
    return told.usd / len(gold), micros_to_usd(rates.cost_micros(Usage(seconds=1000 * seconds))) / 1000


def _seconds(student: Student, texts: Sequence[str]) -> float:
    student.predict_logits(list(texts[:2]))  # the first time is the slowest
    began = time.perf_counter()
    student.predict_logits(list(texts))
    return (time.perf_counter() - began) / len(texts)
