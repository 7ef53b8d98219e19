"""What goes wrong with batches: expiry, rejection, lost replies, broken connections, kills. Nothing is bought twice."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.batch_queue_run import ANTHROPIC, BOTH, OPENAI, Shop, killed, right, texts, until_done, waits
from support.chat_server import FakeServer, Fault
from support.chat_server_batches import BatchQueue

from potstill.errors import BoundExceeded, TeacherError, Waiting
from potstill.ledger.ledger import Ledger
from potstill.ledger.prices import NewBatchJob, Purchase, Usage
from potstill.ledger.store import RunStore
from potstill.run import batch_jobs as tickets
from potstill.teachers.base import BatchJob

# --- what does not come back ------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("ends", ["expired", "cancelled"])
def test_an_expired_batch_keeps_its_answers_and_only_the_rest_is_submitted_again(shop: Shop, ends: str) -> None:
    asked = texts(9)
    waits(shop, asked)
    shop.queue.work(shop.server, most=5, ends=ends)
    waits(shop, asked)
    assert [len(batch.requests) for batch in shop.queue.batches.values()] == [8, 2]
    shop.queue.work(shop.server)
    assert right(shop.visit(asked))
    # One text is asked directly before each batch; none is bought twice.
    assert shop.bought() == sorted(asked)


@BOTH
def test_a_text_that_never_ends_is_submitted_three_times_and_the_rest_goes_on(shop: Shop) -> None:
    shop.server.by_word = {"number 4": Fault(500, code="api_error")}
    answers = until_done(shop, texts(6))
    assert [i for i, answer in enumerate(answers) if answer is None] == [4]
    left = [body for batch in shop.queue.batches.values() for body in batch.requests.values()]
    assert sum("number 4" in str(body) for body in left) == 3


@BOTH
def test_a_text_the_provider_refuses_is_a_state_of_its_row(shop: Shop) -> None:
    too_long = Fault(400, code="invalid_request_error", message="prompt is too long: 9 tokens")
    shop.server.by_word = {"number 4": too_long, "number 5": Fault("refusal"), "number 1": Fault("said", said="what?")}
    states = [answer and answer.state for answer in until_done(shop, texts(6))]
    assert states == ["ok", "unparsable", "ok", "ok", "refused", "refused"]


@BOTH
def test_replies_without_usage_are_paid_at_their_bound(shop: Shop) -> None:
    shop.server.by_word = {"sports": Fault("no-usage")}
    asked = texts(7)
    assert right(until_done(shop, asked))
    batch = shop.calls()[-1]
    teacher = shop.teacher()
    bound = sum(teacher.job_price.exact_micros(teacher.max_job_usage(text)) for text in asked if "sports" in text)
    assert bound <= batch.charged <= batch.held


@BOTH
def test_a_provider_that_reports_more_usage_than_was_held_is_recorded(shop: Shop) -> None:
    shop.server.by_word = {"sports": Fault("wrong-usage")}
    asked = texts(7)
    waits(shop, asked)
    shop.queue.work(shop.server)
    with pytest.raises(BoundExceeded, match="above the"):
        shop.visit(asked)
    assert shop.calls()[-1].state == "settled"


@OPENAI
def test_lost_replies_are_charged_and_submitted_again(shop: Shop) -> None:
    asked = texts(9)
    waits(shop, asked)
    shop.queue.work(shop.server)
    shop.queue.files["batch-0-out"] = []
    waits(shop, asked)
    batch = shop.calls()[1]
    assert batch.state == "settled"
    assert 0 < batch.charged <= batch.held
    assert right(until_done(shop, asked))


@OPENAI
@pytest.mark.parametrize("line", [b"{", b"[]", b'{"custom_id": 1}', b'{"custom_id": "x", "response": 3}', b"null"])
def test_an_unreadable_line_does_not_end_the_batch(shop: Shop, line: bytes) -> None:
    asked = texts(6)
    waits(shop, asked)
    shop.queue.work(shop.server)
    shop.queue._shown(shop.queue.batches["batch-0"])
    shop.queue.files["batch-0-out"][0] = line
    assert right(until_done(shop, asked))


@OPENAI
@pytest.mark.parametrize(
    "change",
    [
        lambda line: line.replace(b'"logprob": -', b'"logprob": 1e999'),
        lambda line: line.replace(b'"logprob": -', b'"logprob": 1' + b"0" * 400),
        lambda line: line.replace(b'"custom_id": "', b'"custom_id": "0'),
        lambda line: re.sub(rb"-\d+-0\"", b"-" + b"9" * 5000 + b'-0"', line),
        lambda line: b'{"custom_id": ' + b"[" * 50_000,
        lambda line: line.replace(b'"logprobs": {', b'"logprobs": 3, "was": {'),
    ],
    ids=range(6),
)
def test_an_odd_line_of_the_results_ends_nothing(shop: Shop, change: Callable[[bytes], bytes]) -> None:
    asked = texts(6)
    waits(shop, asked)
    shop.queue.work(shop.server)
    shop.queue._shown(shop.queue.batches["batch-0"])
    lines = shop.queue.files["batch-0-out"]
    assert change(lines[0]) != lines[0]
    lines[0] = change(lines[0])
    assert right(until_done(shop, asked))


@BOTH
def test_a_code_that_is_spelled_with_escapes_is_read(shop: Shop) -> None:
    def escape(done: dict[str, Any]) -> None:
        for choice in done["choices"]:
            code = json.loads(choice["message"]["content"])["label"]
            choice["message"]["content"] = json.dumps({"label": "@"}).replace("@", f"\\u{ord(code):04x}")

    asked = texts(6)
    waits(shop, asked)
    shop.server.mutate = escape
    assert right(until_done(shop, asked))


@OPENAI
def test_a_batch_the_provider_rejects_is_one_sentence_and_costs_nothing(shop: Shop) -> None:
    shop.queue.refuses = "model_not_supported"
    waits(shop, texts(4))
    with pytest.raises(TeacherError, match="model_not_supported"):
        shop.visit(texts(4))
    assert [call.state for call in shop.calls()] == ["settled", "released"]


# --- crashes and connections ------------------------------------------------------------------------------


@BOTH
def test_a_batch_submitted_over_a_broken_connection_is_found_and_not_submitted_twice(shop: Shop) -> None:
    shop.queue.faults = {("POST", "batches"): Fault("cut", times=1)}
    asked = texts(6)
    with pytest.raises(TeacherError, match="A batch was sent") as caught:
        shop.visit(asked)
    assert "Run the same command" in caught.value.hint
    assert shop.totals().held > 0
    waits(shop, asked)
    shop.queue.work(shop.server)
    assert right(shop.visit(asked))
    assert len(shop.queue.batches) == 1
    assert shop.bought() == sorted(asked)


@BOTH
def test_a_kill_between_the_upload_and_the_job_id_buys_nothing_twice(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = texts(6)
    teacher = shop.teacher()
    monkeypatch.setattr(teacher, "submit_job", partial(killed, teacher.submit_job))
    with pytest.raises(KeyboardInterrupt):
        shop.visit(asked, teacher)
    shop.queue.work(shop.server)
    assert right(shop.visit(asked))
    assert len(shop.queue.batches) == 1
    assert shop.bought() == sorted(asked)


@BOTH
def test_a_kill_before_the_upload_releases_the_hold_once_it_is_certain(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = texts(6)
    teacher = shop.teacher()
    monkeypatch.setattr(teacher, "submit_job", partial(killed, None))
    with pytest.raises(KeyboardInterrupt):
        shop.visit(asked, teacher)
    waits(shop, asked)
    assert len(shop.queue.batches) == 0
    monkeypatch.setattr(tickets, "VISIBLE_AFTER_S", 0)
    assert right(until_done(shop, asked))
    assert shop.bought() == sorted(asked)
    assert [call.state for call in shop.calls()].count("released") == 1


@ANTHROPIC
def test_another_accounts_batch_of_the_same_size_is_not_mistaken_for_ours(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tickets, "VISIBLE_AFTER_S", 0)
    teacher = shop.teacher()
    place = teacher.submit_job(BatchJob("f" * 32, 3, 0.0), texts(3))
    found = teacher.find_job(BatchJob("0" * 32, 3, 0.0), ())
    assert found is not None
    assert not isinstance(found, str)
    shop.queue.work(shop.server)
    assert teacher.find_job(BatchJob("0" * 32, 3, 0.0), ()) is None
    assert teacher.find_job(BatchJob("f" * 32, 3, 0.0), ()) == place
    assert teacher.find_job(BatchJob("f" * 32, 3, 0.0), {str(place)}) is None


def test_a_hold_with_a_job_id_survives_the_process_and_another_is_lost(tmp_path: Path) -> None:
    store = RunStore(tmp_path, write=True)
    ledger = Ledger(store, 1000)
    job = NewBatchJob("t", "m", ("a", "b"), samples=1, max_usage=Usage(input_tokens=3))
    kept = ledger.hold_job(job, 300, Purchase("llm", "teach", "a batch", 2))
    store.hold(Purchase("llm", "teach", "one call"), 50, 1000)
    store.close()
    store = RunStore(tmp_path, write=True)
    totals = Ledger(store, 1000).totals()
    assert (totals.held, totals.charged, totals.lost) == (300, 50, 50)
    store.set_provider_id(kept.id, "there")
    (row,) = store.batch_jobs("t")
    assert (row.call_id, row.client_id, row.provider_id, row.keys, row.samples, row.max_usage, row.held) == (
        kept.id,
        "m",
        "there",
        ("a", "b"),
        1,
        Usage(input_tokens=3),
        300,
    )
    assert store.batch_jobs("another") == []
    store.close()


@BOTH
def test_a_wrong_key_is_reported_before_anything_is_submitted(shop: Shop) -> None:
    shop.server.key = "another"
    with pytest.raises(TeacherError, match="key") as caught:
        shop.visit(texts(4))
    assert not caught.value.billed
    assert not shop.queue.batches
    assert (shop.totals().held, shop.totals().charged) == (0, 0)


@BOTH
def test_a_server_without_a_queue_is_one_sentence_and_nothing_stays_held(shop: Shop) -> None:
    path = ("POST", "batches") if shop.queue.anthropic else ("POST", "files")
    shop.queue.faults = {path: Fault(404, message="not found")}
    with pytest.raises(TeacherError, match=r"no (batch API|message batches)"):
        shop.visit(texts(4))
    assert shop.totals().held == 0


@BOTH
@pytest.mark.parametrize("status", [500, 429])
def test_a_server_that_cannot_report_progress_loses_nothing(shop: Shop, status: int) -> None:
    asked = texts(4)
    waits(shop, asked)
    shop.queue.work(shop.server)
    shop.queue.faults = {("GET", "batch-0"): Fault(status)}
    with pytest.raises(TeacherError, match="cannot be asked"):
        shop.visit(asked)
    assert shop.totals().held > 0
    shop.queue.faults = {("GET", "batch-0"): Fault(status, times=2)}
    shop.queue._left = {}
    assert right(shop.visit(asked))


@BOTH
def test_no_key_is_in_the_store_nor_in_an_error(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    key = "sk-planted-0123456789"
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY"):
        monkeypatch.setenv(name, key)
    shop.server.key = key
    waits(shop, texts(4))
    shop.queue.faults = {("GET", "batch-0"): Fault(400, message=f"wrong {key}")}
    with pytest.raises(TeacherError) as caught:
        shop.visit(texts(4))
    assert key not in str(caught.value)
    assert all(key.encode() not in path.read_bytes() for path in shop.folder.iterdir())


# --- all of it at once ------------------------------------------------------------------------------------

EVENTS = st.lists(
    st.tuples(st.sampled_from(["completed", "expired", "cancelled", "nothing", "cut", "killed"]), st.integers(0, 6)),
    max_size=8,
)


@pytest.mark.parametrize("kind", ["openai", "anthropic"])
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(events=EVENTS, size=st.integers(1, 5), room=st.integers(5, 12))
def test_whatever_happens_no_answer_is_bought_twice_and_all_come_back(
    kind: str, events: list[tuple[str, int]], size: int, room: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    asked = texts(8)
    queue = BatchQueue(anthropic=kind == "anthropic", room=room if kind == "openai" else 10**9)
    with FakeServer(queue=queue) as server, pytest.MonkeyPatch.context() as patch:
        patch.setattr(tickets, "MAX_JOBS_PER_TEXT", 100)
        patch.setattr(tickets, "VISIBLE_AFTER_S", 0)
        shop = Shop(tmp_path_factory.mktemp("run"), server, queue, options={"max_batch_requests": size})
        for event, most in events:
            teacher = shop.teacher()
            leave = teacher.submit_job
            if event == "cut":
                queue.faults = {("POST", "batches"): Fault("cut", times=1)}
                queue._left = {}
            elif event == "killed":
                patch.setattr(teacher, "submit_job", partial(killed, leave if most % 2 else None))
            with suppress(Waiting, TeacherError, KeyboardInterrupt):
                shop.visit(asked, teacher)
            if event in ("completed", "expired", "cancelled"):
                queue.work(server, 10**9 if event == "completed" else most, event)
        queue.faults = {}
        assert right(until_done(shop, asked))
        assert shop.bought() == sorted(asked)
        totals = shop.totals()
        assert totals.held == totals.lost == 0
