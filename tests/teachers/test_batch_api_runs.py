"""Batches of whole runs: one that is gone, one that two runs want, one with a bill that cannot be true."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from support.batch_queue_run import ANTHROPIC, BOTH, Shop
from support.chat_server import Fault

from potstill.data.pool import Pool, PoolOptions, build_pool
from potstill.data.tables import Table
from potstill.data.task import Task
from potstill.errors import BoundExceeded, TeacherError, Waiting
from potstill.ledger.store import CallRecord, RunStore
from potstill.run import Answers, SilentReporter
from potstill.run.run import Run
from potstill.run.spec import Spec

LABELS = ("world", "sports", "business")


class Sentences(SilentReporter):
    def __init__(self) -> None:
        self.said: list[str] = []

    def info(self, sentence: str) -> None:
        self.said.append(sentence)


@dataclass
class Asking:
    """Runs of one workspace that ask a batch teacher about the same texts, a process at a time."""

    workspace: Path
    shop: Shop
    pool: Pool
    give_up: bool = False
    calls: tuple[CallRecord, ...] = ()
    said: tuple[str, ...] = ()

    def __call__(self, name: str = "a", n: int = 12) -> Answers:
        kind = "anthropic" if self.shop.queue.anthropic else "openai"
        teacher = {"name": f"{kind}:m", "base_url": self.shop.server.url, "batch": True}
        prices = {"m": {"usd_per_million_input": 1, "usd_per_million_output": 2, "batch_price_factor": 0.5}}
        spec = Spec.from_dict({"budget": 1, "teacher": teacher, "student": "linear", "prices": prices})
        reporter = Sentences()
        with Run.open(self.workspace / name, spec, Task(self.pool.labels), self.pool, reporter) as run:
            run.client.gives_up_batches = self.give_up
            try:
                return run.ask(run.teacher(), self.pool.subset("pool").texts[:n])
            finally:
                totals = run.ledger.totals()
                assert totals.held + totals.charged <= totals.limit
                self.calls, self.said = tuple(run.store.calls()), tuple(reporter.said)


@pytest.fixture
def ask(shop: Shop, tmp_path: Path) -> Asking:
    rows = [(f"{label} number {i}", label) for i in range(10) for label in LABELS]
    table = Table.from_columns({"text": [text for text, _ in rows], "label": [label for _, label in rows]})
    return Asking(tmp_path / "runs", shop, build_pool(table, options=PoolOptions(gold=8)).pool)


@BOTH
@pytest.mark.parametrize("status", [404, 410])
@pytest.mark.parametrize("is_known", [True, False])
def test_a_batch_that_is_gone_is_given_up_when_the_user_says_so(ask: Asking, status: int, is_known: bool) -> None:
    with pytest.raises(Waiting):
        ask()
    (batch,) = (call for call in ask.calls if call.mode == "batch")
    faults = {("GET", name): Fault(status, message="gone") for name in ask.shop.queue.batches}
    if not is_known:  # whether it arrived is not known, and the provider has no batches any more
        store = RunStore(ask.workspace / "a", write=True)
        store._db.execute("UPDATE batch_jobs SET provider_id = ''")
        store.close()
        faults = {("GET", "/batches"): Fault(status, message="gone")}
    ask.shop.queue.faults = faults
    for _ in range(2):
        with pytest.raises(TeacherError, match="are held for that batch") as caught:
            ask()
        assert "--give-up-batch" in caught.value.hint
        assert [call.state for call in ask.calls if call.mode == "batch"] == ["held"]
    ask.give_up = True
    with pytest.raises(Waiting):
        ask()
    lost, again = (call for call in ask.calls if call.mode == "batch")
    assert (lost.id, lost.state, lost.charged) == (batch.id, "lost", batch.held)
    assert again.state == "held"
    assert any("given up" in sentence and "booked as lost" in sentence for sentence in ask.said)
    ask.shop.queue.faults = {}
    ask.shop.queue.work(ask.shop.server)
    assert ask().answered.all()


@BOTH
def test_the_flag_changes_nothing_for_a_batch_that_is_there(ask: Asking) -> None:
    ask.give_up = True
    for _ in range(2):
        with pytest.raises(Waiting):
            ask()
    ask.shop.queue.work(ask.shop.server)
    assert ask().answered.all()
    assert {call.state for call in ask.calls} == {"settled"}


@BOTH
@pytest.mark.parametrize("shift", [-86400.0, 86400.0])
def test_a_batch_is_found_by_its_mark_although_the_clock_was_set(
    ask: Asking, shift: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + shift)
    with pytest.raises(Waiting):
        ask()
    monkeypatch.setattr(time, "time", real)
    store = RunStore(ask.workspace / "a", write=True)  # killed before it stored the provider's id
    store._db.execute("UPDATE batch_jobs SET provider_id = ''")
    store.close()
    ask.shop.queue.work(ask.shop.server)
    assert ask().answered.all()
    assert len(ask.shop.queue.batches) == 1
    assert all(call.seconds >= 0 for call in ask.calls)


@BOTH
def test_two_runs_do_not_submit_the_same_texts(ask: Asking) -> None:
    with pytest.raises(Waiting):
        ask("a")
    n_batches = len(ask.shop.queue.batches)
    with pytest.raises(Waiting, match=r"Another run \(a\) is buying 11 of the answers by batch") as caught:
        ask("b")
    assert caught.value.exit_code == 75
    assert len(ask.shop.queue.batches) == n_batches
    with pytest.raises(Waiting):  # texts that the other one does not ask about are submitted
        ask("b", 16)
    assert len(ask.shop.queue.batches) == n_batches + 1
    ask.shop.queue.work(ask.shop.server)
    assert ask("a").answered.all()
    assert ask("b", 16).answered.all()
    assert len(ask.shop.bought()) == len(set(ask.shop.bought()))


@ANTHROPIC
def test_a_run_that_was_deleted_has_no_claims(ask: Asking) -> None:
    with pytest.raises(Waiting):
        ask("a")
    (ask.workspace / "a").rename(ask.workspace.parent / "away")
    with pytest.raises(Waiting, match="under way"):
        ask("b")


@BOTH
@pytest.mark.parametrize("tokens", [10**12, 10**18, 10**30, 5e18])
def test_a_line_of_a_batch_with_a_usage_that_cannot_be_true_is_charged_at_its_bound_and_stops_the_run(
    ask: Asking, tokens: float
) -> None:
    with pytest.raises(Waiting):
        ask()
    n_done = 0

    def mutate(done: dict[str, Any]) -> None:
        nonlocal n_done
        n_done += 1
        if n_done == 4:
            done["usage"].update({"prompt_tokens": tokens, "total_tokens": tokens})

    ask.shop.server.mutate = mutate
    ask.shop.queue.work(ask.shop.server)
    with pytest.raises(BoundExceeded, match="cannot be true"):
        ask()
    (batch,) = (call for call in ask.calls if call.mode == "batch")
    assert 0 < batch.charged <= batch.held
    assert "cannot be true" in batch.description
    assert ask().answered.all()
