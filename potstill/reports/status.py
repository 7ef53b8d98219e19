"""The steps and the spending of a run, read from its store; it may still be working in another process."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from potstill.data.printable import guarded_cell
from potstill.data.task import JsonObject
from potstill.ledger.prices import LedgerTotals, micros_to_usd
from potstill.ledger.store import CallRecord, RunStore
from potstill.ledger.store.sqlite_errors import readable
from potstill.run.notes import TimedNote, read_notes

# fmt: off
COLUMNS = (
    "id", "started_at", "seconds", "category", "purpose", "teacher", "mode", "state", "n_texts",
    "held_usd", "charged_usd", "paid_usd", "description",
)
# fmt: on


@dataclass(frozen=True)
class RunStatus:
    """A run in its store: the task's name and labels, the money, the calls and the notes.

    `abandoned_micros` was held by a process that ended, and the next start books it as lost; None without such holds.
    """

    folder: Path
    task: str
    labels: tuple[str, ...]
    totals: LedgerTotals
    calls: tuple[CallRecord, ...]
    notes: tuple[TimedNote, ...]
    finished: bool
    abandoned_micros: int | None = None

    def to_json(self) -> JsonObject:
        """Sums in USD, times as ISO 8601."""
        return {
            "run": str(self.folder),
            "task": self.task,
            "labels": list(self.labels),
            "finished": self.finished,
            "money": {
                "limit_usd": micros_to_usd(self.totals.limit),
                "held_usd": micros_to_usd(self.totals.held),
                "charged_usd": micros_to_usd(self.totals.charged),
                "paid_usd": micros_to_usd(self.totals.paid),
                "lost_usd": micros_to_usd(self.totals.lost),
                "by_category": {name: micros_to_usd(micros) for name, micros in self.totals.by_category.items()},
            },
            "calls": len(self.calls),
            "steps": [{"time": _clock(note.time), "what": note.name, **note.record.to_json()} for note in self.notes],
        }

    def to_text(self) -> str:
        """A page for a terminal."""
        totals = self.totals
        state = "finished" if self.finished else "not finished: the same command goes on from here"
        lines = [
            f"{self.folder}: {self.task} ({len(self.labels)} labels), {state}.",
            f"${micros_to_usd(totals.charged):.6f} of ${micros_to_usd(totals.limit):.2f} charged in {totals.calls} "
            f"calls, ${micros_to_usd(totals.held):.6f} held, ${micros_to_usd(totals.lost):.6f} lost to crashes.",
            *_abandoned(self.abandoned_micros),
            "",
        ]
        lines += [f"{_clock(note.time)}  {note.name:<16} {_facts(note.record.to_json())}" for note in self.notes]
        return "\n".join(lines)


def read_status(folder: Path) -> RunStatus:
    """The status of the run in `folder`. Raises RunNotFound if there is none."""
    store = RunStore(folder, write=False)
    try:
        task, limit = _task_and_limit(store)
        return RunStatus(
            folder=folder,
            task=task["name"],
            labels=tuple(task["labels"]),
            totals=store.totals(limit),
            calls=tuple(store.calls()),
            notes=tuple(read_notes(store)),
            finished=store.get_meta("finished") is not None,
            abandoned_micros=store.abandoned_micros(),
        )
    finally:
        store.close()


@dataclass(frozen=True)
class SpendingReport:
    """A run's money. `list_calls` adds every call to the text, `as_csv` makes it CSV; `abandoned_micros` as above."""

    folder: Path
    totals: LedgerTotals
    calls: tuple[CallRecord, ...]
    list_calls: bool = False
    as_csv: bool = False
    abandoned_micros: int | None = None

    def to_json(self) -> JsonObject:
        """Sums and calls in USD with six decimals, which is exact: a micro-dollar is the smallest sum there is."""
        totals = self.totals
        return {
            "run": str(self.folder),
            "limit_usd": micros_to_usd(totals.limit),
            "held_usd": micros_to_usd(totals.held),
            "charged_usd": micros_to_usd(totals.charged),
            "paid_usd": micros_to_usd(totals.paid),
            "lost_usd": micros_to_usd(totals.lost),
            "free_usd": micros_to_usd(totals.free),
            "by_category": {name: micros_to_usd(micros) for name, micros in totals.by_category.items()},
            "by_purpose": {name: micros_to_usd(micros) for name, micros in totals.by_purpose.items()},
            "calls": [dict(zip(COLUMNS, row, strict=True)) for row in self._rows()],
        }

    def to_text(self) -> str:
        """A page for a terminal, or CSV."""
        return self._csv() if self.as_csv else "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        totals = self.totals
        yield f"{self.folder}"
        for name, micros in (
            ("budget", totals.limit),
            ("charged", totals.charged),
            ("  of it lost", totals.lost),
            ("held", totals.held),
            ("free", totals.free),
            ("paid now", totals.paid),
        ):
            yield f"  {name:<12} ${micros_to_usd(micros):>14,.6f}"
        yield from (f"  {line}" for line in _abandoned(self.abandoned_micros))
        yield ""
        yield f"  {'for':<44} {'calls':>7} {'texts':>9} {'charged':>14}"
        for (category, purpose, payee), rows in sorted(self._by_payee().items()):
            charged = sum(row.charged for row in rows)
            texts = sum(row.n_texts for row in rows)
            name = f"{category}, {purpose}: {payee}"
            yield f"  {name[:44]:<44} {len(rows):>7,} {texts:>9,} ${micros_to_usd(charged):>13,.6f}"
        if self.list_calls:
            yield ""
            yield f"  {'started':<19} {'state':<8} {'texts':>6} {'held':>12} {'charged':>12} {'paid':>12}  description"
            for row in self.calls:
                yield (
                    f"  {_clock(row.started_at):<19} {row.state:<8} {row.n_texts:>6,} {micros_to_usd(row.held):>12,.6f}"
                    f" {micros_to_usd(row.charged):>12,.6f} {micros_to_usd(row.paid):>12,.6f}  {row.description}"
                )

    def _by_payee(self) -> dict[tuple[str, str, str], list[CallRecord]]:
        groups: dict[tuple[str, str, str], list[CallRecord]] = {}
        for row in self.calls:
            payee = f"{row.teacher}, {row.mode}" if row.teacher else row.description.split(" on ")[0]
            groups.setdefault((row.category, row.purpose, payee), []).append(row)
        return groups

    def _rows(self) -> Iterator[tuple[Any, ...]]:
        for row in self.calls:
            seconds = None if row.ended_at is None else round(row.ended_at - row.started_at, 3)
            money = (f"{micros_to_usd(micros):.6f}" for micros in (row.held, row.charged, row.paid))
            yield (
                row.id,
                _clock(row.started_at),
                seconds,
                row.category,
                row.purpose,
                row.teacher,
                row.mode,
                row.state,
                row.n_texts,
                *money,
                row.description,
            )

    def _csv(self) -> str:
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(map(guarded_cell, row) for row in self._rows())
        return out.getvalue()


def read_spending(folder: Path, *, calls: bool = False, as_csv: bool = False) -> SpendingReport:
    """The spending of the run in `folder`. Raises RunNotFound if there is none."""
    store = RunStore(folder, write=False)
    try:
        totals = store.totals(_task_and_limit(store)[1])
        return SpendingReport(folder, totals, tuple(store.calls()), calls, as_csv, store.abandoned_micros())
    finally:
        store.close()


def _task_and_limit(store: RunStore) -> tuple[JsonObject, int]:
    with readable(store.path):
        task = store.get_meta("task") or {"name": "", "labels": []}
        limit = store.get_meta("limit_micros") or 0
        if not isinstance(task["name"], str) or not all(isinstance(label, str) for label in task["labels"]):
            raise TypeError("the task has another form")
        return task, int(limit)


def _abandoned(micros: int | None) -> list[str]:
    if micros is None:
        return []
    return [f"A process ended and left money held: the same command books ${micros_to_usd(micros):.6f} as lost."]


def _clock(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).astimezone().isoformat(sep=" ", timespec="seconds")[:19]


def _facts(facts: Any) -> str:
    return ", ".join(f"{name} {_short(value)}" for name, value in facts.items())


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list) and len(value) > 4:
        return f"[{len(value)} numbers]"
    if isinstance(value, dict) and len(value) > 8:
        return f"{{{len(value)} values}}"
    if isinstance(value, dict):
        return "{" + _facts(value) + "}"
    return str([_short(each) for each in value]) if isinstance(value, list) else str(value)
