"""The desk people sit at: which text is whose turn, what is written down, what is taken back. Knows no web page.

Everything said is in the run's `labels.sqlite` when a method returns. What only lives here is who is being shown what,
so that two people are not shown the same text at once; forgotten in a crash, at worst a text is labelled once more than
was ordered, which is told and not counted.
"""

from __future__ import annotations

import time
import zlib
from pathlib import Path
from statistics import median
from threading import Lock
from typing import Any

from potstill.data.pairs import PAIR_SEPARATOR
from potstill.data.task import Task
from potstill.errors import BadData, BadSpec, RunNotFound
from potstill.ledger.store import Annotation, AnnotationStore, RunStore

LEASE_S = 180.0  # so long a text that is shown to somebody is shown to nobody else
MAX_NAME_LENGTH = 60
LOOKAHEAD = 50  # texts looked through for one that nobody else is shown


class AnnotationSession:
    """The labels of one run, and who is being shown what.

    Args:
        folder: the run's.

    Raises:
        NotARun: there is no run.
        BadData: the run asks no people.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        store = RunStore(folder, write=False)
        try:
            record = store.get_meta("task")
        finally:
            store.close()
        if record is None:
            raise RunNotFound(f"{folder} has no task yet.", "Begin it with: potstill distill DATA --teacher human")
        self.task = Task.from_json(record)
        if not (folder / "labels.sqlite").exists():
            raise BadData(f"{folder} waits for no labels.", "Begin a run that asks people: --teacher human")
        self.store = AnnotationStore(folder)
        self._shown: dict[str, tuple[str, float]] = {}
        self._guard = Lock()

    def close(self) -> None:
        """Let go of the file."""
        self.store.close()

    def state(self, annotator: str) -> dict[str, Any]:
        """What this person sees: the next text (None at the end), how far it is, and how quick they are."""
        who = clean_annotator_name(annotator)
        with self._guard:
            question = self._next(who)
        progress = self.store.progress(who)
        own = [each for each in self.store.annotations() if each.annotator == who]
        timed = [each.seconds for each in own if each.seconds > 0]
        return {
            "annotator": who,
            "text": question,
            "texts": progress.texts,
            "full": progress.complete,
            "mine": progress.own,
            "open": progress.remaining,
            "seconds": round(median(timed), 1) if timed else None,
            "last": {"id": own[-1].id, "label": own[-1].label} if own else None,
        }

    def _next(self, who: str) -> dict[str, Any] | None:
        start = zlib.crc32(who.encode()) % max(self.store.progress().texts, 1)
        now = time.monotonic()
        waiting = self.store.open_requests(who, LOOKAHEAD, start)
        held = {id for id, (by, until) in self._shown.items() if by != who and until > now}
        found = next((each for each in waiting if each.id not in held), waiting[0] if waiting else None)
        if found is None:
            return None
        self._shown[found.id] = (who, now + LEASE_S)
        parts = found.text.split(PAIR_SEPARATOR) if self.task.kind == "pair" else [found.text]
        return {"id": found.id, "parts": parts}

    def label(self, annotator: str, id: str, label: str, seconds: float) -> str:
        """Write a label down ("" for unsure); returns what became of it, see `Labels.say`.

        Raises:
            BadData: not a label of the task.
        """
        who = clean_annotator_name(annotator)
        if label and label not in self.task.labels:
            raise BadData(f"{label!r} is not a label of the task.", "Choose one of the list.")
        self._shown.pop(id, None)
        return self.store.add(Annotation(id, who, label, min(max(seconds, 0.0), 86_400.0)))

    def skip(self, annotator: str, id: str) -> None:
        """Show the text to this person after all others."""
        self._shown.pop(id, None)
        self.store.skip(id, clean_annotator_name(annotator))

    def undo(self, annotator: str) -> dict[str, Any] | None:
        """Take back what this person said last; returns its text and label, None where there is none."""
        who = clean_annotator_name(annotator)
        taken_back = self.store.undo(who)
        question = self.store.question(taken_back.id) if taken_back else None
        if taken_back is None or question is None:
            return None
        self._shown[question.id] = (who, time.monotonic() + LEASE_S)
        parts = question.text.split(PAIR_SEPARATOR) if self.task.kind == "pair" else [question.text]
        return {"id": question.id, "parts": parts, "label": taken_back.label}


def clean_annotator_name(annotator: str) -> str:
    """An annotator's name as it is kept.

    Raises:
        BadSpec: none, too long, or with characters that do not show.
    """
    name = " ".join(annotator.split())
    if not name or len(name) > MAX_NAME_LENGTH or not name.isprintable():
        raise BadSpec(f"{annotator!r} is no name to label under.", f"Give one of 1 to {MAX_NAME_LENGTH} characters.")
    return name
