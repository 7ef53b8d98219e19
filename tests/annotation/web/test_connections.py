"""Connections that send nothing, or slowly, or odd bytes: the page goes on working for the people who label."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from starlette.responses import PlainTextResponse
from support.annotation_run import begin, labels_of
from support.page_requests import all_bytes, ask, connect

from potstill.annotation.web import connections
from potstill.annotation.web.server import make_server

POST = b"POST /next HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nConnection: close\r\n"
HALF_OPEN = (
    b"",
    b"GET / HT",
    b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n",
    POST,
    POST + b"Origin: http://127.0.0.1\r\nContent-Length: 60000\r\n\r\n{",
    b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 60000\r\n\r\nx",
)
ODD_BYTES = (
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS
    b"\x00" * 1000 + b"\r\n\r\n",
    b"GET /\xff HTTP/1.1\r\n\r\n",
    b"GET http://[::1 HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n",
    b"GET /%ff%00%ed%a0%80 HTTP/1.1\r\nHost: \xff\r\nConnection: close\r\n\r\n",
    POST + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n",
    POST + b"Content-Length: -1\r\n\r\n",
    POST + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    POST + b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffffffffffff\r\n",
    b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    + (b"4000\r\n" + b"x" * 0x4000 + b"\r\n") * 5,  # a body that is too large
    b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade, close\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"y" * 200_000,
    b"BREW /\x1b]52;c;AAAA\x07 HTTP/9.9\r\n\r\n",
)


def test_the_page_works_while_more_connections_are_held_than_the_server_may_open_files(
    tmp_path: Path, served: Callable[..., Any]
) -> None:
    server = served(begin(tmp_path))
    with ExitStack() as held:
        for i in range(600):  # the server may open 256 files
            held.enter_context(connect(server.url, HALF_OPEN[i % len(HALF_OPEN)]))
        assert ask(server.url, "/")[0] == 200
        text = json.loads(ask(server.url, "/next", body={"annotator": "ann"})[2])["text"]
        label = {"annotator": "ann", "id": text["id"], "label": "sports", "seconds": 1}
        assert json.loads(ask(server.url, "/label", body=label)[2])["outcome"] == "new"


def test_ctrl_c_ends_it_while_requests_are_half_sent_and_responses_unread_and_keeps_the_labels(
    tmp_path: Path, served: Callable[..., Any]
) -> None:
    run = begin(tmp_path)
    server = served(run)
    text = json.loads(ask(server.url, "/next", body={"annotator": "ann"})[2])["text"]
    ask(server.url, "/label", body={"annotator": "ann", "id": text["id"], "label": "sports", "seconds": 1})
    with ExitStack() as held:
        for sent in HALF_OPEN:
            held.enter_context(connect(server.url, sent))
        unread = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
        held.enter_context(connect(server.url, unread * 500))
        server.process.send_signal(signal.SIGINT)
        output, errors = server.process.communicate(timeout=30)
    assert server.process.returncode == 0
    assert "1 of 20 texts have every label" in output
    assert "Traceback" not in errors
    labels = labels_of(run)
    assert [each.label for each in labels.annotations()] == ["sports"]
    labels.close()


def test_odd_bytes_end_their_own_connection_and_write_nothing_to_the_terminal(
    tmp_path: Path, served: Callable[..., Any]
) -> None:
    server = served(begin(tmp_path))
    for sent in ODD_BYTES:
        with connect(server.url) as line:
            try:
                line.sendall(sent)
            except ConnectionError:
                continue
            reply = all_bytes(line)
        assert not reply or reply.startswith(b"HTTP/1.1 "), sent[:60]
        assert b" 500 " not in reply.splitlines()[0] if reply else True, sent[:60]
        assert ask(server.url, "/")[0] == 200, sent[:60]
    server.process.send_signal(signal.SIGINT)
    _, errors = server.process.communicate(timeout=30)
    assert errors == ""


@pytest.fixture
def small_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a server in this process whose time limits are a tenth of a second."""
    monkeypatch.setattr(connections, "REQUEST_S", 0.1)
    monkeypatch.setattr(connections, "RESPONSE_S", 0.1)
    import socket

    server = make_server(PlainTextResponse("x" * 30_000_000))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
        server.should_exit = True
        thread.join()


def test_a_request_that_arrives_byte_by_byte_is_ended(small_server: str) -> None:
    with connect(small_server) as line, pytest.raises(ConnectionError):
        for _ in range(2000):
            line.sendall(b"G")
            threading.Event().wait(0.01)


def test_a_response_that_is_not_read_is_ended(small_server: str) -> None:
    with connect(small_server, b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n") as line:
        threading.Event().wait(0.5)
        assert len(all_bytes(line)) < 30_000_000
