"""Opinions of unlabelled texts: a student's and a larger trained model's, combined and spread among neighbours.

Two networks that were trained apart on the same few labels err on different texts (co-training: Blum and Mitchell 1998;
mutual teaching). Their probabilities are multiplied (a logarithmic opinion pool: Heskes 1998), and spread over a graph
of nearest neighbours by the mean of their cosines (label spreading: Zhou et al. 2004). Each model may then learn from
what both found: a regression on its vectors, which are kept, is fitted on the result, and the new opinions combined.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from potstill.data.pool import Subset
from potstill.evaluation.calibration import Calibration, log_softmax, softmax
from potstill.evaluation.label_free_accuracy import accuracy_from_agreement, labels_for_interval
from potstill.ledger.prices import Purchase
from potstill.procedures.label_propagation import propagate_labels
from potstill.procedures.name_opinions import RefinedNames
from potstill.procedures.soft_labels import open_kd_teacher
from potstill.run.notes import NoteRecord
from potstill.run.run import Run
from potstill.students.base import Floats, Student
from potstill.students.logistic_regression import SolverOptions, fit_regression
from potstill.teachers.trained import StudentTeacher

# Of the regressions on combined opinions; chosen on train texts of BANKING77 that no fold had seen (docs/log.md).
REFIT_C, REFIT_GOLD_WEIGHT = 3.0, 2.0


@dataclass(frozen=True)
class Opinion:
    """What a model makes of N unlabelled and M labelled texts.

    Attributes:
        scores: (N, K) log-probabilities of the unlabelled texts; zeros where it was not asked.
        vectors: (N + M, D) embeddings of length one, the unlabelled texts first.
    """

    scores: Floats
    vectors: Floats


@dataclass(frozen=True)
class AgreementEstimated(NoteRecord):
    """Without gold: the agreement of two opinions of the pool, and the accuracy they would have if independent.

    Attributes:
        one, other: whose opinions.
        n_texts: texts that both labelled.
        agreement: share of them with the same most probable label.
        accuracy: of each, if they erred independently; too high by the errors they share.
        n_to_measure: labelled test texts that measure an accuracy as high as the agreement to within five points.
    """

    name = "agreement_estimated"
    one: str
    other: str
    n_texts: int
    agreement: float
    accuracy: float
    n_to_measure: int

    def sentence(self) -> str:
        """The estimate, and what it is worth."""
        return (
            f"No gold label was given. {self.one} and {self.other} give the same label to {self.agreement:.0%} of "
            f"{self.n_texts:,} texts; if they erred independently, each would be right on {self.accuracy:.0%}. They "
            "share errors: of two encoders on five public sets the latter was from 3 points too low to 38 too high. "
            f"{self.n_to_measure} labelled test texts measure the accuracy to within 5 points."
        )


@dataclass(frozen=True)
class NamesRefined(NoteRecord):
    """Without gold the label names were refined over the pool, in rounds.

    Attributes:
        n_texts: texts of the pool.
        kept: the round whose labels were learnt, 0 before the first.
        reason: why, as `evaluation.kept_round.KeptRound` has it.
        changed: for each round the share of labels that it changed.
        agreement: of two encoders that were refined alone, before the first round and after each; empty with one.
    """

    name = "names_refined"
    n_texts: int
    kept: int
    reason: str
    changed: tuple[float, ...] = ()
    agreement: tuple[float, ...] = ()

    def sentence(self) -> str:
        """Which round was kept, and why."""
        n, last = len(self.changed), f"{self.changed[-1]:.1%} of the labels" if self.changed else ""
        if self.reason == "agreement":
            why = (
                f": there two encoders agree on {self.agreement[self.kept]:.0%} of the texts, after round {n} on "
                f"{self.agreement[-1]:.0%}"
            )
        elif self.reason == "settled":
            why = f", which changed {last}"
        elif self.reason == "unsettled":
            why = f", as round {n} still changed {last}: the names may say little about these texts, so describe them"
        else:
            why = ", as name_rounds asks"
        alone = "" if self.agreement else " One encoder alone gives no estimate of the accuracy; a second one does."
        return (
            f"No gold label was given. The label names were refined over {self.n_texts:,} texts; round {self.kept} of "
            f"{n} is kept{why}.{alone}"
        )


def note_refined_names(run: Run, refined: RefinedNames) -> None:
    """Note the round of refined label names that is kept, and say why."""
    kept = refined.kept
    note = NamesRefined(len(refined.scores[0]), kept.round, kept.reason, refined.changed, refined.agreement)
    run.note(note)
    run.reporter.info(note.sentence())


def student_opinion(student: Student, texts: Sequence[str], gold: Subset) -> Opinion:
    """A student's opinion."""
    scores = log_softmax(student.predict_logits(list(texts))).astype(np.float32)
    return Opinion(scores, student.embed([*texts, *gold.texts]))


def teacher_opinion(run: Run, texts: Sequence[str], gold: Subset) -> Opinion:
    """The opinion of the spec's trained teacher, which is trained on the gold first; all of it is charged by the clock.

    Raises:
        BudgetExceeded: no money is left to train it, or for its vectors.
    """
    teacher = cast(StudentTeacher, open_kd_teacher(run, gold, []))
    with run.reserve_training():
        answers = run.ask(teacher, texts)
    scores = np.where(answers.answered[:, None], np.nan_to_num(answers.scores), 0.0).astype(np.float32)
    run.record_teacher(teacher, Calibration((0.0,) * run.task.n_labels), answers)
    purchase = Purchase("compute", "teach", f"embed {len(texts)} texts with {teacher.name}", len(texts))
    with run.ledger.hold_compute(max(run.ledger.available, 1), run.spec.compute_rates, purchase):
        vectors = cast(Student, teacher.student).embed([*texts, *gold.texts])
    return Opinion(scores, vectors)


def combine_opinions(
    opinions: Sequence[Opinion], weights: Sequence[float], targets: Floats, temperature: float, n_neighbors: int
) -> Floats:
    """(N, K) probabilities of the unlabelled texts: the weighted product of all opinions, spread among neighbours.

    Args:
        opinions: one or several, of the same texts.
        weights: of the opinions, in sum one.
        targets: (M, K) of the labelled texts, which stay as they are.
        temperature: divides the mean log-probabilities; below one sharpens them.
        n_neighbors: nearest by the mean cosine of all opinions' vectors; 0 for no spreading.
    """
    scores = sum(weight * opinion.scores for weight, opinion in zip(weights, opinions, strict=True))
    probs = softmax(np.asarray(scores), temperature).astype(np.float32)
    if not n_neighbors:
        return probs
    # The dot product of joined vectors is the sum of the dot products.
    joined = np.concatenate([np.sqrt(1 / len(opinions)) * opinion.vectors for opinion in opinions], axis=1)
    return propagate_labels(np.concatenate([probs, targets]), joined.astype(np.float32), len(probs), n_neighbors)


def note_agreement(run: Run, one: Floats, other: Floats, names: tuple[str, str]) -> None:
    """Note how often the (N, K) scores of two opinions agree, and the accuracy if they were independent."""
    columns, others = one.argmax(axis=1), other.argmax(axis=1)
    estimate = accuracy_from_agreement(columns, others, run.task.n_labels)
    agreement = float((columns == others).mean())
    note = AgreementEstimated(*names, len(columns), agreement, estimate, labels_for_interval(agreement))
    run.note(note)
    run.reporter.info(note.sentence())


def refit_heads(opinions: Sequence[Opinion], probs: Floats, targets: Floats) -> list[Opinion]:
    """The opinions of regressions on the models' vectors, fitted on combined probabilities and on the gold.

    Args:
        opinions: of N unlabelled and M labelled texts.
        probs: (N, K) combined probabilities of the unlabelled texts.
        targets: (M, K) of the labelled texts.
    """
    n = len(probs)
    weights = np.concatenate([np.ones(n), np.full(len(targets), REFIT_GOLD_WEIGHT)]).astype(np.float32)
    refitted = []
    for opinion in opinions:
        solver = SolverOptions(c=REFIT_C, tolerance=1e-4)
        head = fit_regression(opinion.vectors, np.concatenate([probs, targets]), weights, solver)
        scores = log_softmax(opinion.vectors[:n] @ head.weights + head.bias)
        refitted.append(Opinion(scores.astype(np.float32), opinion.vectors))
    return refitted
