"""The annotations of a run: the texts people are asked about and their labels, in a SQLite file beside the run's.

It has no lock but SQLite's: the annotation page, an import and the run may use it at once, from processes of their own.
A label is on the disk when the method returns, and no label is ever deleted: one that is undone or replaced stays in
the file, marked.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any, Literal

from potstill.ledger.store.records import read_time
from potstill.ledger.store.sqlite_errors import readable
from potstill.ledger.store.sqlite_file import Migration, SqliteFile

LABELS_FILE = "labels.sqlite"
AddResult = Literal["new", "same", "changed", "surplus", "collected", "unknown"]


@dataclass(frozen=True)
class LabelRequest:
    """A text that people are asked about.

    Attributes:
        id: its name in files and on pages: the hash of the task and the text.
        text: the text.
        n_annotators: labels by different people that are wanted.
        collected: the run has read its labels; nothing about it can change any more.
        closed: it is not shown to annotators any more.
    """

    id: str
    text: str
    n_annotators: int
    collected: bool
    closed: bool


@dataclass(frozen=True)
class Annotation:
    """One person's label of one text.

    Attributes:
        id: the text's.
        annotator: the person's name.
        label: the label; "" if the person could not tell.
        seconds: how long the text was looked at; 0 if not measured.
        created_at: seconds since 1970; 0 is now.
        source: "page", "csv" or "label-studio".
    """

    id: str
    annotator: str
    label: str
    seconds: float = 0.0
    created_at: float = 0.0
    source: str = "page"


@dataclass(frozen=True)
class AnnotationProgress:
    """Numbers of texts: all, those with every label that is wanted, and those of an annotator, labelled or left."""

    texts: int
    complete: int
    own: int
    remaining: int


def _format_1(db: sqlite3.Connection) -> None:
    db.execute(
        """CREATE TABLE asked (
            id TEXT PRIMARY KEY, number INTEGER NOT NULL, mark TEXT NOT NULL, text TEXT NOT NULL,
            wanted INTEGER NOT NULL, taken INTEGER NOT NULL DEFAULT 0, closed INTEGER NOT NULL DEFAULT 0)"""
    )
    db.execute("CREATE INDEX asked_by_mark ON asked (mark)")
    db.execute(
        """CREATE TABLE said (
            n INTEGER PRIMARY KEY, id TEXT NOT NULL REFERENCES asked (id), annotator TEXT NOT NULL,
            label TEXT NOT NULL, seconds REAL NOT NULL, at REAL NOT NULL, way TEXT NOT NULL,
            undone INTEGER NOT NULL DEFAULT 0)"""
    )
    # One valid label a person and text, also if several processes write at once.
    db.execute("CREATE UNIQUE INDEX said_once ON said (id, annotator) WHERE undone = 0")
    db.execute("CREATE TABLE skipped (id TEXT, annotator TEXT, at REAL NOT NULL, PRIMARY KEY (id, annotator))")


def _format_2(db: sqlite3.Connection) -> None:
    for table, column, name in (
        ("asked", "mark", "request_key"),
        ("asked", "wanted", "n_annotators"),
        ("asked", "taken", "collected"),
        ("said", "at", "created_at"),
        ("said", "way", "source"),
        ("skipped", "at", "skipped_at"),
    ):
        db.execute(f"ALTER TABLE {table} RENAME COLUMN {column} TO {name}")
    db.execute("ALTER TABLE asked RENAME TO requests")
    db.execute("ALTER TABLE said RENAME TO annotations")
    db.execute("DROP INDEX asked_by_mark")
    db.execute("DROP INDEX said_once")
    db.execute("CREATE INDEX requests_by_key ON requests (request_key)")
    db.execute("CREATE UNIQUE INDEX one_annotation ON annotations (id, annotator) WHERE undone = 0")


MIGRATIONS: list[Migration] = [_format_1, _format_2]
_VALID = "SELECT id, annotator, label, seconds, created_at, source FROM annotations WHERE undone = 0"
_COUNT = "(SELECT COUNT(*) FROM annotations WHERE annotations.id = requests.id AND undone = 0)"
_OWN = "EXISTS (SELECT 1 FROM annotations WHERE annotations.id = requests.id AND undone = 0 AND annotator = ?)"
_OPEN = f"collected = 0 AND closed = 0 AND {_COUNT} < n_annotators AND NOT {_OWN}"


class AnnotationStore(SqliteFile):
    """The annotations of the run in `folder`. Raises RunNotFound if the file is not one of potstill, or too new."""

    def __init__(self, folder: Path, *, write: bool = True) -> None:
        super().__init__(folder / LABELS_FILE, MIGRATIONS, write=write, durable=True)

    # --- requests -------------------------------------------------------------------------------------------

    def add_request(self, id: str, text: str, n_annotators: int, request_key: str) -> None:
        """Ask people about a text. A text that was requested before gets the new key and is open again."""
        with self._transaction():
            self._db.execute(
                """INSERT INTO requests (id, number, request_key, text, n_annotators)
                   VALUES (?, (SELECT COALESCE(MAX(number), 0) + 1 FROM requests), ?, ?, ?)
                   ON CONFLICT (id) DO UPDATE SET request_key = excluded.request_key,
                   n_annotators = excluded.n_annotators, collected = 0, closed = 0""",
                (id, request_key, text, n_annotators),
            )

    def find_request(self, request_key: str) -> LabelRequest | None:
        """The request with this key."""
        return next(iter(self._requests("WHERE request_key = ?", request_key)), None)

    def requests(self) -> list[LabelRequest]:
        """All requests, oldest first."""
        return self._requests("ORDER BY number")

    def open_requests(self, annotator: str, n: int = -1, start: int = 0) -> list[LabelRequest]:
        """At most n texts that this person may label; those that were skipped come last, longest ago first.

        Args:
            annotator: the person's name.
            n: how many; -1 for all.
            start: the number to start at; smaller ones follow, so that two people start at different texts.
        """
        return self._requests(
            f"""LEFT JOIN (SELECT id AS skipped_id, rowid AS turn FROM skipped WHERE annotator = ?)
                ON skipped_id = requests.id
                WHERE {_OPEN} ORDER BY turn IS NOT NULL, turn, number < ?, number LIMIT ?""",
            annotator,
            annotator,
            start,
            n,
        )

    def _requests(self, rest: str, *values: object) -> list[LabelRequest]:
        with self._guard:
            rows = self._db.execute(
                f"SELECT id, text, n_annotators, collected, closed FROM requests {rest}", values
            ).fetchall()
        with readable(self.path):
            return [_request(*row) for row in rows]

    def close_unfinished(self) -> int:
        """Close all requests that lack labels. Returns how many there were."""
        with self._transaction():
            return self._db.execute(
                f"UPDATE requests SET closed = 1 WHERE collected = 0 AND closed = 0 AND {_COUNT} < n_annotators"
            ).rowcount

    # --- labels ---------------------------------------------------------------------------------------------

    def add(self, annotation: Annotation) -> AddResult:
        """Store a label, durably. It is not stored if the result is other than "new", "same" or "changed"."""
        with self._transaction():
            return self._add(annotation)

    def add_all(self, annotations: Sequence[Annotation]) -> list[AddResult]:
        """As `add`, all in one step."""
        with self._transaction():
            return [self._add(each) for each in annotations]

    def _add(self, annotation: Annotation) -> AddResult:
        id, annotator = annotation.id, annotation.annotator
        row = self._db.execute("SELECT n_annotators, collected FROM requests WHERE id = ?", (id,)).fetchone()
        if row is None:
            return "unknown"
        n_annotators, collected = row
        valid = dict(self._db.execute("SELECT annotator, label FROM annotations WHERE id = ? AND undone = 0", (id,)))
        own = valid.pop(annotator, None)
        if own == annotation.label:
            return "same"
        if collected:
            return "collected"
        if own is None and len(valid) >= n_annotators:
            return "surplus"
        if own is not None:
            self._undo(id, annotator)
        created_at = annotation.created_at or time.time()
        self._db.execute(
            "INSERT INTO annotations (id, annotator, label, seconds, created_at, source) VALUES (?, ?, ?, ?, ?, ?)",
            (id, annotator, annotation.label, annotation.seconds, created_at, annotation.source),
        )
        return "new" if own is None else "changed"

    def _undo(self, id: str, annotator: str) -> None:
        self._db.execute(
            "UPDATE annotations SET undone = 1 WHERE id = ? AND annotator = ? AND undone = 0", (id, annotator)
        )

    def undo(self, annotator: str) -> Annotation | None:
        """Undo this person's last label that was not collected yet. Returns it, or None if there is none."""
        with self._transaction():
            row = self._db.execute(
                """SELECT annotations.id, annotator, label, seconds, created_at, source
                   FROM annotations JOIN requests ON requests.id = annotations.id
                   WHERE annotator = ? AND undone = 0 AND collected = 0 ORDER BY n DESC LIMIT 1""",
                (annotator,),
            ).fetchone()
            if row is None:
                return None
            self._undo(row[0], annotator)
            # It is shown again first, also if it had been skipped before.
            self._db.execute("DELETE FROM skipped WHERE id = ? AND annotator = ?", (row[0], annotator))
        return self._annotation(row)

    def skip(self, id: str, annotator: str) -> None:
        """Show this text to this person after all others."""
        with self._transaction():
            self._db.execute("INSERT OR REPLACE INTO skipped VALUES (?, ?, ?)", (id, annotator, time.time()))

    def question(self, id: str) -> LabelRequest | None:
        """The request about the text of this id."""
        return next(iter(self._requests("WHERE id = ?", id)), None)

    def annotations(self, ids: Iterable[str] | None = None) -> list[Annotation]:
        """The valid labels, oldest first; of all texts, or of those with these ids."""
        with self._guard:
            rows = self._db.execute(f"{_VALID} ORDER BY n").fetchall()
        selected = None if ids is None else set(ids)
        return [self._annotation(row) for row in rows if selected is None or row[0] in selected]

    def progress(self, annotator: str = "") -> AnnotationProgress:
        """How many texts are labelled, and how many this person has labelled and may label."""
        with self._guard:
            row = self._db.execute(
                f"""SELECT COUNT(*), COALESCE(SUM({_COUNT} >= n_annotators), 0), COALESCE(SUM({_OWN}), 0),
                    COALESCE(SUM({_OPEN}), 0) FROM requests""",
                (annotator, annotator),
            ).fetchone()
        return AnnotationProgress(*row)

    def _annotation(self, row: tuple[Any, ...]) -> Annotation:
        """A row as a record. Raises RunNotFound for a value that potstill did not write so."""
        with readable(self.path):
            id, annotator, label, seconds, created_at, source = row
            if not all(isinstance(text, str) for text in (id, annotator, label, source)):
                raise TypeError(f"a label of {id!r} has a field of another type")
            if not isinstance(seconds, int | float) or not 0 <= seconds < inf:
                raise TypeError(f"the label of {id} by {annotator} took {seconds!r} seconds")
            return Annotation(id, annotator, label, float(seconds), read_time(created_at), source)

    # --- the run reads the labels ---------------------------------------------------------------------------

    def collect(self, request_key: str) -> list[Annotation] | None:
        """The labels of a request, which cannot change from now on; None as long as it is open."""
        with self._transaction():
            row = self._db.execute(
                "SELECT id, n_annotators, closed FROM requests WHERE request_key = ?", (request_key,)
            ).fetchone()
            if row is None:
                return None
            id, n_annotators, closed = row
            found = [self._annotation(each) for each in self._db.execute(f"{_VALID} AND id = ? ORDER BY n", (id,))]
            if len(found) < n_annotators and not closed:
                return None
            self._db.execute("UPDATE requests SET collected = 1 WHERE id = ?", (id,))
        return found


def _request(id: object, text: object, n_annotators: object, collected: object, closed: object) -> LabelRequest:
    if not isinstance(id, str) or not isinstance(text, str) or type(n_annotators) is not int or n_annotators < 1:
        raise TypeError(f"the request of {id!r} has a field of another type")
    return LabelRequest(id, text, n_annotators, bool(collected), bool(closed))
