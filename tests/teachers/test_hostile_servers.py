"""Replies that no server should send end in one sentence or an unreadable reply, never in a traceback."""

from __future__ import annotations

import json
import socketserver
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from support.chat_server import FakeServer, Fault
from support.chat_teacher import PRICES, TASK, ask, teacher_at

from potstill.errors import BadSpec
from potstill.ledger.prices import parse_usd
from potstill.teachers.base import BatchJob, TeacherSetup
from potstill.teachers.batch_api import BatchItemResult, _number_of
from potstill.teachers.openai import open_teacher
from potstill.teachers.price_options import PriceOptions
from potstill.teachers.rate_limit import ResponseLost
from potstill.teachers.response_parsing import retry_after_s

DEEP = "[" * 50_000 + "]" * 50_000
DIGITS = "9" * 5000


class RawServer(socketserver.ThreadingTCPServer):
    """Sends the same bytes whatever is asked."""

    daemon_threads = allow_reuse_address = True
    reply = b""

    def handle_error(self, *_: Any) -> None:
        pass


class Handler(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        while line := self.rfile.readline():
            length = 0
            while (line := self.rfile.readline().lower()) not in (b"\r\n", b""):
                length = int(line.split(b":")[1]) if line.startswith(b"content-length") else length
            self.rfile.read(length)
            self.wfile.write(self.server.reply)  # type: ignore[attr-defined]


@pytest.fixture
def raw() -> Iterator[RawServer]:
    with RawServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


def http(status: int, body: str, headers: str = "") -> bytes:
    content = body.encode()
    return f"HTTP/1.1 {status} X\r\n{headers}Content-Length: {len(content)}\r\n\r\n".encode() + content


@pytest.mark.parametrize(
    "reply",
    [
        http(200, DEEP),
        http(400, DEEP),
        http(400, f'{{"error": {DEEP}}}'),
        http(200, f'{{"choices": {DEEP}}}'),
        http(200, f'{{"choices": [], "n": {DIGITS}}}'),
        http(101, "", "Upgrade: h2c\r\nConnection: Upgrade\r\n"),
        http(204, ""),
        http(304, ""),
        http(999, "x"),
        http(200, "1e999999"),
        http(200, "NaN"),
        http(200, "\x00" * 100),
        b"HTTP/9.9 abc\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.0\r\n",
    ],
    ids=range(14),
)
def test_a_reply_that_is_none_is_a_text_without_an_answer(raw: RawServer, reply: bytes) -> None:
    raw.reply = reply
    url = f"http://127.0.0.1:{raw.server_address[1]}/v1"
    teacher = teacher_at(url, timeout_s=1.0, text_timeout_s=0.3)
    answer = teacher.answer(["some sports"]).answers[0]
    assert answer.state in ("failed", "refused")
    assert answer.raw
    assert len(answer.raw) <= 200


@pytest.mark.parametrize(
    "said", [DEEP, f'{{"label": {DEEP}}}', '{"label": 1e999999}', DIGITS, '{"label": {"A": 1e999999}}']
)
def test_a_text_that_cannot_be_read_is_unparsable(said: str) -> None:
    with FakeServer(by_word={"sports": Fault("said", said=said)}) as server:
        for candidates in (False, True):
            assert ask(server, candidates=candidates).state == "unparsable"


@pytest.mark.parametrize("name", [DIGITS, f"x-{DIGITS}-0", "x--", "x-1e9-0", "x-٣-0", "x-0003-0", "x-3", ""])
def test_a_custom_id_of_another_form_belongs_to_no_text(name: str) -> None:
    assert _number_of(name, BatchJob("x", 3, 0.0)) is None


@pytest.mark.parametrize("line", [DEEP, f'{{"custom_id": {DIGITS}}}', '{"custom_id": "x"', "1e999999", '"x"', "null"])
def test_a_line_of_results_that_cannot_be_read_is_charged_and_answers_nothing(line: str) -> None:
    with FakeServer() as server:
        teacher = teacher_at(server, batch=True)
        result = teacher._server._result(line)  # type: ignore[attr-defined]
    assert isinstance(result, BatchItemResult)
    assert isinstance(result.outcome, ResponseLost)


@pytest.mark.parametrize(
    "url",
    [
        "http://[::1",
        "http://[::1]x/v1",
        "http://h:99999999/v1",
        "http://h:x/v1",
        "http://",
        "h/v1",
        "file:///x",
        "\x00",
    ],
)
def test_what_is_no_address_is_one_sentence(url: str) -> None:
    with pytest.raises(BadSpec, match="base_url") as caught:
        teacher_at(url)
    assert "https://HOST" in caught.value.hint


@pytest.mark.parametrize("figure", ["1e999999", "-1", "inf", 1e300, "1e10", True, None, [1]])
def test_a_price_beyond_sense_is_one_sentence(figure: object) -> None:
    for name in ("usd_per_hour", "usd_per_label"):
        with pytest.raises(BadSpec, match="is not a rate"):
            PriceOptions.parse({name: figure})
    with pytest.raises(BadSpec, match="is not a rate"):
        PriceOptions.parse({"m": {"usd_per_million_input": figure}})
    assert PriceOptions.parse({"usd_per_hour": "1e-999999"}).usd_per_hour is not None


@pytest.mark.parametrize("budget", ["1e999999", "1e-999999", "-1e999999", "1e400", "nan", DIGITS])
def test_a_budget_beyond_sense_is_one_sentence(budget: str) -> None:
    with pytest.raises(BadSpec):
        parse_usd(budget)


@pytest.mark.parametrize("value", ["1e999999", "-5", "nan", "x", DIGITS, "Mon, 99 Foo 2026", ""])
def test_a_wait_beyond_sense_is_none(value: str) -> None:
    assert retry_after_s({"retry-after": value}) is None


def test_a_date_to_wait_for_is_read_by_the_servers_own_clock() -> None:
    headers = {"date": "Mon, 05 Jan 1970 10:00:00 GMT", "retry-after": "Mon, 05 Jan 1970 10:00:07 GMT"}
    assert retry_after_s(headers) == 7


@pytest.mark.parametrize("samples", [1, 9])
def test_after_an_overcharge_no_other_request_of_the_same_call_is_sent(samples: int) -> None:
    def inflate(done: dict[str, Any]) -> None:
        done["usage"].update(prompt_tokens=10**6, total_tokens=10**6 + 5)
        done["choices"][0]["message"]["content"] = "what?"

    with FakeServer(mutate=inflate, ignores=frozenset({"logprobs", "n"})) as server:
        options = {"base_url": server.url, "samples": samples, "logprobs": False}
        teacher = open_teacher(TeacherSetup(TASK, "m", [], options, PriceOptions.parse(PRICES)))
        teacher._server.supports_n = False
        reply = teacher.answer(["some sports"])
        assert len(server.seen) == 1
        assert teacher.price.cost_micros(reply.usage) > teacher.price.cost_micros(teacher.max_usage(["some sports"]))
        assert json.dumps(reply.answers[0].to_json())
