"""A SQLite file: opened, migrated to the newest format, written in transactions.

The settings, and what they give:

- `journal_mode=WAL`: a reader (`potstill show` in another window) never waits for the run, and after a kill the file
  opens as it was at the last commit.
- `synchronous=FULL` for a `durable` file: a commit is on the disk before the call that made it returns, so a
  hold is there before its request is sent, even after a power cut (as far as the disk honours fsync). `NORMAL`
  otherwise: a power cut may undo the last commits, and never breaks the file.
"""

from __future__ import annotations

import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from potstill.errors import DiskError, PotstillError, RunBusy, RunNotFound
from potstill.ledger.store.sqlite_errors import WordingConnection, damaged, in_words

Migration = Callable[[sqlite3.Connection], None]
BUSY_TIMEOUT_MS = 1000  # of one attempt to write
PATIENCE_S = 10.0  # how long another program's lock is waited for
KEYS_PER_QUERY = 500  # below the number of parameters that every SQLite takes


class SqliteFile:
    """One open SQLite file.

    Args:
        path: the file.
        migrations: one function per format version; an older file runs the ones it has not seen, or if it is only
            read, a copy of it in memory does.
        write: open for writing, and make it if it does not exist; otherwise read only, also where nothing can be
            written.
        durable: a commit survives a power cut.

    Attributes:
        report: called with a sentence while another program's lock is waited for; may be set.

    Raises:
        RunNotFound: not a SQLite file, damaged, or one of a newer format.
        RunBusy: another program has locked it.
        DiskError: it cannot be opened or written.
    """

    def __init__(self, path: Path, migrations: Sequence[Migration], *, write: bool, durable: bool) -> None:
        self.path = path
        self.report: Callable[[str], None] | None = None
        self._guard = threading.RLock()
        self._copied: TemporaryDirectory[str] | None = None
        try:
            self._db = _connect(path, "mode=rwc") if write else self._open_to_read()
            self._db.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
            if write:
                self._db.execute("PRAGMA journal_mode=WAL")
                self._db.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
            self._migrate(migrations, write)
            self._place = _place(path)
        except sqlite3.DatabaseError as error:
            SqliteFile.close(self)
            raise damaged(path, str(error)) from error
        except BaseException:
            SqliteFile.close(self)
            raise

    def _open_to_read(self) -> sqlite3.Connection:
        """Open the file read only. Where nothing can be written SQLite needs to know that none writes."""
        try:
            db = _connect(self.path, "mode=ro")
            db.execute("PRAGMA schema_version").fetchone()
            return db
        except DiskError:
            log = self.path.with_name(f"{self.path.name}-wal")
            if not log.exists() or not log.stat().st_size:
                return _connect(self.path, "immutable=1")
            # A killed process left commits in the log, which SQLite reads only where it can write beside it.
            self._copied = TemporaryDirectory(prefix="potstill-")
            for file in (self.path, log):
                shutil.copy(file, self._copied.name)
            return _connect(Path(self._copied.name) / self.path.name, "mode=rw")

    def check_there(self) -> None:
        """Raise DiskError if the file was removed or replaced: what is written now would be lost."""
        if _place(self.path) != self._place:
            raise DiskError(
                f"{self.path} was moved or removed while it was in use.",
                "Put the folder back, or run the same command again to begin anew.",
            )

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
        copy = _connected(":memory:", self.path)
        try:
            self._db.backup(copy)
        except sqlite3.Error as error:
            raise in_words(error, self.path) or damaged(self.path, str(error)) from error
        self._db.close()
        self._db = copy

    @contextmanager
    def _transaction(self, patience_s: float | None = None) -> Iterator[None]:
        self._begin(PATIENCE_S if patience_s is None else patience_s)
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            self._roll_back()
            raise
        finally:
            self._guard.release()

    def _begin(self, patience_s: float) -> None:
        """Begin to write, and keep the guard. While another program has the file locked the guard is free."""
        began, said = time.monotonic(), False
        while True:
            self._guard.acquire()
            try:
                self._db.execute("BEGIN IMMEDIATE")
                return
            except RunBusy as error:
                self._guard.release()
                if time.monotonic() - began >= patience_s:
                    raise
                if not said and self.report is not None:
                    self.report(f"{error.message} Waiting for it.")
                said = True
            except BaseException:
                self._guard.release()
                raise

    def _roll_back(self) -> None:
        if self._db.in_transaction:
            with suppress(PotstillError):  # a full disk may have ended the transaction already
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
        if self._copied is not None:
            self._copied.cleanup()


def _connect(path: Path, query: str) -> sqlite3.Connection:
    try:
        return _connected(f"{path.absolute().as_uri()}?{query}", path)
    except sqlite3.Error as error:
        raise in_words(error, path) or damaged(path, str(error)) from error


def _connected(name: str, path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(name, uri=True, isolation_level=None, check_same_thread=False, factory=WordingConnection)
    db.path = path
    return db


def _place(path: Path) -> tuple[int, int] | None:
    """Device and inode of the file that has this path now; None if there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
