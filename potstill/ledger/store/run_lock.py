"""The lock of a run's folder: an exclusive transaction on `lock.sqlite`, which ends with its process.

Also which files a killed start leaves: a folder with these alone is a new run.
"""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from pathlib import Path

from potstill.errors import DiskError, RunBusy, RunNotFound
from potstill.ledger.store.sqlite_errors import LOCKED, error_code, in_words

RUN_FILE = "run.sqlite"
LOCK_FILE = "lock.sqlite"
# A process that only checks whether another one works here (`is_locked`) holds the lock for an instant.
LOCK_TIMEOUT_S = 0.25
_SUFFIXES = ("", "-journal", "-wal", "-shm")
START_FILES = frozenset(f"{file}{suffix}" for file in (RUN_FILE, LOCK_FILE) for suffix in _SUFFIXES)


def take_lock(folder: Path) -> sqlite3.Connection:
    """Lock the folder; closing the connection releases it.

    Raises:
        RunBusy: another process has the lock.
        DiskError: the lock's file cannot be written.
        RunNotFound: it is no SQLite file.
    """
    path = folder / LOCK_FILE
    lock = None
    try:
        lock = sqlite3.connect(path, isolation_level=None, timeout=LOCK_TIMEOUT_S, check_same_thread=False)
        lock.execute("BEGIN EXCLUSIVE")
        return lock
    except sqlite3.Error as error:
        if lock is not None:
            lock.close()
        if error_code(error) in LOCKED:
            raise RunBusy(
                f"Another process is working in {folder}.", "Wait for it, stop it, or give another folder."
            ) from None
        worded = in_words(error, path)
        if isinstance(worded, RunNotFound):
            raise RunNotFound(
                f"{path} is not the lock of a run ({error}).",
                "Remove that file if no other process works there; it holds nothing.",
            ) from error
        raise worded or DiskError(f"{path} cannot be locked ({error}).", "Give another folder.") from error


def is_locked(folder: Path) -> bool:
    """Whether a process works in the folder; makes and changes no file."""
    path = folder / LOCK_FILE
    if not path.exists():
        return False
    lock = None
    try:
        lock = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None, timeout=0)
        lock.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()
        return False
    except sqlite3.Error as error:
        return error_code(error) in LOCKED
    finally:
        if lock is not None:
            lock.close()


def holds_no_run(folder: Path) -> bool:
    """Whether the folder is absent, empty, or holds only what a start leaves that was killed before it wrote a run."""
    if not folder.is_dir():
        return not folder.exists()
    names = {path.name for path in folder.iterdir()}
    return names <= START_FILES and RUN_FILE not in names


def remove_start(folder: Path, *, made: bool) -> None:
    """Remove what a refused start wrote, and nothing else: the folder only if it was `made` and holds nothing more."""
    for name in START_FILES:
        (folder / name).unlink(missing_ok=True)
    if made:
        with suppress(OSError):  # it holds something else by now
            folder.rmdir()
