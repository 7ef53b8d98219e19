"""The anthropic teacher against a real HTTP server on loopback, through the official SDK: answers, money, trouble."""

from __future__ import annotations

import json
import math
import socket
from decimal import Decimal
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.chat_server import FakeServer, Fault
from support.chat_teacher import KEY, TASK, ChatProvider, Served, likeliest

from potstill.data.task import GenerationRequest, LabelledText
from potstill.errors import BadSpec, TeacherError, UnknownPrice
from potstill.ledger.prices import Rates, Usage, listed_price
from potstill.teachers.anthropic import open_teacher
from potstill.teachers.base import TeacherSetup
from potstill.teachers.price_options import PriceOptions, batch_queue_price, provider_for_url
from potstill.teachers.response_parsing import parse_message

PRICES = {"m": {"usd_per_million_input": 1, "usd_per_million_output": 5, "usd_per_million_cached": 0.1}}


ANTHROPIC = ChatProvider(open_teacher, PRICES)
teacher_at, ask = ANTHROPIC.teacher_at, ANTHROPIC.ask


class TestContract(Served):
    """One label a text."""

    provider = ANTHROPIC


class TestContractByVotes(TestContract):
    """Five samples a text."""

    options: ClassVar[dict[str, Any]] = {"samples": 5}


class TestContractOfABatchTeacherAskedDirectly(TestContract):
    """What is asked directly of a teacher that could leave a batch."""

    options: ClassVar[dict[str, Any]] = {"batch": True}


# --- what is sent, and what is made of it -----------------------------------------------------------------


def test_a_single_label_gets_the_given_confidence() -> None:
    with FakeServer() as server:
        answer = ask(server, one_hot_confidence=0.9)
        sent = server.seen[0]["anthropic"]
    assert (likeliest(answer), answer.how) == ("sports", "one-hot")
    assert answer.scores is not None
    assert math.exp(answer.scores[1]) == pytest.approx(0.9)
    assert sent["output_config"]["format"]["schema"]["properties"]["label"]["enum"] == ["A", "B", "C"]
    assert (sent["temperature"], sent["max_tokens"]) == (0.0, 32)


def test_samples_are_requested_one_by_one() -> None:
    with FakeServer() as server:
        answer = ask(server, samples=4)
        assert [body["anthropic"]["temperature"] for body in server.seen] == [1.0] * 4
    assert (likeliest(answer), answer.how) == ("sports", "votes")


def test_the_end_of_the_constant_part_is_marked_for_the_cache() -> None:
    with FakeServer() as server:
        teacher_at(server).answer(["some sports"])
        teacher_at(server, [LabelledText("a match", "sports")]).answer(["some sports"])
        bare, shown = (body["anthropic"] for body in server.seen)
    assert "cache_control" in bare["system"][0]
    assert json.dumps(bare).count("cache_control") == json.dumps(shown).count("cache_control") == 1
    assert "cache_control" in shown["messages"][1]["content"][0]


def test_cache_writes_and_reads_are_counted_and_priced_as_such() -> None:
    with FakeServer() as server:
        teacher = teacher_at(server)
        first, second = (teacher.answer(["some sports"]).usage for _ in range(2))
        billed = server.billed[0][0]
    assert first.input_tokens == second.input_tokens == billed
    assert first.cache_write_tokens > 0 == first.cached_tokens
    assert second.cached_tokens > 0 == second.cache_write_tokens
    prices = [teacher.price.exact_micros(usage) for usage in (first, second)]
    plain = teacher.price.exact_micros(Usage(billed, 0, first.output_tokens))
    assert prices[0] == plain + Decimal("0.25") * first.cache_write_tokens
    assert prices[1] == plain - Decimal("0.9") * second.cached_tokens


def test_an_unsupported_feature_is_tried_once_and_never_again() -> None:
    said = {
        "temperature": "`temperature` may not be set for this model",
        "output_config": "output_config.format: json_schema is not supported by this model",
    }
    for feature, message in said.items():
        with FakeServer(by_number={0: Fault(400, message=message)}) as server:
            teacher = teacher_at(server)
            for _ in range(2):
                assert likeliest(teacher.answer(["some sports"]).answers[0]) == "sports"
            assert [feature in body["anthropic"] for body in server.seen] == [True, False, False]


def test_effort_is_sent_and_dropped_where_the_model_has_none() -> None:
    with FakeServer(by_number={0: Fault(400, message="This model does not support effort")}) as server:
        assert likeliest(ask(server, effort="low")) == "sports"
        first, second = (body["anthropic"]["output_config"] for body in server.seen)
    assert first["effort"] == "low"
    assert "effort" not in second
    assert "format" in second


def test_it_generates_texts() -> None:
    with FakeServer() as server:
        draft = teacher_at(server).generate(GenerationRequest("sports", 2))
    assert [written.text for written in draft.texts] == ["one", "two"]


# --- trouble ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "state"),
    [
        (Fault("refusal"), "refused"),
        (Fault(400, message="prompt is too long: 210000 tokens > 200000 maximum"), "refused"),
        (Fault(413, message="Request exceeds the maximum size"), "refused"),
        (Fault(400, message="Output blocked by content filtering policy"), "refused"),
        (Fault("said", said="politics"), "unparsable"),
        (Fault("length"), "failed"),
        (Fault(500), "failed"),
        (Fault("garbage"), "failed"),
    ],
    ids=lambda value: str(getattr(value, "message", "") or value)[:30],
)
def test_a_text_that_cannot_be_answered_is_a_state_of_its_row(fault: Fault, state: str) -> None:
    with FakeServer(by_word={"bad": fault}) as server:
        teacher = teacher_at(server)
        assert teacher.answer(["a bad one"]).answers[0].state == state
        assert likeliest(teacher.answer(["some sports"]).answers[0]) == "sports"


@pytest.mark.parametrize("status", [429, 529])
@pytest.mark.parametrize("retry_after", [None, "0.05"])
def test_rate_limits_and_overload_are_waited_for_and_not_charged(status: int, retry_after: str | None) -> None:
    with FakeServer(by_word={"sports": Fault(status, times=3, retry_after=retry_after)}) as server:
        reply = teacher_at(server).answer(["some sports"])
        assert len(server.seen) == 4
    assert likeliest(reply.answers[0]) == "sports"
    assert reply.usage.input_tokens == server.billed[0][0]


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (Fault(401, message="invalid x-api-key"), "key"),
        (Fault(403, message="not allowed"), "key"),
        (Fault(404, message="model: m"), "no model 'm'"),
        (Fault(400, message="Your credit balance is too low to access the API."), "credit"),
    ],
    ids=lambda value: str(getattr(value, "kind", value)),
)
def test_an_unavailable_provider_raises_one_sentence_and_releases_its_hold(fault: Fault, said: str) -> None:
    with FakeServer(by_word={"sports": fault}) as server, pytest.raises(TeacherError, match=said) as caught:
        teacher_at(server).answer(["some sports"])
    assert caught.value.hint
    assert not caught.value.billed
    assert caught.value.__context__ is None


def test_an_unreachable_server_raises_one_sentence() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(TeacherError, match=str(port)) as caught:
        teacher_at(f"http://127.0.0.1:{port}").answer(["x"])
    assert not caught.value.billed


@pytest.mark.parametrize("kind", ["cut", "no-usage"])
def test_a_reply_without_usage_is_charged_at_its_bound(kind: str) -> None:
    with FakeServer(by_word={"sports": Fault(kind, times=1)}) as server:
        teacher = teacher_at(server)
        reply = teacher.answer(["some sports"])
    assert likeliest(reply.answers[0]) == "sports"
    assert reply.usage.cache_write_tokens >= teacher._max_request("some sports").input_tokens


def test_the_key_comes_from_the_environment_and_is_shown_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    with FakeServer(by_word={"bad": Fault(400, message=f"bad request with {KEY}")}, key=KEY) as server:
        teacher = teacher_at(server)
        answers = teacher.answer(["some sports"]).answers + teacher.answer(["a bad one"]).answers
    assert [answer.state for answer in answers] == ["ok", "failed"]
    assert KEY not in repr((answers, teacher.metadata, teacher.key, teacher.name))


def test_a_missing_key_model_or_price_is_reported_before_any_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    with pytest.raises(TeacherError, match="ANTHROPIC_API_KEY"):
        open_teacher(TeacherSetup(TASK, "claude-haiku-5-5"))
    with pytest.raises(BadSpec, match="model"):
        open_teacher(TeacherSetup(TASK, ""))
    with pytest.raises(UnknownPrice):
        open_teacher(TeacherSetup(TASK, "m", options={"base_url": "http://127.0.0.1:9"}))
    with pytest.raises(BadSpec, match="base_urll"):
        open_teacher(TeacherSetup(TASK, "m", options={"base_urll": "x"}))


# --- prices -----------------------------------------------------------------------------------------------


def test_the_public_list_prices_cache_and_batch() -> None:
    assert provider_for_url("https://api.anthropic.com") == "anthropic"
    price = listed_price("anthropic", "claude-haiku-5-5")
    read, written, plain = (
        price.cost_micros(usage) for usage in (Usage(1000, 1000), Usage(1000, cache_write_tokens=1000), Usage(1000))
    )
    assert read < plain < written
    batch = batch_queue_price("claude-haiku-5-5", "anthropic", PriceOptions())
    usage = Usage(10_000, 2_000, 500, cache_write_tokens=3_000)
    assert batch.exact_micros(usage) == price.exact_micros(usage) / 2
    assert "batch" in batch.source


def test_own_figures_are_halved_for_a_batch_where_the_provider_documents_it() -> None:
    own = {"m": {"usd_per_million_input": 3, "usd_per_million_output": 6}}
    usage = Usage(1_000_000, 0, 1_000_000)
    assert batch_queue_price("m", None, PriceOptions.parse(own), default_factor=0.5).cost_micros(usage) == 4_500_000
    assert batch_queue_price("m", None, PriceOptions.parse(own)).cost_micros(usage) == 9_000_000
    shared = {"m": {**own["m"], "batch_price_factor": 0.25}}
    assert batch_queue_price("m", None, PriceOptions.parse(shared)).cost_micros(usage) == 2_250_000


@pytest.mark.parametrize("share", [-1, 2, "half", True, float("nan")])
def test_an_invalid_batch_price_factor_is_refused(share: object) -> None:
    with pytest.raises(BadSpec):
        PriceOptions.parse({"m": {"usd_per_million_input": 3, "batch_price_factor": share}})


def test_a_mistyped_batch_price_factor_is_refused_with_its_right_name() -> None:
    with pytest.raises(BadSpec) as caught:
        PriceOptions.parse({"m": {"usd_per_million_input": 3, "batch_price_facto": 0.5}})
    assert "batch_price_factor" in str(caught.value.hint)


def test_a_model_paid_by_the_hour_has_no_batch() -> None:
    with pytest.raises(BadSpec, match="hour"):
        batch_queue_price("m", None, PriceOptions.parse({"m": {"usd_per_hour": 1}}))


@given(
    plain=st.integers(0, 10**6), cached=st.integers(0, 10**6), written=st.integers(0, 10**6), out=st.integers(0, 10**6)
)
def test_a_split_of_the_input_is_priced_part_by_part(plain: int, cached: int, written: int, out: int) -> None:
    rates = Rates("a test", Decimal(4), Decimal(10), Decimal(1), usd_per_million_cache_write=Decimal(5))
    usage = Usage(plain + cached + written, cached, out, cache_write_tokens=written)
    assert rates.cost_micros(usage) == 4 * plain + cached + 5 * written + 10 * out


@given(done=st.recursive(st.none() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)))
def test_what_is_not_a_message_is_never_parsed_as_one(done: Any) -> None:
    with pytest.raises((KeyError, TypeError, AttributeError)):
        parse_message(done)


@given(counts=st.lists(st.integers(-5, 10**6) | st.none() | st.text(max_size=3), min_size=4, max_size=4))
def test_an_implausible_usage_is_none(counts: list[Any]) -> None:
    names = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens", "output_tokens")
    said = parse_message({"content": [], "usage": dict(zip(names, counts, strict=True))})
    if said.usage is not None:
        numbers = [count or 0 for count in counts]
        assert said.usage == Usage(sum(numbers[:3]), numbers[1], numbers[3], cache_write_tokens=numbers[2])
        assert min(numbers) >= 0
