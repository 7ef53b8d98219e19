"""The answers of a workspace: what its runs bought from models and people, for the next run with the same prompts.

It contains only good answers, by a hash of task, teacher, prompt, parameters and text, so that none can be taken for
another's. Several runs may use it at once: a run claims an answer here before it buys it. Deleting the file costs the
answers it would have saved, no record of spending.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import astuple
from pathlib import Path
from typing import TypeVar

from potstill.errors import PotstillError, RunBusy
from potstill.ledger.store.records import UNREADABLE, Claim, PaidAnswer, read_json
from potstill.ledger.store.sqlite_errors import is_damage
from potstill.ledger.store.sqlite_file import Migration, SqliteFile

FILE = "answers.sqlite"
DAMAGE = "broken pages"
UNUSABLE = (PotstillError, sqlite3.DatabaseError)  # raised for a file that is damaged, locked, or of a newer format
T = TypeVar("T")
_CLAIM = "owner, by_job, expires_at"
MAX_NANOS = 10**15  # a million dollars: no answer cost that much
# An answer in the state ok, or generated texts; NaN is no JSON. SQLite checks this faster than Python could.
_GOOD = """CASE WHEN NOT json_valid(?2) THEN 0 ELSE CASE json_type(?2)
           WHEN 'object' THEN json_extract(?2, '$.state') IS 'ok'
           WHEN 'array' THEN json_array_length(?2) > 0 ELSE 0 END END"""


def _format_1(db: sqlite3.Connection) -> None:
    db.execute(
        "CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, value TEXT NOT NULL, nanos INTEGER NOT NULL)"
        " WITHOUT ROWID"
    )


def _format_2(db: sqlite3.Connection) -> None:
    db.execute(
        "CREATE TABLE IF NOT EXISTS claims (key TEXT PRIMARY KEY, owner TEXT NOT NULL, by_job INTEGER NOT NULL,"
        " expires_at REAL NOT NULL) WITHOUT ROWID"
    )


MIGRATIONS: list[Migration] = [_format_1, _format_2]


class AnswerCache(SqliteFile):
    """The answers of one workspace folder.

    A damaged file is renamed and replaced by an empty one, when it is opened or whenever the damage shows: a cache
    stops no run.

    Args:
        workspace: the folder.
        report: called with a sentence when a damaged file was renamed; without it a damaged file is left and raises.

    Raises:
        RunNotFound: the file has a newer format, or is damaged.
    """

    def __init__(self, workspace: Path, report: Callable[[str], None] | None = None) -> None:
        workspace.mkdir(parents=True, exist_ok=True)
        self._report = report
        self._file = workspace / FILE
        try:
            self._open()
        except UNUSABLE as error:
            if report is None or not _is_damage(error):
                raise
            self._set_aside(error)

    def _open(self) -> None:
        super().__init__(self._file, MIGRATIONS, write=True, durable=False)
        with self._guard:
            found = self._db.execute("PRAGMA quick_check(1)").fetchone()[0]
            if found != "ok":
                raise sqlite3.DatabaseError(f"{DAMAGE}: {' '.join(found.split())}")
            self._db.execute("SELECT key, value, nanos FROM answers LIMIT 1").fetchone()

    def _set_aside(self, error: BaseException) -> None:
        assert self._report is not None
        self.close()
        aside = self._file.with_name(f"{FILE}.damaged-{time.time_ns()}")
        self._file.rename(aside)
        for suffix in ("-wal", "-shm"):
            with suppress(OSError):
                self._file.with_name(FILE + suffix).rename(aside.with_name(aside.name + suffix))
        self._open()
        self._report(
            f"{self._file} is damaged ({_cause(error)}): it is now {aside.name}, and its answers are bought anew where "
            "needed."
        )

    def _mended(self, step: Callable[[], T]) -> T:
        """What `step` returns, done again on an empty file if this one is damaged."""
        try:
            return step()
        except UNUSABLE as error:
            if self._report is None or not _is_damage(error):
                raise
            with self._guard:
                self._set_aside(error)
            return step()

    def get(self, keys: Iterable[str]) -> dict[str, PaidAnswer]:
        """The answers of those `keys` that are in the cache and can be read."""
        unique = list(keys)
        rows = self._mended(lambda: list(self._select("key, value, nanos FROM answers", unique)))
        return {
            key: PaidAnswer(key, value, nanos)
            for key, value, nanos in rows
            if type(nanos) is int and 0 <= nanos <= MAX_NANOS and read_json(value) is not UNREADABLE
        }

    def put(self, answers: Iterable[PaidAnswer]) -> bool:
        """Add the good ones; an answer that is there already keeps its price. False if another program locks it."""
        rows = [(each.key, each.json, each.price_nanos) for each in answers]
        if not rows:
            return True

        def step() -> None:
            with self._transaction():
                self._db.executemany(
                    f"INSERT OR IGNORE INTO answers (key, value, nanos) SELECT ?1, ?2, ?3 WHERE {_GOOD}", rows
                )

        try:
            self._mended(step)
        except RunBusy as error:  # the run has the answers: it shares them the next time
            if self._report is None:
                raise
            self._report(f"{error.message} Its answers are not shared with other runs yet.")
            return False
        return True

    # --- claims: which run is buying an answer now ----------------------------------------------------------

    def claim(self, keys: Iterable[str], claim: Claim, is_valid: Callable[[Claim], bool]) -> dict[str, str]:
        """Claim the answers that no other run is buying, so that two runs never buy the same one at once.

        Args:
            keys: of the answers.
            claim: stored for each; replaces an older one of the same owner.
            is_valid: whether another run's claim, which has not expired, still counts.

        Returns:
            key -> owner, of those that another run has claimed.
        """
        unique = list(dict.fromkeys(keys))

        def step() -> dict[str, str]:
            with self._transaction():
                found = [(key, Claim(*rest)) for key, *rest in self._select(f"key, {_CLAIM} FROM claims", unique)]
                others = {other for _, other in found if other.owner != claim.owner}
                valid = {other for other in others if other.expires_at > time.time() and is_valid(other)}
                taken = {key: other.owner for key, other in found if other in valid}
                self._db.executemany(
                    f"INSERT OR REPLACE INTO claims (key, {_CLAIM}) VALUES (?, ?, ?, ?)",
                    [(key, *astuple(claim)) for key in unique if key not in taken],
                )
                return taken

        return self._mended(step)

    def release_claims(self, owner: str, keys: Iterable[str] | None = None) -> None:
        """Delete claims of a run: those of `keys`; without keys, all but those for jobs."""

        def step() -> None:
            with self._transaction():
                if keys is None:
                    self._db.execute("DELETE FROM claims WHERE owner = ? AND by_job = 0", (owner,))
                else:
                    pairs = [(owner, key) for key in keys]
                    self._db.executemany("DELETE FROM claims WHERE owner = ? AND key = ?", pairs)

        self._mended(step)

    def renew_claims(self, owner: str, expires_at: float) -> None:
        """Give all claims of a run but those for jobs a new time of expiry."""

        def step() -> None:
            with self._transaction():
                sql = "UPDATE claims SET expires_at = ? WHERE owner = ? AND by_job = 0"
                self._db.execute(sql, (expires_at, owner))

        self._mended(step)


def _cause(error: BaseException) -> BaseException:
    """The error of SQLite behind an error of potstill."""
    return error.__cause__ if isinstance(error.__cause__, sqlite3.Error) else error


def _is_damage(error: BaseException) -> bool:
    cause = _cause(error)
    return is_damage(cause) or str(cause).startswith(DAMAGE)
