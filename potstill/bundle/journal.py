"""A journal of finished blocks of work, one JSON line each, so that work done before a stop is not repeated.

Blocks are keyed by content, so stale entries are ignored. Independent of the kind of work. One process at a time works
with a journal: it is locked until it is closed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

from potstill.data.atomic import disk_errors
from potstill.data.task import JsonObject
from potstill.errors import BadData, RunBusy

FORMAT = 1
NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)  # not on Windows
_MARK = b'{"journal": '  # what every journal begins with


class Journal:
    """The blocks of one job, in order: `find` each in turn, and `add` those that are not there.

    Args:
        path: the file, which must be a journal if it exists, and no symbolic link; created if absent, removed after
            `finish`, or if no block was stored.
        job: everything that all blocks depend on, as JSON values; a journal of another job is emptied.

    Raises:
        BadData: the file exists and is no journal, or is a symbolic link.
        RunBusy: another process works with it.
        DiskError: the disk is full.
    """

    def __init__(self, path: Path, job: JsonObject) -> None:
        self.path = path
        self._file = _open_locked(path)
        self._file.seek(0)
        head = json.loads(json.dumps({"journal": FORMAT, **job}))
        self._reading = _parsed(self._file.readline()) == head
        self._n_stored = 0
        if not self._reading:
            self._file.truncate(0)
            try:
                self._write(head)
            except BaseException:
                self._close()
                raise

    def find(self, key: str) -> Any | None:
        """The result stored under `key` if that is the next block; else None, and all later blocks are dropped."""
        if not self._reading:
            return None
        at = self._file.tell()
        block = _parsed(self._file.readline())
        if isinstance(block, dict) and block.get("key") == key and "result" in block:
            self._n_stored += 1
            return block["result"]
        self._reading = False
        self._file.truncate(at)  # the line may be half a line: the process was killed while it wrote
        return None

    def add(self, key: str, result: Any) -> None:
        """Store a block's result, as JSON values, after those found or added before."""
        self._reading = False
        self._n_stored += 1
        self._write({"key": key, "result": result})

    def finish(self) -> None:
        """Remove the journal once the output is written."""
        self._n_stored = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._close()

    def _close(self) -> None:
        if not self._n_stored:
            self.path.unlink(missing_ok=True)  # while it is locked: no other process can have begun with it
        with suppress(OSError):  # what a full disk did not take is written again when the object is closed
            self._file.close()

    def _write(self, record: JsonObject) -> None:
        with disk_errors(self.path):
            self._file.write(json.dumps(record, ensure_ascii=True).encode("ascii") + b"\n")
            self._file.flush()


def _open_locked(path: Path) -> BinaryIO:
    """The file, open to read and append, and locked; the one that has this path, not one that was removed meanwhile."""
    while True:
        file = _open_own(path)
        try:
            import fcntl

            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
            there = path.exists() and os.path.samestat(path.stat(), os.fstat(file.fileno()))
        except BlockingIOError:
            file.close()
            raise RunBusy(
                f"Another process is writing {str(path).removesuffix('.part')}.",
                "Wait for it, or give another output with -o.",
            ) from None
        except (ModuleNotFoundError, OSError):  # Windows, or a file system without locks
            return file
        if there:
            return file
        file.close()


def _open_own(path: Path) -> BinaryIO:
    """The file, open to read and append."""
    try:
        file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | NO_FOLLOW, 0o666), "a+b")
    except OSError as error:
        reason = "is a symbolic link" if path.is_symlink() else f"cannot be opened ({error.strerror})"
        raise not_own_error(path, reason) from None
    file.seek(0)
    head = file.read(len(_MARK))
    if path.is_symlink() or not _MARK.startswith(head):  # a part of the mark: killed while it was written
        file.close()
        raise not_own_error(path, "is a symbolic link" if path.is_symlink() else "exists and is no journal of predict")
    return file


def not_own_error(path: Path, reason: str) -> BadData:
    """The error for a file that a job would write over and that is none of its own."""
    return BadData(f"{path} {reason}.", "Move it away, or give another output with -o.")


def content_key(texts: Iterable[str]) -> str:
    """SHA-256 of texts, each with its length, so that no two lists share a key."""
    hashed = sha256()
    for text in texts:
        data = text.encode("utf-8", "surrogatepass")
        hashed.update(f"{len(data)} ".encode())
        hashed.update(data)
    return hashed.hexdigest()


def _parsed(line: bytes) -> Any:
    if not line.endswith(b"\n"):
        return None
    try:
        return json.loads(line)
    except ValueError:
        return None
