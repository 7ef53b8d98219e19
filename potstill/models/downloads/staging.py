"""The folder in which a download of several parts is put together, so that a stopped one goes on where it was.

Parts are appended to the files they belong to as they arrive, so that no part is on the disk twice. `staged.json` says
how many are complete and how long each file was then: what a stopped fetch wrote beyond that is cut off.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from potstill.models.downloads.catalogue import Download

RECORD = "staged.json"


@dataclass(frozen=True)
class StagedParts:
    """What a staging folder holds.

    Attributes:
        sha256: of the distribution files it is put together from, in order.
        n_parts: how many of them are complete.
        sizes: file name -> bytes after those parts.
    """

    sha256: tuple[str, ...]
    n_parts: int = 0
    sizes: dict[str, int] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path, row: Download) -> StagedParts:
        """What `folder` holds of a download: nothing if it is damaged, or of other distribution files."""
        hashes = tuple(file.sha256 for file in row.files)
        try:
            record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
            found = cls(tuple(record["sha256"]), int(record["n_parts"]), dict(record["sizes"]))
            complete = all((folder / Path(name).name).stat().st_size >= size for name, size in found.sizes.items())
        except (OSError, ValueError, KeyError, TypeError):
            return cls(hashes)
        return found if complete and found.sha256 == hashes and 0 <= found.n_parts <= len(hashes) else cls(hashes)

    @classmethod
    def resume(cls, row: Download, folder: Path) -> StagedParts:
        """As `read`; what else is in the folder is deleted, and what was begun of the next part is cut off."""
        found = cls.read(folder, row)
        for path in list(folder.iterdir()):
            if path.name not in (RECORD, *found.sizes):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        for name, size in found.sizes.items():
            os.truncate(folder / name, size)
        return found

    def forget(self, folder: Path) -> None:
        """Delete the record: all parts are there and were checked."""
        (folder / RECORD).unlink()

    def add_part(self, folder: Path) -> StagedParts:
        """Record one more complete part, after the files it was appended to."""
        sizes = {path.name: path.stat().st_size for path in folder.iterdir() if path.is_file() and path.name != RECORD}
        for name in sizes:
            with (folder / name).open("rb") as written:
                os.fsync(written.fileno())
        found = StagedParts(self.sha256, self.n_parts + 1, sizes)
        scratch = folder / f"{RECORD}.new"
        scratch.write_text(json.dumps(asdict(found)), encoding="utf-8")
        scratch.replace(folder / RECORD)
        return found


@contextmanager
def one_at_a_time(lock: Path) -> Iterator[None]:
    """Inside the block no other process holds the same lock file; waits for the one that does."""
    try:
        import fcntl
    except ImportError:  # not on Windows: two fetches at once would spoil each other, which the hashes show
        yield
        return
    held = _locked(lock, fcntl.flock, fcntl.LOCK_EX)
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)
        os.close(held)


def _locked(lock: Path, flock: Callable[[int, int], None], exclusive: int) -> int:
    """An open, locked descriptor of `lock`; tried again if its holder deleted the file while this one waited."""
    while True:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
        flock(descriptor, exclusive)
        try:
            if os.fstat(descriptor).st_ino == lock.stat().st_ino:
                return descriptor
        except FileNotFoundError:
            pass
        os.close(descriptor)
