"""`show` and `ledger`: they read a run where nothing can be written, and name a damaged file in one sentence."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from potstill.errors import DiskError, PotstillError, RunNotFound
from potstill.ledger.ledger import Ledger
from potstill.ledger.prices import NewBatchJob, Purchase, Usage
from potstill.ledger.store import RunStore
from potstill.reports.status import read_spending, read_status

BYE = Purchase("llm", "teach", "m: 1 texts", 1, teacher="m", mode="direct")


def fill(store: RunStore) -> None:
    """A task, a settled call, a batch job, a note."""
    store.set_metas({"task": {"name": "t", "labels": ["a", "b"]}, "limit_micros": 1000, "identity": {}})
    ledger = Ledger(store, 1000)
    with ledger.hold(10, BYE) as hold:
        hold.settle(5, Usage(input_tokens=3), results={"k": {"a": 1}})
    ledger.hold_job(NewBatchJob("t", "c", ("k2",), 1, Usage(input_tokens=9)), 20, BYE)
    store.note("opened", {"budget_usd": 0.001})


@pytest.fixture
def run() -> Iterator[Path]:
    """A run in a folder that every user can reach."""
    with tempfile.TemporaryDirectory() as made:
        Path(made).chmod(0o755)
        folder = Path(made) / "run"
        store = RunStore(folder, write=True)
        fill(store)
        store.close()
        yield folder


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Nothing can be written in the folder: for root, as another user."""
    for path in (*folder.rglob("*"), folder):
        path.chmod(0o555 if path.is_dir() else 0o444)
    root = os.geteuid() == 0
    try:
        if root:
            os.seteuid(65534)
        assert not os.access(folder, os.W_OK, effective_ids=True)
        yield
    finally:
        if root:
            os.seteuid(0)
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)


def read(folder: Path) -> str:
    """Everything the commands print."""
    status, spending = read_status(folder), read_spending(folder, calls=True)
    table = read_spending(folder, as_csv=True)
    assert status.to_json()
    assert spending.to_json()
    return f"{status.to_text()}\n{spending.to_text()}\n{table.to_text()}"


def test_a_run_is_read_where_nothing_can_be_written(run: Path) -> None:
    before = read(run)
    with read_only(run):
        names = sorted(path.name for path in run.iterdir())
        assert read(run) == before
        assert sorted(path.name for path in run.iterdir()) == names


def test_a_killed_run_is_read_with_its_last_commits_where_nothing_can_be_written(run: Path) -> None:
    child = os.fork()
    if not child:
        store = RunStore(run, write=True)
        store.note("opened", {"budget_usd": 0.5})
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    assert (run / "run.sqlite-wal").stat().st_size
    (run / "run.sqlite-shm").unlink()  # as after a copy to another machine
    with read_only(run):
        assert read(run).count("opened") == 2


def test_a_run_that_cannot_be_opened_to_write_says_why(run: Path) -> None:
    with read_only(run), pytest.raises(DiskError, match=r"cannot be (opened or )?written"):
        RunStore(run, write=True)


def test_reading_makes_no_file_in_a_run_without_a_lock(run: Path) -> None:
    (run / "lock.sqlite").unlink()
    read(run)
    assert [path.name for path in run.iterdir() if "lock" in path.name] == []


def test_a_file_with_any_byte_changed_is_read_or_named(run: Path, tmp_path: Path) -> None:
    whole = (run / "run.sqlite").read_bytes()
    random = np.random.default_rng(0)
    used = np.flatnonzero(np.frombuffer(whole, dtype=np.uint8))
    refused: list[PotstillError] = []
    for attempt in range(100):
        changed = bytearray(whole)
        for _ in range(1 + attempt % 3):
            changed[random.choice(used)] = random.integers(256)
        (run / "run.sqlite").write_bytes(changed)
        try:
            read(run)
        except PotstillError as error:
            refused.append(error)
    assert refused
    assert all("run.sqlite" in error.message and error.hint for error in refused)


@pytest.mark.parametrize("size", [0, 1, 100, 5000, 9000])
def test_a_file_that_was_cut_is_named(size: int, run: Path) -> None:
    (run / "run.sqlite").write_bytes((run / "run.sqlite").read_bytes()[:size])
    with pytest.raises(RunNotFound, match=r"run\.sqlite"):
        read(run)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE meta SET value = '[' WHERE name = 'task'",
        "UPDATE meta SET value = '3' WHERE name = 'task'",
        """UPDATE meta SET value = '{"name": 3, "labels": [[]]}' WHERE name = 'task'""",
        "UPDATE meta SET value = '\"much\"' WHERE name = 'limit_micros'",
        'UPDATE calls SET usage = \'{"input_tokens": "x"}\'',
        "UPDATE calls SET usage = '[]'",
        "UPDATE calls SET started_at = 'yesterday'",
        "UPDATE calls SET started_at = 9e99",
        "UPDATE calls SET charged = 'much'",
        "UPDATE calls SET description = x'ff'",
        "UPDATE notes SET facts = '[['",
        "UPDATE notes SET facts = '3'",
        "UPDATE notes SET time = 'x'",
        "UPDATE notes SET time = 9e99",
        "DROP TABLE calls",
        "ALTER TABLE meta RENAME TO mine",
    ],
)
def test_values_that_potstill_does_not_write_are_named(change: str, run: Path) -> None:
    with sqlite3.connect(run / "run.sqlite") as db:
        db.execute(change)
    db.close()
    with pytest.raises(RunNotFound, match=r"run\.sqlite cannot be read"):
        read(run)


def test_a_lock_file_of_another_sort_is_named_and_kept(run: Path) -> None:
    (run / "lock.sqlite").write_bytes(b"mine" * 2000)
    assert read(run)
    with pytest.raises(RunNotFound, match=r"lock\.sqlite is not the lock"):
        RunStore(run, write=True)
    assert (run / "lock.sqlite").read_bytes().startswith(b"mine")
    shutil.rmtree(run)
