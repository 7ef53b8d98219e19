"""Files and folders that appear complete or not at all: written under a temporary name, then renamed.

A folder takes the place of an older one in one step where the system can swap two names (Linux), so that there is no
moment without one. A temporary name ends in ".unfinished" and is locked while its process works; what a killed process
left is not locked, and is removed the next time. A symbolic link stays, and its target is replaced.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from potstill.errors import DiskError, PotstillError

UNFINISHED, REPLACED = ".unfinished", ".replaced"
NO_LOCKS = -1
MAX_PREFIX_BYTES = 60  # of a temporary name, so that it fits where the final name fits
NEARLY_FULL_BYTES = 1 << 20
_TEMPORARY = re.compile(rf"(?P<prefix>\..*-)[0-9a-f]{{8}}(?P<suffix>\{UNFINISHED}|\{REPLACED})", re.DOTALL)
FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))
DENIED = (errno.EACCES, errno.EPERM, errno.EROFS)
OTHER = (errno.EFBIG, errno.EIO, errno.ELOOP, errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.EEXIST)
# How libraries that write without Python say it: Rust's "os error 28" and "code: 28".
FULL_WORDS = ("no space left", "os error 28", "code: 28", "disk quota exceeded")


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """Yield an empty folder to fill; it replaces `folder` if the block succeeds and is deleted if it raises.

    Raises:
        DiskError: the disk is full, or nothing may be written there; an older folder is kept.
    """
    with disk_errors(folder):
        target = _followed(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        remove_unfinished(target.parent, target.name)
        with _temporary(target, is_folder=True) as unfinished:
            yield unfinished
            if target.is_dir():
                shutil.copymode(target, unfinished)
                _replace_folder(unfinished, target)
            else:
                unfinished.rename(target)


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a path to write; it replaces `path` if the block succeeds and is deleted if it raises.

    Raises:
        DiskError: the disk is full, nothing may be written there, or `path` is a folder or a device.
    """
    with disk_errors(path):
        target = _followed(path)
        if target.exists() and not target.is_file():
            what = "a folder" if target.is_dir() else "a device or a pipe"
            raise DiskError(f"{path} is {what}, and a file is to be written.", "Give the name of a file.")
        target.parent.mkdir(parents=True, exist_ok=True)
        remove_unfinished(target.parent, target.name)
        with _temporary(target, is_folder=False) as unfinished:
            yield unfinished
            if target.exists():
                shutil.copymode(target, unfinished)
            unfinished.replace(target)


def remove_unfinished(folder: Path, name: str = "") -> None:
    """Remove the temporary files and folders for `name`, or for any name, that killed processes left in `folder`."""
    found = []
    with suppress(OSError), os.scandir(folder) as entries:
        found = [(entry.name, _TEMPORARY.fullmatch(entry.name)) for entry in entries if not entry.is_symlink()]
    for left, match in found:
        path = folder / left
        if match is None or (name and match["prefix"] != _prefix(name)):
            continue
        lock = _lock(path)
        if lock is None or lock == NO_LOCKS:
            continue
        if match["suffix"] == UNFINISHED:
            _remove(path)
        elif name and not (folder / name).exists():  # killed between the two renames of `_replace_folder`
            path.rename(folder / name)
        elif name:
            _remove(path)
        _unlock(lock)


def make_folder(folder: Path) -> None:
    """Make a folder, or the one that a symbolic link leads to, and those above it, if it does not exist.

    Raises:
        DiskError: it cannot be made.
    """
    with disk_errors(folder):
        _followed(folder).mkdir(parents=True, exist_ok=True)


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Raise a DiskError for what the block raises because `path` cannot be written: a full disk, a read-only place."""
    try:
        yield
    except PotstillError:
        raise
    except Exception as error:
        found = _as_disk_error(error, path)
        if found is None:
            raise
        raise found from error


def _as_disk_error(error: BaseException, path: Path) -> DiskError | None:
    number = error.errno if isinstance(error, OSError) else None
    if number in FULL or any(word in str(error).lower() for word in FULL_WORDS) or _is_full(path.parent):
        return DiskError(
            f"The disk of {path.parent} is full; {path.name} was not written.",
            "Make room and run the same command again.",
        )
    # An input of the block may be unreadable as well: such an error names another place.
    named = getattr(error, "filename", None)
    elsewhere = named is not None and not os.fsdecode(named).startswith(str(path.parent))
    if elsewhere or number not in (*DENIED, *OTHER):
        return None
    assert isinstance(error, OSError)
    mend = f"Make {path.parent} writable, or give another place." if number in DENIED else "Give another place."
    return DiskError(f"{path} cannot be written: {(error.strerror or str(error)).lower()}.", mend)


def _is_full(folder: Path) -> bool:
    """Whether the disk has no room left; libraries do not always say why they could not write."""
    try:
        usage = shutil.disk_usage(folder)
        return usage.total > 0 and usage.free < NEARLY_FULL_BYTES  # nothing is stored in /proc
    except OSError:
        return False


def _followed(path: Path) -> Path:
    """The target of a symbolic link; any other path as it is."""
    try:
        return path.resolve() if path.is_symlink() else path
    except (OSError, RuntimeError) as error:
        if isinstance(error, OSError) and error.errno != errno.ELOOP:
            raise
        raise DiskError(
            f"{path} is a symbolic link that leads to itself.", "Remove it, or give another place."
        ) from None


def _prefix(name: str) -> str:
    return f".{os.fsdecode(os.fsencode(name)[:MAX_PREFIX_BYTES])}-"


@contextmanager
def _temporary(target: Path, *, is_folder: bool) -> Iterator[Path]:
    """Make a temporary file or folder beside `target` and hold its lock; remove at the end what has its name then."""
    while True:
        path = target.with_name(f"{_prefix(target.name)}{secrets.token_hex(4)}{UNFINISHED}")
        path.mkdir() if is_folder else path.open("xb").close()
        lock = _lock(path)
        if lock is not None and path.exists():  # else another process took it for a leftover, in this instant
            break
    try:
        yield path
    finally:
        _remove(path)
        _unlock(lock)


def _lock(path: Path) -> int | None:
    """Lock a path until the descriptor is closed; None if it is gone or locked, `NO_LOCKS` where none can be had."""
    try:
        import fcntl
    except ModuleNotFoundError:  # Windows
        return NO_LOCKS
    try:
        opened = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return opened
    except OSError as error:
        os.close(opened)
        return None if isinstance(error, BlockingIOError) else NO_LOCKS


def _unlock(lock: int) -> None:
    if lock != NO_LOCKS:
        os.close(lock)


def _replace_folder(new: Path, old: Path) -> None:
    """Put the folder `new` where `old` is. `old` is then under the name of `new`, to be removed, or gone."""
    if _swap(new, old):
        return
    aside = new.with_suffix(REPLACED)
    lock = _lock(old)  # so that no other process takes it for a leftover
    try:
        old.rename(aside)
        try:
            new.rename(old)
        except BaseException:
            aside.rename(old)
            raise
        _remove(aside)
    finally:
        _unlock(NO_LOCKS if lock is None else lock)


def _swap(one: Path, other: Path) -> bool:
    """Exchange two names in one step (Linux's renameat2); False where the system or the file system cannot."""
    if sys.platform != "linux":
        return False
    import ctypes

    try:
        renameat2 = ctypes.CDLL(None).renameat2
    except (OSError, AttributeError):
        return False
    from_cwd, exchange = -100, 2
    return bool(renameat2(from_cwd, os.fsencode(one), from_cwd, os.fsencode(other), exchange) == 0)


def _remove(path: Path) -> None:
    """Remove a file or folder, if it is there and may be removed."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink(missing_ok=True)
