"""A round of a loop that writes and learns: how it is gone through, what it brought, what is remembered for the report.

Does not decide whether there is another one: `pgkd` goes on until its validation loss stops falling, `allocate` weighs
a round against all else that money can buy.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from potstill.data.pool import Subset
from potstill.data.task import GenerationRequest, LabelledText
from potstill.evaluation.metrics import EvaluationResult
from potstill.ledger.prices import Purpose, micros_to_usd
from potstill.procedures.pgkd.filters import FilterResult
from potstill.procedures.pgkd.generation_request import Floats, PgkdOptions, TrainingTexts, make_generation_request
from potstill.run.run import Run
from potstill.run.spec import ComponentSpec
from potstill.students.base import Student
from potstill.teachers.base import Teacher
from potstill.teachers.generation_quotas import prompt_texts

MAX_SAMPLES = 3  # accepted and rejected texts of a round that are noted
MAX_EXCERPT_CHARS = 160  # characters of each


@dataclass(frozen=True)
class RoundStudent:
    """A student after a round, what it learnt, and how it does on the validation texts."""

    round: int
    train: TrainingTexts
    student: Student
    judgement: EvaluationResult

    @property
    def loss(self) -> float:
        """Mean negative log-likelihood of the validation labels."""
        return float("inf") if self.judgement.log_loss is None else self.judgement.log_loss


@dataclass(frozen=True)
class AcquiredTexts:
    """What the teacher wrote or labelled in a round.

    Attributes:
        way: "write" or "label".
        texts: all of it.
        passed: what of it is learnt, and what is not.
        soft: (M, K) what is learnt of the M accepted texts; None takes their labels.
        usd: what it cost.
        money_ended: whether the money ended before all was bought.
    """

    source: str
    texts: tuple[LabelledText, ...]
    filtered: FilterResult
    probs: NDArray[np.floating] | None = None
    usd: float = 0.0
    budget_exhausted: bool = False


@dataclass(frozen=True)
class RoundTrainer:
    """Whom the teacher writes for: how it is taught, and the validation texts that tell how good it is.

    Attributes:
        run: learns and judges.
        options: of the loop.
        held: labelled texts that are never shown.
        student: what it is; None takes the run's own. purpose: what its training is for.
    """

    run: Run
    options: PgkdOptions
    validation: Subset
    student: ComponentSpec | None = None
    purpose: Purpose = "train"

    def fit(self, rows: TrainingTexts, round: int, init_from: RoundStudent | None = None) -> RoundStudent:
        """The pupil after learning these rows."""
        start = init_from.student if init_from is not None and self.options.start == "best" else None
        student = self._learn(rows, start)
        return RoundStudent(round, rows, student, self.run.judge(student, self.validation, f"round {round}"))

    def _learn(self, rows: TrainingTexts, start: Student | None = None) -> Student:
        doubtful = rows.is_generated if self.options.doubt and rows.is_generated.any() else None
        targets = rows.targets(self.run.task.n_labels)
        return self.run.learn(
            rows.texts, targets, noisy=doubtful, init_from=start, student=self.student, purpose=self.purpose
        )

    def training_probs(self, current: RoundStudent) -> Floats:
        """(N, K) what it thinks of its training texts, or with folds, pupils that did not learn them."""
        texts, folds = current.train.texts, self.options.folds
        if folds < 2:
            return current.student.predict_proba(texts)
        fold = np.random.default_rng(self.run.spec.seed).permutation(len(texts)) % folds
        probs = np.empty((len(texts), self.run.task.n_labels), dtype=np.float32)
        for k in range(folds):
            student = self._learn(current.train.select(np.flatnonzero(fold != k)))
            probs[fold == k] = student.predict_proba([texts[i] for i in np.flatnonzero(fold == k)])
        return probs

    def make_request(self, current: RoundStudent, round: int, probs: Floats) -> GenerationRequest:
        """What the teacher is asked to write next."""
        run = self.run
        return make_generation_request(
            run.task, current.train, probs, current.judgement, self.options, (run.spec.seed, round)
        )


@dataclass(frozen=True)
class RoundResult:
    """A round that was gone through: the brief, what was bought by it, and the pupil after it."""

    make_request: GenerationRequest
    acquired: AcquiredTexts
    student: RoundStudent


def run_round(
    trainer: RoundTrainer,
    acquire: Callable[[GenerationRequest, Floats, RoundStudent], AcquiredTexts],
    current: RoundStudent,
    round: int,
    init_from: RoundStudent,
) -> RoundResult:
    """One round: the pupil's errors make a brief, texts are bought by it, and the pupil learns them with all before.

    Args:
        buy: (brief, (N, K) what the pupil thinks of its training texts, the pupil) -> texts; see `Supply.buy`.
        now: the pupil. best: the best so far, from which the next may go on.

    Raises:
        OverBudget: there is no money to learn with.
    """
    probs = trainer.training_probs(current)
    brief = trainer.make_request(current, round, probs)
    bought = acquire(brief, probs, current)
    rows = current.train.with_generated(bought.filtered.accepted, trainer.run.task, bought.probs)
    return RoundResult(brief, bought, trainer.fit(rows, round, init_from))


@dataclass
class RoundLog:
    """What is remembered of the rounds, for the report, and what is said of them while they run."""

    run: Run
    teacher: Teacher
    rounds: int
    baseline: RoundStudent
    n_rounds: int = 0
    n_generated: int = 0
    n_labelled: int = 0
    n_accepted: int = 0
    rejected_by_reason: Counter[str] = field(default_factory=Counter)
    shown_texts: set[str] = field(default_factory=set)
    budget_exhausted: bool = False

    def __post_init__(self) -> None:
        self._note("base", self.baseline, best=True)
        self.run.reporter.info(f"Before it: {self._standing(self.baseline)}.")

    def add(self, after: RoundStudent, brief: GenerationRequest, bought: AcquiredTexts, better: bool) -> None:
        """A round is over."""
        passed, n = bought.filtered, len(bought.texts)
        missing = 0 if bought.budget_exhausted else max(brief.n - n, 0)
        reasons = passed.by_reason | ({"missing": missing} if missing else {})
        self.n_rounds += 1
        self.n_generated += n if bought.source == "write" else 0
        self.n_labelled += n if bought.source == "label" else 0
        self.n_accepted += len(passed.accepted)
        self.rejected_by_reason.update(reasons)
        self.shown_texts.update(prompt_texts(brief) if bought.source == "write" else [])
        self.budget_exhausted = bought.budget_exhausted
        counts: dict[str, Any] = {"way": bought.source, "written": n, "accepted": len(passed.accepted)}
        self._note("round", after, best=better, rejected=reasons, usd=bought.usd, **counts)
        kept = [f"{each.label}: {each.text}"[:MAX_EXCERPT_CHARS] for each in passed.accepted[:MAX_SAMPLES]]
        refused = [f"{each.reason}: {each.text}" for each in passed.rejected[:MAX_SAMPLES]]
        self.run.note("samples", number=after.round, accepted=kept, rejected=refused)
        verb = "texts of the pool labelled" if bought.source == "label" else "texts accepted"
        why = f" ({_listed(reasons)})" if reasons else ""
        self.run.reporter.info(
            f"Round {after.round} of {self.rounds}: {self._standing(after)}{' - the best so far' if better else ''}; "
            f"{len(passed.accepted)} of {n} {verb}{why}."
        )

    def close(self, best: RoundStudent) -> None:
        """The loop is over."""
        ended = " The money ended before the rounds did." if self.budget_exhausted else ""
        labelled = f" It labelled {self.n_labelled} texts of the pool." if self.n_labelled else ""
        sentence = (
            f"{self.teacher.name} wrote {self.n_generated} texts in {self.n_rounds} rounds, guided by the student's errors; "
            f"{self.n_accepted - self.n_labelled} were accepted ({_listed(self.rejected_by_reason) or 'none'} rejected).{labelled} "
            f"It was shown {len(self.shown_texts)} training texts. The student of round {best.round} had the lowest "
            f"validation loss and is the one returned.{ended}"
        )
        facts = {
            "rounds": self.n_rounds,
            "written": self.n_generated,
            "labelled": self.n_labelled,
            "accepted": self.n_accepted,
        }
        rejected = dict(self.rejected_by_reason)
        self.run.note(
            "pgkd", best=best.round, **facts, rejected=rejected, ended=self.budget_exhausted, sentence=sentence
        )

    def _note(self, what: str, after: RoundStudent, **facts: Any) -> None:
        judged = after.judgement
        self.run.note(
            what,
            number=after.round,
            train=len(after.train.texts),
            validation_loss=after.loss,
            accuracy=judged.accuracy.value,
            interval=[judged.accuracy.low, judged.accuracy.high],
            macro_f1=judged.macro_f1.value,
            f1={each.label: round(each.f1, 4) for each in judged.per_class},
            charged_usd=micros_to_usd(self.run.ledger.totals().charged),
            **facts,
        )

    def _standing(self, after: RoundStudent) -> str:
        accuracy, totals = after.judgement.accuracy.value, self.run.ledger.totals()
        return (
            f"validation loss {after.loss:.4f}, accuracy {accuracy:.1%}, "
            f"${micros_to_usd(totals.charged):.4f} of ${micros_to_usd(totals.limit):.2f} charged"
        )


def _listed(reasons: Mapping[str, int]) -> str:
    return ", ".join(f"{n} {reason}" for reason, n in sorted(reasons.items(), key=lambda each: -each[1]))
