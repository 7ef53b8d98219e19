"""What people are asked in a run, and what they said: a SQLite file of its own beside the run's.

It has no lock but SQLite's: a page, an import and the run itself may work in it at once, from processes of their own.
Whatever is said is on the disk when the method returns, and nothing that was said is ever deleted: what is taken back
or replaced stays in the file, marked. Knows no prices and no recipe.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from potstill.ledger.store.sqlite_file import Migration, SqliteFile

LABELS_FILE = "labels.sqlite"
AddResult = Literal["new", "same", "changed", "surplus", "taken", "unknown"]


@dataclass(frozen=True)
class LabelRequest:
    """A text that people are asked about.

    Attributes:
        id: what it is called in files and on pages: the task's and the text's content, hashed.
        text: the text.
        wanted: labels by different people that were ordered for it.
        taken: the run has taken its labels; nothing about it can change any more.
        closed: nobody is asked about it any more.
    """

    id: str
    text: str
    n_annotators: int
    collected: bool
    closed: bool


@dataclass(frozen=True)
class Annotation:
    """What one person said of one text.

    Attributes:
        id: the text's.
        annotator: who.
        label: the label; "" where the person could not tell.
        seconds: how long the text was looked at; 0 where nobody measured.
        at: when, in seconds since 1970.
        way: how it came: "page", "csv" or "label-studio".
    """

    id: str
    annotator: str
    label: str
    seconds: float = 0.0
    created_at: float = 0.0
    source: str = "page"


@dataclass(frozen=True)
class AnnotationProgress:
    """How far it is: texts in all, those with every label that was ordered, those one annotator has done or may do."""

    texts: int
    complete: int
    own: int
    remaining: int


def _first_format(db: sqlite3.Connection) -> None:
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
    # One valid label a person and text, whatever happens at once.
    db.execute("CREATE UNIQUE INDEX said_once ON said (id, annotator) WHERE undone = 0")
    db.execute("CREATE TABLE skipped (id TEXT, annotator TEXT, at REAL NOT NULL, PRIMARY KEY (id, annotator))")


MIGRATIONS: list[Migration] = [_first_format]
_SAID = "SELECT id, annotator, label, seconds, at, way FROM said WHERE undone = 0"
_COUNT = "(SELECT COUNT(*) FROM said WHERE said.id = asked.id AND undone = 0)"
_MINE = "EXISTS (SELECT 1 FROM said WHERE said.id = asked.id AND undone = 0 AND annotator = ?)"
_OPEN = f"taken = 0 AND closed = 0 AND {_COUNT} < wanted AND NOT {_MINE}"


class AnnotationStore(SqliteFile):
    """The labels of the run in `folder`. Raises NotARun where the file is none of ours, or of a newer format."""

    def __init__(self, folder: Path, *, write: bool = True) -> None:
        super().__init__(folder / LABELS_FILE, MIGRATIONS, write=write, durable=True)

    # --- what is asked --------------------------------------------------------------------------------------

    def add_request(self, id: str, text: str, wanted: int, request_key: str) -> None:
        """Ask about a text; asked before, it is only called `mark` from now on, and open again if it was closed."""
        with self._transaction():
            self._db.execute(
                """INSERT INTO asked (id, number, mark, text, wanted)
                   VALUES (?, (SELECT COALESCE(MAX(number), 0) + 1 FROM asked), ?, ?, ?)
                   ON CONFLICT (id) DO UPDATE SET mark = excluded.mark, wanted = excluded.wanted, taken = 0,
                   closed = 0""",
                (id, request_key, text, wanted),
            )

    def find_request(self, request_key: str) -> LabelRequest | None:
        """The text that is asked under this mark."""
        return next(iter(self._questions("WHERE mark = ?", request_key)), None)

    def requests(self) -> list[LabelRequest]:
        """Every text, in the order they were asked."""
        return self._questions("ORDER BY number")

    def open_requests(self, annotator: str, n: int = -1, start: int = 0) -> list[LabelRequest]:
        """At most n texts that this person may label, those skipped longest ago last of all.

        Args:
            annotator: who.
            n: how many; -1 for all.
            start: the first number to begin at; the others follow, so that two people begin at different places.
        """
        return self._questions(
            f"""LEFT JOIN (SELECT id AS skip, at FROM skipped WHERE annotator = ?) ON skip = asked.id
                WHERE {_OPEN} ORDER BY at IS NOT NULL, at, number < ?, number LIMIT ?""",
            annotator,
            annotator,
            start,
            n,
        )

    def _questions(self, rest: str, *values: object) -> list[LabelRequest]:
        with self._guard:
            rows = self._db.execute(f"SELECT id, text, wanted, taken, closed FROM asked {rest}", values).fetchall()
        return [LabelRequest(id, text, wanted, bool(taken), bool(closed)) for id, text, wanted, taken, closed in rows]

    def close_unfinished(self) -> int:
        """Ask nobody any more about what is not fully labelled. Returns how many texts that are."""
        with self._transaction():
            return self._db.execute(
                f"UPDATE asked SET closed = 1 WHERE taken = 0 AND closed = 0 AND {_COUNT} < wanted"
            ).rowcount

    # --- what is said ---------------------------------------------------------------------------------------

    def add(self, given: Annotation) -> AddResult:
        """Write down what somebody said, durably. What is not "new", "same" or "changed" was not taken in."""
        with self._transaction():
            return self._say(given)

    def add_all(self, given: Sequence[Annotation]) -> list[AddResult]:
        """As `say`, all in one step."""
        with self._transaction():
            return [self._say(each) for each in given]

    def _say(self, given: Annotation) -> AddResult:
        row = self._db.execute("SELECT wanted, taken FROM asked WHERE id = ?", (given.id,)).fetchone()
        if row is None:
            return "unknown"
        wanted, taken = row
        others, own = 0, None
        for annotator, label in self._db.execute(
            "SELECT annotator, label FROM said WHERE id = ? AND undone = 0", (given.id,)
        ):
            if annotator == given.annotator:
                own = label
            else:
                others += 1
        if own == given.label:
            return "same"
        if taken:
            return "taken"
        if own is None and others >= wanted:
            return "surplus"
        if own is not None:
            self._undo(given.id, given.annotator)
        self._db.execute(
            "INSERT INTO said (id, annotator, label, seconds, at, way) VALUES (?, ?, ?, ?, ?, ?)",
            (given.id, given.annotator, given.label, given.seconds, given.created_at or time.time(), given.source),
        )
        return "new" if own is None else "changed"

    def _undo(self, id: str, annotator: str) -> None:
        self._db.execute("UPDATE said SET undone = 1 WHERE id = ? AND annotator = ? AND undone = 0", (id, annotator))

    def undo(self, annotator: str) -> Annotation | None:
        """Take back what this person said last and the run has not taken yet; returns it, None where there is none."""
        with self._transaction():
            row = self._db.execute(
                """SELECT said.id, annotator, label, seconds, at, way FROM said JOIN asked ON asked.id = said.id
                   WHERE annotator = ? AND undone = 0 AND taken = 0 ORDER BY n DESC LIMIT 1""",
                (annotator,),
            ).fetchone()
            if row is None:
                return None
            self._undo(row[0], annotator)
            # It comes back first, also if it had been skipped before.
            self._db.execute("DELETE FROM skipped WHERE id = ? AND annotator = ?", (row[0], annotator))
        return Annotation(*row)

    def skip(self, id: str, annotator: str) -> None:
        """Show this text to this person after all others."""
        with self._transaction():
            self._db.execute("INSERT OR REPLACE INTO skipped VALUES (?, ?, ?)", (id, annotator, time.time()))

    def question(self, id: str) -> LabelRequest | None:
        """The text of this id."""
        return next(iter(self._questions("WHERE id = ?", id)), None)

    def annotations(self, ids: Iterable[str] | None = None) -> list[Annotation]:
        """What counts of what was said, oldest first; of these texts only."""
        with self._guard:
            rows = self._db.execute(f"{_SAID} ORDER BY n").fetchall()
        wanted = None if ids is None else set(ids)
        return [Annotation(*row) for row in rows if wanted is None or row[0] in wanted]

    def progress(self, annotator: str = "") -> AnnotationProgress:
        """How far it is."""
        with self._guard:
            row = self._db.execute(
                f"""SELECT COUNT(*), COALESCE(SUM({_COUNT} >= wanted), 0), COALESCE(SUM({_MINE}), 0),
                    COALESCE(SUM({_OPEN}), 0) FROM asked""",
                (annotator, annotator),
            ).fetchone()
        return AnnotationProgress(*row)

    # --- what the run takes ---------------------------------------------------------------------------------

    def collect(self, request_key: str) -> list[Annotation] | None:
        """What was said of the text asked under `mark`, and from now on it stays so; None while it is open."""
        with self._transaction():
            row = self._db.execute("SELECT id, wanted, closed FROM asked WHERE mark = ?", (request_key,)).fetchone()
            if row is None:
                return None
            id, wanted, closed = row
            found = [Annotation(*each) for each in self._db.execute(f"{_SAID} AND id = ? ORDER BY n", (id,))]
            if len(found) < wanted and not closed:
                return None
            self._db.execute("UPDATE asked SET taken = 1 WHERE id = ?", (id,))
        return found
