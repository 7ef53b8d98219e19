"""An annotation session: which text an annotator sees next, and storing, skipping and undoing labels. No web page.

In a text-to-text task a label is an answer of the task's form, as a string (`data/form_annotations.py`). Every label is
in the run's `labels.sqlite` when a method returns. Only the leases are in memory: which text is shown to which
annotator, so that two annotators do not see the same text at once. They are lost in a crash; at worst a text then gets
one label more than was ordered, which is reported as surplus and not counted.
"""

from __future__ import annotations

import time
import zlib
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from threading import Lock

from potstill.data.form_annotations import check_annotation, form_annotations
from potstill.data.pairs import PAIR_SEPARATOR
from potstill.data.task import Task
from potstill.errors import BadData, BadSpec, RunNotFound
from potstill.ledger.store import Annotation, AnnotationStore, LabelRequest, RunStore

LEASE_S = 180.0  # how long a text that is shown to one annotator is not shown to others
MAX_NAME_LENGTH = 100
BEGIN_HINT = "Begin a run that asks people: potstill distill DATA --teacher human --usd-per-label PRICE --budget USD"
LOOKAHEAD = 50  # open texts searched for one without a lease
MAX_SECONDS = 86_400.0  # of one label; more is not a measurement


@dataclass(frozen=True)
class ShownText:
    """A text as the page shows it: its id, and one part, or the two parts of a pair."""

    id: str
    parts: tuple[str, ...]


@dataclass(frozen=True)
class LastAnnotation:
    """The annotator's newest label: the text's id and the label, "" for unsure."""

    id: str
    label: str


@dataclass(frozen=True)
class UndoneAnnotation:
    """A label that was undone, "" for unsure, and its text."""

    text: ShownText
    label: str


@dataclass(frozen=True)
class SessionState:
    """What one annotator's page shows.

    Attributes:
        annotator: the annotator's name as it is stored.
        text: the next text; None if none is left for this annotator.
        n_texts: all texts of the run; `n_complete` of them have every label that was ordered.
        n_labelled: texts this annotator labelled; `n_remaining` those left for this annotator.
        median_seconds: of this annotator's labels with a measured time; None without any.
        last: this annotator's newest label; None without any.
    """

    annotator: str
    text: ShownText | None
    n_texts: int
    n_complete: int
    n_labelled: int
    n_remaining: int
    median_seconds: float | None
    last: LastAnnotation | None


class AnnotationSession:
    """The labels of one run, and which text is shown to which annotator.

    Args:
        folder: the run's folder.

    Raises:
        RunNotFound: there is no run.
        BadData: the run asks for no labels by people.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        store = RunStore(folder, write=False)
        try:
            record = store.get_meta("task")
        finally:
            store.close()
        if record is None:
            raise RunNotFound(f"{folder} has no task yet.", BEGIN_HINT)
        self.task = Task.from_json(record)
        self.form = None if self.task.form is None else form_annotations(self.task)
        if not (folder / "labels.sqlite").exists():
            raise BadData(f"{folder} has no texts that wait for human labels.", BEGIN_HINT)
        self.store = AnnotationStore(folder)
        self._leases: dict[str, tuple[str, float]] = {}  # text id -> annotator, end of the lease
        self._lock = Lock()

    def close(self) -> None:
        """Close the label store."""
        self.store.close()

    def state(self, annotator: str) -> SessionState:
        """The next text of this annotator, the progress, and the annotator's pace.

        Raises:
            BadSpec: not a name to label under.
        """
        name = clean_annotator_name(annotator)
        with self._lock:
            text = self._next_text(name)
        progress = self.store.progress(name)
        own = [each for each in self.store.annotations() if each.annotator == name]
        seconds = [each.seconds for each in own if each.seconds > 0]
        return SessionState(
            annotator=name,
            text=text,
            n_texts=progress.texts,
            n_complete=progress.complete,
            n_labelled=progress.own,
            n_remaining=progress.remaining,
            median_seconds=round(median(seconds), 1) if seconds else None,
            last=LastAnnotation(own[-1].id, own[-1].label) if own else None,
        )

    def _next_text(self, annotator: str) -> ShownText | None:
        now = time.monotonic()
        # The first texts are worth most; a second annotator starts elsewhere, also on the page of another process.
        alone = all(by == annotator for by, _ in self._leases.values()) and all(
            each.annotator == annotator for each in self.store.annotations()
        )
        start = 0 if alone else zlib.crc32(annotator.encode()) % max(self.store.progress().texts, 1)
        candidates = self.store.open_requests(annotator, LOOKAHEAD, start)
        leased = {id for id, (by, end) in self._leases.items() if by != annotator and end > now}
        request = next((each for each in candidates if each.id not in leased), candidates[0] if candidates else None)
        if request is None:
            return None
        self._leases[request.id] = (annotator, now + LEASE_S)
        return self._shown(request)

    def _shown(self, request: LabelRequest) -> ShownText:
        parts = request.text.split(PAIR_SEPARATOR) if self.task.kind == "pair" else [request.text]
        return ShownText(request.id, tuple(parts))

    def label(self, annotator: str, id: str, label: str | None, seconds: float) -> str:
        """Store a label; returns an `AddResult`, see `AnnotationStore.add`.

        Args:
            annotator: the annotator's name.
            id: the text's id.
            label: the label or answer; None for unsure, or "" in a task of labels.
            seconds: how long the text was looked at.

        Raises:
            BadData: not a label of the task, or not an answer to this text.
            BadSpec: not a name to label under.
        """
        name = clean_annotator_name(annotator)
        if label is not None and self.form is not None:
            request = self.store.question(id)
            if request is None:
                return "unknown"
            label = check_annotation(self.form, request.text, label)
        elif label and label not in self.task.labels:
            raise BadData(f"{label!r} is not a label of the task.", "Choose one of the list.")
        self._leases.pop(id, None)
        return self.store.add(Annotation(id, name, label or "", min(max(seconds, 0.0), MAX_SECONDS)))

    def skip(self, annotator: str, id: str) -> None:
        """Show the text to this annotator after all others."""
        self._leases.pop(id, None)
        self.store.skip(id, clean_annotator_name(annotator))

    def undo(self, annotator: str, id: str = "") -> UndoneAnnotation | None:
        """Undo this annotator's newest label; None if there is none.

        Args:
            annotator: the annotator's name.
            id: the text it must belong to, so that a repeated request does not undo the label before; "" for any.
        """
        name = clean_annotator_name(annotator)
        own = [each.id for each in self.store.annotations() if each.annotator == name]
        if id and own[-1:] != [id]:
            return None
        undone = self.store.undo(name)
        request = self.store.question(undone.id) if undone else None
        if undone is None or request is None:
            return None
        self._leases[request.id] = (name, time.monotonic() + LEASE_S)
        return UndoneAnnotation(self._shown(request), undone.label)


def clean_annotator_name(annotator: str) -> str:
    """An annotator's name as it is stored: white space collapsed.

    Raises:
        BadSpec: empty, too long, or with characters that are not printable.
    """
    name = " ".join(annotator.split())
    if not name or len(name) > MAX_NAME_LENGTH or not name.isprintable():
        raise BadSpec(
            f"{annotator[:200]!r} is not a valid annotator name.",
            f"Give one of 1 to {MAX_NAME_LENGTH} printable characters.",
        )
    return name
