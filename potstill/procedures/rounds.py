"""The rounds of a loop that writes and learns: what each brought, remembered for the report. Decides nothing."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from potstill.briefing import Rows
from potstill.gates import Sorted
from potstill.metrics import Judgement
from potstill.money import to_usd
from potstill.run import Run
from potstill.students.base import Student
from potstill.task import Brief, Written
from potstill.teachers.base import Teacher
from potstill.teachers.writing import shown_texts


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
    """What the teacher wrote in a round, and whether the money ended before it had written all."""

    texts: tuple[Written, ...]
    money_ended: bool = False


@dataclass
class Diary:
    """What is remembered of the rounds, for the report."""

    rounds: int = 0
    written: int = 0
    accepted: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    shown: set[str] = field(default_factory=set)
    money_ended: bool = False

    def add(self, run: Run, after: Round, brief: Brief, bought: Bought, passed: Sorted, better: bool) -> None:
        """A round is over."""
        missing = 0 if bought.money_ended else max(brief.n - len(bought.texts), 0)
        reasons = passed.by_reason | ({"missing": missing} if missing else {})
        self.rounds += 1
        self.written += len(bought.texts)
        self.accepted += len(passed.accepted)
        self.rejected.update(reasons)
        self.shown.update(shown_texts(brief))
        self.money_ended = bought.money_ended
        judged = after.judgement
        run.note(
            "round",
            number=after.number,
            written=len(bought.texts),
            accepted=len(passed.accepted),
            rejected=reasons,
            train=len(after.rows.texts),
            validation_loss=after.loss,
            accuracy=judged.accuracy.value,
            macro_f1=judged.macro_f1.value,
            best=better,
            charged_usd=to_usd(run.ledger.totals().charged),
        )
        kept = [f"{each.label}: {each.text}"[:160] for each in passed.accepted[:3]]
        refused = [f"{each.reason}: {each.text}" for each in passed.rejected[:3]]
        run.note("samples", number=after.number, accepted=kept, rejected=refused)
        what = f"round {after.number}: validation loss {after.loss:.4f}, accuracy {judged.accuracy.value:.1%}"
        run.tell.say(f"{what}; {len(passed.accepted)} of {len(bought.texts)} texts accepted.")

    def close(self, run: Run, teacher: Teacher, best: Round) -> None:
        """The loop is over."""
        reasons = ", ".join(f"{n} {reason}" for reason, n in self.rejected.most_common())
        ended = " The money ended before the rounds did." if self.money_ended else ""
        sentence = (
            f"{teacher.name} wrote {self.written} texts in {self.rounds} rounds, guided by the student's errors; "
            f"{self.accepted} were accepted ({reasons or 'none'} rejected). It was shown {len(self.shown)} training "
            f"texts. The student of round {best.number} had the lowest validation loss and is the one returned.{ended}"
        )
        facts = {"rounds": self.rounds, "written": self.written, "accepted": self.accepted}
        run.note(
            "pgkd", best=best.number, **facts, rejected=dict(self.rejected), ended=self.money_ended, sentence=sentence
        )
