"""A run whose folder is removed, locked by another program, half made or not its own: nothing bought is lost."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from support.chat_server import FakeServer
from support.chat_teacher import PRICES

from potstill.data.pool import Pool, PoolOptions, build_pool
from potstill.data.tables import Table
from potstill.data.task import Task
from potstill.errors import BadSpec, DiskError, RunBusy, RunNotFound, SpecMismatch
from potstill.ledger.prices import Purchase
from potstill.ledger.store import run_store, sqlite_file
from potstill.ledger.store.sqlite_file import SqliteFile
from potstill.run.ask import SilentReporter
from potstill.run.run import Run
from potstill.run.spec import Spec

LABELS = ("world", "sports", "business")


class Reporter(SilentReporter):
    """Collects the sentences."""

    def __init__(self) -> None:
        self.sentences: list[str] = []

    def info(self, sentence: str) -> None:
        """Store one sentence."""
        self.sentences.append(sentence)


@pytest.fixture(scope="module")
def pool() -> Pool:
    rows = [(f"{label} number {i}", label) for i in range(20) for label in LABELS]
    table = Table.from_columns({"text": [text for text, _ in rows], "label": [label for _, label in rows]})
    return build_pool(table, options=PoolOptions(gold=8)).pool


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer() as server:
        yield server


def open_run(folder: Path, server: FakeServer, pool: Pool, reporter: Reporter | None = None, seed: int = 0) -> Run:
    teacher = {"name": "openai:m", "base_url": server.url}
    spec = Spec.from_dict({"budget": 1, "teacher": teacher, "student": "linear", "prices": PRICES, "seed": seed})
    return Run.open(folder, spec, Task(pool.labels), pool, reporter)


# --- the folder is removed or moved -------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["removed", "moved", "made again"])
def test_a_run_whose_folder_is_gone_buys_nothing_more_and_what_it_bought_is_kept(
    how: str, tmp_path: Path, server: FakeServer, pool: Pool
) -> None:
    texts, folder = pool.subset("pool").texts, tmp_path / "run"
    with pytest.raises(DiskError, match="moved or removed"), open_run(folder, server, pool) as run:
        teacher = run.teacher()
        run.ask(teacher, texts[:5])
        if how == "moved":
            folder.rename(tmp_path / "elsewhere")
        else:
            shutil.rmtree(folder)
        if how == "made again":
            open_run(folder, server, pool).__exit__(None)
        run.ask(teacher, texts[:20])
    assert len(server.seen) == 5
    with open_run(tmp_path / "again", server, pool) as run:
        run.ask(run.teacher(), texts[:5])
    assert len(server.seen) == 5, "the workspace has what was bought"
    assert how == "made again" or not folder.exists()


# --- another program has locked the store -------------------------------------------------------------------------


def test_a_foreign_lock_is_waited_for_and_named(
    tmp_path: Path, server: FakeServer, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_file, "BUSY_TIMEOUT_MS", 10)
    monkeypatch.setattr(sqlite_file, "PATIENCE_S", 0.05)
    monkeypatch.setattr(run_store, "PAID_PATIENCE_S", 0.05)
    reporter = Reporter()
    with open_run(tmp_path / "run", server, pool, reporter) as run:
        teacher = run.teacher()
        foreign = sqlite3.connect(tmp_path / "run" / "run.sqlite", isolation_level=None)
        foreign.execute("BEGIN IMMEDIATE")
        with pytest.raises(RunBusy, match=r"Another program has locked .*run\.sqlite"):
            run.ask(teacher, pool.subset("pool").texts[:5])
        assert not server.seen, "nothing is asked that could not be kept"
        assert any("Waiting for it" in sentence for sentence in reporter.sentences)
        foreign.close()
        assert run.ask(teacher, pool.subset("pool").texts[:5]).answered.all()


# --- an interruption says what it costs -----------------------------------------------------------------------------


def test_an_interrupted_run_says_what_is_lost(tmp_path: Path, server: FakeServer, pool: Pool) -> None:
    bought = Purchase("llm", "teach", "m: 1 texts", 1, teacher="m", mode="direct")
    with pytest.raises(KeyboardInterrupt) as quiet, open_run(tmp_path / "a", server, pool):
        raise KeyboardInterrupt
    assert not hasattr(quiet.value, "__notes__")
    run = open_run(tmp_path / "b", server, pool)
    with pytest.raises(KeyboardInterrupt) as broken_off, run, run.ledger.hold(250, bought):
        raise KeyboardInterrupt
    assert broken_off.value.__notes__[0].startswith("$0.000250 of calls that were broken off is booked as lost.")
    with pytest.raises(KeyboardInterrupt) as at_once, open_run(tmp_path / "c", server, pool) as run:
        for _ in range(2):  # as a second Ctrl-C leaves the calls of other threads
            run.store.hold(bought, 100, 1_000_000)
        raise KeyboardInterrupt
    (note,) = at_once.value.__notes__
    assert "2 calls had no answer yet" in note
    assert "$0.000200 is held" in note


# --- a start that was killed --------------------------------------------------------------------------------------


def test_a_run_killed_at_any_commit_of_its_start_is_a_new_run(
    tmp_path: Path, server: FakeServer, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = SqliteFile._begin
    killed, step = True, 0
    while killed:
        step += 1
        folder = tmp_path / str(step)
        child = os.fork()
        if not child:
            left = [step]

            def die(self: SqliteFile, patience_s: float, left: list[int] = left) -> None:
                left[0] -= 1
                if not left[0]:
                    os.kill(os.getpid(), signal.SIGKILL)
                begin(self, patience_s)

            monkeypatch.setattr(SqliteFile, "_begin", die)
            open_run(folder, server, pool)
            os._exit(0)
        killed = os.waitpid(child, 0)[1] != 0
        with open_run(folder, server, pool) as run:
            assert run.store.get_meta("task")
            assert run.store.get_meta("identity")
    assert step > 3


@pytest.mark.parametrize("left", [[], ["lock.sqlite"], ["lock.sqlite", "run.sqlite"], ["run.sqlite"]])
def test_a_folder_with_only_what_a_killed_start_leaves_is_a_new_run(
    left: list[str], tmp_path: Path, server: FakeServer, pool: Pool
) -> None:
    (tmp_path / "run").mkdir()
    for name in left:
        (tmp_path / "run" / name).touch()
    with open_run(tmp_path / "run", server, pool) as run:
        assert run.ask(run.teacher(), pool.subset("pool").texts[:2]).answered.all()


# --- what was not made is not deleted -----------------------------------------------------------------------------


@pytest.mark.parametrize("mine", [None, [], [".hidden"], ["lock.sqlite"]])
def test_a_refused_order_removes_only_what_it_made(
    mine: list[str] | None, tmp_path: Path, server: FakeServer, pool: Pool
) -> None:
    folder = tmp_path / "run"
    if mine is not None:
        folder.mkdir()
        for name in mine:
            (folder / name).touch()
    refused = mine == [".hidden"]
    with pytest.raises(RunNotFound if refused else BadSpec), open_run(folder, server, pool):
        raise BadSpec("refused", "")
    assert folder.exists() is (mine is not None)
    if mine is not None:
        assert [path.name for path in folder.iterdir()] == ([".hidden"] if refused else [])


def test_a_refused_order_leaves_a_file_that_came_meanwhile(tmp_path: Path, server: FakeServer, pool: Pool) -> None:
    with pytest.raises(BadSpec), open_run(tmp_path / "run", server, pool):
        (tmp_path / "run" / "notes.txt").write_text("mine")
        raise BadSpec("refused", "")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["notes.txt"]


def test_a_run_of_other_options_is_left_as_it_was(tmp_path: Path, server: FakeServer, pool: Pool) -> None:
    open_run(tmp_path / "run", server, pool).__exit__(None)
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    with pytest.raises(SpecMismatch):
        open_run(tmp_path / "run", server, pool, seed=7)
    assert {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}.items() >= before.items()


# --- a stored student ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", [b"", b"[[[ not mine", b"\xff\xfe", None])
def test_a_damaged_student_is_named_and_trained_anew_once_its_folder_is_removed(
    damage: bytes | None, tmp_path: Path, server: FakeServer, pool: Pool
) -> None:
    gold = pool.subset("train")
    targets = np.eye(3, dtype=np.float32)[gold.gold]
    with open_run(tmp_path / "run", server, pool) as run:
        run.learn(gold.texts, targets)
    (student,) = (tmp_path / "run" / "students").iterdir()
    for file in sorted(student.iterdir()):
        content = file.read_bytes()
        file.unlink() if damage is None else file.write_bytes(damage)
        with pytest.raises(RunNotFound) as refused, open_run(tmp_path / "run", server, pool) as run:
            run.learn(gold.texts, targets)
        assert refused.value.hint
        file.write_bytes(content)
    shutil.rmtree(student)
    with open_run(tmp_path / "run", server, pool) as run:
        assert run.learn(gold.texts, targets).predict_proba(gold.texts).shape == targets.shape


# --- links --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("exists", [True, False])
def test_a_run_may_lie_behind_a_symbolic_link(exists: bool, tmp_path: Path, server: FakeServer, pool: Pool) -> None:
    (tmp_path / "run").symlink_to(tmp_path / "disk" / "run")
    if exists:
        (tmp_path / "disk" / "run").mkdir(parents=True)
    with open_run(tmp_path / "run", server, pool) as run:
        assert run.ask(run.teacher(), pool.subset("pool").texts[:2]).answered.all()
    assert (tmp_path / "disk" / "run" / "run.sqlite").exists()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(DiskError, match="link"):
        open_run(tmp_path / "loop", server, pool)
