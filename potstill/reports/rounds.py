"""The rounds of a loop that writes and learns (pgkd), read off a run's notes: what each cost and what it brought.

The accuracy here is that on the validation texts, which steer the loop: it says how the rounds compare, not how good
the student is. Draws nothing but its own chart; knows no recipe.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from potstill.reports import charts
from potstill.run.notes import RoundFacts, RoundSamples, RoundsFinished, TimedNote

SAMPLES = 6  # accepted and rejected texts that are shown
TICKS = 4


@dataclass(frozen=True, kw_only=True)
class RoundRecord:
    """One round; number 0 is the student before the first.

    Attributes:
        train: texts learnt. written: texts the teacher wrote, or labelled (`way`). accepted, rejected: of those.
        validation_loss: natural-log loss a text. accuracy, low, high: on the validation texts, with its interval.
        charged_usd: by the whole run, when the round was over.
        best: whether the loss was the lowest so far.
    """

    number: int
    train: int
    validation_loss: float
    accuracy: float
    low: float
    high: float
    macro_f1: float
    charged_usd: float
    best: bool
    action: str = ""
    written: int = 0
    accepted: int = 0
    rejected: Mapping[str, int] = field(default_factory=dict)

    @property
    def rejected_reasons(self) -> str:
        """What was rejected, in words."""
        return ", ".join(f"{n} {reason}" for reason, n in sorted(self.rejected.items(), key=lambda each: -each[1]))


@dataclass(frozen=True, kw_only=True)
class RoundHistory:
    """All rounds, the first with number 0.

    Attributes:
        returned: the number of the round whose student was taken.
        before, after: label -> F1 on the validation texts, of the student before the first round and of the one taken.
        accepted: "label: text" of some texts that were learnt. refused: "reason: text" of some that were not.
    """

    rounds: tuple[RoundRecord, ...]
    best_round: int
    before: Mapping[str, float] = field(default_factory=dict)
    after: Mapping[str, float] = field(default_factory=dict)
    accepted: tuple[str, ...] = ()
    rejected: tuple[str, ...] = ()

    @property
    def changes(self) -> tuple[tuple[str, float, float], ...]:
        """(label, F1 before, F1 after), the largest change first."""
        rows = [(label, f1, self.after.get(label, f1)) for label, f1 in self.before.items()]
        return tuple(sorted(rows, key=lambda row: (-abs(row[2] - row[1]), row[0])))


def read_rounds(notes: Iterable[TimedNote]) -> RoundHistory | None:
    """The rounds that a run noted; None if there were none.

    A resumed run notes its rounds again, with the money charged by then, so the first note of each round counts.
    """
    rows: dict[int, RoundFacts] = {}
    samples: dict[int, RoundSamples] = {}
    end: RoundsFinished | None = None
    for note in notes:
        record = note.record
        if isinstance(record, RoundFacts):
            rows.setdefault(record.round, record)
        elif isinstance(record, RoundSamples):
            samples.setdefault(record.round, record)
        elif isinstance(record, RoundsFinished):
            end = record
    if 0 not in rows or end is None:
        return None
    shown = [each for _, each in sorted(samples.items())]
    return RoundHistory(
        rounds=tuple(_round(rows[number]) for number in sorted(rows)),
        best_round=end.best_round,
        before=rows[0].f1,
        after=rows.get(end.best_round, rows[0]).f1,
        accepted=_spread([[f"{one.label}: {one.text}" for one in each.accepted] for each in shown]),
        rejected=_spread([[f"{one.reason}: {one.text}" for one in each.rejected] for each in shown]),
    )


def _round(facts: RoundFacts) -> RoundRecord:
    acquired = facts.acquired
    return RoundRecord(
        number=facts.round,
        train=facts.n_train,
        validation_loss=facts.validation_loss,
        accuracy=facts.accuracy,
        low=facts.accuracy_low,
        high=facts.accuracy_high,
        macro_f1=facts.macro_f1,
        charged_usd=facts.charged_usd,
        best=facts.is_best,
        action=acquired.source,
        written=acquired.n_texts,
        accepted=acquired.n_accepted,
        rejected=acquired.rejected_by_reason,
    )


def _spread(lists: list[list[str]]) -> tuple[str, ...]:
    """A few of each round, one of every round before a second of any."""
    deepest = max(map(len, lists), default=0)
    turns = (each[depth] for depth in range(deepest) for each in lists if depth < len(each))
    return tuple(dict.fromkeys(turns))[:SAMPLES]


def draw_rounds(found: RoundHistory) -> str:
    """Validation accuracy over the money charged, with its interval; the round that was taken is a ring."""
    most = max(each.charged_usd for each in found.rounds)
    if len(found.rounds) < 2 or not most > 0:
        return ""
    dots = [_dot(each, most) for each in found.rounds]
    taken = next((dot for dot, each in zip(dots, found.rounds, strict=True) if each.number == found.best_round), None)
    axis = [charts.Tick(nth / TICKS, f"${_sum(most * nth / TICKS)}") for nth in range(TICKS + 1)]
    title = "Accuracy on the validation texts over the money charged, round by round"
    return charts.line_chart(dots, key="rounds", title=title, highlight=taken, axis=axis)


def _dot(each: RoundRecord, most: float) -> charts.Dot:
    return charts.Dot(each.charged_usd / most, each.accuracy, each.low, each.high)


def _sum(usd: float) -> str:
    return f"{usd:.2f}" if usd >= 1 or not usd else f"{usd:.2g}"
