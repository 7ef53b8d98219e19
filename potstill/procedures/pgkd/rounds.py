"""The parts of a PGKD round: its student, its texts, the trainer, and the log of all rounds.

Does not decide whether there is another round: `pgkd` goes on until the validation loss stops falling, `allocate`
compares a round with everything else that the budget can buy.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from potstill.data.pool import Subset
from potstill.data.task import GenerationRequest, LabelledText
from potstill.evaluation.cross_validation import fold_splits, random_folds
from potstill.evaluation.metrics import EvaluationResult, Score
from potstill.ledger.prices import Purpose, micros_to_usd
from potstill.procedures.pgkd.filters import MAX_EXCERPT_CHARS, FilterResult
from potstill.procedures.pgkd.generation_request import Floats, PgkdOptions, TrainingTexts
from potstill.run.notes import (
    AcquisitionCounts,
    RejectedExcerpt,
    RoundFacts,
    RoundSamples,
    RoundsFinished,
    list_reasons,
)
from potstill.run.run import Run
from potstill.run.spec import ComponentSpec, quick_student
from potstill.students.base import RowTrust, Student
from potstill.teachers.base import Teacher
from potstill.teachers.generation_quotas import prompt_texts

SourceName = Literal["generate", "label"]
MAX_SAMPLES = 3  # accepted and rejected texts of a round that the log stores


@dataclass(frozen=True)
class RoundScores:
    """A student's scores on the validation set.

    Attributes:
        main: what rounds are compared by, unless it is the loss.
        macro_f1: its macro F1.
        by_label: label -> F1; of answers in words, group of texts -> score.
        loss: mean negative log-likelihood of the labels; None in text-to-text tasks.
        metric: what `main` is, in words.
    """

    main: Score
    macro_f1: float
    by_label: Mapping[str, float]
    loss: float | None = None
    metric: str = "accuracy"

    def describe(self) -> str:
        """The scores in a few words."""
        main = f"{self.metric} {self.main.value:.1%}"
        return main if self.loss is None else f"validation loss {self.loss:.4f}, {main}"


class EvaluatedRound(Protocol):
    """The student after a round, as `RoundLog` records it."""

    @property
    def round(self) -> int:
        """The number of the round; 0 is before the first."""

    @property
    def n_train(self) -> int:
        """Texts it was trained on."""

    @property
    def scores(self) -> RoundScores:
        """Its scores on the validation set."""

    @property
    def untrained_labels(self) -> tuple[str, ...]:
        """Labels without a training text."""

    @property
    def unmeasured_labels(self) -> tuple[str, ...]:
        """Those of them without a validation text."""


@dataclass(frozen=True)
class RoundStudent:
    """The student after a round, the texts it was trained on, and its evaluation on the validation set."""

    round: int
    train: TrainingTexts
    student: Student
    evaluation: EvaluationResult

    @property
    def loss(self) -> float:
        """Mean negative log-likelihood of the validation labels."""
        return float("inf") if self.evaluation.log_loss is None else self.evaluation.log_loss

    @property
    def rank(self) -> tuple[int, float]:
        """The lower, the better: labels without a training text, which it can never predict, then the loss."""
        return len(self.untrained_labels), self.loss

    @property
    def n_train(self) -> int:
        """Texts it was trained on."""
        return len(self.train.texts)

    @property
    def scores(self) -> RoundScores:
        """See `EvaluatedRound.scores`."""
        by_label = {each.label: round(each.f1, 4) for each in self.evaluation.per_class}
        return RoundScores(self.evaluation.accuracy, self.evaluation.macro_f1.value, by_label, self.loss)

    @property
    def untrained_labels(self) -> tuple[str, ...]:
        """See `EvaluatedRound.untrained_labels`."""
        classes = self.evaluation.per_class
        return tuple(classes[k].label for k in self.train.untrained(len(classes)))

    @property
    def unmeasured_labels(self) -> tuple[str, ...]:
        """See `EvaluatedRound.unmeasured_labels`."""
        measured = {each.label for each in self.evaluation.per_class if each.support}
        return tuple(label for label in self.untrained_labels if label not in measured)


@dataclass(frozen=True)
class AcquiredTexts:
    """The N texts that were bought for a round, before the filters.

    Attributes:
        source: whether the teacher generated or labelled them.
        texts: the texts with their labels.
        probs: (N, K) their targets; None for their labels.
        budget_exhausted: whether the money ended before all were bought.
        request: what the round asks the teacher to generate; None if it labels.
        requests: the calls of `generate` that this became.
        seed: of the round's request.
        charged_before: micro-dollars charged in the run before they were bought.
    """

    source: SourceName
    texts: tuple[LabelledText, ...]
    probs: NDArray[np.floating] | None = None
    budget_exhausted: bool = False
    request: GenerationRequest | None = None
    requests: tuple[GenerationRequest, ...] = ()
    seed: int = 0
    charged_before: int = 0

    @property
    def shown(self) -> tuple[str, ...]:
        """The training texts that the requests showed."""
        return tuple(text for request in self.requests for text in prompt_texts(request))

    @property
    def first_counts(self) -> dict[str, int]:
        """Label -> how many texts of it the round asked for at first; empty if that was left to the teacher."""
        if self.request is not None and self.request.feedback is not None and self.request.feedback.label_counts:
            return dict(self.request.feedback.label_counts)
        parts = [part for each in self.requests for part in (each.parts or (each,)) if part.seed == self.seed]
        return {part.label: part.n for part in parts if part.label}


@dataclass(frozen=True)
class FilteredTexts:
    """The texts of a round after the filters.

    Attributes:
        acquired: all that were bought.
        result: the M accepted texts, and the rejected ones with reasons.
        probs: (M, K) targets of the accepted texts; None trains on their labels.
        usd: the price of all.
    """

    acquired: AcquiredTexts
    result: FilterResult
    probs: NDArray[np.floating] | None = None
    usd: float = 0.0

    @property
    def accepted(self) -> tuple[LabelledText, ...]:
        """The M texts that are trained on."""
        return self.result.accepted


@dataclass(frozen=True)
class RoundTrainer:
    """Trains the student of each round and evaluates it.

    Attributes:
        run: trains and evaluates.
        options: of `pgkd`.
        validation: labelled texts that no request shows.
        student: its kind and options; None trains the run's.
        purpose: what the ledger books its training under.
    """

    run: Run
    options: PgkdOptions
    validation: Subset
    student: ComponentSpec | None = None
    purpose: Purpose = "train"

    def fit(self, rows: TrainingTexts, round: int, init_from: RoundStudent | None = None) -> RoundStudent:
        """Train the student on `rows`, from the weights of `init_from` with `warm_start`, and evaluate it."""
        start = init_from.student if init_from is not None and self.options.warm_start else None
        student = self._learn(rows, self.student, start)
        return RoundStudent(round, rows, student, self.run.evaluate(student, self.validation, f"round {round}"))

    def _learn(self, rows: TrainingTexts, student: ComponentSpec | None, start: Student | None = None) -> Student:
        noisy = rows.is_generated if self.options.noisy_labels and rows.is_generated.any() else None
        targets = rows.targets(self.run.task.n_labels)
        return self.run.learn(
            rows.texts,
            targets,
            trust=RowTrust(noisy=noisy),
            init_from=start,
            student=student,
            purpose=self.purpose,
        )

    def training_probs(self, current: RoundStudent) -> Floats:
        """(N, K) the student's probabilities of N training texts; with `cv_folds`, of students not trained on it."""
        texts, folds = current.train.texts, self.options.cv_folds
        if folds < 2:
            return current.student.predict_proba(texts)
        named = self.student
        if self.options.cv_quick:
            named = quick_student(named or self.run.spec.student)
        probs = np.empty((len(texts), self.run.task.n_labels), dtype=np.float32)
        for train, held_out in fold_splits(random_folds(len(texts), folds, self.run.spec.seed)):
            student = self._learn(current.train.select(train), named)
            probs[held_out] = student.predict_proba([texts[i] for i in held_out])
        return probs


@dataclass
class RoundLog:
    """Records each PGKD round for the report and prints its progress.

    Attributes:
        run: whose notes and reporter are written to.
        teacher: the teacher that generates.
        max_rounds: rounds at most.
        baseline: the student before the first round.
        label_of: of a generated text, what is noted as its label.
    """

    run: Run
    teacher: Teacher
    max_rounds: int
    baseline: EvaluatedRound
    label_of: Callable[[LabelledText], str] = attrgetter("label")
    n_rounds: int = 0
    n_generated: int = 0
    n_labelled: int = 0
    n_accepted: int = 0
    rejected_by_reason: Counter[str] = field(default_factory=Counter)
    shown_texts: set[str] = field(default_factory=set)
    n_without_improvement: int = 0
    budget_exhausted: bool = False

    def __post_init__(self) -> None:
        self._note(self.baseline, True, AcquisitionCounts())
        self.run.reporter.info(f"Before the first round: {self._describe(self.baseline)}.")

    def add(self, request: GenerationRequest, filtered: FilteredTexts, student: EvaluatedRound, improved: bool) -> None:
        """Record a finished round."""
        acquired, result = filtered.acquired, filtered.result
        n, n_accepted = len(acquired.texts), len(result.accepted)
        missing = 0 if acquired.budget_exhausted else max(request.n - n, 0)
        reasons = result.by_reason | ({"missing": missing} if missing else {})
        generates = acquired.source == "generate"
        self.n_rounds += 1
        self.n_without_improvement = 0 if improved else self.n_without_improvement + 1
        self.n_generated += n if generates else 0
        self.n_labelled += 0 if generates else n
        self.n_accepted += n_accepted
        self.rejected_by_reason.update(reasons)
        self.shown_texts.update(acquired.shown)
        self.budget_exhausted = acquired.budget_exhausted
        counts = AcquisitionCounts(acquired.source, n, n_accepted, reasons, filtered.usd)
        self._note(student, improved, counts)
        accepted = tuple(
            LabelledText(each.text[:MAX_EXCERPT_CHARS], self.label_of(each)) for each in result.accepted[:MAX_SAMPLES]
        )
        rejected = tuple(RejectedExcerpt(each.text, each.reason) for each in result.rejected[:MAX_SAMPLES])
        self.run.note(RoundSamples(student.round, accepted, rejected))
        title = "generated texts accepted" if generates else "texts of the pool labelled"
        listed = f" ({list_reasons(reasons)})" if reasons else ""
        self.run.reporter.info(
            f"Round {student.round} of {self.max_rounds}: {self._describe(student)}"
            f"{' - the best so far' if improved else ''}; {n_accepted} of {n} {title}{listed}."
        )

    def close(self, best: EvaluatedRound) -> None:
        """Record the end of the loop and the student that is returned."""
        scores = best.scores
        self.run.note(
            RoundsFinished(
                teacher=self.teacher.name,
                best_round=best.round,
                n_rounds=self.n_rounds,
                n_generated=self.n_generated,
                n_labelled=self.n_labelled,
                n_accepted=self.n_accepted,
                n_shown=len(self.shown_texts),
                rejected_by_reason=dict(self.rejected_by_reason),
                budget_exhausted=self.budget_exhausted,
                labels_without_gold=self.baseline.untrained_labels,
                labels_without_validation=self.baseline.unmeasured_labels,
                selected_by="lowest validation loss" if scores.loss is not None else f"highest {scores.metric}",
            )
        )

    def _note(self, student: EvaluatedRound, is_best: bool, acquired: AcquisitionCounts) -> None:
        scores = student.scores
        self.run.note(
            RoundFacts(
                round=student.round,
                n_train=student.n_train,
                validation_loss=scores.loss,
                accuracy=scores.main.value,
                accuracy_low=scores.main.low,
                accuracy_high=scores.main.high,
                macro_f1=scores.macro_f1,
                f1=scores.by_label,
                charged_usd=micros_to_usd(self.run.ledger.totals().charged),
                is_best=is_best,
                acquired=acquired,
                metric=scores.metric,
            )
        )

    def _describe(self, student: EvaluatedRound) -> str:
        totals = self.run.ledger.totals()
        charged = f"${micros_to_usd(totals.charged):.4f} of ${micros_to_usd(totals.limit):.2f} charged"
        return f"{student.scores.describe()}, {charged}"
