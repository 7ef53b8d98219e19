"""One run's dealings with a batch queue, a process at a time: what the tests of batches share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from support.chat_server import FakeServer
from support.chat_server_batches import BatchQueue

from potstill.data.task import Answer, Task, content_key
from potstill.errors import Waiting
from potstill.ledger.ledger import Ledger
from potstill.ledger.prices import LedgerTotals, Rates, Usage
from potstill.ledger.store import CallRecord, RunStore
from potstill.registry import Registry
from potstill.run.batch_jobs import AnswerRequest, BatchJobs
from potstill.teachers import REGISTRY
from potstill.teachers.base import BatchJob, TeacherSetup
from potstill.teachers.batch_api import BatchChatTeacher
from potstill.teachers.price_options import PriceOptions

BOTH = pytest.mark.parametrize("shop", ["openai", "anthropic"], indirect=True)
OPENAI = pytest.mark.parametrize("shop", ["openai"], indirect=True)
ANTHROPIC = pytest.mark.parametrize("shop", ["anthropic"], indirect=True)
TASK = Task(("world", "sports", "business"))
FIGURES = {
    "usd_per_million_input": 1,
    "usd_per_million_output": 2,
    "usd_per_million_cached": 0.5,
    "batch_price_factor": 0.5,
}
LIMIT = 10_000_000


def texts(n: int) -> list[str]:
    """n different texts; text i is about label i mod 3."""
    return [f"{TASK.labels[i % 3]} number {i}" for i in range(n)]


@dataclass
class Shop:
    """A folder, a server with a queue, and visits: each is a process of its own."""

    folder: Path
    server: FakeServer
    queue: BatchQueue
    limit: int = LIMIT
    options: dict[str, Any] = field(default_factory=dict)
    task: Task = TASK

    def teacher(self) -> BatchChatTeacher:
        """A new teacher, as a new process opens it."""
        kind = "anthropic" if self.queue.anthropic else "openai"
        options = {"base_url": self.server.url, "batch": True, **self.options}
        menu: Registry = REGISTRY
        opened: BatchChatTeacher = menu.resolve(kind)(
            TeacherSetup(self.task, "m", options=options, prices=PriceOptions.parse({"m": FIGURES}))
        )
        return opened

    def visit(self, asked: Sequence[str], teacher: BatchChatTeacher | None = None) -> list[Answer | None]:
        """Ask once more, as the same command would. Raises Waiting."""
        teacher = teacher or self.teacher()
        keys = {text: content_key("answer", text) for text in asked}
        store = RunStore(self.folder, write=True)
        try:
            ledger = Ledger(store, self.limit)
            try:
                BatchJobs(teacher, store, ledger).ask(AnswerRequest(keys, "teach"))
            finally:
                totals = ledger.totals()
                assert totals.held + totals.charged <= self.limit
            kept = store.load(keys.values())
        finally:
            store.close()
        return [Answer.from_json(kept[key]) if key in kept else None for key in keys.values()]

    def totals(self) -> LedgerTotals:
        """The ledger as it stands between two visits."""
        store = RunStore(self.folder, write=False)
        try:
            return store.totals(self.limit)
        finally:
            store.close()

    def calls(self) -> list[CallRecord]:
        """The rows of the ledger."""
        store = RunStore(self.folder, write=False)
        try:
            return store.calls()
        finally:
            store.close()

    def bought(self) -> list[str]:
        """The texts the provider answered for money, once for each time."""
        asked = [
            body for batch in self.queue.batches.values() for name in batch.results for body in [batch.requests[name]]
        ]
        return sorted(_text(body) for body in [*self.server.seen, *asked])

    def price(self, usage: Usage, share: float = 1.0) -> int:
        """What the provider's bill says of it."""
        teacher = self.teacher()
        price = teacher.price if share == 1 else teacher.job_price
        assert isinstance(price, Rates)
        return price.cost_micros(usage)


def _text(body: dict[str, Any]) -> str:
    content = body["messages"][-1]["content"]
    shown = content if isinstance(content, str) else content[0]["text"]
    return str(shown.split("<text>\n")[1].split("\n</text>")[0])


def waits(shop: Shop, asked: list[str]) -> str:
    """A visit that ends in Waiting, and what it says."""
    with pytest.raises(Waiting) as caught:
        shop.visit(asked)
    assert caught.value.exit_code == 75
    assert caught.value.hint
    return caught.value.message


def until_done(shop: Shop, asked: list[str], most: int = 30) -> list[Answer | None]:
    """Visit and work in turns until a visit does not wait."""
    for _ in range(most):
        try:
            return shop.visit(asked)
        except Waiting:
            shop.queue.work(shop.server)
    pytest.fail("it never ends")


def right(answers: list[Answer | None]) -> bool:
    """Whether every one of `texts(n)` got its label."""
    likeliest = [a and a.scores and max(range(3), key=a.scores.__getitem__) for a in answers]
    return likeliest == [i % 3 for i in range(len(answers))]


def killed(leave: Callable[..., Any] | None, ticket: BatchJob, chunk: list[str]) -> str:
    """`teacher.leave` of a process that is killed in it, after the batch was left or before."""
    if leave is not None:
        leave(ticket, chunk)
    raise KeyboardInterrupt
