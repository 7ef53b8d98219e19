"""What goes wrong at a provider and what becomes of it: one text, a rate limit, the teacher as a whole, bad options."""

from __future__ import annotations

import logging
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from support.chat_server import FakeServer, Fault
from support.chat_teacher import KEY, PRICES, TASK, ask, likeliest, teacher_at

from potstill.data.task import LabelledText
from potstill.errors import BadSpec, PotstillError, TeacherError
from potstill.ledger.prices import Usage
from potstill.teachers import rate_limit as pace
from potstill.teachers.base import TeacherSetup
from potstill.teachers.openai import open_teacher
from potstill.teachers.price_options import PriceOptions

# --- trouble of one text -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault",
    [
        Fault("filter"),
        Fault("refusal"),
        Fault(400, code="content_filter", message="The response was filtered"),
        Fault(400, code="context_length_exceeded", message="This model's maximum context length is 8 tokens."),
        Fault(400, message="the request exceeds the available context size"),
        Fault(413, message="payload"),
    ],
    ids=lambda fault: f"{fault.kind} {fault.code}",
)
def test_a_filtered_or_too_long_text_is_refused_and_the_next_is_answered(fault: Fault) -> None:
    with FakeServer(by_word={"bad": fault}) as server:
        teacher = teacher_at(server)
        assert teacher.answer(["a bad one"]).answers[0].state == "refused"
        assert likeliest(teacher.answer(["some sports"]).answers[0]) == "sports"


def test_a_bad_first_text_does_not_cost_the_others_their_soft_labels() -> None:
    with FakeServer(by_word={"bad": Fault(400, message="invalid")}) as server:
        teacher = teacher_at(server)
        assert teacher.answer(["a bad one"]).answers[0].state == "failed"
        assert teacher.answer(["some sports"]).answers[0].how == "logprobs"


def test_a_reply_used_up_by_reasoning_fails_and_names_the_mend() -> None:
    with FakeServer(by_word={"sports": Fault("length")}) as server:
        answer = ask(server)
    assert answer.state == "failed"
    assert "max_tokens" in answer.raw


@pytest.mark.parametrize("status", [500, 503, 408, 409])
def test_an_unavailable_server_is_retried_and_not_charged(status: int) -> None:
    with FakeServer(by_word={"sports": Fault(status, times=2)}) as server:
        reply = teacher_at(server).answer(["some sports"])
    assert likeliest(reply.answers[0]) == "sports"
    assert (reply.usage.input_tokens, reply.usage.output_tokens) == server.billed[0]


def test_a_server_that_stays_unavailable_fails_the_text_without_charge() -> None:
    with FakeServer(by_word={"sports": Fault(500)}) as server:
        reply = teacher_at(server).answer(["some sports"])
    assert reply.answers[0].state == "failed"
    assert reply.usage == Usage()


# --- rate limits -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("retry_after", [None, "0", "0.05", "soon"])
def test_a_rate_limit_is_waited_for_and_is_no_failed_try(
    monkeypatch: pytest.MonkeyPatch, retry_after: str | None
) -> None:
    monkeypatch.setattr(pace, "MAX_BACKOFF_S", 0.02)
    with FakeServer(by_word={"sports": Fault(429, times=12, retry_after=retry_after)}) as server:
        reply = teacher_at(server).answer(["some sports"])
    assert likeliest(reply.answers[0]) == "sports"
    assert len(server.seen) == 13
    assert (reply.usage.input_tokens, reply.usage.output_tokens) == server.billed[0]


def test_retry_after_is_honoured_by_every_thread() -> None:
    with FakeServer(by_number={0: Fault(429, retry_after="0.4")}) as server:
        teacher = teacher_at(server)
        began = time.monotonic()
        teacher.answer(["some sports"])
        assert time.monotonic() - began >= 0.4


def test_a_wait_beyond_the_deadline_fails_the_text_at_once() -> None:
    with FakeServer(by_word={"sports": Fault(429, retry_after="3600")}) as server:
        answer = ask(server, text_timeout_s=5)
    assert answer.state == "failed"
    assert "3600" in answer.raw
    assert len(server.seen) == 1


def test_requests_per_minute_are_kept() -> None:
    with FakeServer() as server:
        teacher = teacher_at(server, requests_per_minute=600)
        began = time.monotonic()
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(lambda i: teacher.answer([f"sports {i}"]), range(5)))
        assert time.monotonic() - began >= 0.4


def test_many_calls_are_in_flight_at_once_over_one_client() -> None:
    with FakeServer(latency_s=0.05) as server:
        teacher = teacher_at(server)
        texts = [f"{label} number {i}" for i in range(20) for label in TASK.labels]
        with ThreadPoolExecutor(teacher.parallel) as threads:
            replies = list(threads.map(lambda text: teacher.answer([text]), texts))
        assert server.most_in_flight > 4
    assert [likeliest(reply.answers[0]) for reply in replies] == [text.split()[0] for text in texts]


def test_time_in_flight_together_is_charged_once() -> None:
    with FakeServer(latency_s=0.1) as server:
        setup = TeacherSetup(
            TASK, "m", options={"base_url": server.url}, prices=PriceOptions.parse({"usd_per_hour": 1})
        )
        teacher = open_teacher(setup)
        began = time.monotonic()
        with ThreadPoolExecutor(8) as threads:
            replies = list(threads.map(lambda i: teacher.answer([f"sports {i}"]), range(8)))
        wall = time.monotonic() - began
    assert 0.05 < sum(reply.usage.seconds for reply in replies) <= wall


# --- the teacher as a whole is out of order ----------------------------------------------------------------


def refusal(server: FakeServer | str, **options: Any) -> TeacherError:
    with pytest.raises(TeacherError) as caught:
        teacher_at(server, **options).answer(["some sports"])
    assert caught.value.hint
    return caught.value


def test_a_wrong_key_raises_one_sentence_without_the_key(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    caplog.set_level(logging.DEBUG)
    with FakeServer(key="another") as server:
        error = refusal(server)
    assert "OPENAI_API_KEY" in error.hint
    assert not error.billed
    assert len(server.seen) == 1
    assert server.headers[0]["authorization"] == f"Bearer {KEY}"
    assert KEY not in str(error) + repr(error) + caplog.text
    assert error.__context__ is None
    assert error.__cause__ is None


def test_the_key_appears_in_no_answer_and_no_fact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_API_KEY", KEY)
    with FakeServer(by_word={"bad": Fault(400, message=f"bad request with {KEY}")}, key=KEY) as server:
        teacher = teacher_at(server, key_env="MY_API_KEY")
        answers = teacher.answer(["some sports"]).answers + teacher.answer(["a bad one"]).answers
    assert [answer.state for answer in answers] == ["ok", "failed"]
    assert KEY not in repr((answers, teacher.metadata, teacher.key, teacher.name))


def test_a_missing_key_is_reported_before_any_request() -> None:
    with pytest.raises(TeacherError, match="OPENAI_API_KEY"):
        open_teacher(TeacherSetup(TASK, "gpt-6-luna"))


def test_an_unknown_model_raises_one_sentence() -> None:
    with FakeServer(models=frozenset({"other"})) as server:
        assert "'m'" in refusal(server).message


def test_an_account_without_credit_is_not_waited_for() -> None:
    with FakeServer(by_word={"sports": Fault(429, code="insufficient_quota")}) as server:
        assert "credit" in refusal(server).message
    assert len(server.seen) == 1


def test_an_unreachable_server_raises_one_sentence() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    error = refusal(f"http://127.0.0.1:{port}/v1")
    assert str(port) in error.message
    assert not error.billed


def test_many_failures_in_a_row_stop_the_teacher() -> None:
    with FakeServer(by_word={"x": Fault("garbage")}) as server:
        teacher = teacher_at(server, parallel=1)
        for _ in range(7):
            assert teacher.answer(["x"]).answers[0].state == "failed"
        with pytest.raises(TeacherError, match="in a row") as caught:
            teacher.answer(["x"])
    assert caught.value.billed


@pytest.mark.parametrize(
    "options",
    [
        {"base_urll": "x"},
        {"base_url": "ftp://x"},
        {"base_url": "http://"},
        {"base_url": "http://host:port/v1"},
        {"samples": 0},
        {"temperature": "warm"},
        {"timeout_s": float("nan")},
        {"one_hot_confidence": 1.0},
        {"aliases": {"x": "no label"}},
    ],
    ids=str,
)
def test_invalid_options_raise_one_sentence(options: dict[str, Any]) -> None:
    with pytest.raises(BadSpec) as caught:
        open_teacher(
            TeacherSetup(
                TASK, "m", options={"base_url": "http://127.0.0.1:9/v1", **options}, prices=PriceOptions.parse(PRICES)
            )
        )
    assert caught.value.hint


@pytest.mark.parametrize(
    "prices",
    [
        {"m": {}},
        {"m": 3},
        {"m": {"usd_per_million_input": -1}},
        {"m": {"usd_per_million_input": "nan"}},
        {"m": {"x": 1}},
    ],
    ids=str,
)
def test_invalid_prices_are_refused(prices: dict[str, Any]) -> None:
    with pytest.raises(PotstillError) as caught:
        open_teacher(
            TeacherSetup(TASK, "m", options={"base_url": "http://127.0.0.1:9/v1"}, prices=PriceOptions.parse(prices))
        )
    assert caught.value.hint


def test_a_model_must_be_named() -> None:
    with pytest.raises(BadSpec, match="model"):
        open_teacher(
            TeacherSetup(TASK, "", options={"base_url": "http://127.0.0.1:9/v1"}, prices=PriceOptions.parse(PRICES))
        )


def test_the_key_changes_with_everything_that_changes_answers() -> None:
    url = "http://127.0.0.1:9/v1"
    same = teacher_at(url).key
    assert teacher_at(url, parallel=3, timeout_s=5).key == same
    others = [
        teacher_at(url, samples=3),
        teacher_at(url, temperature=0.5),
        teacher_at(url, reasoning_effort="low"),
        teacher_at(url, max_tokens=99),
        teacher_at("http://127.0.0.1:10/v1"),
        teacher_at(url, [LabelledText("a match", "sports")]),
    ]
    assert len({teacher.key for teacher in others} | {same}) == 7
