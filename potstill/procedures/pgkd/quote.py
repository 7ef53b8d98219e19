"""What writing to a student's needs will take (PGKD), by the prompts as they will be: nobody is asked.

Knows how often a teacher is called by each option of `[procedure] name = "pgkd"`; what a call costs is the teacher's.
"""

from __future__ import annotations

from dataclasses import dataclass

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
from potstill.teachers.generation_quotas import split_by_label

BIAS_TEXTS = 200  # gold texts that tell the label bias of a teacher that has one
EXPLORE_EVERY = 4  # every so many rounds the way that has gained less gets another chance
MIN_PASS_RATE = 0.5  # share of the written texts that pass the gate at least: assumed


@dataclass(frozen=True)
class CallCounts:
    """How many texts are written, and about how many the teacher is asked beside that."""

    n_generated: int
    n_asked: int


@dataclass(frozen=True)
class GenerationCost:
    """What a run of rounds takes.

    Attributes:
        few, many: calls where most rounds go the cheaper way, and where most go the other; see `usd` of whoever asks.
        expected: of one writing call. bound: the most one can consume. a_text: writing calls a written text.
        words: about what the teacher is asked beside writing; empty if nothing.
    """

    low_calls: CallCounts
    high_calls: CallCounts
    expected: UsageEstimate
    bound: Usage
    calls_per_text: float
    description: str


def estimate_generation_cost(
    task: Task, gold: Subset, pool: int, teacher: Teacher, options: PgkdOptions
) -> GenerationCost:
    """What all rounds take, if none is left out; a brief as large as those of the run, about a student without a clue.

    Args:
        gold: labelled texts, at least one.
        pool: unlabelled texts there are, for rounds that label.
        teacher: who writes.
    """
    rows = TrainingTexts.from_subset(gold)
    probs = np.random.default_rng(0).dirichlet(np.ones(task.n_labels), len(rows.texts))
    brief = make_generation_request(
        task, rows, probs, compute_metrics(rows.gold, probs, task.labels, n_resamples=1), options, (0, 0)
    )
    if not teacher.capabilities.reads_feedback:
        brief = split_by_label(brief, task.labels, gold_examples(task, rows), np.random.default_rng(0))[0]
    bound = teacher.max_generation_usage(brief)
    expected = teacher.estimate_generation_usage(brief)
    biased = len(gold) if teacher.needs_prior_correction else 0
    few, many = (_calls(options, rounds, pool, biased, share) for rounds, share in _ends(options))
    return GenerationCost(few, many, expected, bound, 1 / brief.n, _words(options, few, many))


def quote_generation(request: QuoteInputs[PgkdOptions]) -> tuple[Ask, ...]:
    """All rounds' calls that generate texts, and the texts the teacher answers about besides."""
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


def _ends(options: PgkdOptions) -> tuple[tuple[int, float], tuple[int, float]]:
    """(rounds that label, share of what is written that passes) at either end."""
    rounds = options.rounds
    if options.real == "none":
        return (0, MIN_PASS_RATE), (0, 1.0)
    if options.mix == "turns":
        return (rounds // 2, MIN_PASS_RATE), (rounds // 2, 1.0)
    fewest = min(1 + rounds // EXPLORE_EVERY, rounds // 2)
    return (fewest, MIN_PASS_RATE), (rounds - fewest, 1.0)


def _calls(options: PgkdOptions, labelling: int, pool: int, gold: int, share: float) -> CallCounts:
    labelled = min(labelling * options.texts, pool)
    written = options.rounds * options.texts - labelled
    again = round(written * share) if options.relabels else 0
    return CallCounts(written, labelled + again + min(gold, BIAS_TEXTS))


def _words(options: PgkdOptions, few: CallCounts, many: CallCounts) -> str:
    low, high = sorted((few.n_asked, many.n_asked))
    if not high:
        return ""
    about = ["what it wrote"] if options.relabels else []
    about += ["texts of the pool"] if options.real != "none" else []
    about = about or ["gold texts, for the bias of its scores"]
    span = f"{high:,}" if low == high else f"{low:,} to {high:,}"
    return f"asked about {span} texts besides ({' and '.join(about)})"
