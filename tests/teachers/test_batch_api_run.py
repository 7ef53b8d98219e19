"""A whole run with a batch teacher, from the command line: exit 75 until the answers are there, then a student."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from support.batch_queue_run import BOTH, Shop

from potstill import cli
from potstill.data.pool import PoolOptions, build_pool
from potstill.data.tables import Table
from potstill.data.task import Task
from potstill.errors import TeacherError, Waiting
from potstill.ledger.store import RunStore
from potstill.run.notes import UnreadableReplies
from potstill.run.run import Run
from potstill.run.spec import Spec

LABELS = ("sports", "world")


@BOTH
def test_the_same_command_waits_for_every_batch_and_then_trains_a_student(shop: Shop, tmp_path: Path) -> None:
    with (tmp_path / "data.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["text", "label"])
        rows.writerows([f"{LABELS[i % 2]} story {i}", LABELS[i % 2] if i < 60 else ""] for i in range(120))
    kind = "anthropic" if shop.queue.anthropic else "openai"
    spec = tmp_path / "potstill.toml"
    spec.write_text(
        f"""
budget = 2
student = "linear"
data.file = "data.csv"
teacher = {{ name = "{kind}:m", base_url = "{shop.server.url}", batch = true }}
prices.m = {{ usd_per_million_input = 1, usd_per_million_output = 2, batch_price_factor = 0.5 }}
""",
        encoding="utf-8",
    )
    command = ["distill", str(spec), "-o", str(tmp_path / "run"), "--json"]
    waited = 0
    while isinstance((result := CliRunner().invoke(cli.app, command)).exception, Waiting) and waited < 9:
        waited += 1
        shop.queue.work(shop.server)
    assert result.exit_code == 0, result.exception
    # Once for gold and pool together, once for the texts that the teacher is measured on.
    assert waited == 2
    report = json.loads(result.stdout)
    assert report["student"]["accuracy"]["value"] == pytest.approx(1.0)
    assert len(shop.bought()) == len(set(shop.bought()))
    store = RunStore(tmp_path / "run", write=False)
    calls = [call for call in store.calls() if call.teacher == f"{kind}:m"]
    batches = [call for call in calls if call.mode == "batch"]
    store.close()
    n_texts = sum(call.n_texts for call in calls)
    assert sum(call.n_texts for call in batches) > n_texts / 2
    price = report["money"]["teacher_usd_per_million_texts"]
    assert price == pytest.approx(sum(call.charged for call in calls) / n_texts)  # the batches are a part of it
    assert len(batches) == len(shop.queue.batches) == 3
    assert {call.state for call in batches} == {"settled"}
    assert all(0 < call.charged < call.held / 2 for call in batches)


@BOTH
def test_a_batch_of_which_nothing_can_be_read_ends_the_run_and_is_shown(shop: Shop, tmp_path: Path) -> None:
    texts = [f"{LABELS[i % 2]} story {i}" for i in range(60)]
    rows = {"text": texts, "label": [LABELS[i % 2] if i < 20 else None for i in range(60)]}
    pool = build_pool(Table.from_columns(rows), options=PoolOptions()).pool
    kind = "anthropic" if shop.queue.anthropic else "openai"
    teacher = {"name": f"{kind}:m", "base_url": shop.server.url, "batch": True, "max_batch_requests": 15}
    prices = {"m": {"usd_per_million_input": 1, "usd_per_million_output": 2}}
    spec = Spec.from_dict({"budget": 0.03, "teacher": teacher, "student": "linear", "prices": prices})
    shop.server.mutate = lambda done: done["choices"][0]["message"].update(content=f"what? {len(done)}")

    def ask() -> None:
        with Run.open(tmp_path / "run", spec, Task(pool.labels), pool) as run:
            run.ask(run.teacher(), pool.subset("pool").texts)

    with pytest.raises(Waiting):
        ask()
    n_batches = len(shop.queue.batches)
    assert 12 <= sum(len(batch.requests) for batch in shop.queue.batches.values()) < 40
    shop.queue.work(shop.server)
    for _ in range(2):
        with pytest.raises(TeacherError, match=r"None of the first \d+ replies .* answered: 'what\? \d'"):
            ask()
        assert len(shop.queue.batches) == n_batches
    with Run.open(tmp_path / "run", spec, Task(pool.labels), pool) as run:
        found = [each.record for each in run.notes() if isinstance(each.record, UnreadableReplies)]
    assert [note.replies for note in found] == [(found[0].replies[0],)] * len(found)
