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

from potstill.data.pool import Part
from potstill.data.task import Brief, Written
from potstill.evaluation.metrics import Judgement
from potstill.ledger.prices import Purpose, to_usd
from potstill.procedures.pgkd.brief import Floats, PgkdOptions, Rows, make_brief
from potstill.procedures.pgkd.filters import Sorted
from potstill.run.run import Run
from potstill.run.spec import Named
from potstill.students.base import Student
from potstill.teachers.base import Teacher
from potstill.teachers.writing import shown_texts

SAMPLES = 3  # accepted and rejected texts of a round that are noted
QUOTED = 160  # characters of each


@dataclass(frozen=True)
class Round:
    """A student after a round, what it learnt, and how it does on the validation texts."""

    number: int
    rows: Rows
    student: Student
    judgement: Judgement

    @property
    def loss(self) -> float:
        """Mean negative log-likelihood of the validation labels."""
        return float("inf") if self.judgement.log_loss is None else self.judgement.log_loss


@dataclass(frozen=True)
class Bought:
    """What the teacher wrote or labelled in a round.

    Attributes:
        way: "write" or "label".
        texts: all of it.
        passed: what of it is learnt, and what is not.
        soft: (M, K) what is learnt of the M accepted texts; None takes their labels.
        usd: what it cost.
        money_ended: whether the money ended before all was bought.
    """

    way: str
    texts: tuple[Written, ...]
    passed: Sorted
    soft: NDArray[np.floating] | None = None
    usd: float = 0.0
    money_ended: bool = False


@dataclass(frozen=True)
class Pupil:
    """Whom the teacher writes for: how it is taught, and the validation texts that tell how good it is.

    Attributes:
        run: learns and judges.
        options: of the loop.
        held: labelled texts that are never shown.
        student: what it is; None takes the run's own. purpose: what its training is for.
    """

    run: Run
    options: PgkdOptions
    held: Part
    student: Named | None = None
    purpose: Purpose = "train"

    def taught(self, rows: Rows, number: int, best: Round | None = None) -> Round:
        """The pupil after learning these rows."""
        start = best.student if best is not None and self.options.start == "best" else None
        student = self._learn(rows, start)
        return Round(number, rows, student, self.run.judge(student, self.held, f"round {number}"))

    def _learn(self, rows: Rows, start: Student | None = None) -> Student:
        doubtful = rows.written if self.options.doubt and rows.written.any() else None
        targets = rows.targets(self.run.task.n_labels)
        return self.run.learn(
            rows.texts, targets, doubtful=doubtful, start=start, student=self.student, purpose=self.purpose
        )

    def predicted(self, now: Round) -> Floats:
        """(N, K) what it thinks of its training texts, or with folds, pupils that did not learn them."""
        texts, folds = now.rows.texts, self.options.folds
        if folds < 2:
            return now.student.predict_proba(texts)
        fold = np.random.default_rng(self.run.spec.seed).permutation(len(texts)) % folds
        probs = np.empty((len(texts), self.run.task.n_labels), dtype=np.float32)
        for k in range(folds):
            student = self._learn(now.rows.at(np.flatnonzero(fold != k)))
            probs[fold == k] = student.predict_proba([texts[i] for i in np.flatnonzero(fold == k)])
        return probs

    def brief(self, now: Round, number: int, probs: Floats) -> Brief:
        """What the teacher is asked to write next."""
        run = self.run
        return make_brief(run.task, now.rows, probs, now.judgement, self.options, (run.spec.seed, number))


@dataclass(frozen=True)
class Taken:
    """A round that was gone through: the brief, what was bought by it, and the pupil after it."""

    brief: Brief
    bought: Bought
    after: Round


def take_round(
    pupil: Pupil, buy: Callable[[Brief, Floats, Round], Bought], now: Round, number: int, best: Round
) -> Taken:
    """One round: the pupil's errors make a brief, texts are bought by it, and the pupil learns them with all before.

    Args:
        buy: (brief, (N, K) what the pupil thinks of its training texts, the pupil) -> texts; see `Supply.buy`.
        now: the pupil. best: the best so far, from which the next may go on.

    Raises:
        OverBudget: there is no money to learn with.
    """
    probs = pupil.predicted(now)
    brief = pupil.brief(now, number, probs)
    bought = buy(brief, probs, now)
    rows = now.rows.plus(bought.passed.accepted, pupil.run.task, bought.soft)
    return Taken(brief, bought, pupil.taught(rows, number, best))


@dataclass
class Diary:
    """What is remembered of the rounds, for the report, and what is said of them while they run."""

    run: Run
    teacher: Teacher
    rounds: int
    first: Round
    done: int = 0
    written: int = 0
    labelled: int = 0
    accepted: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    shown: set[str] = field(default_factory=set)
    money_ended: bool = False

    def __post_init__(self) -> None:
        self._note("base", self.first, best=True)
        self.run.tell.say(f"Before it: {self._standing(self.first)}.")

    def add(self, after: Round, brief: Brief, bought: Bought, better: bool) -> None:
        """A round is over."""
        passed, n = bought.passed, len(bought.texts)
        missing = 0 if bought.money_ended else max(brief.n - n, 0)
        reasons = passed.by_reason | ({"missing": missing} if missing else {})
        self.done += 1
        self.written += n if bought.way == "write" else 0
        self.labelled += n if bought.way == "label" else 0
        self.accepted += len(passed.accepted)
        self.rejected.update(reasons)
        self.shown.update(shown_texts(brief) if bought.way == "write" else [])
        self.money_ended = bought.money_ended
        counts: dict[str, Any] = {"way": bought.way, "written": n, "accepted": len(passed.accepted)}
        self._note("round", after, best=better, rejected=reasons, usd=bought.usd, **counts)
        kept = [f"{each.label}: {each.text}"[:QUOTED] for each in passed.accepted[:SAMPLES]]
        refused = [f"{each.reason}: {each.text}" for each in passed.rejected[:SAMPLES]]
        self.run.note("samples", number=after.number, accepted=kept, rejected=refused)
        verb = "texts of the pool labelled" if bought.way == "label" else "texts accepted"
        why = f" ({_listed(reasons)})" if reasons else ""
        self.run.tell.say(
            f"Round {after.number} of {self.rounds}: {self._standing(after)}{' - the best so far' if better else ''}; "
            f"{len(passed.accepted)} of {n} {verb}{why}."
        )

    def close(self, best: Round) -> None:
        """The loop is over."""
        ended = " The money ended before the rounds did." if self.money_ended else ""
        labelled = f" It labelled {self.labelled} texts of the pool." if self.labelled else ""
        sentence = (
            f"{self.teacher.name} wrote {self.written} texts in {self.done} rounds, guided by the student's errors; "
            f"{self.accepted - self.labelled} were accepted ({_listed(self.rejected) or 'none'} rejected).{labelled} "
            f"It was shown {len(self.shown)} training texts. The student of round {best.number} had the lowest "
            f"validation loss and is the one returned.{ended}"
        )
        facts = {"rounds": self.done, "written": self.written, "labelled": self.labelled, "accepted": self.accepted}
        rejected = dict(self.rejected)
        self.run.note("pgkd", best=best.number, **facts, rejected=rejected, ended=self.money_ended, sentence=sentence)

    def _note(self, what: str, after: Round, **facts: Any) -> None:
        judged = after.judgement
        self.run.note(
            what,
            number=after.number,
            train=len(after.rows.texts),
            validation_loss=after.loss,
            accuracy=judged.accuracy.value,
            interval=[judged.accuracy.low, judged.accuracy.high],
            macro_f1=judged.macro_f1.value,
            f1={each.label: round(each.f1, 4) for each in judged.per_class},
            charged_usd=to_usd(self.run.ledger.totals().charged),
            **facts,
        )

    def _standing(self, after: Round) -> str:
        accuracy, totals = after.judgement.accuracy.value, self.run.ledger.totals()
        return (
            f"validation loss {after.loss:.4f}, accuracy {accuracy:.1%}, "
            f"${to_usd(totals.charged):.4f} of ${to_usd(totals.limit):.2f} charged"
        )


def _listed(reasons: Mapping[str, int]) -> str:
    return ", ".join(f"{n} {reason}" for reason, n in sorted(reasons.items(), key=lambda each: -each[1]))
