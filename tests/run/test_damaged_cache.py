"""The answers of a workspace are not trusted: a bad row is asked anew, a damaged file is renamed, and no run stops."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.chat_server import FakeServer
from support.chat_teacher import PRICES

from potstill.data.pool import Pool
from potstill.data.task import GenerationRequest, Task
from potstill.run.answer_cache import find_cached_answers
from potstill.run.ask import SilentReporter
from potstill.run.run import Run
from potstill.run.spec import Spec

N = 6


class Reporter(SilentReporter):
    """Collects the sentences."""

    def __init__(self) -> None:
        self.sentences: list[str] = []

    def info(self, sentence: str) -> None:
        """Store one sentence."""
        self.sentences.append(sentence)


def open_run(folder: Path, server: FakeServer, pool: Pool, reporter: Reporter | None = None) -> Run:
    teacher = {"name": "openai:m", "base_url": server.url}
    spec = Spec.from_dict({"budget": 1, "teacher": teacher, "student": "linear", "prices": PRICES})
    return Run.open(folder, spec, Task(pool.labels), pool, reporter)


@pytest.fixture
def bought(tmp_path: Path, server: FakeServer, pool: Pool) -> Path:
    """The cache file of a workspace with N answers."""
    with open_run(tmp_path / "first", server, pool) as run:
        assert run.ask(run.teacher(), pool.subset("pool").texts[:N]).answered.all()
    return tmp_path / "answers.sqlite"


def _with(**fields: Any) -> Callable[[str], str]:
    return lambda value: json.dumps({**json.loads(value), **fields})


@pytest.mark.parametrize(
    "damage",
    [
        _with(scores=[0]),
        _with(scores=[0.0, 0.0, 0.0, 0.0]),
        _with(scores=0),
        _with(scores=[float("nan"), 0.0, 0.0]),
        _with(scores=["0", "0", "0"]),
        _with(scores=[True, False, False]),
        _with(scores=[[0.0], [0.0], [0.0]]),
        _with(scores=None),
        _with(state="fine"),
        _with(how="guess"),
        _with(raw=3),
        _with(more=1),
        lambda value: "{",
        lambda value: "",
        lambda value: "[]",
        lambda value: "[" * 5000,
    ],
    ids=range(16),
)
def test_a_row_that_is_no_answer_is_asked_anew_and_not_charged_twice(
    bought: Path, server: FakeServer, pool: Pool, damage: Callable[[str], str]
) -> None:
    with sqlite3.connect(bought) as db:
        key, value = db.execute("SELECT key, value FROM answers ORDER BY key LIMIT 1").fetchone()
        db.execute("UPDATE answers SET value = ? WHERE key = ?", (damage(value), key))
    db.close()
    with open_run(bought.parent / "second", server, pool) as run:
        answers = run.ask(run.teacher(), pool.subset("pool").texts[:N])
        charged = [call.n_texts for call in run.store.calls()]
    assert answers.answered.all()
    assert np.isfinite(answers.scores).all()
    assert sorted(charged) == [1, N - 1]
    assert len(server.seen) == N + 1


@pytest.mark.parametrize("nanos", [-5, 10**18, "x", 1.5, b"1"], ids=str)
def test_a_price_that_cannot_be_is_a_bad_row(bought: Path, server: FakeServer, pool: Pool, nanos: object) -> None:
    with sqlite3.connect(bought) as db:
        db.execute("UPDATE answers SET nanos = ?", (nanos,))
    db.close()
    with open_run(bought.parent / "second", server, pool) as run:
        assert run.ask(run.teacher(), pool.subset("pool").texts[:N]).answered.all()
        assert run.ledger.totals().paid > 0
    assert len(server.seen) == 2 * N


@pytest.mark.parametrize("value", ['["a"]', '[["a"]]', '[["a", 3]]', '{"state": "ok"}', "3"])
def test_generated_texts_that_are_none_are_generated_anew(
    tmp_path: Path, server: FakeServer, pool: Pool, value: str
) -> None:
    request = GenerationRequest("sports", 2)
    with open_run(tmp_path / "first", server, pool) as run:
        first = run.generate(run.teacher(), request)
    with sqlite3.connect(tmp_path / "answers.sqlite") as db:
        db.execute("UPDATE answers SET value = ?", (value,))
    db.close()
    with open_run(tmp_path / "second", server, pool) as run:
        assert run.generate(run.teacher(), request) == first
    assert len(server.seen) == 2


def _overwrite(file: Path) -> None:
    file.write_bytes(b"not a database at all" * 1000)


def _zero_the_middle(file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))


def _truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:5000])


def _other_table(file: Path) -> None:
    with sqlite3.connect(file) as db:
        db.execute("ALTER TABLE answers RENAME TO others")
    db.close()


@pytest.mark.parametrize("damage", [_overwrite, _zero_the_middle, _truncate, _other_table])
def test_a_damaged_file_is_renamed_and_said_and_the_run_goes_on(
    bought: Path, server: FakeServer, pool: Pool, damage: Callable[[Path], None]
) -> None:
    damage(bought)
    reporter = Reporter()
    texts = pool.subset("pool").texts[:N]
    before = bought.read_bytes()
    with open_run(bought.parent / "plan", server, pool, Reporter()) as run:
        pass
    (aside,) = [file for file in bought.parent.glob("answers.sqlite.damaged-*") if file.suffix.startswith(".damaged")]
    with open_run(bought.parent / "second", server, pool, reporter) as run:
        teacher = run.teacher()
        assert run.ask(teacher, texts).answered.all()
    assert aside.read_bytes()[:100] == before[:100]
    with open_run(bought.parent / "third", server, pool) as run:
        assert run.ask(run.teacher(), texts).answered.all()
        assert run.ledger.totals().paid == 0
    assert find_cached_answers(run.task, teacher, texts, bought.parent).n_cached == N


@pytest.mark.parametrize("damage", [_overwrite, _zero_the_middle, _truncate, _other_table])
def test_the_sentence_names_both_files_and_a_plan_changes_none(
    bought: Path, server: FakeServer, pool: Pool, damage: Callable[[Path], None]
) -> None:
    with open_run(bought.parent / "first", server, pool) as run:
        teacher = run.teacher()
    damage(bought)
    content = bought.read_bytes()
    assert find_cached_answers(run.task, teacher, pool.subset("pool").texts[:N], bought.parent).n_cached == 0
    assert bought.read_bytes() == content
    reporter = Reporter()
    with open_run(bought.parent / "second", server, pool, reporter) as run:
        run.ask(run.teacher(), pool.subset("pool").texts[:N])
    (sentence,) = [each for each in reporter.sentences if "damaged" in each]
    assert "answers.sqlite is damaged" in sentence
    assert "answers.sqlite.damaged-" in sentence
