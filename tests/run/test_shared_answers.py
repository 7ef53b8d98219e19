"""Two runs of one workspace at once: each answer is claimed before it is bought, so none is bought twice."""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from support.chat_server import FakeServer, last_text
from support.crash_study import NEVER_S, Life, Study, look
from support.provider import provider, read_books

from potstill.data.pool import Pool, PoolOptions, build_pool
from potstill.data.tables import Table
from potstill.data.task import GenerationRequest, Task
from potstill.ledger.store import AnswerCache, Claim, RunStore
from potstill.run import SilentReporter, shared_answers
from potstill.run.run import Run
from potstill.run.spec import Spec

LABELS = ("world", "sports", "business")
PRICES = {"m": {"usd_per_million_input": 1, "usd_per_million_output": 2}}


class Sentences(SilentReporter):
    def __init__(self) -> None:
        self.said: list[str] = []

    def info(self, sentence: str) -> None:
        self.said.append(sentence)


@pytest.fixture(scope="module")
def pool() -> Pool:
    rows = [(f"{label} number {i}", label) for i in range(16) for label in LABELS]
    table = Table.from_columns({"text": [text for text, _ in rows], "label": [label for _, label in rows]})
    return build_pool(table, options=PoolOptions(gold=8)).pool


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer(latency_s=0.01) as server:
        yield server


def open_run(folder: Path, server: FakeServer, pool: Pool, budget: float = 1, **options: Any) -> Run:
    teacher = {"name": "openai:m", "base_url": server.url, "parallel": 2, **options}
    spec = Spec.from_dict({"budget": budget, "teacher": teacher, "student": "linear", "prices": PRICES})
    return Run.open(folder, spec, Task(pool.labels), pool, Sentences())


def asked(server: FakeServer) -> Counter[str]:
    return Counter(last_text(body) for body in server.seen)


def test_two_runs_at_once_buy_each_answer_once_and_both_are_charged(
    tmp_path: Path, server: FakeServer, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("potstill.run.ask.CLAIM_CHUNK", 4)
    monkeypatch.setattr("potstill.engines.local.LOOKAHEAD", 1)  # or the first run would claim all at once
    texts = pool.subset("pool").texts

    def ask(name: str) -> tuple[bool, int, int]:
        with open_run(tmp_path / name, server, pool) as run:
            answered = bool(run.ask(run.teacher(), texts).answered.all())
            totals = run.ledger.totals()
            return answered, totals.charged, totals.paid

    with ThreadPoolExecutor(2) as threads:
        (one, charged, paid), (other, other_charged, other_paid) = threads.map(ask, ["a", "b"])
    assert one
    assert other
    assert asked(server) == Counter(texts)
    assert charged == pytest.approx(other_charged, abs=len(texts))
    assert paid < charged
    assert other_paid < other_charged


def test_what_the_other_run_left_unanswered_is_bought_by_the_one_that_waited(
    tmp_path: Path, server: FakeServer, pool: Pool
) -> None:
    texts = pool.subset("pool").texts
    server.latency_s = 0.02
    with open_run(tmp_path / "a", server, pool, budget=0.006) as poor, open_run(tmp_path / "b", server, pool) as rich:
        with ThreadPoolExecutor(2) as threads:
            first = threads.submit(poor.ask, poor.teacher(), texts)
            while not server.seen:
                time.sleep(0.001)
            second = threads.submit(rich.ask, rich.teacher(), texts)
            assert not first.result().answered.all()
            assert second.result().answered.all()
        reporter = rich.reporter
        assert isinstance(reporter, Sentences)
        assert any("is buying answers that this one needs: a." in sentence for sentence in reporter.said)
    assert asked(server) == Counter(texts)


@pytest.mark.parametrize("expires_in", [3600.0, -1.0])
@pytest.mark.parametrize("by_job", [False, True])
def test_a_claim_of_a_dead_process_or_one_that_has_expired_is_taken_over(
    tmp_path: Path, server: FakeServer, pool: Pool, expires_in: float, by_job: bool
) -> None:
    texts = pool.subset("pool").texts[:3]
    if not by_job:
        RunStore(tmp_path / "dead", write=True).close()
    with open_run(tmp_path / "a", server, pool) as run:
        teacher = run.teacher()
        keys = [f"{number}" for number in range(3)]
        cache = AnswerCache(tmp_path)
        cache.claim(keys, Claim("dead", by_job, time.time() + expires_in), lambda other: True)
        shared = run.client._shared
        assert shared.claim(keys, teacher, lambda value: True) == {}
        assert run.ask(teacher, texts).answered.all()
        cache.close()


def test_a_claim_of_a_living_run_counts_and_ends_with_it(tmp_path: Path, server: FakeServer, pool: Pool) -> None:
    with open_run(tmp_path / "a", server, pool) as run, open_run(tmp_path / "b", server, pool) as other:
        one, two = run.client._shared, other.client._shared
        assert one.claim(["x", "y"], run.teacher(), lambda value: True) == {}
        assert two.claim(["x", "z"], other.teacher(), lambda value: True) == {"x": "a"}
        assert one.claim(["y", "z"], run.teacher(), lambda value: True) == {"z": "b"}
        one.release()
        assert two.claim(["x"], other.teacher(), lambda value: True) == {}


def test_generated_texts_are_bought_once_by_two_runs_at_once(tmp_path: Path, server: FakeServer, pool: Pool) -> None:
    server.latency_s = 0.05
    request = GenerationRequest(label="world", n=2, seed=1, examples=())

    def generate(name: str) -> int:
        with open_run(tmp_path / name, server, pool) as run:
            return len(run.generate(run.teacher(), request))

    with ThreadPoolExecutor(2) as threads:
        assert list(threads.map(generate, ["a", "b"])) == [2, 2]
    assert len(server.seen) == 1


def test_a_damaged_row_of_the_cache_is_asked_anew_and_not_waited_for(
    tmp_path: Path, server: FakeServer, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_answers, "POLL_S", 60.0)
    texts = pool.subset("pool").texts[:5]
    with open_run(tmp_path / "a", server, pool) as run:
        run.ask(run.teacher(), texts)
        cache = AnswerCache(tmp_path)
        cache._db.execute("""UPDATE answers SET value = '{"state": "ok", "scores": [0]}'""")
        cache.close()
    with open_run(tmp_path / "b", server, pool) as run:
        assert run.ask(run.teacher(), texts).answered.all()
    assert set(asked(server).values()) == {2}


def test_two_processes_buy_each_answer_once_and_a_kill_costs_what_was_in_flight(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    with provider(latency_s=0.05) as url:
        spec = Study(tmp_path, n=100, parallel=4, timeout_s=20).write(url, 20.0, "spec")
        lives = [Life(spec, runs / name) for name in ("one", "killed")]
        while len(read_books(url)) < 20:
            assert not lives[1].ends_within(0.02)
        lives[1].send(signal.SIGKILL)
        lives[1].end()
        in_flight = look(runs / "killed").held_calls
        lives[1] = Life(spec, runs / "killed")
        for life in lives:
            assert life.ends_within(NEVER_S)
            code, said = life.end()
            assert code == 0, said
        texts = Counter(entry.text for entry in read_books(url))
        assert sum(texts.values()) - len(texts) <= in_flight
        assert [len(look(runs / name).answers) for name in ("one", "killed")] == [len(texts)] * 2
