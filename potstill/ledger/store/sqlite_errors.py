"""SQLite's errors as errors of potstill: a file is locked, damaged, or cannot be written, or its disk is full.

The connection raises them wherever it is used; the error of SQLite is their cause. Errors of a statement itself, such
as a value that is not unique, stay as they are.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from potstill.errors import DiskError, PotstillError, RunBusy, RunNotFound

T = TypeVar("T")
LOCKED = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT)
FULL = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)
DENIED = (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH)
# Potstill's statements are always the same: one that fails meets tables or values that it did not write so.
CHANGED = (sqlite3.SQLITE_ERROR,)


def error_code(error: object) -> int:
    """SQLite's primary result code of an error; 0 if it has none."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def is_damage(error: object) -> bool:
    """Whether an error means that the file's content is broken: not that it is locked, or the disk full."""
    return isinstance(error, UnicodeDecodeError) or (
        isinstance(error, sqlite3.Error)
        and (error_code(error) in (*DAMAGED, *CHANGED) or str(error).startswith("Could not decode"))
    )


def in_words(error: Exception, path: Path) -> PotstillError | None:
    """The error of potstill for an error of SQLite; None if it is about the statement."""
    code = error_code(error)
    if code in LOCKED:
        return RunBusy(f"Another program has locked {path}.", "Close it and run the same command again.")
    if code in FULL:
        return DiskError(
            f"The disk of {path.parent} is full or failing ({error}); everything up to here is kept.",
            "Make room and run the same command again.",
        )
    if code in DENIED:
        return DiskError(
            f"{path} cannot be opened or written ({error}).", f"Make {path.parent} writable, or give another folder."
        )
    if is_damage(error):
        return damaged(path, str(error))
    return None


def damaged(path: Path, reason: str) -> RunNotFound:
    """The error of a file whose content is broken."""
    return RunNotFound(
        f"{path} cannot be read as a potstill file ({reason}).", "Restore a copy of its folder, or give another folder."
    )


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Raise RunNotFound if the block meets a value that potstill did not write so."""
    try:
        yield
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError) as error:
        raise damaged(path, f"{type(error).__name__}: {error}") from error


class WordingConnection(sqlite3.Connection):
    """A connection that raises the errors of `in_words`. `path` is set after it is made."""

    path = Path()

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        """Execute a statement."""
        return self._new_cursor().execute(sql, parameters)

    def executemany(self, sql: str, parameters: Iterable[Any], /) -> sqlite3.Cursor:
        """Execute a statement for each of some parameters."""
        return self._new_cursor().executemany(sql, parameters)

    def _new_cursor(self) -> sqlite3.Cursor:
        made = self.cursor(_WordingCursor)
        made.path = self.path
        return made


class _WordingCursor(sqlite3.Cursor):
    path = Path()

    def _worded(self, step: Callable[[], T]) -> T:
        try:
            return step()
        except (sqlite3.Error, UnicodeDecodeError) as error:
            worded = in_words(error, self.path)
            if worded is None:
                raise
            raise worded from error

    def execute(self, sql: str, parameters: Any = (), /) -> _WordingCursor:
        self._worded(lambda: super(_WordingCursor, self).execute(sql, parameters))
        return self

    def executemany(self, sql: str, parameters: Iterable[Any], /) -> _WordingCursor:
        self._worded(lambda: super(_WordingCursor, self).executemany(sql, parameters))
        return self

    def fetchone(self) -> Any:
        return self._worded(super().fetchone)

    def fetchall(self) -> list[Any]:
        return self._worded(super().fetchall)

    def __next__(self) -> Any:
        return self._worded(super().__next__)
