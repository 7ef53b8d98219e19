"""Another server than the one that was named gets nothing, no reply fills the memory, and no message holds a key."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from support.batch_queue_run import OPENAI, Shop, texts, waits
from support.chat_server import FakeServer
from support.chat_teacher import KEY, teacher_at

from potstill.errors import BadSpec, PotstillError, TeacherError
from potstill.teachers import sdk_adapter, transport

MB = 2**20


@contextmanager
def raw_server(status: int, headers: dict[str, str], parts: list[bytes]) -> Iterator[str]:
    """A server that answers every request with this, in chunks, until the client hangs up."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for part in parts:
                self.wfile.write(b"%x\r\n%b\r\n" % (len(part), part))
            self.wfile.write(b"0\r\n\r\n")

        def log_message(self, *_: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: Any) -> None:
            pass

    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "user:KEY@127.0.0.1"])
def test_a_redirect_to_another_server_is_refused_and_it_gets_nothing(status: int, host: str) -> None:
    with FakeServer() as other:
        target = other.url.replace("127.0.0.1", host) + "/chat/completions"
        with (
            raw_server(status, {"Location": target}, []) as url,
            pytest.raises(TeacherError, match="redirects to another") as caught,
        ):
            teacher_at(url).answer(["some sports"])
        assert not caught.value.billed
        assert "KEY" not in str(caught.value)
        assert other.seen == []


def test_a_redirect_within_the_server_without_end_is_given_up() -> None:
    with raw_server(307, {"Location": "/v1/elsewhere"}, []) as url:
        assert teacher_at(url).answer(["some sports"]).answers[0].state == "failed"


@OPENAI
@pytest.mark.parametrize("status", [302, 307, 308])
def test_a_batch_is_not_sent_to_another_server_either(shop: Shop, status: int) -> None:
    with raw_server(status, {"Location": shop.server.url + "/files"}, []) as url:
        shop.options = {"base_url": url}
        with pytest.raises(TeacherError, match="redirects to another"):
            shop.teacher()._queue.create_batch("file", "mark")
    assert not shop.queue.batches


@pytest.mark.parametrize(
    ("headers", "parts"),
    [({}, [b"x" * MB] * 40), ({"Content-Encoding": "gzip"}, [gzip.compress(b"0" * 200 * MB)])],
    ids=["endless", "gzip bomb"],
)
def test_a_reply_beyond_the_ceiling_is_lost_and_the_text_fails(headers: dict[str, str], parts: list[bytes]) -> None:
    with raw_server(200, headers, parts) as url:
        teacher = teacher_at(url)
        reply = teacher.answer(["some sports"])
        assert teacher.price.cost_micros(reply.usage) <= teacher.price.cost_micros(teacher.max_usage(["some sports"]))
    assert reply.answers[0].state == "failed"


def test_a_reply_at_the_ceiling_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    body = b'{"choices": [{"message": {"content": "A"}}], "x": "' + b"x" * MB + b'"}'
    with raw_server(200, {}, [body[:MB], body[MB:]]) as url:
        monkeypatch.setattr(transport, "MAX_REPLY_BYTES", len(body))
        assert teacher_at(url).answer(["some sports"]).answers[0].state == "ok"
        monkeypatch.setattr(transport, "MAX_REPLY_BYTES", len(body) - 1)
        assert teacher_at(url).answer(["some sports"]).answers[0].state == "failed"


class _File:
    def __init__(self, *parts: bytes) -> None:
        self.parts = parts

    def iter_bytes(self, size: int) -> Iterator[bytes]:
        """The parts."""
        yield from self.parts


def test_lines_of_a_file_are_cut_at_line_ends_and_have_a_ceiling(monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(sdk_adapter.iter_lines(_File(b"a\nb", b"c\n\n", b"d\xff"))) == ["a", "bc", "d\ufffd"]
    monkeypatch.setattr(sdk_adapter, "MAX_REPLY_BYTES", 3)
    with pytest.raises(sdk_adapter.ResponseLost, match="too long"):
        list(sdk_adapter.iter_lines(_File(b"ab", b"cd")))


@pytest.mark.parametrize(
    "address",
    [
        f"http://user:{KEY}@127.0.0.1:1/v1",
        f"http://{KEY}@127.0.0.1:1/v1",
        f"http://127.0.0.1:1/v1?key={KEY}",
        f"http://127.0.0.1:1/v1#{KEY}",
        f"ftp://127.0.0.1/{KEY}",
        f"http://[::1/{KEY}",
        f"{KEY}",
    ],
)
def test_an_address_with_a_secret_in_it_is_refused_and_not_repeated(address: str) -> None:
    with pytest.raises(BadSpec, match="base_url") as caught:
        teacher_at(address)
    assert KEY not in str(caught.value) + caught.value.hint


@pytest.mark.parametrize("variable", [KEY, "gsk_a1B2c3D4e5F6g7H8", "two words", "", "$OPENAI_API_KEY"])
def test_a_key_given_for_the_name_of_its_variable_is_refused_and_not_repeated(variable: str) -> None:
    with pytest.raises(BadSpec, match="key_env") as caught:
        teacher_at("http://127.0.0.1:1/v1", key_env=variable)
    assert not variable or variable not in str(caught.value)


@pytest.mark.parametrize("variable", ["HOME", "AWS_SECRET_ACCESS_KEY", "GITHUB_TOKEN", "MY_API_KEY_2"])
def test_no_variable_but_one_of_a_key_is_sent_to_a_server(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, "secret")
    with pytest.raises(BadSpec, match="_API_KEY"):
        teacher_at("http://127.0.0.1:1/v1", key_env=variable)


@OPENAI
def test_a_rejected_batch_is_named_without_the_key(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    shop.queue.refuses = f"model_not_supported for {KEY}"
    waits(shop, texts(4))
    with pytest.raises(PotstillError, match="model_not_supported") as caught:
        shop.visit(texts(4))
    assert KEY not in str(caught.value)
