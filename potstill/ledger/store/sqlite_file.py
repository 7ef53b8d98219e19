"""A SQLite file of ours: opened, brought to the newest format, written in transactions.

What SQLite is asked for, and what that gives:

- `journal_mode=WAL`: a reader (`potstill show` in another window) never waits for the run, and a killed
  process leaves a file that opens as it was after the last commit.
- `synchronous=FULL` where a file is `durable`: a commit is on the disk before the call that made it returns, so a
  hold is there before its request leaves even if the power goes (as far as the disk honours fsync). `NORMAL`
  elsewhere: a power cut may take the last commits, and never leaves a broken file.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from potstill.errors import PotstillError, RunNotFound

Migration = Callable[[sqlite3.Connection], None]


class SqliteFile:
    """One open SQLite file.

    Args:
        path: the file.
        migrations: one function per format version; an older file runs the ones it has not seen, or a copy of it in
            memory does where it is only read.
        write: open for work, and make it if it is not there; otherwise read only.
        durable: a commit survives a power cut.

    Raises:
        NotARun: not a file of ours, or one of a newer format.
    """

    def __init__(self, path: Path, migrations: Sequence[Migration], *, write: bool, durable: bool) -> None:
        self.path = path
        self._guard = threading.RLock()
        try:
            mode = "rwc" if write else "ro"
            self._db = sqlite3.connect(
                f"{path.absolute().as_uri()}?mode={mode}", uri=True, isolation_level=None, check_same_thread=False
            )
            self._db.execute("PRAGMA busy_timeout=10000")
            if write:
                self._db.execute("PRAGMA journal_mode=WAL")
                self._db.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
            self._migrate(migrations, write)
        except sqlite3.DatabaseError as error:
            SqliteFile.close(self)
            raise RunNotFound(f"{path} cannot be read as a potstill file ({error}).", "Give another folder.") from error
        except BaseException:
            SqliteFile.close(self)
            raise

    def _migrate(self, migrations: Sequence[Migration], write: bool) -> None:
        version: int = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version > len(migrations):
            raise RunNotFound(
                f"{self.path} has format {version} and this potstill reads up to {len(migrations)}.",
                "Upgrade potstill.",
            )
        if version == len(migrations):
            return
        if not write:
            self._copy(version)
        with self._transaction():
            # Another process may have brought it up to date in the meantime.
            version = self._db.execute("PRAGMA user_version").fetchone()[0]
            for step in migrations[version:]:
                step(self._db)
            self._db.execute(f"PRAGMA user_version={len(migrations)}")

    def _copy(self, version: int) -> None:
        """Go on with a copy in memory, to be brought up to date: who only looks changes nothing."""
        if not version:
            raise RunNotFound(f"{self.path} holds nothing yet.", "Look again when its run has begun.")
        copy = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        self._db.backup(copy)
        self._db.close()
        self._db = copy

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._guard:
            try:
                self._db.execute("BEGIN IMMEDIATE")
                yield
                self._db.execute("COMMIT")
            except sqlite3.OperationalError as error:
                self._roll_back()
                if "full" in str(error) or "disk I/O" in str(error):
                    raise PotstillError(
                        f"The disk of {self.path.parent} takes no more ({error}); everything up to here is kept.",
                        "Make room and run the same command again.",
                    ) from error
                raise
            except BaseException:
                self._roll_back()
                raise

    def _roll_back(self) -> None:
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")

    def _select(self, columns: str, keys: Iterable[str]) -> Iterator[tuple[Any, ...]]:
        """`columns` (with their table) of the rows that have one of these keys, some hundred at a time."""
        wanted = list(dict.fromkeys(keys))
        with self._guard:
            for start in range(0, len(wanted), 500):
                part = wanted[start : start + 500]
                yield from self._db.execute(f"SELECT {columns} WHERE key IN ({','.join('?' * len(part))})", part)

    def close(self) -> None:
        """Let go of the file, between two transactions."""
        db = getattr(self, "_db", None)
        if db is not None:
            with self._guard:
                db.close()
