"""The rounds of a loop that writes and learns: what each brought, remembered for the report. Decides nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from potstill.briefing import Rows
from potstill.gates import Sorted
from potstill.metrics import Judgement
from potstill.money import to_usd
from potstill.run import Run
from potstill.students.base import Student
from potstill.task import Brief, Written
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
