"""Files and folders that appear complete or not at all, whatever kills the process that writes them."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from potstill.data import atomic
from potstill.data.atomic import atomic_file, atomic_folder, remove_unfinished
from potstill.errors import DiskError

posix = pytest.mark.skipif(not hasattr(os, "fork"), reason="kills a forked process")
EVENTS = ("os.rename", "os.mkdir", "os.remove", "os.rmdir", "open", "ctypes.dlsym")


def killed_at(step: int, work: Callable[[], None]) -> bool:
    """Do `work` in a process that kills itself before its system call number `step`; False if it ended before."""
    child = os.fork()
    if not child:
        left = step

        def die(event: str, _: object) -> None:
            nonlocal left
            left -= event in EVENTS
            if left == 0:
                left = -1  # os.kill is an event as well
                os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(die)
        try:
            work()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def write(folder: Path, content: str) -> None:
    for name in ("model", "record"):
        (folder / name).write_text(content)


def whole(folder: Path) -> str:
    """What a folder holds: it must be of one piece."""
    contents = {(folder / name).read_text() for name in ("model", "record")}
    assert len(contents) == 1
    return contents.pop()


@posix
@pytest.mark.parametrize("way", ["swap", "renames"])
def test_a_process_killed_at_any_step_leaves_the_old_folder_or_the_new_one(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if way == "renames":  # as on a file system that cannot swap two names
        monkeypatch.setattr(atomic, "_swap", lambda one, other: False)
    target, seen, step = tmp_path / "bundle", [], 0

    def work() -> None:
        with atomic_folder(target) as fresh:
            write(fresh, "new")

    killed = True
    while killed:
        step += 1
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir()
        write(target, "old")
        killed = killed_at(step, work)
        if way == "swap":
            assert whole(target), f"gone at step {step}"
        remove_unfinished(tmp_path, "bundle")
        seen.append(whole(target))
        assert list(tmp_path.iterdir()) == [target], f"left at step {step}"
    assert step > 6
    assert seen == sorted(seen, reverse=True), "first the old one, from some step on the new one"
    assert set(seen) == {"old", "new"}


@posix
def test_a_process_killed_at_any_step_leaves_the_old_file_or_the_new_one(tmp_path: Path) -> None:
    target, seen, step, killed = tmp_path / "report.json", set(), 0, True

    def work() -> None:
        with atomic_file(target) as path:
            path.write_text("new")

    while killed:
        step += 1
        target.write_text("old")
        killed = killed_at(step, work)
        seen.add(target.read_text())
        with atomic_file(target):  # the next one clears away what was left
            pass
        assert list(tmp_path.iterdir()) == [target]
    assert seen == {"old", "new"}


def test_a_folder_replaces_the_old_one_only_when_complete(tmp_path: Path) -> None:
    target = tmp_path / "bundle"
    for content in ("old", "new"):
        with atomic_folder(target) as fresh:
            write(fresh, content)
            assert not target.exists() or whole(target) == "old"
    assert whole(target) == "new"
    with pytest.raises(KeyboardInterrupt), atomic_folder(target) as fresh:
        (fresh / "model").write_text("half")
        raise KeyboardInterrupt
    assert whole(target) == "new"
    assert list(tmp_path.iterdir()) == [target]


def test_a_file_replaces_the_old_one_only_when_complete(tmp_path: Path) -> None:
    target = tmp_path / "report.json"
    with atomic_file(target) as path:
        path.write_text("old")
    with pytest.raises(RuntimeError), atomic_file(target) as path:
        path.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_what_another_process_is_writing_is_not_cleared_away(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "bundle") as first:
        with atomic_folder(tmp_path / "bundle") as second:
            write(second, "second")
        assert first.is_dir()
        write(first, "first")
    assert whole(tmp_path / "bundle") == "first"


def test_names_that_only_resemble_a_temporary_one_are_kept(tmp_path: Path) -> None:
    mine = [
        ".bundle-0123abcd.old",
        ".bundle-mine.unfinished",
        ".bundle-2-0123abcd.unfinished",
        ".bundle-2-0123abcd.replaced",
    ]
    for name in mine:
        (tmp_path / name).mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / ".bundle-0123abcd.unfinished").symlink_to(tmp_path / "elsewhere")
    with atomic_folder(tmp_path / "bundle") as fresh:
        write(fresh, "new")
    assert {path.name for path in tmp_path.iterdir()} == {*mine, "elsewhere", ".bundle-0123abcd.unfinished", "bundle"}


@pytest.mark.parametrize("exists", [True, False])
def test_a_symbolic_link_stays_and_its_target_is_replaced(exists: bool, tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "disk").mkdir()
    link, target = tmp_path / "here" / "bundle", tmp_path / "disk" / "big"
    link.symlink_to(target)
    if exists:
        target.mkdir()
        write(target, "old")
    with atomic_folder(link) as fresh:
        write(fresh, "new")
    assert link.is_symlink()
    assert whole(target) == "new"
    (tmp_path / "report").symlink_to(tmp_path / "disk" / "file")
    with atomic_file(tmp_path / "report") as path:
        path.write_text("new")
    assert (tmp_path / "disk" / "file").read_text() == "new"
    assert sorted(path.name for path in (tmp_path / "disk").iterdir()) == ["big", "file"]


def test_a_link_to_itself_a_folder_and_a_device_are_named(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for make in (atomic_file, atomic_folder):
        with pytest.raises(DiskError, match="link"), make(tmp_path / "loop"):
            pass
    with pytest.raises(DiskError, match="is a folder"), atomic_file(tmp_path):
        pass
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DiskError, match="a pipe"), atomic_file(tmp_path / "pipe"):
        pass
    (tmp_path / "file").touch()
    with pytest.raises(DiskError, match="cannot be written"), atomic_folder(tmp_path / "file" / "bundle"):
        pass


def test_an_older_file_or_folder_gives_its_mode_to_the_new_one(tmp_path: Path) -> None:
    (tmp_path / "bundle").mkdir(mode=0o700)
    (tmp_path / "report").touch(mode=0o600)
    with atomic_folder(tmp_path / "bundle"):
        pass
    with atomic_file(tmp_path / "report"):
        pass
    assert (tmp_path / "bundle").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "report").stat().st_mode & 0o777 == 0o600


def test_a_name_as_long_as_a_name_can_be_is_written(tmp_path: Path) -> None:
    for name in ("x" * 255, "é" * 127, os.fsdecode(b"\xff" * 255)):
        with atomic_file(tmp_path / name) as path:
            path.write_text("whole")
        assert (tmp_path / name).read_text() == "whole"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(28, "No space left on device"), "The disk of .* is full"),
        (OSError(27, "File too large"), "file too large"),
        (PermissionError(13, "Permission denied"), "permission denied"),
        (RuntimeError("IoError(Os { code: 28, kind: StorageFull })"), "is full"),
        (Exception("No space left on device (os error 28)"), "is full"),
    ],
)
def test_a_full_disk_is_one_sentence_whatever_library_meets_it(error: Exception, words: str, tmp_path: Path) -> None:
    target = tmp_path / "bundle"
    with atomic_folder(target) as fresh:
        write(fresh, "old")
    with pytest.raises(DiskError, match=words) as raised, atomic_folder(target) as fresh:
        (fresh / "model").write_text("half")
        raise error
    assert raised.value.hint
    assert whole(target) == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_an_error_about_another_place_stays_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), atomic_file(tmp_path / "a" / "report"):
        raise PermissionError(13, "Permission denied", "/somewhere/else/data.csv")
    with pytest.raises(ValueError, match="mine"), atomic_file(tmp_path / "report"):
        raise ValueError("mine")
