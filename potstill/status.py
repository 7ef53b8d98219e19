"""What a run did so far, read from its store; it may be still working in another window."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from potstill.money import Totals, to_usd
from potstill.store import CallRow, Note, Store


@dataclass(frozen=True)
class Status:
    """A run as its store tells it: the task's name and labels, the money, the calls and the notes."""

    folder: Path
    task: str
    labels: tuple[str, ...]
    totals: Totals
    calls: tuple[CallRow, ...]
    notes: tuple[Note, ...]
    finished: bool

    def to_json(self) -> dict[str, Any]:
        """Sums in USD, times as ISO 8601."""
        return {
            "run": str(self.folder),
            "task": self.task,
            "labels": list(self.labels),
            "finished": self.finished,
            "money": {
                "limit_usd": to_usd(self.totals.limit),
                "held_usd": to_usd(self.totals.held),
                "charged_usd": to_usd(self.totals.charged),
                "paid_usd": to_usd(self.totals.paid),
                "lost_usd": to_usd(self.totals.lost),
                "by": {name: to_usd(micros) for name, micros in self.totals.by.items()},
            },
            "calls": len(self.calls),
            "steps": [{"time": _clock(note.time), "what": note.what, **note.facts} for note in self.notes],
        }

    def to_text(self) -> str:
        """A page for a terminal."""
        totals = self.totals
        state = "finished" if self.finished else "not finished: the same command goes on from here"
        lines = [
            f"{self.folder}: {self.task} ({len(self.labels)} labels), {state}.",
            f"${to_usd(totals.charged):.6f} of ${to_usd(totals.limit):.2f} charged in {totals.calls} calls, "
            f"${to_usd(totals.held):.6f} held, ${to_usd(totals.lost):.6f} lost to crashes.",
            "",
        ]
        lines += [f"{_clock(note.time)}  {note.what:<10} {_facts(note.facts)}" for note in self.notes]
        return "\n".join(lines)


def look(folder: Path) -> Status:
    """The status of the run in `folder`. Raises NotARun where there is none."""
    store = Store(folder, write=False)
    try:
        task = store.get_meta("task") or {"name": "", "labels": []}
        return Status(
            folder=folder,
            task=task["name"],
            labels=tuple(task["labels"]),
            totals=store.totals(store.get_meta("limit_micros") or 0),
            calls=tuple(store.calls()),
            notes=tuple(store.notes()),
            finished=store.get_meta("finished") is not None,
        )
    finally:
        store.close()


def _clock(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).astimezone().isoformat(sep=" ", timespec="seconds")[:19]


def _facts(facts: Any) -> str:
    return ", ".join(f"{name} {_short(value)}" for name, value in facts.items())


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list) and len(value) > 4:
        return f"[{len(value)} numbers]"
    if isinstance(value, dict):
        return "{" + _facts(value) + "}"
    return str([_short(each) for each in value]) if isinstance(value, list) else str(value)
