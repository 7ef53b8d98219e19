"""Corrects a weak teacher's soft labels with label propagation and a gold-only student.

A language model can be less accurate than a student of a few gold labels. If gold texts that neither had seen show
that, the teacher's probabilities are multiplied with those of a student trained on the gold alone, and spread among
nearest neighbours (label spreading, Zhou et al. 2004). A teacher not shown to be weaker is not corrected: its errors
are hardly correlated between texts, and training averages them out better than neighbours do (docs/log.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from potstill.annotation.agreement import cohen_kappa
from potstill.errors import BudgetExceeded
from potstill.evaluation.calibration import log_softmax, softmax, temperature_for_accuracy
from potstill.evaluation.cross_validation import fold_splits
from potstill.evaluation.metrics import mcnemar
from potstill.procedures.label_propagation import propagate_labels
from potstill.procedures.name_opinions import refine_until_settled
from potstill.procedures.opinions import note_agreement, note_refined_names, student_opinion
from potstill.procedures.soft_labels import initial_student
from potstill.run.notes import LabelsCorrected, NoteRecord
from potstill.run.run import Run
from potstill.run.spec import quick_student
from potstill.students.base import Floats, Student
from potstill.students.kinds import student_kind

SELF_WEIGHT = 0.3  # share of its first probabilities that a text keeps in each iteration
MAX_GRAPH_TEXTS = 20_000  # texts in one neighbour graph: exact search takes time in their square
FOLDS, MAX_P_VALUE = 4, 0.1  # of the cross-validation on gold; a larger two-sided p-value shows nothing
MIN_TEACHER_ERRORS = 5  # fewer errors on gold cannot show that the gold-only student is better
# Without gold: the share of the label names' opinion beside the teacher's, and the least Cohen's kappa of both; chosen
# on pool texts of four data sets (docs/log.md).
NAMES_WEIGHT, MIN_NAMES_KAPPA = 0.2, 0.2


@dataclass(frozen=True)
class GoldPredictions:
    """A teacher's predictions for gold texts that its prompt did not show.

    Attributes:
        rows: (M,) the gold texts it answered about.
        predictions: (M,) the label columns it predicted.
    """

    rows: NDArray[np.int64]
    predictions: NDArray[np.int64]


@dataclass(frozen=True)
class NamesLeftOut(NoteRecord):
    """Without gold the label names were no opinion beside the teacher's, since both hardly agree.

    Attributes:
        n_texts: texts of the pool that both labelled.
        kappa: Cohen's, of their most probable labels.
    """

    name = "names_left_out"
    n_texts: int
    kappa: float

    def sentence(self) -> str:
        """Why, and what helps."""
        return (
            f"The label names are not read beside the teacher: both agree on {self.n_texts:,} texts hardly more often "
            f"than by chance (kappa {self.kappa:.2f}), as with names that are codes. Descriptions say more "
            "([task.descriptions]); names_weight under [procedure] decides."
        )


def correct_soft_labels(
    texts: Sequence[str], soft: Floats, teacher_on_gold: GoldPredictions, n_neighbors: int, run: Run
) -> Floats:
    """(N, K) corrected probabilities of N texts; rows sum to one.

    Returned unchanged if the teacher is not shown to be weaker than a student of the gold alone, if there is no gold or
    no money to show it, and for a kind of student without vectors.

    Args:
        texts: N texts.
        soft: (N, K) the teacher's probabilities.
        teacher_on_gold: its predictions for gold texts.
        n_neighbors: neighbours of each text; 0 corrects nothing.
        run: trains the students, and stores a `LabelsCorrected` note.
    """
    gold, has_vectors = run.pool.subset("train"), student_kind(run.spec.student.kind).capabilities.vectors
    if not n_neighbors or not gold.texts or run.task.kind == "multi" or not has_vectors:
        return soft
    try:
        with run.ledger.reserve("training on the corrected labels", run.ledger.free // 2):
            accuracy = _gold_only_accuracy_if_better(run, teacher_on_gold)
            if accuracy is None:
                return soft
            student = run.learn(gold.texts, gold.targets(run.task.n_labels))  # the report shows it in any case
    except BudgetExceeded:
        return soft
    logits = student.predict_logits(texts)
    gold_probs = softmax(logits, temperature_for_accuracy(logits, accuracy))
    corrected = _propagate(run, student, texts, _multiply(soft, gold_probs), n_neighbors)
    changed = float((soft.argmax(axis=1) != corrected.argmax(axis=1)).mean())
    note = LabelsCorrected(len(texts), changed, accuracy)
    run.note(note)
    run.reporter.info(note.sentence())
    return corrected


def add_name_opinion(texts: Sequence[str], soft: Floats, weight: float | Literal["auto"], run: Run) -> Floats:
    """(N, K) a teacher's probabilities and those of the label names as one: a logarithmic opinion pool (Heskes 1998).

    The names are read by the untrained student and refined over the N texts, which knows nothing that the teacher does:
    both err on different texts. Spreading the result among neighbours helped no student (docs/log.md).

    Args:
        texts: N texts that the teacher labelled.
        soft: (N, K) its probabilities.
        weight: of the names, in [0, 1]; "auto" leaves out names that are mere codes, and those that the student cannot
            read or the money is not enough for.
        run: has no gold; stores an `AgreementEstimated` note.

    Raises:
        BadSpec: the student cannot begin from label names.
    """
    gold, capabilities = run.pool.subset("train"), student_kind(run.spec.student.kind).capabilities
    if not weight or run.task.kind == "multi":
        return soft
    if weight == "auto" and not (run.task.kind == "single" and capabilities.zero_shot and capabilities.vectors):
        return soft
    try:
        student = initial_student(run, gold, run.spec.student)
    except BudgetExceeded:
        if weight == "auto":
            return soft
        raise
    names = student_opinion(student, texts, gold)
    teacher = np.log(np.maximum(soft, 1e-9)).astype(np.float32)
    rounds = refine_until_settled([names.scores], [names.vectors], [1.0])
    (refined,) = rounds.scores
    if weight == "auto":
        kappa = cohen_kappa(refined.argmax(axis=1), teacher.argmax(axis=1))
        if not kappa >= MIN_NAMES_KAPPA:  # also where one label is all there is
            note = NamesLeftOut(len(texts), kappa)
            run.note(note)
            run.reporter.info(note.sentence())
            return soft
        weight = NAMES_WEIGHT
    note_refined_names(run, rounds)
    note_agreement(run, refined, teacher, ("The label names", "the teacher"))
    return softmax(weight * refined + (1 - weight) * teacher).astype(np.float32)


def _propagate(run: Run, student: Student, texts: Sequence[str], probs: Floats, n_neighbors: int) -> Floats:
    """(N, K) probabilities after label propagation among random parts of the texts, each with all the gold."""
    gold = run.pool.subset("train")
    targets = gold.targets(run.task.n_labels).astype(np.float32)
    order = np.random.default_rng(run.spec.seed).permutation(len(texts))
    propagated = np.empty_like(probs)
    for rows in np.array_split(order, -(-len(texts) // MAX_GRAPH_TEXTS)):
        vectors = student.embed([*(texts[row] for row in rows), *gold.texts])
        all_probs = np.concatenate([probs[rows], targets])
        propagated[rows] = propagate_labels(all_probs, vectors, len(rows), n_neighbors, self_weight=SELF_WEIGHT)
    return propagated


def _multiply(teacher_probs: Floats, gold_probs: NDArray[np.floating]) -> Floats:
    """(N, K) normalised product of the probabilities of two independent sources."""
    logs = np.log(np.maximum(teacher_probs, 1e-9)) + np.log(np.maximum(gold_probs, 1e-9))
    return np.exp(log_softmax(logs)).astype(np.float32)


def _gold_only_accuracy_if_better(run: Run, teacher_on_gold: GoldPredictions) -> float | None:
    """The cross-validated accuracy of a gold-only student; None unless it is significantly above the teacher's.

    The students train with their kind's quick options: this is fast, and biased in the teacher's favour.
    """
    gold = run.pool.subset("train").gold
    if (teacher_on_gold.predictions != gold[teacher_on_gold.rows]).sum() < MIN_TEACHER_ERRORS:
        return None
    predictions = _cross_validate(run)
    test = mcnemar(gold[teacher_on_gold.rows], predictions[teacher_on_gold.rows], teacher_on_gold.predictions)
    is_better = test.only_a > test.only_b and test.p_exact < MAX_P_VALUE
    return float((predictions == gold).mean()) if is_better else None


def _cross_validate(run: Run) -> NDArray[np.int64]:
    """(N,) predicted columns of the gold texts, each by a student that was not trained on it; -1 if there is none."""
    gold, k = run.pool.subset("train"), run.task.n_labels
    targets, student_spec = gold.targets(k), quick_student(run.spec.student)
    rank = np.empty(len(gold.gold), dtype=np.int64)  # of each text among those of its label, in random order
    for column in range(k):
        rows = np.flatnonzero(gold.gold == column)
        rank[rows] = np.random.default_rng(run.spec.seed).permutation(len(rows))
    predictions = np.full(len(gold.gold), -1)
    for train, held_out in fold_splits(rank % FOLDS):
        if len(train):
            student = run.learn([gold.texts[row] for row in train], targets[train], student=student_spec)
            predictions[held_out] = student.predict_logits([gold.texts[row] for row in held_out]).argmax(axis=1)
    return predictions
