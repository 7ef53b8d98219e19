"""The way of a request: what a server may send and how, connections that are kept, deadlines, certificates, proxies."""

from __future__ import annotations

import gzip
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

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from potstill.engines.greenlets import sleep
from potstill.engines.local import LocalEngine
from potstill.engines.workers import GreenletPool
from potstill.teachers.transport import PollTransport, ResponseParser, make_client, make_transport

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


WHERE = {"fibre": False}


def ask(client: httpx2.Client, url: str, timeout_s: float = 5.0) -> httpx2.Response:
    """Asks in this thread, or in a fibre of another while a second fibre rests."""

    def call(_: object) -> httpx2.Response:
        return client.post(url, content=b"{}", timeout=timeout_s)

    if not WHERE["fibre"]:
        return call(None)
    crew: GreenletPool[Callable[[object], object], object] = GreenletPool(lambda do: do(None), 2)
    try:
        crew.submit(lambda _: sleep(0.01))
        return crew.submit(call).result()  # type: ignore[return-value]
    finally:
        crew.shutdown()


@pytest.fixture(autouse=True, params=[False, True], ids=["thread", "fibre"])
def where(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks may be a thread or a fibre; what comes back is the same."""
    monkeypatch.setitem(WHERE, "fibre", request.param)


@pytest.fixture
def client() -> Iterator[httpx2.Client]:
    """Our way, and not the SDK's usual one."""
    with httpx2.Client(transport=PollTransport(None), trust_env=False) as made:
        yield made


@pytest.mark.parametrize("reply", [PLAIN, CHUNKED, GZIP, EARLY], ids=["length", "chunked", "gzip", "early hints"])
def test_a_reply_is_read_whole_and_its_connection_is_used_again(client: httpx2.Client, reply: bytes) -> None:
    with server(sends(reply)) as (url, came):
        assert [ask(client, url).json() for _ in range(3)] == [{"said": "yes"}] * 3
    assert came == [0, 0, 0]


@pytest.mark.parametrize(
    "reply",
    [UNTIL_CLOSED, PLAIN.replace(b"OK\r\n", b"OK\r\nConnection: close\r\n"), PLAIN.replace(b"1.1", b"1.0")],
    ids=["until closed", "says close", "HTTP/1.0"],
)
def test_a_connection_that_is_closed_after_its_reply_is_not_used_again(client: httpx2.Client, reply: bytes) -> None:
    with server(sends(reply, stays=False)) as (url, came):
        assert [ask(client, url).json() for _ in range(2)] == [{"said": "yes"}] * 2
    assert came == [0, 1]


def test_a_connection_that_was_closed_while_idle_is_noticed_before_anything_is_sent(client: httpx2.Client) -> None:
    with server(sends(PLAIN, stays=False)) as (url, came):
        for _ in range(3):
            assert ask(client, url).json() == {"said": "yes"}
            time.sleep(0.05)
    assert came == [0, 1, 2]


@pytest.mark.parametrize("more", [PLAIN, PLAIN[:30], b"\0"], ids=["another", "half of another", "something else"])
def test_a_connection_on_which_more_came_than_was_asked_for_is_not_used_again(
    client: httpx2.Client, more: bytes
) -> None:
    with server(sends(PLAIN + more)) as (url, came):
        assert [ask(client, url).json() for _ in range(2)] == [{"said": "yes"}] * 2
    assert came == [0, 1]


@pytest.mark.parametrize("where", [False], indirect=True)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.sets(st.integers(1, 120)), reply=st.sampled_from([PLAIN, CHUNKED, EARLY, UNTIL_CLOSED]))
def test_it_does_not_matter_where_a_reply_is_cut_into_pieces(cuts: set[int], reply: bytes) -> None:
    came, marks = ResponseParser(), [0, *sorted(cut for cut in cuts if cut < len(reply)), len(reply)]
    for start, end in pairwise(marks):
        assert not came.over
        came.feed(reply[start:end])
    assert came.over or came.feed_eof()
    assert (came.status, b"".join(came.body)) == (200, JSON)


@pytest.mark.parametrize(
    "reply",
    [b"", PLAIN[:20], PLAIN[:-1], CHUNKED[:-30], b"SSH-2.0-OpenSSH\r\n", PLAIN.replace(b"15", b"-5")],
    ids=["nothing", "half a head", "half a body", "half a chunk", "another protocol", "impossible length"],
)
def test_what_is_cut_or_no_http_is_an_error_and_its_connection_is_gone(client: httpx2.Client, reply: bytes) -> None:
    def answer(peer: socket.socket, number: int) -> bool:
        peer.sendall(reply if number == 1 else PLAIN)
        return number > 1

    with server(answer) as (url, came):
        with pytest.raises(httpx2.RemoteProtocolError):
            ask(client, url)
        assert ask(client, url).json() == {"said": "yes"}
    assert came == [0, 1]


@pytest.mark.parametrize("way", ["direct", "usual"])
@pytest.mark.parametrize("at_once", [0, 40, len(PLAIN) - 1], ids=["slow head", "slow body", "no end"])
def test_a_reply_that_never_ends_is_given_up_in_time(monkeypatch: pytest.MonkeyPatch, way: str, at_once: int) -> None:
    if way == "usual" and not at_once:
        pytest.skip("the usual way waits anew for every byte of the head")
    drops = [PLAIN[i : i + 1] for i in range(at_once, len(PLAIN) - 1)]
    pieces = [PLAIN[:at_once], *drops, *[b""] * (60 - len(drops))]
    if way == "usual":
        monkeypatch.setattr("potstill.teachers.transport.httptools", None)
    with server(sends(*pieces, wait_s=0.15)) as (url, _), make_client(url, trust_env=False) as made:
        assert (make_transport(url, False) is None) == (way == "usual")
        began = time.monotonic()
        with pytest.raises(httpx2.ReadTimeout):
            ask(made, url, timeout_s=0.5)
        # The whole of it would take nine seconds, and every byte comes well within the timeout.
        assert time.monotonic() - began < 6


def test_a_reply_of_the_usual_way_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("potstill.teachers.transport.httptools", None)
    with server(sends(GZIP)) as (url, _), make_client(url, trust_env=False) as made:
        assert ask(made, url).json() == {"said": "yes"}


def test_nobody_there_is_an_error_of_connecting(client: httpx2.Client) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(httpx2.ConnectError):
        ask(client, f"http://127.0.0.1:{port}/v1")


def test_many_threads_share_the_connections(client: httpx2.Client) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with server(sends(PLAIN, wait_s=0.01)) as (url, came), ThreadPoolExecutor(8) as pool:
        assert all(reply.json() for reply in pool.map(lambda _: ask(client, url), range(80)))
    assert len(came) == 80
    assert len(set(came)) <= 8


def test_many_fibres_wait_for_a_slow_server_side_by_side(client: httpx2.Client) -> None:
    with server(sends(PLAIN[:30], PLAIN[30:], wait_s=0.2)) as (url, came):
        ask_it = lambda _: client.post(url, content=b"{}", timeout=20)  # noqa: E731
        began = time.monotonic()
        with closing(LocalEngine().map(ask_it, range(60), 60, greenlet_safe=True)) as replies:
            assert [reply.json() for reply in replies] == [{"said": "yes"}] * 60
        assert time.monotonic() - began < 12  # one after the other they would take 24
    assert len(set(came)) == 60


def test_nobody_who_accepts_is_an_error_of_connecting_in_time(client: httpx2.Client) -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        with ExitStack() as stack:
            # More than the queue of a server that accepts nobody holds.
            for _ in range(4):
                waiting = stack.enter_context(socket.socket())
                waiting.setblocking(False)
                waiting.connect_ex(full.getsockname())
            with pytest.raises(httpx2.ConnectTimeout):
                ask(client, f"http://127.0.0.1:{full.getsockname()[1]}/v1", timeout_s=0.3)


def test_with_a_proxy_in_the_environment_the_usual_way_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    def proxied(peer: socket.socket, number: int) -> bool:
        peer.sendall(PLAIN)
        return True

    with server(proxied) as (proxy, came):
        monkeypatch.setenv("http_proxy", proxy.removesuffix("/v1"))
        with make_client("http://models.invalid/v1", trust_env=True) as made:
            assert ask(made, "http://models.invalid/v1").json() == {"said": "yes"}
    assert came == [0]


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate")
def test_a_certificate_nobody_vouches_for_is_refused_and_one_the_environment_names_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    name = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-days", "2"]
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    subprocess.run([*command, "-keyout", key, "-out", made, *name], check=True, capture_output=True)
    trust = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trust.load_cert_chain(made, key)
    with server(sends(PLAIN), trust) as (url, came):
        with make_client(url, trust_env=True) as stranger, pytest.raises(httpx2.ConnectError):
            ask(stranger, url)
        monkeypatch.setenv("SSL_CERT_FILE", str(made))
        with make_client(url, trust_env=True) as friend:
            assert [ask(friend, url).json() for _ in range(2)] == [{"said": "yes"}] * 2
    assert len(came) == 2
    assert len(set(came)) == 1
