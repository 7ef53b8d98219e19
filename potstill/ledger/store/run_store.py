"""The run's SQLite file: every call, everything bought, every ticket, every note.

- a heartbeat on holds that are priced by time: after a crash such a hold is lost up to its last beat
  (plus `BEAT_SLACK_S`), any other at its full price.
- an exclusive transaction on `lock.sqlite` beside it: one process works in a run at a time; the lock goes
  with the process, however it ends.
"""

from __future__ import annotations

import json
import math
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from potstill.errors import PotstillError, RunBusy, RunNotFound
from potstill.ledger.prices import CATEGORIES, Category, LedgerTotals, Purchase
from potstill.ledger.store.group_commit import GroupCommit, WriteStep
from potstill.ledger.store.records import BatchJobRecord, CallRecord, JsonObject, PaidAnswer, StoredNote
from potstill.ledger.store.sqlite_file import SqliteFile

RUN_FILE = "run.sqlite"
LOCK_FILE = "lock.sqlite"
HEARTBEAT_SLACK_S = 5.0


def _first_format(db: sqlite3.Connection) -> None:
    db.execute("CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID")
    db.execute(
        """CREATE TABLE calls (
            id INTEGER PRIMARY KEY, category TEXT NOT NULL, purpose TEXT NOT NULL, what TEXT NOT NULL,
            n INTEGER NOT NULL, state TEXT NOT NULL CHECK (state IN ('held', 'settled', 'lost', 'released')),
            held INTEGER NOT NULL CHECK (held >= 0), charged INTEGER NOT NULL DEFAULT 0,
            paid INTEGER NOT NULL DEFAULT 0, usage TEXT NOT NULL DEFAULT '{}',
            micros_per_second REAL, began REAL NOT NULL, ended REAL)"""
    )
    db.execute(
        """CREATE TABLE kept (
            key TEXT PRIMARY KEY, value TEXT NOT NULL, call INTEGER REFERENCES calls (id)) WITHOUT ROWID"""
    )
    db.execute(
        "CREATE TABLE notes (id INTEGER PRIMARY KEY, time REAL NOT NULL, what TEXT NOT NULL, facts TEXT NOT NULL)"
    )


def _tickets(db: sqlite3.Connection) -> None:
    db.execute(
        """CREATE TABLE tickets (
            call INTEGER PRIMARY KEY REFERENCES calls (id), teacher TEXT NOT NULL, mark TEXT NOT NULL UNIQUE,
            place TEXT NOT NULL DEFAULT '', keys TEXT NOT NULL, facts TEXT NOT NULL)"""
    )


# One function per format version; opening an older file runs the ones it has not seen.
MIGRATIONS: list[Callable[[sqlite3.Connection], None]] = [_first_format, _tickets]


class RunStore(SqliteFile):
    """What a run did. Implements `ledger.Book`; every method is one transaction.

    Args:
        folder: the run's folder; made if it is to be written.
        write: open for work, which locks the run; otherwise read only.

    Raises:
        NotARun: nothing to read there, or not a potstill store, or one of a newer format.
        RunBusy: another process works in this run.
    """

    def __init__(self, folder: Path, *, write: bool) -> None:
        self.folder = folder
        self._lock: sqlite3.Connection | None = None
        if write:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = self._take_lock(folder / LOCK_FILE)
        elif not (folder / RUN_FILE).exists():
            raise RunNotFound(
                f"{folder} is not a run: it has no {RUN_FILE}.", "Give the folder that `potstill distill -o` made."
            )
        try:
            super().__init__(folder / RUN_FILE, MIGRATIONS, write=write, durable=True)
            self._committed = self._sum_committed()
            self._counting = threading.Lock()
            self._together = GroupCommit(self._write)
        except BaseException:
            self.close()
            raise

    @staticmethod
    def _take_lock(path: Path) -> sqlite3.Connection:
        # Whoever only looks whether somebody works here holds the lock for an instant.
        lock = sqlite3.connect(path, isolation_level=None, timeout=0.25, check_same_thread=False)
        try:
            lock.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError:
            lock.close()
            raise RunBusy(
                f"Another process is working in {path.parent}.", "Wait for it, stop it, or give another folder."
            ) from None
        return lock

    def close(self) -> None:
        """Let go of the file and of the lock."""
        super().close()
        if self._lock is not None:
            self._lock.close()

    # --- the book ---------------------------------------------------------------------------------------

    def _sum_committed(self) -> int:
        row = self._db.execute("SELECT COALESCE(SUM(CASE state WHEN 'held' THEN held ELSE charged END), 0) FROM calls")
        return int(row.fetchone()[0])

    def committed(self) -> int:
        """Held plus charged, in micro-dollars."""
        return self._committed

    def hold(self, purchase: Purchase, micros: int, limit: int, ticket: Mapping[str, Any] | None = None) -> int | None:
        """Write a hold and return its id; None if `held + charged + micros` would pass `limit`.

        With a `ticket` (teacher, mark, keys, facts) it outlives the process, and both are written in one step.
        """

        def step() -> int | None:
            # Counted before the commit: a commit that fails leaves too much counted, never too little.
            with self._counting:
                if self._committed + micros > limit:
                    return None
                self._committed += micros
            return self._insert_hold(purchase, micros, ticket)

        def undo(hold_id: int | None) -> None:
            if hold_id is not None:
                with self._counting:
                    self._committed -= micros

        return self._together.do(step, undo)

    def _insert_hold(self, purchase: Purchase, micros: int, ticket: Mapping[str, Any] | None) -> int | None:
        cursor = self._db.execute(
            """INSERT INTO calls (category, purpose, what, n, state, held, micros_per_second, began)
               VALUES (?, ?, ?, ?, 'held', ?, ?, ?)""",
            (
                purchase.category,
                purchase.purpose,
                purchase.description,
                purchase.n_texts,
                micros,
                purchase.micros_per_second,
                time.time(),
            ),
        )
        hold_id = cursor.lastrowid
        if ticket is not None:
            self._db.execute(
                "INSERT INTO tickets (call, teacher, mark, keys, facts) VALUES (?, ?, ?, ?, ?)",
                (
                    hold_id,
                    ticket["teacher"],
                    ticket["mark"],
                    json.dumps(list(ticket["keys"])),
                    json.dumps(ticket["facts"]),
                ),
            )
        return hold_id

    def _write(self, batch: Sequence[WriteStep[object]]) -> None:
        # A savepoint for each step would double the statements, and between any two of them other threads cut in.
        done: list[WriteStep[object]] = []
        try:
            with self._transaction():
                for step in batch:
                    step.result = step.do()
                    done.append(step)
        except (sqlite3.OperationalError, PotstillError):
            raise
        except Exception:
            # All of it was rolled back. Each for itself, then, so that only those fail that have to.
            for step in done:
                step.undo(step.result)
            for step in batch:
                self._write_alone(step)

    def _write_alone(self, step: WriteStep[object]) -> None:
        try:
            with self._transaction():
                step.result = step.do()
        except (sqlite3.OperationalError, PotstillError):
            raise
        except Exception as error:
            step.error = error

    def settle(
        self, hold_id: int, *, charged: int, paid: int, usage: Mapping[str, Any], results: Mapping[str, Any]
    ) -> None:
        """Turn a hold into a charge and keep what was bought, in one transaction."""

        def step() -> int:
            held = self._end(hold_id, "settled", charged, paid, usage)
            self._keep(results, hold_id)
            return held

        held = self._together.do(step)
        with self._counting:
            self._committed += charged - held

    def drop_hold(self, hold_id: int, *, lost: bool) -> None:
        """End a hold that bought nothing: booked as lost, at its full price or up to its last beat, else released."""
        with self._guard:
            with self._transaction():
                held, lost_then = self._price_of_losing(hold_id)
                charged = lost_then if lost else 0
                self._end(hold_id, "lost" if lost else "released", charged, charged, {})
            with self._counting:
                self._committed += charged - held

    def _price_of_losing(self, hold_id: int) -> tuple[int, int]:
        """What is held, and what of it is lost if its call never comes back."""
        held, rate, began, beat = self._db.execute(
            "SELECT held, micros_per_second, began, COALESCE(ended, began) FROM calls WHERE id = ?", (hold_id,)
        ).fetchone()
        return held, held if rate is None else min(held, math.ceil(rate * (beat - began + HEARTBEAT_SLACK_S)))

    def abandoned_micros(self) -> int | None:
        """What a process that ended left held and the next start books as lost, in micro-dollars; None while a process
        works here, or where nothing was left."""
        lock = sqlite3.connect(self.folder / LOCK_FILE, isolation_level=None, timeout=0)
        try:
            lock.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()
        except sqlite3.OperationalError:
            return None
        finally:
            lock.close()
        with self._guard:
            left = self.abandoned_holds()
            return sum(self._price_of_losing(hold_id)[1] for hold_id in left) if left else None

    def heartbeat(self, hold_id: int) -> None:
        """Say that the time-priced call behind this hold is still running."""
        with self._transaction():
            self._db.execute("UPDATE calls SET ended = ? WHERE id = ? AND state = 'held'", (time.time(), hold_id))

    def _end(self, hold_id: int, state: str, charged: int, paid: int, usage: Mapping[str, Any]) -> int:
        row = self._db.execute(
            """UPDATE calls SET state = ?, charged = ?, paid = ?, usage = ?, ended = ?
               WHERE id = ? AND state = 'held' RETURNING held""",
            (state, charged, paid, json.dumps(usage), time.time(), hold_id),
        ).fetchone()
        if row is None:
            raise LookupError(f"call {hold_id} holds no money")
        return int(row[0])

    def abandoned_holds(self) -> Sequence[int]:
        """The open holds without a ticket. Whoever holds the lock made none of them: a crash left them."""
        rows = self._db.execute(
            "SELECT id FROM calls WHERE state = 'held' AND id NOT IN (SELECT call FROM tickets) ORDER BY id"
        )
        return [row[0] for row in rows]

    # --- tickets ----------------------------------------------------------------------------------------

    def tickets(self, teacher: str, state: str = "held") -> list[BatchJobRecord]:
        """The tickets of one teacher (its key) whose calls are in `state`, oldest first."""
        with self._guard:
            rows = self._db.execute(
                """SELECT call, mark, place, keys, facts, held, began FROM tickets JOIN calls ON call = id
                   WHERE teacher = ? AND state = ? ORDER BY call""",
                (teacher, state),
            ).fetchall()
        return [
            BatchJobRecord(call, mark, place, tuple(json.loads(keys)), json.loads(facts), held, began)
            for call, mark, place, keys, facts, held, began in rows
        ]

    def set_provider_id(self, call: int, place: str) -> None:
        """Write down the provider's name for what was left with it."""
        with self._transaction():
            self._db.execute("UPDATE tickets SET place = ? WHERE call = ?", (place, call))

    def totals(self, limit: int) -> LedgerTotals:
        """The sums as they stand, added up from the rows."""
        with self._guard:
            held, charged, paid, lost, calls = self._db.execute(
                """SELECT COALESCE(SUM(held) FILTER (WHERE state = 'held'), 0), COALESCE(SUM(charged), 0),
                   COALESCE(SUM(paid), 0), COALESCE(SUM(charged) FILTER (WHERE state = 'lost'), 0),
                   COUNT(*) FILTER (WHERE state = 'settled') FROM calls"""
            ).fetchone()
            by = dict(self._db.execute("SELECT category, SUM(charged) FROM calls GROUP BY category"))
            by_purpose = dict(self._db.execute("SELECT purpose, SUM(charged) FROM calls GROUP BY purpose"))
        return LedgerTotals(limit, held, charged, paid, {c: by.get(c, 0) for c in CATEGORIES}, by_purpose, lost, calls)

    def calls(self) -> list[CallRecord]:
        """Every row of the ledger, in the order the calls began."""
        with self._guard:
            cursor = self._db.execute(
                """SELECT id, category, purpose, what, n AS n_texts, state, held, charged, paid, usage,
                   began AS started_at, ended AS ended_at
                   FROM calls ORDER BY id"""
            )
            names = [column[0] for column in cursor.description]
            rows = [dict(zip(names, row, strict=True)) for row in cursor]
        return [CallRecord(**{**row, "usage": json.loads(row["usage"])}) for row in rows]

    def paid_answers(self, categories: Sequence[Category], known_to: Path) -> list[PaidAnswer]:
        """What was paid for here and not yet `given` to `known_to`, with its share of its call's price."""
        marks = ",".join("?" * len(categories))
        with self._guard:
            after = self.get_meta(_given(known_to)) or 0.0
            rows = self._db.execute(
                f"""SELECT ended, key, value, charged, id FROM kept JOIN calls ON call = id
                    WHERE ended >= ? AND state = 'settled' AND paid > 0 AND category IN ({marks})""",
                (after, *categories),
            ).fetchall()
        # Counted and sorted here: SQLite would carry the values along, several times as long.
        of_call = Counter(row[-1] for row in rows)
        found = [
            PaidAnswer(key, value, -(-charged * 1000 // of_call[i]), ended) for ended, key, value, charged, i in rows
        ]
        # By the time of settling, not the order of the calls: a ticket is settled long after it was left.
        return sorted(found, key=lambda each: each.settled_at)

    def mark_shared(self, results: Sequence[PaidAnswer], to: Path) -> None:
        """Remember that these are safe in `to`; what was settled in the same instant may be given again."""
        if results:
            self.set_meta(_given(to), results[-1].settled_at)

    # --- what was bought, what was said -----------------------------------------------------------------

    def _keep(self, values: Mapping[str, Any], call: int | None) -> None:
        self._db.executemany(
            "INSERT OR REPLACE INTO kept (key, value, call) VALUES (?, ?, ?)",
            [(key, json.dumps(value), call) for key, value in values.items()],
        )

    def save(self, values: Mapping[str, Any]) -> None:
        """Keep JSON values that cost nothing."""
        with self._transaction():
            self._keep(values, None)

    def load(self, keys: Iterable[str]) -> dict[str, Any]:
        """The values kept under those of `keys` that are there."""
        return {key: json.loads(value) for key, value in self._select("key, value FROM kept", keys)}

    def note(self, name: str, facts: JsonObject) -> None:
        """Append a note: the name of its kind and its facts as JSON values."""
        with self._transaction():
            self._db.execute(
                "INSERT INTO notes (time, what, facts) VALUES (?, ?, ?)", (time.time(), name, json.dumps(facts))
            )

    def notes(self) -> list[StoredNote]:
        """All notes, oldest first."""
        with self._guard:
            rows = self._db.execute("SELECT time, what, facts FROM notes ORDER BY id").fetchall()
        return [StoredNote(when, name, json.loads(facts)) for when, name, facts in rows]

    def get_meta(self, name: str) -> Any:
        """The JSON value stored under `name`, or None."""
        with self._guard:
            row = self._db.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        return None if row is None else json.loads(row[0])

    def set_meta(self, name: str, value: Any) -> None:
        """Store a JSON value under `name`, replacing what was there."""
        with self._transaction():
            self._db.execute("INSERT OR REPLACE INTO meta (name, value) VALUES (?, ?)", (name, json.dumps(value)))


def _given(to: Path) -> str:
    return f"given to {to.absolute()}"
