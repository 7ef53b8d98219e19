"""The quote of PGKD: how many calls of the teacher all rounds take, by its options and with prompts of real size.

No teacher is called. What a call consumes is the teacher's own estimate.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from potstill.data.pool import Subset
from potstill.data.task import Task
from potstill.errors import BadData
from potstill.evaluation.metrics import compute_metrics
from potstill.ledger.prices import Usage
from potstill.procedures.base import SAMPLE_TEXTS, Ask, QuoteInputs, answers
from potstill.procedures.pgkd.generation_request import (
    PgkdOptions,
    TrainingTexts,
    gold_examples,
    make_generation_request,
)
from potstill.teachers.base import Teacher, UsageEstimate
from potstill.teachers.generation_quotas import requests_for

BIAS_TEXTS = 200  # gold texts that a teacher's label bias is estimated on
EXPLORE_EVERY = 4  # every so many rounds the text source that has gained less is tried again
MIN_PASS_RATE = 0.5  # assumed lower bound of the share of generated texts that pass the filters


@dataclass(frozen=True)
class CallCounts:
    """How many texts the teacher generates, and about how many it answers besides."""

    n_generated: int
    n_asked: int


@dataclass(frozen=True)
class GenerationCost:
    """The teacher's calls in all rounds.

    Attributes:
        low_calls, high_calls: if as few rounds as possible label texts, and if as many as possible do.
        expected: usage of one call that generates.
        bound: upper bound of that usage.
        calls_per_text: such calls per generated text.
        description: what the teacher answers besides; empty if nothing.
    """

    low_calls: CallCounts
    high_calls: CallCounts
    expected: UsageEstimate
    bound: Usage
    calls_per_text: float
    description: str


def estimate_generation_cost(
    task: Task, gold: Subset, n_unlabelled: int, teacher: Teacher, options: PgkdOptions
) -> GenerationCost:
    """The calls of all rounds, none left out, with a request as large as in a run, for a student at chance level.

    Args:
        task: the labels.
        gold: labelled texts, at least one.
        n_unlabelled: texts for rounds that label.
        teacher: the teacher that generates.
        options: of PGKD.
    """
    rows = TrainingTexts.from_subset(gold)
    probs = np.random.default_rng(0).dirichlet(np.ones(task.n_labels), len(rows.texts))
    evaluation = compute_metrics(rows.gold, probs, task.labels, n_resamples=1)
    request = make_generation_request(task, rows, probs, evaluation, options, (0, 0))
    request = requests_for(teacher.capabilities, request, task.labels, gold_examples(task, rows))[0]
    calibrates = teacher.needs_prior_correction and options.uses_answers
    n_bias_texts = min(len(gold), BIAS_TEXTS) if calibrates else 0
    few, many = _labelling_rounds(options)
    low = _count_calls(options, few, n_unlabelled, n_bias_texts, MIN_PASS_RATE)
    high = _count_calls(options, many, n_unlabelled, n_bias_texts, 1.0)
    again = sum((1 - MIN_PASS_RATE) ** turn for turn in range(1, options.top_up + 1))
    high = replace(high, n_generated=round(high.n_generated * (1 + again)))
    return GenerationCost(
        low_calls=low,
        high_calls=high,
        expected=teacher.estimate_generation_usage(request),
        bound=teacher.max_generation_usage(request),
        calls_per_text=1 / request.n,
        description=_describe(options, low, high),
    )


def quote_generation(request: QuoteInputs[PgkdOptions]) -> tuple[Ask, ...]:
    """The calls of all rounds that generate texts, and the texts that the teacher answers about besides."""
    gold, pool = request.inputs.pool.subset("train"), request.inputs.pool.subset("pool").texts
    if not gold.texts:
        raise BadData("PGKD needs labelled texts and there are none.", "Label some, or take --procedure kd.")
    teacher = request.teacher
    cost = estimate_generation_cost(request.inputs.task, gold, len(pool), teacher, request.options)
    low, high, calls = cost.low_calls, cost.high_calls, cost.calls_per_text
    units = (low.n_generated * calls, high.n_generated * calls)
    generated = Ask("generate", teacher, *units, (cost.expected,), cost.bound, texts_per_unit=1 / calls)
    if not max(low.n_asked, high.n_asked):
        return (generated,)
    sample = (*pool, *gold.texts)[:SAMPLE_TEXTS]
    return generated, answers(teacher, sample, low.n_asked, high.n_asked, cost.description)


def _labelling_rounds(options: PgkdOptions) -> tuple[int, int]:
    """The lowest and the highest number of rounds that label texts of the pool."""
    rounds = options.rounds
    if options.query_strategy == "none":
        return 0, 0
    if options.source_schedule == "alternate":
        return rounds // 2, rounds // 2
    few = min(1 + rounds // EXPLORE_EVERY, rounds // 2)
    return few, rounds - few


def _count_calls(
    options: PgkdOptions, labelling_rounds: int, n_unlabelled: int, n_bias_texts: int, pass_rate: float
) -> CallCounts:
    n_labelled = min(labelling_rounds * options.texts_per_round, n_unlabelled)
    n_generated = options.rounds * options.texts_per_round - n_labelled
    n_relabelled = round(n_generated * pass_rate) if options.relabels else 0
    return CallCounts(n_generated, n_labelled + n_relabelled + n_bias_texts)


def _describe(options: PgkdOptions, low: CallCounts, high: CallCounts) -> str:
    lowest, highest = sorted((low.n_asked, high.n_asked))
    if not highest:
        return ""
    about = ["what it generated"] if options.relabels else []
    about += ["texts of the pool"] if options.query_strategy != "none" else []
    count = f"{highest:,}" if lowest == highest else f"{lowest:,} to {highest:,}"
    return f"asked about {count} texts besides ({' and '.join(about)})"
