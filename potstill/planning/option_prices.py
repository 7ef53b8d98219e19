"""Unit prices of every strategy, before anything is bought: of annotators and models, and by short timed probes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from potstill.data.pool import Subset
from potstill.errors import BadSpec, PotstillError, UnknownName, UnknownPrice
from potstill.evaluation.calibration import one_hot
from potstill.ledger.prices import Usage, micros_to_usd
from potstill.procedures.allocate.label_sources import AllocateOptions
from potstill.procedures.allocate.strategies import UnitCosts
from potstill.procedures.kinds import recipe_kind
from potstill.procedures.pgkd.generation_request import PgkdOptions
from potstill.procedures.pgkd.quote import estimate_generation_cost
from potstill.run import CachedAnswers, find_cached_answers
from potstill.run.few_shot import select_examples
from potstill.run.inputs import RunInputs
from potstill.run.open_teacher import open_teacher
from potstill.run.spec import ComponentSpec
from potstill.run.training_time import estimate_training_time
from potstill.students.base import Student
from potstill.teachers import DEFAULT_ANNOTATOR
from potstill.teachers.base import Teacher
from potstill.teachers.kinds import teacher_kind

PROBE_TEXTS, SAMPLE_TEXTS, MAX_ROWS = 32, 50, 3000
NO_LABEL_PRICE = "labels by people, which have no price: give it with --usd-per-label PRICE."
NO_POOL = "distillation and answers of a language model, which need unlabelled texts."


@dataclass(frozen=True)
class OptionPrices:
    """Unit prices, and what has none.

    Attributes:
        costs: of every strategy that has a price.
        student_usd: training the student on one row, once.
        cached: the language model's answers about these texts that other runs bought; None without a language model.
        unpriced: strategies that cannot be compared, each with what is missing.
    """

    costs: UnitCosts
    student_usd: float
    cached: CachedAnswers | None
    unpriced: tuple[str, ...]


def estimate_prices(inputs: RunInputs) -> OptionPrices:
    """The unit prices of a task. Takes the time of the probes; what cannot be priced is named and left out."""
    unpriced: list[str] = []
    gold, texts = inputs.pool.subset("train"), inputs.pool.subset("pool").texts
    student_usd = _student_usd(inputs, gold, texts)
    llm = _open_llm(inputs, unpriced)
    generated_usd, max_generated = _generation_usd(inputs, llm, gold)
    costs = UnitCosts(
        usd_per_label=_label_usd(inputs, texts, unpriced),
        student_training=lambda n: student_usd * n,
        usd_per_generated=None if generated_usd is None else generated_usd + student_usd,
        max_generated=max_generated,
    )
    cached = None if llm is None else find_cached_answers(inputs.task, llm, texts)
    if not texts:
        return OptionPrices(costs, student_usd, cached, (*unpriced, NO_POOL))
    if llm is not None:
        costs = replace(costs, usd_per_answer=_answer_usd(llm, texts) + student_usd)
    label_training_usd, distilled_usd = _large_model_usd(inputs, gold, texts, unpriced)
    costs = replace(costs, usd_per_distilled=distilled_usd + student_usd)
    if label_training_usd is not None:
        usd = label_training_usd
        costs = replace(costs, teacher_training=lambda n: usd * n)
    return OptionPrices(costs, student_usd, cached, tuple(unpriced))


def allocate_options(inputs: RunInputs) -> AllocateOptions:
    """The options under which money would be allocated: the spec's where its recipe has them, else the defaults."""
    options = recipe_kind(inputs.spec.procedure.name).read_options(inputs.spec)
    if isinstance(options, AllocateOptions):
        return options
    return AllocateOptions(generation=options) if isinstance(options, PgkdOptions) else AllocateOptions()


def large_model(inputs: RunInputs) -> ComponentSpec | None:
    """The large model that would teach; None if the options leave it out."""
    options = allocate_options(inputs)
    return ComponentSpec(name=options.large_model, **options.large_model_options) if options.large_model else None


def _label_usd(inputs: RunInputs, texts: Sequence[str], unpriced: list[str]) -> float | None:
    try:
        people = open_teacher(inputs.spec, inputs.task, ComponentSpec(name=DEFAULT_ANNOTATOR))
    except UnknownPrice:
        unpriced.append(NO_LABEL_PRICE)
        return None
    return micros_to_usd(people.price.cost_micros(people.max_usage(texts[:1] or ("",))))


def _open_llm(inputs: RunInputs, unpriced: list[str]) -> Teacher | None:
    """The spec's teacher if it neither is human nor has to be trained first, opened to plan."""
    component = inputs.spec.teacher
    if component is None:
        return None
    capabilities = teacher_kind(component.kind).capabilities
    if capabilities.human or capabilities.needs_student:
        return None
    try:
        examples = select_examples(inputs.pool.subset("train"), inputs.spec, inputs.task)
        return open_teacher(inputs.spec, inputs.task, component, examples)
    except PotstillError as error:
        unpriced.append(f"the language model: {error.message}")
        return None


def _answer_usd(llm: Teacher, texts: Sequence[str]) -> float:
    """The mean price of an answer, at most."""
    prices = [llm.price.cost_micros(llm.estimate_usage([text]).high) for text in texts[:SAMPLE_TEXTS]]
    return float(np.mean([micros_to_usd(micros) for micros in prices]))


def _generation_usd(inputs: RunInputs, llm: Teacher | None, gold: Subset) -> tuple[float | None, float]:
    """(Price of a generated text, how many are generated at most); (None, 0) if none can be generated."""
    options = allocate_options(inputs).generation
    able = llm is not None and llm.capabilities.generates and inputs.task.kind == "single"
    if llm is None or not able or not len(gold) or not options.rounds:
        return None, 0.0
    cost = estimate_generation_cost(inputs.task, gold, 0, llm, options.model_copy(update={"query_strategy": "none"}))
    usd = micros_to_usd(llm.price.cost_micros(cost.expected.high)) * cost.calls_per_text
    relabelled_usd = _answer_usd(llm, gold.texts) if options.relabels else 0.0
    return usd + relabelled_usd, float(options.rounds * options.texts_per_round)


def _student_usd(inputs: RunInputs, gold: Subset, texts: Sequence[str]) -> float:
    """Training the student on one row, by a probe on the gold and the pool; 0 if unknown."""
    if len(gold) < 2:
        return 0.0
    pool, k = texts[:MAX_ROWS], inputs.task.n_labels
    targets = np.concatenate([one_hot(gold.gold, k), np.full((len(pool), k), 1 / k, np.float32)])
    rates, seed = inputs.spec.compute_rates, inputs.spec.seed
    # The gold comes first, so that the probe has labels to learn.
    rows = (*gold.texts, *pool)
    try:
        time_ = estimate_training_time(inputs.spec.student, inputs.task, rows, targets, rates, seed=seed)
    except PotstillError:
        return 0.0
    return time_.usd / len(targets)


def _large_model_usd(
    inputs: RunInputs, gold: Subset, texts: Sequence[str], unpriced: list[str]
) -> tuple[float | None, float]:
    """(Training the large model on one label, having it label one text); (None, 0) if it cannot be priced."""
    component = large_model(inputs)
    if len(gold) < 2 or component is None:
        return None, 0.0
    rates, targets = inputs.spec.compute_rates, one_hot(gold.gold, inputs.task.n_labels)
    try:
        time_ = estimate_training_time(component, inputs.task, gold.texts, targets, rates, seed=inputs.spec.seed)
    except (BadSpec, UnknownName):
        raise  # the user wrote that name
    except PotstillError as error:
        unpriced.append(f"a large model: {error.message}")
        return None, 0.0
    seconds = _seconds_per_text(time_.student, texts[:PROBE_TEXTS])
    return time_.usd / len(gold), micros_to_usd(rates.cost_micros(Usage(seconds=1000 * seconds))) / 1000


def _seconds_per_text(student: Student, texts: Sequence[str]) -> float:
    student.predict_logits(list(texts[:2]))  # the first call is the slowest
    began = time.perf_counter()
    student.predict_logits(list(texts))
    return (time.perf_counter() - began) / len(texts)
