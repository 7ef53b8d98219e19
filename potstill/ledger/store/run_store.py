"""A run's SQLite file: its calls, results, batch jobs and notes.

- Holds on machine time have a heartbeat: after a crash such a hold is lost up to the last one (plus
  `HEARTBEAT_SLACK_S`), any other at its full price.
- The lock of `run_lock` lets one process work in a run at a time.
"""

from __future__ import annotations

import json
import math
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from potstill.data.atomic import make_folder
from potstill.data.task import JsonObject
from potstill.errors import PotstillError, RunNotFound
from potstill.ledger.prices import CATEGORIES, Category, LedgerTotals, NewBatchJob, Purchase, Usage
from potstill.ledger.store.group_commit import GroupCommit, WriteStep
from potstill.ledger.store.migrations import MIGRATIONS
from potstill.ledger.store.records import (
    UNREADABLE,
    BatchJobRecord,
    CallRecord,
    PaidAnswer,
    StoredNote,
    read_json,
    read_time,
    read_usage,
)
from potstill.ledger.store.run_lock import RUN_FILE, is_locked, take_lock
from potstill.ledger.store.sqlite_errors import readable
from potstill.ledger.store.sqlite_file import SqliteFile

HEARTBEAT_SLACK_S = 5.0
PAID_PATIENCE_S = 300.0  # how long another program's lock is waited for if what was paid for would be lost


class RunStore(SqliteFile):
    """The store of one run. Implements `ledger.LedgerStorage`; every method is one transaction.

    Args:
        folder: the run's folder; made if it is opened for writing.
        write: open for writing, which locks the run; otherwise read only.

    Raises:
        RunNotFound: there is no store, the file is not one of potstill, or its format is newer.
        RunBusy: another process works in this run, or another program has locked the file.
        DiskError: the folder cannot be made or written.
    """

    def __init__(self, folder: Path, *, write: bool) -> None:
        self.folder = folder
        self._lock: sqlite3.Connection | None = None
        if write:
            make_folder(folder)
            self._lock = take_lock(folder)
        elif not (folder / RUN_FILE).exists():
            raise RunNotFound(
                f"{folder} is not a run: it has no {RUN_FILE}.", "Give the folder that `potstill distill -o` made."
            )
        try:
            super().__init__(folder / RUN_FILE, MIGRATIONS, write=write, durable=True)
            self._committed = self._sum_committed()
            self._n_settled = self._last_settled()
            self._opened_at, self._opened_monotonic = time.time(), time.monotonic()
            self._counting = threading.Lock()
            self._commits = GroupCommit(self._write)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the file and release the lock."""
        super().close()
        if self._lock is not None:
            self._lock.close()

    # --- time ---------------------------------------------------------------------------------------------

    def now(self) -> float:
        """Seconds since 1970; never goes back while the file is open, even if the machine's clock is set back."""
        return self._opened_at + time.monotonic() - self._opened_monotonic

    # --- the ledger ---------------------------------------------------------------------------------------

    def _last_settled(self) -> int:
        return int(self._db.execute("SELECT COALESCE(MAX(settled_number), 0) FROM calls").fetchone()[0])

    def _sum_committed(self) -> int:
        row = self._db.execute("SELECT COALESCE(SUM(CASE state WHEN 'held' THEN held ELSE charged END), 0) FROM calls")
        return int(row.fetchone()[0])

    def committed(self) -> int:
        """Held plus charged, in micro-dollars."""
        return self._committed

    def hold(self, purchase: Purchase, micros: int, limit: int, job: NewBatchJob | None = None) -> int | None:
        """Write a hold and return its id; None if `held + charged + micros` would pass `limit`.

        The hold of a `job` outlives the process; hold and job are written in one step.
        """

        def step() -> int | None:
            # Counted before the commit: a commit that fails leaves too much counted, never too little.
            with self._counting:
                if self._committed + micros > limit:
                    return None
                self._committed += micros
            return self._insert_hold(purchase, micros, job)

        def undo(hold_id: int | None) -> None:
            if hold_id is not None:
                with self._counting:
                    self._committed -= micros

        self.check_there()
        return self._commits.do(step, undo)

    def _insert_hold(self, purchase: Purchase, micros: int, job: NewBatchJob | None) -> int | None:
        hold_id = self._db.execute(
            """INSERT INTO calls (category, purpose, description, n_texts, teacher, mode, state, held,
               micros_per_second, started_at) VALUES (?, ?, ?, ?, ?, ?, 'held', ?, ?, ?)""",
            (
                purchase.category,
                purchase.purpose,
                purchase.description,
                purchase.n_texts,
                purchase.teacher,
                purchase.mode,
                micros,
                purchase.micros_per_second,
                self.now(),
            ),
        ).lastrowid
        if job is not None:
            keys, max_usage = json.dumps(list(job.keys)), json.dumps(job.max_usage.to_json())
            self._db.execute(
                "INSERT INTO batch_jobs (call_id, teacher_key, client_id, keys, samples, max_usage)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                (hold_id, job.teacher_key, job.client_id, keys, job.samples, max_usage),
            )
        return hold_id

    def _write(self, batch: Sequence[WriteStep[object]]) -> None:
        # A savepoint for each step would double the statements, and between any two of them other threads cut in.
        done: list[WriteStep[object]] = []
        try:
            with self._transaction(PAID_PATIENCE_S if any(step.paid for step in batch) else None):
                for step in batch:
                    step.result = step.do()
                    done.append(step)
        except (sqlite3.OperationalError, PotstillError):
            raise
        except Exception:
            # The whole batch was rolled back. Each step is written alone, so that only the failing ones fail.
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
        self, hold_id: int, *, charged: int, paid: int, usage: Usage, results: JsonObject, remark: str = ""
    ) -> None:
        """Turn a hold into a charge and store its results (key -> JSON value), in one transaction.

        A `remark` is added to the call's description.
        """

        def step() -> int:
            held = self._end(hold_id, "settled", charged, paid, usage)
            if remark:
                sql = "UPDATE calls SET description = description || ' (' || ? || ')' WHERE id = ?"
                self._db.execute(sql, (remark, hold_id))
            self._save(results, hold_id)
            return held

        held = self._commits.do(step, paid=True)
        with self._counting:
            self._committed += charged - held

    def drop_hold(self, hold_id: int, *, lost: bool) -> None:
        """End a hold without results: release it, or book it as lost (see `_loss`)."""
        with self._transaction():
            held, loss = self._loss(hold_id)
            charged = loss if lost else 0
            self._end(hold_id, "lost" if lost else "released", charged, charged, Usage())
        with self._counting:
            self._committed += charged - held

    def _loss(self, hold_id: int) -> tuple[int, int]:
        """The money held, and the part that is lost without a result: all, or the time up to the last heartbeat."""
        held, rate, started, heartbeat = self._db.execute(
            "SELECT held, micros_per_second, started_at, COALESCE(ended_at, started_at) FROM calls WHERE id = ?",
            (hold_id,),
        ).fetchone()
        if rate is None:
            return held, held
        return held, min(held, math.ceil(rate * (max(0.0, heartbeat - started) + HEARTBEAT_SLACK_S)))

    def abandoned_micros(self) -> int | None:
        """Micro-dollars that a process which ended left held, and that the next start books as lost.

        None if a process works in the run, or nothing was left.
        """
        if is_locked(self.folder):
            return None
        with self._guard:
            hold_ids = self.abandoned_holds()
            return sum(self._loss(hold_id)[1] for hold_id in hold_ids) if hold_ids else None

    def heartbeat(self, hold_id: int) -> None:
        """Record that the machine time behind this hold is still being used."""
        with self._transaction():
            self._db.execute("UPDATE calls SET ended_at = ? WHERE id = ? AND state = 'held'", (self.now(), hold_id))

    def _end(self, hold_id: int, state: str, charged: int, paid: int, usage: Usage) -> int:
        number = self._n_settled + 1 if state == "settled" else None
        # A job may have been started by another process, whose clock was ahead.
        row = self._db.execute(
            """UPDATE calls SET state = ?, charged = ?, paid = ?, usage = ?, ended_at = MAX(started_at, ?),
               settled_number = ? WHERE id = ? AND state = 'held' RETURNING held""",
            (state, charged, paid, json.dumps(usage.to_json()), self.now(), number, hold_id),
        ).fetchone()
        if row is None:
            raise LookupError(f"call {hold_id} holds no money")
        self._n_settled += number is not None
        return int(row[0])

    def abandoned_holds(self) -> Sequence[int]:
        """Ids of the open holds without a batch job. The process that has the lock made none of them."""
        rows = self._db.execute(
            "SELECT id FROM calls WHERE state = 'held' AND id NOT IN (SELECT call_id FROM batch_jobs) ORDER BY id"
        )
        return [row[0] for row in rows]

    # --- batch jobs -------------------------------------------------------------------------------------

    def batch_jobs(self, teacher_key: str, state: str = "held") -> list[BatchJobRecord]:
        """The jobs of one teacher whose calls are in `state`, oldest first."""
        with self._guard, readable(self.path):
            rows = self._db.execute(
                """SELECT call_id, client_id, provider_id, keys, samples, max_usage, held, started_at
                   FROM batch_jobs JOIN calls ON call_id = id WHERE teacher_key = ? AND state = ? ORDER BY call_id""",
                (teacher_key, state),
            ).fetchall()
            return [
                BatchJobRecord(
                    call_id, client_id, provider_id, tuple(json.loads(keys)), samples, read_usage(usage), *rest
                )
                for call_id, client_id, provider_id, keys, samples, usage, *rest in rows
            ]

    def set_provider_id(self, call_id: int, provider_id: str) -> None:
        """Store the provider's id of a job that was submitted."""
        with self._transaction():
            self._db.execute("UPDATE batch_jobs SET provider_id = ? WHERE call_id = ?", (provider_id, call_id))

    # --- reading the ledger -----------------------------------------------------------------------------

    def totals(self, limit: int) -> LedgerTotals:
        """The current sums, added up from the rows."""
        with self._guard, readable(self.path):
            held, charged, paid, lost, calls = self._db.execute(
                """SELECT COALESCE(SUM(held) FILTER (WHERE state = 'held'), 0), COALESCE(SUM(charged), 0),
                   COALESCE(SUM(paid), 0), COALESCE(SUM(charged) FILTER (WHERE state = 'lost'), 0),
                   COUNT(*) FILTER (WHERE state = 'settled') FROM calls"""
            ).fetchone()
            by = dict(self._db.execute("SELECT category, SUM(charged) FROM calls GROUP BY category"))
            by_purpose = dict(self._db.execute("SELECT purpose, SUM(charged) FROM calls GROUP BY purpose"))
        return LedgerTotals(limit, held, charged, paid, {c: by.get(c, 0) for c in CATEGORIES}, by_purpose, lost, calls)

    def calls(self) -> list[CallRecord]:
        """Every row of the ledger, in the order the calls started."""
        columns = [field.name for field in fields(CallRecord) if field.name != "usage"]
        with self._guard, readable(self.path):
            rows = self._db.execute(f"SELECT usage, {', '.join(columns)} FROM calls ORDER BY id").fetchall()
            return [
                CallRecord(usage=read_usage(usage), **dict(zip(columns, rest, strict=True))).checked()
                for usage, *rest in rows
            ]

    def paid_answers(self, categories: Sequence[Category], unknown_to: Path) -> list[PaidAnswer]:
        """Results that were paid for and not yet shared with the cache `unknown_to`, in the order of settling.

        Each has its share of its call's price.
        """
        marks = ",".join("?" * len(categories))
        with self._guard:
            after = self.get_meta(_shared_with(unknown_to)) or 0
            rows = self._db.execute(
                f"""SELECT settled_number, key, value, charged, id FROM results JOIN calls ON call_id = id
                    WHERE settled_number > ? AND paid > 0 AND category IN ({marks})""",
                (after, *categories),
            ).fetchall()
        # Counted and sorted here: SQLite would move the values along, several times as long.
        of_call = Counter(row[-1] for row in rows)
        found = [
            PaidAnswer(key, value, -(-charged * 1000 // of_call[i]), number) for number, key, value, charged, i in rows
        ]
        # In the order of settling, not of the calls: a batch job is settled long after it was submitted.
        return sorted(found, key=lambda each: each.settled_number)

    def mark_shared(self, results: Sequence[PaidAnswer], to: Path) -> None:
        """Record that the cache `to` has these, and so all that were settled before the last of them."""
        if results:
            self.set_metas({_shared_with(to): results[-1].settled_number})

    # --- results, notes, meta data ----------------------------------------------------------------------

    def _save(self, values: JsonObject, call_id: int | None) -> None:
        self._db.executemany(
            "INSERT OR REPLACE INTO results (key, value, call_id) VALUES (?, ?, ?)",
            [(key, json.dumps(value, allow_nan=False), call_id) for key, value in values.items()],
        )

    def save(self, values: JsonObject) -> None:
        """Store JSON values that cost nothing, by key."""
        self.check_there()
        with self._transaction():
            self._save(values, None)

    def load(self, keys: Iterable[str]) -> JsonObject:
        """The JSON values stored under those of `keys` that exist and can be read, by key."""
        found = ((key, read_json(value)) for key, value in self._select("key, value FROM results", keys))
        return {key: value for key, value in found if value is not UNREADABLE}

    def note(self, name: str, facts: JsonObject) -> None:
        """Append a note: the name of its kind and its facts as JSON values."""
        self.check_there()
        with self._transaction():
            self._db.execute(
                "INSERT INTO notes (time, name, facts) VALUES (?, ?, ?)", (self.now(), name, json.dumps(facts))
            )

    def notes(self) -> list[StoredNote]:
        """All notes, oldest first."""
        with self._guard, readable(self.path):
            rows = self._db.execute("SELECT time, name, facts FROM notes ORDER BY id").fetchall()
            return [StoredNote(read_time(when), str(name), dict(json.loads(facts))) for when, name, facts in rows]

    def get_meta(self, name: str) -> Any:
        """The JSON value stored under `name`, or None."""
        with self._guard, readable(self.path):
            row = self._db.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
            return None if row is None else json.loads(row[0])

    def set_meta(self, name: str, value: Any) -> None:
        """Store a JSON value under `name`, replacing an older one."""
        self.check_there()
        self.set_metas({name: value})

    def set_metas(self, values: JsonObject) -> None:
        """Store JSON values by name in one step."""
        with self._transaction():
            self._db.executemany(
                "INSERT OR REPLACE INTO meta (name, value) VALUES (?, ?)",
                [(name, json.dumps(value)) for name, value in values.items()],
            )


def is_begun(folder: Path) -> bool:
    """Whether the folder has a run with its options; a start that was killed may leave one without."""
    try:
        store = RunStore(folder, write=False)
    except PotstillError:
        return False
    try:
        return store.get_meta("identity") is not None
    finally:
        store.close()


def _shared_with(cache: Path) -> str:
    # A path may hold bytes that are no text.
    return f"shared with {cache.absolute()}".encode("utf-8", "backslashreplace").decode()
