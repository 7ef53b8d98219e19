"""The rounds of a recipe that works in rounds, read from a run's notes: what each cost and what it gained.

The scores here are on the validation texts, which select the round: they compare the rounds, and do not measure the
student. Draws only its own chart; independent of recipes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from potstill.reports import charts
from potstill.run.notes import RoundFacts, RoundSamples, RoundsFinished, TimedNote

MAX_SAMPLES = 6  # accepted and rejected texts that are shown
TICKS = 4


@dataclass(frozen=True, kw_only=True)
class RoundHistory:
    """All rounds, from round 0, the student before the first.

    Attributes:
        rounds: in order.
        best_round: the number of the round whose student was returned.
        accepted_samples: "label: text" of some texts that were trained on.
        rejected_samples: "reason: text" of some that were not.
    """

    rounds: tuple[RoundFacts, ...]
    best_round: int
    accepted_samples: tuple[str, ...] = ()
    rejected_samples: tuple[str, ...] = ()

    @property
    def best(self) -> RoundFacts:
        """The round whose student was returned."""
        return next((each for each in self.rounds if each.round == self.best_round), self.rounds[0])

    @property
    def metric(self) -> str:
        """What the rounds' accuracy is, in words."""
        return self.rounds[0].metric

    @property
    def changes(self) -> tuple[tuple[str, float, float], ...]:
        """(label, validation F1 of round 0, of the best round), the largest change first."""
        after = self.best.f1
        rows = [(label, f1, after.get(label, f1)) for label, f1 in self.rounds[0].f1.items()]
        return tuple(sorted(rows, key=lambda row: (-abs(row[2] - row[1]), row[0])))


def read_rounds(notes: Iterable[TimedNote]) -> RoundHistory | None:
    """The rounds in a run's notes; None if there are none.

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
        rounds=tuple(rows[number] for number in sorted(rows)),
        best_round=end.best_round,
        accepted_samples=_spread([[f"{one.label}: {one.text}" for one in each.accepted] for each in shown]),
        rejected_samples=_spread([[f"{one.reason}: {one.text}" for one in each.rejected] for each in shown]),
    )


def _spread(lists: list[list[str]]) -> tuple[str, ...]:
    """A few of each round, one of every round before a second of any."""
    longest = max(map(len, lists), default=0)
    in_turn = (each[depth] for depth in range(longest) for each in lists if depth < len(each))
    return tuple(dict.fromkeys(in_turn))[:MAX_SAMPLES]


def draw_rounds(history: RoundHistory) -> str:
    """The metric on the validation texts over the money charged, with its interval; the best round is a ring."""
    most = max(each.charged_usd for each in history.rounds)
    if len(history.rounds) < 2 or not most > 0:
        return ""
    dots = [_dot(each, most) for each in history.rounds]
    axis = [charts.Tick(nth / TICKS, f"${_format_usd(most * nth / TICKS)}") for nth in range(TICKS + 1)]
    title = f"{_capitalise(history.metric)} on the validation texts over the money charged, round by round"
    return charts.line_chart(dots, key="rounds", title=title, highlight=_dot(history.best, most), axis=axis)


def _capitalise(words: str) -> str:
    return words[:1].upper() + words[1:]


def _dot(facts: RoundFacts, most: float) -> charts.Dot:
    return charts.Dot(facts.charged_usd / most, facts.accuracy, facts.accuracy_low, facts.accuracy_high)


def _format_usd(usd: float) -> str:
    return f"{usd:.2f}" if usd >= 1 or not usd else f"{usd:.2g}"
