"""What a server may send and how, connections that are used again, deadlines, certificates, proxies."""

from __future__ import annotations

import gzip
import json
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from potstill.engines.greenlets import sleep
from potstill.engines.local import LocalEngine
from potstill.engines.workers import GreenletPool
from potstill.teachers.rate_limit import ConnectFailed, ResponseLost
from potstill.teachers.transport import HttpClient, HttpReply

JSON = b'{"said": "yes"}'
PLAIN = b"HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n" + JSON
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4;x=1\r\n" + JSON[:4] + b"\r\nb\r\n" + JSON[4:]
CHUNKED += b"\r\n0\r\nTrailer: 1\r\n\r\n"
UNTIL_CLOSED = b"HTTP/1.1 200 OK\r\n\r\n" + JSON
ZIPPED = gzip.compress(JSON)
GZIP = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(ZIPPED) + ZIPPED
EARLY = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + PLAIN

Answer = Callable[[socket.socket, int], bool]


@contextmanager
def server(answer: Answer, trust: ssl.SSLContext | None = None) -> Iterator[tuple[str, list[int]]]:
    """A server on loopback: `answer(connection, number)` is called for request after request and says whether to go on.
    With its address comes the list of connections that requests came on."""
    came: list[int] = []
    stop = threading.Event()

    def connected(peer: socket.socket, number: int) -> None:
        with closing(peer):
            peer.settimeout(10)
            try:
                if trust is not None:
                    peer = trust.wrap_socket(peer, server_side=True)
                while not stop.is_set() and (got := peer.recv(65_536)):
                    while b"\r\n\r\n{}" not in got:
                        got += peer.recv(65_536)
                    came.append(number)
                    if not answer(peer, len(came)):
                        return
            except OSError:
                return

    with socket.create_server(("127.0.0.1", 0)) as listening:

        def accept() -> None:
            for number in range(100):
                try:
                    peer, _ = listening.accept()
                except OSError:
                    return
                threading.Thread(target=connected, args=(peer, number), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        scheme = "http" if trust is None else "https"
        yield f"{scheme}://localhost:{listening.getsockname()[1]}/v1", came
        stop.set()
        # Wakes accept, which closing alone does not.
        socket.create_connection(listening.getsockname()).close()


def sends(*pieces: bytes, stays: bool = True, wait_s: float = 0.0) -> Answer:
    """Answers every request with these pieces, and closes the connection after them unless it `stays`."""

    def answer(peer: socket.socket, number: int) -> bool:
        for piece in pieces:
            peer.sendall(piece)
            time.sleep(wait_s)
        return stays

    return answer


WHERE = {"greenlet": False}


def client_for(url: str = "http://localhost", timeout_s: float = 5.0, **options: Any) -> HttpClient:
    return HttpClient(url.split("/")[2], timeout_s, timeout_s, **{"trust": None, "trust_env": False, **options})


def ask(client: HttpClient, url: str) -> HttpReply:
    """Asks in this thread, or in a greenlet while a second one sleeps."""

    def call(_: object) -> HttpReply:
        return client.post(url, {"Content-Type": "application/json"}, b"{}")

    if not WHERE["greenlet"]:
        return call(None)
    pool: GreenletPool[Callable[[object], object], object] = GreenletPool(lambda do: do(None), 2)
    try:
        pool.submit(lambda _: sleep(0.01))
        return pool.submit(call).result()  # type: ignore[return-value]
    finally:
        pool.shutdown()


def said(reply: HttpReply) -> Any:
    """The JSON of a success."""
    assert reply.ok
    return json.loads(reply.content)


@pytest.fixture(autouse=True, params=[False, True], ids=["thread", "greenlet"])
def where(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread and a greenlet get the same replies."""
    monkeypatch.setitem(WHERE, "greenlet", request.param)


@pytest.fixture
def client() -> HttpClient:
    return client_for()


@pytest.mark.parametrize("reply", [PLAIN, CHUNKED, GZIP, EARLY], ids=["length", "chunked", "gzip", "early hints"])
def test_a_reply_is_read_completely_and_its_connection_is_reused(client: HttpClient, reply: bytes) -> None:
    with server(sends(reply)) as (url, came):
        assert [said(ask(client, url)) for _ in range(3)] == [{"said": "yes"}] * 3
    assert came == [0, 0, 0]


@pytest.mark.parametrize(
    "reply",
    [UNTIL_CLOSED, PLAIN.replace(b"OK\r\n", b"OK\r\nConnection: close\r\n"), PLAIN.replace(b"1.1", b"1.0")],
    ids=["until closed", "says close", "HTTP/1.0"],
)
def test_a_connection_closed_after_its_reply_is_not_reused(client: HttpClient, reply: bytes) -> None:
    with server(sends(reply, stays=False)) as (url, came):
        assert [said(ask(client, url)) for _ in range(2)] == [{"said": "yes"}] * 2
    assert came == [0, 1]


def test_a_connection_that_was_closed_while_idle_is_noticed_before_anything_is_sent(client: HttpClient) -> None:
    with server(sends(PLAIN, stays=False)) as (url, came):
        for _ in range(3):
            assert said(ask(client, url)) == {"said": "yes"}
            time.sleep(0.05)
    assert came == [0, 1, 2]


@pytest.mark.parametrize("more", [PLAIN, PLAIN[:30], b"\0"], ids=["another", "half of another", "something else"])
def test_bytes_after_a_reply_never_answer_another_request(client: HttpClient, more: bytes) -> None:
    def answer(peer: socket.socket, number: int) -> bool:
        peer.sendall(PLAIN.replace(b"yes", b"%03d" % number) + more)
        return True

    with server(answer) as (url, _):
        for number in range(1, 4):
            try:
                assert said(ask(client, url)) == {"said": f"{number:03d}"}
            except ResponseLost:  # charged at its bound, and asked again
                assert more != PLAIN
            time.sleep(0.02)


@pytest.mark.parametrize("where", [False], indirect=True)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None)
@given(cuts=st.sets(st.integers(1, 120), max_size=5), reply=st.sampled_from([PLAIN, CHUNKED, EARLY, UNTIL_CLOSED]))
def test_a_reply_may_arrive_in_any_pieces(client: HttpClient, cuts: set[int], reply: bytes) -> None:
    marks = [0, *sorted(cut for cut in cuts if cut < len(reply)), len(reply)]
    pieces = [reply[start:end] for start, end in pairwise(marks)]
    with server(sends(*pieces, stays=False, wait_s=0.001)) as (url, _):
        assert said(ask(client, url)) == {"said": "yes"}


@pytest.mark.parametrize(
    "reply",
    [b"", PLAIN[:20], PLAIN[:-1], CHUNKED[:-30], b"SSH-2.0-OpenSSH\r\n", PLAIN.replace(b"15", b"-5")],
    ids=["nothing", "half a head", "half a body", "half a chunk", "another protocol", "impossible length"],
)
def test_a_cut_or_invalid_reply_is_an_error_and_closes_its_connection(client: HttpClient, reply: bytes) -> None:
    def answer(peer: socket.socket, number: int) -> bool:
        peer.sendall(reply if number == 1 else PLAIN)
        return number > 1

    with server(answer) as (url, came):
        with pytest.raises(ResponseLost):
            ask(client, url)
        assert said(ask(client, url)) == {"said": "yes"}
    assert came == [0, 1]


@pytest.mark.parametrize("at_once", [0, 40, len(PLAIN) - 1], ids=["slow head", "slow body", "no end"])
def test_a_reply_that_never_ends_times_out(at_once: int) -> None:
    drops = [PLAIN[i : i + 1] for i in range(at_once, len(PLAIN) - 1)]
    pieces = [PLAIN[:at_once], *drops, *[b""] * (60 - len(drops))]
    with server(sends(*pieces, wait_s=0.15)) as (url, _):
        began = time.monotonic()
        with pytest.raises(ResponseLost, match="timed out"):
            ask(client_for(timeout_s=0.5), url)
        # The whole of it would take nine seconds, and every byte comes well within the timeout.
        assert time.monotonic() - began < 6


@pytest.mark.parametrize("status", [b"429 Too Many", b"500 Broken", b"409 Conflict"])
def test_an_unsuccessful_reply_has_its_status_and_headers(client: HttpClient, status: bytes) -> None:
    reply = PLAIN.replace(b"200 OK", status + b"\r\nRetry-After: 7")
    with server(sends(reply, stays=False)) as (url, _):
        found = ask(client, url)
    assert (found.status, found.ok, found.headers["retry-after"]) == (int(status[:3]), False, "7")


def test_no_listener_is_a_connect_error(client: HttpClient) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(ConnectFailed):
        ask(client, f"http://127.0.0.1:{port}/v1")


def test_many_threads_share_the_connections(client: HttpClient) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with server(sends(PLAIN, wait_s=0.01)) as (url, came), ThreadPoolExecutor(8) as pool:
        assert all(said(reply) for reply in pool.map(lambda _: ask(client, url), range(80)))
    assert len(came) == 80
    assert len(set(came)) <= 8


def test_many_greenlets_wait_for_a_slow_server_concurrently(client: HttpClient) -> None:
    with server(sends(PLAIN[:30], PLAIN[30:], wait_s=0.2)) as (url, came):
        ask_it = lambda _: client.post(url, {}, b"{}")  # noqa: E731
        began = time.monotonic()
        with closing(LocalEngine().map(ask_it, range(60), 60, greenlet_safe=True)) as replies:
            assert [said(reply) for reply in replies] == [{"said": "yes"}] * 60
        assert time.monotonic() - began < 12  # one after the other they would take 24
    assert len(set(came)) == 60


def test_no_accept_is_a_connect_error_in_time(client: HttpClient) -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        with ExitStack() as stack:
            # More than the queue of a server that accepts nobody holds.
            for _ in range(4):
                waiting = stack.enter_context(socket.socket())
                waiting.setblocking(False)
                waiting.connect_ex(full.getsockname())
            with pytest.raises(ConnectFailed):
                unheard = HttpClient("127.0.0.1", 5.0, 0.3, trust=None, trust_env=False)
                ask(unheard, f"http://127.0.0.1:{full.getsockname()[1]}/v1")


def test_a_proxy_of_the_environment_is_used_if_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    with server(sends(PLAIN)) as (proxy, came), server(sends(PLAIN)) as (url, reached):
        monkeypatch.setenv("http_proxy", proxy.removesuffix("/v1"))
        assert said(ask(client_for(trust_env=True), "http://models.invalid/v1")) == {"said": "yes"}
        assert said(ask(client_for(), url)) == {"said": "yes"}
    assert (came, reached) == ([0], [0])


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate")
def test_an_untrusted_certificate_is_refused_and_one_of_ssl_cert_file_is_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    name = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-days", "2"]
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    subprocess.run([*command, "-keyout", key, "-out", made, *name], check=True, capture_output=True)
    trust = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trust.load_cert_chain(made, key)
    with server(sends(PLAIN), trust) as (url, came):
        with pytest.raises(ConnectFailed):
            ask(client_for(trust=httpx2.create_ssl_context()), url)
        monkeypatch.setenv("SSL_CERT_FILE", str(made))
        friend = client_for(trust=httpx2.create_ssl_context())
        assert [said(ask(friend, url)) for _ in range(2)] == [{"said": "yes"}] * 2
    assert len(came) == 2
    assert len(set(came)) == 1
