"""A SQLite file: opened, migrated to the newest format, written in transactions.

The settings, and what they give:

- `journal_mode=WAL`: a reader (`potstill show` in another window) never waits for the run, and after a kill the file
  opens as it was at the last commit.
- `synchronous=FULL` for a `durable` file: a commit is on the disk before the call that made it returns, so a
  hold is there before its request is sent, even after a power cut (as far as the disk honours fsync). `NORMAL`
  otherwise: a power cut may undo the last commits, and never breaks the file.
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
KEYS_PER_QUERY = 500  # below the number of parameters that every SQLite takes


class SqliteFile:
    """One open SQLite file.

    Args:
        path: the file.
        migrations: one function per format version; an older file runs the ones it has not seen, or if it is only
            read, a copy of it in memory does.
        write: open for writing, and make it if it does not exist; otherwise read only.
        durable: a commit survives a power cut.

    Raises:
        RunNotFound: not a SQLite file, or one of a newer format.
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
            # Another process may have migrated it in the meantime.
            version = self._db.execute("PRAGMA user_version").fetchone()[0]
            for step in migrations[version:]:
                step(self._db)
            self._db.execute(f"PRAGMA user_version={len(migrations)}")

    def _copy(self, version: int) -> None:
        """Continue with a copy in memory, which is migrated instead: reading changes no file."""
        if not version:
            raise RunNotFound(f"{self.path} is still empty.", "Try again once its run has started.")
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
                        f"The disk of {self.path.parent} is full or failing ({error}); everything up to here is kept.",
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
        """The `columns` (with their table) of the rows with one of these keys, read in parts."""
        unique = list(dict.fromkeys(keys))
        with self._guard:
            for start in range(0, len(unique), KEYS_PER_QUERY):
                part = unique[start : start + KEYS_PER_QUERY]
                yield from self._db.execute(f"SELECT {columns} WHERE key IN ({','.join('?' * len(part))})", part)

    def close(self) -> None:
        """Close the file, between two transactions."""
        db = getattr(self, "_db", None)
        if db is not None:
            with self._guard:
                db.close()
