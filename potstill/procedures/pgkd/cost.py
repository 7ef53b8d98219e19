"""What writing to a student's needs will take (PGKD), by the prompts as they will be: nobody is asked.

Knows how often a teacher is called by each option of `[procedure] name = "pgkd"`; what a call costs is the teacher's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from potstill.data.pool import Part
from potstill.data.task import Task
from potstill.evaluation.metrics import judge
from potstill.ledger.prices import Usage
from potstill.procedures.pgkd.brief import PgkdOptions, Rows, gold_of, make_brief
from potstill.teachers.base import Expected, Teacher, takes_guides
from potstill.teachers.writing import one_label_each

ASKED_FOR_BIAS = 200  # gold texts that tell the label bias of a teacher that has one
OTHER_WAY = 4  # every so many rounds the way that has gained less gets another chance
PASS = 0.5  # share of the written texts that pass the gate at least: assumed


@dataclass(frozen=True)
class Calls:
    """How many texts are written, and about how many the teacher is asked beside that."""

    written: int
    asked: int


@dataclass(frozen=True)
class WritingQuote:
    """What a run of rounds takes.

    Attributes:
        few, many: calls where most rounds go the cheaper way, and where most go the other; see `usd` of whoever asks.
        expected: of one writing call. bound: the most one can consume. a_text: writing calls a written text.
        words: about what the teacher is asked beside writing; empty if nothing.
    """

    few: Calls
    many: Calls
    expected: Expected
    bound: Usage
    a_text: float
    words: str


def quote_writing(task: Task, gold: Part, pool: int, teacher: Teacher, options: PgkdOptions) -> WritingQuote:
    """What all rounds take, if none is left out; a brief as large as those of the run, about a student without a clue.

    Args:
        gold: labelled texts, at least one.
        pool: unlabelled texts there are, for rounds that label.
        teacher: who writes.
    """
    rows = Rows.of(gold)
    probs = np.random.default_rng(0).dirichlet(np.ones(task.n_labels), len(rows.texts))
    brief = make_brief(task, rows, probs, judge(rows.gold, probs, task.labels, draws=1), options, (0, 0))
    if not takes_guides(teacher):
        brief = one_label_each(brief, task.labels, gold_of(task, rows), np.random.default_rng(0))[0]
    bound = teacher.write_bound(brief)
    expect = getattr(teacher, "expect_writing", None)
    expected = Expected(bound, bound) if expect is None else expect(brief)
    biased = len(gold) if teacher.scores_need_prior else 0
    few, many = (_calls(options, rounds, pool, biased, share) for rounds, share in _ends(options))
    return WritingQuote(few, many, expected, bound, 1 / brief.n, _words(options, few, many))


def _ends(options: PgkdOptions) -> tuple[tuple[int, float], tuple[int, float]]:
    """(rounds that label, share of what is written that passes) at either end."""
    rounds = options.rounds
    if options.real == "none":
        return (0, PASS), (0, 1.0)
    if options.mix == "turns":
        return (rounds // 2, PASS), (rounds // 2, 1.0)
    fewest = min(1 + rounds // OTHER_WAY, rounds // 2)
    return (fewest, PASS), (rounds - fewest, 1.0)


def _calls(options: PgkdOptions, labelling: int, pool: int, gold: int, share: float) -> Calls:
    labelled = min(labelling * options.texts, pool)
    written = options.rounds * options.texts - labelled
    again = round(written * share) if options.asks_again else 0
    return Calls(written, labelled + again + min(gold, ASKED_FOR_BIAS))


def _words(options: PgkdOptions, few: Calls, many: Calls) -> str:
    low, high = sorted((few.asked, many.asked))
    if not high:
        return ""
    about = ["what it wrote"] if options.asks_again else []
    about += ["texts of the pool"] if options.real != "none" else []
    about = about or ["gold texts, for the bias of its scores"]
    span = f"{high:,}" if low == high else f"{low:,} to {high:,}"
    return f"asked about {span} texts besides ({' and '.join(about)})"
