"""Who else is heard before a teacher's answer is learnt, where the teacher knows less than the gold tells the student.

A language model can be a poor judge of texts that a few labels tell apart well. Where that is shown on gold neither had
seen, the student of the gold alone counts as a second witness, and each text listens to those nearest to it (label
spreading, Zhou et al. 2004). A teacher not shown to know less has the word alone: its mistakes are its own, and a
student averages them out better than neighbours do (docs/log.md). Does not ask a teacher and does not learn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from potstill.errors import BudgetExceeded
from potstill.evaluation.calibration import log_softmax, softmax, temperature_for_accuracy
from potstill.evaluation.metrics import mcnemar
from potstill.procedures.label_propagation import propagate_labels
from potstill.run.notes import LabelsCorrected
from potstill.run.run import Run
from potstill.run.spec import ComponentSpec
from potstill.students.base import Floats

# The kinds whose vectors lie near where texts mean much the same, and what makes them learn nothing but a head.
FROZEN_OPTIONS: dict[str, dict[str, Any]] = {"encoder": {"mode": "frozen"}, "static": {"epochs": 0}}
SELF_WEIGHT = 0.3  # how much of what was first believed of a text it keeps each time it listens
MAX_GRAPH_TEXTS = 20_000  # texts among which neighbours are looked for: exact search takes time in their square
FOLDS, MAX_P_VALUE = 4, 0.1  # the gold is told in so many folds; a two-sided p-value above this shows nothing
MIN_TEACHER_ERRORS = 5  # of the teacher's answers about gold: of fewer, not even all can show that the gold knows more


@dataclass(frozen=True)
class GoldAnswers:
    """What a teacher says of gold it was not shown.

    Attributes:
        rows: (M,) which gold texts it answered about.
        said: (M,) the columns of the labels it gave them.
    """

    rows: NDArray[np.int64]
    labels: NDArray[np.int64]


def correct_soft_labels(texts: Sequence[str], soft: Floats, judged: GoldAnswers, neighbours: int, run: Run) -> Floats:
    """(N, K) a teacher's probabilities of N texts, after the others were heard; rows sum to one.

    As they came where the teacher is not shown to know less, where there is no gold or no money for that, and for a
    kind of student whose vectors are not a space of texts.
    """
    gold, k = run.pool.subset("train"), run.task.n_labels
    if not neighbours or not gold.texts or run.task.kind == "multi" or run.spec.student.kind not in FROZEN_OPTIONS:
        return soft
    try:
        with run.reserving(run.ledger.free // 2):  # the rest is for learning what is heard
            share = _share_if_the_gold_knows_more(run, judged)
            if share is None:
                return soft
            alone = run.learn(gold.texts, gold.targets(k))  # the report has it trained in any case
    except BudgetExceeded:
        return soft
    own = alone.predict_logits(texts)
    spoken, known = _both(soft, softmax(own, temperature_for_accuracy(own, share))), gold.targets(k).astype(np.float32)
    heard, order = np.empty_like(soft), np.random.default_rng(run.spec.seed).permutation(len(texts))
    for some in np.array_split(order, -(-len(texts) // MAX_GRAPH_TEXTS)):
        vectors = alone.embed([*(texts[i] for i in some), *gold.texts])
        beliefs = np.concatenate([spoken[some], known])
        heard[some] = propagate_labels(beliefs, vectors, len(some), neighbours, self_weight=SELF_WEIGHT)
    changed = float((soft.argmax(axis=1) != heard.argmax(axis=1)).mean())
    corrected = LabelsCorrected(len(texts), changed, share)
    run.note(corrected)
    run.reporter.info(corrected.sentence())
    return heard


def _both(one: Floats, other: NDArray[np.floating]) -> Floats:
    """(N, K) probabilities of two witnesses who do not know of each other, multiplied."""
    log = np.log(np.maximum(one, 1e-9)) + np.log(np.maximum(other, 1e-9))
    return np.exp(log_softmax(log)).astype(np.float32)


def _share_if_the_gold_knows_more(run: Run, judged: GoldAnswers) -> float | None:
    """Of how many gold texts the others tell a student the label, if that is clearly more than the teacher knows.

    The student learns a head alone, in folds: that takes moments, and errs on the teacher's side.
    """
    gold, k = run.pool.subset("train"), run.task.n_labels
    if (judged.labels != gold.gold[judged.rows]).sum() < MIN_TEACHER_ERRORS:
        return None
    named = run.spec.student
    quick = ComponentSpec(name=named.name, **{**named.options, **FROZEN_OPTIONS[named.kind]})
    rank = np.empty(len(gold.gold), dtype=np.int64)  # of each text among those of its label, drawn
    for column in range(k):
        rows = np.flatnonzero(gold.gold == column)
        rank[rows] = np.random.default_rng(run.spec.seed).permutation(len(rows))
    told = np.full(len(gold.gold), -1)
    for fold in range(FOLDS):
        asked, shown = np.flatnonzero(rank % FOLDS == fold), np.flatnonzero(rank % FOLDS != fold)
        if len(asked) and len(shown):
            student = run.learn([gold.texts[i] for i in shown], gold.targets(k)[shown], student=quick)
            told[asked] = student.predict_logits([gold.texts[i] for i in asked]).argmax(axis=1)
    differ = mcnemar(gold.gold[judged.rows], told[judged.rows], judged.labels)
    sure = differ.only_a > differ.only_b and differ.p_exact < MAX_P_VALUE
    return float((told == gold.gold).mean()) if sure else None
