"""The way of a request to a server and back: the HTTP client that an official SDK is given for asking.

An SDK takes any `httpx2.Client` as its `http_client`. Its usual one, asked by some hundred threads, spends more time on
choosing a connection than on anything else, and its timeout starts anew with every byte. Here every exchange has one
connection and one deadline, and replies are read by the parser of Node.js (`httptools`). Proxies, and platforms or
installations that lack something, get the SDK's usual way with the deadline added. Knows no provider, and does not
stream: replies are read whole, so it is for chats and not for files. Imported late: it needs what the SDKs need.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar
from urllib.request import getproxies

import httpx2

from potstill.engines.greenlets import wait_ready

try:
    import httptools
except ModuleNotFoundError:
    httptools = None  # type: ignore[assignment]

T = TypeVar("T")

# A connection that was quiet for longer is not used again: whatever lies between may have forgotten it.
MAX_IDLE_S = 5.0
RECV_BYTES = 65_536
NO_TIMEOUT_S = 86_400.0
DNS_CACHE_S = 30.0
_OF_THE_WIRE = (b"content-encoding", b"content-length", b"transfer-encoding")


def make_client(url: str, *, trust_env: bool) -> DeadlineClient:
    """A client for requests to `url`, quick where it may be; `trust_env` lets the environment name proxies."""
    limits = httpx2.Limits(max_connections=1024, max_keepalive_connections=1024)
    proxied = trust_env and bool({"http", "https", "all"} & set(getproxies()))
    quick = None if proxied else make_transport(url, trust_env)
    return DeadlineClient(transport=quick, trust_env=trust_env, follow_redirects=True, limits=limits)


def make_transport(url: str, trust_env: bool) -> httpx2.BaseTransport | None:
    """A `Direct` for `url`; None where its parser or `poll` is missing."""
    if httptools is None or not hasattr(select, "poll"):
        return None
    # The authorities an environment names (SSL_CERT_FILE) count as they do for the SDK's usual client.
    trust = httpx2.create_ssl_context(trust_env=trust_env) if url.startswith("https:") else None
    return PollTransport(trust)


class DeadlineClient(httpx2.Client):
    """A client whose `read` timeout is for the whole body, also where that comes byte by byte."""

    def __init__(self, **how: Any) -> None:
        super().__init__(**how)
        self._had = threading.local()

    @property
    def greenlet_safe(self) -> bool:
        """Whether it waits by `potstill.engines.greenlets` alone."""
        return isinstance(self._transport, PollTransport)

    @contextmanager
    def replaying(self, reply: httpx2.Response) -> Iterator[None]:
        """Whatever this thread sends inside the block is not sent; this is the reply to it."""
        self._had.reply = reply
        try:
            yield
        finally:
            del self._had.reply

    def send(self, request: httpx2.Request, *, stream: bool = False, **how: Any) -> httpx2.Response:
        """The response, whole unless it is streamed. Raises httpx2.ReadTimeout where it is not there in time.

        The head is left to the transport: `Direct` counts it in, the usual one waits anew for every byte of it.
        """
        had: httpx2.Response | None = getattr(self._had, "reply", None)
        if had is not None:
            return had
        response = super().send(request, stream=True, **how)
        if stream or response.is_closed:
            return response
        if self.greenlet_safe:  # it came whole, and in time
            response.read()
            return response
        limit = request.extensions["timeout"]["read"]
        ends = None if limit is None else time.monotonic() + limit
        body = bytearray()
        try:
            for piece in response.iter_bytes():
                body += piece
                if ends is not None and time.monotonic() > ends:
                    raise httpx2.ReadTimeout("the reply did not end in time", request=request)
        finally:
            response.close()
        # The pieces are decoded already.
        headers = [(name, value) for name, value in response.headers.raw if name.lower() not in _OF_THE_WIRE]
        return httpx2.Response(response.status_code, headers=headers, content=bytes(body), request=request)


def copy_request(made: httpx2.Request, content: bytes) -> httpx2.Request:
    """A request like one that was made before, with another body."""
    headers = [header for header in made.headers.raw if header[0].lower() != b"content-length"]
    headers.append((b"Content-Length", str(len(content)).encode()))
    # A stream is taken as it is; content would have all headers looked through once more.
    again = httpx2.Request(
        made.method, made.url, headers=headers, stream=httpx2.ByteStream(content), extensions=made.extensions
    )
    again.read()
    return again


class Connection:
    """One open connection, asked for one thing after the other; `ends` is by `time.monotonic`.

    Its socket never blocks: waiting is left to `engines.greenlets`, so that it serves threads and fibres alike.
    """

    def __init__(self, opened: socket.socket) -> None:
        self.socket = opened
        self.quiet_since = 0.0
        self._poll = select.poll()
        self._poll.register(opened, select.POLLIN)

    def is_reusable(self) -> bool:
        """Whether it may be used again: an idle connection on which there is something to read was closed."""
        return time.monotonic() - self.quiet_since < MAX_IDLE_S and not self._poll.poll(0)

    def send(self, content: bytes, deadline: float) -> None:
        """Send all of it. Raises TimeoutError where that takes too long."""
        left = memoryview(content)
        while left:
            left = left[_when_ready(self.socket, partial(self.socket.send, left), deadline, for_writing=True) :]

    def receive(self, deadline: float) -> bytes:
        """What comes next; nothing where the other side closed. Raises TimeoutError where nothing comes in time."""
        return _when_ready(self.socket, partial(self.socket.recv, RECV_BYTES), deadline)

    def close(self) -> None:
        """Hang up."""
        self.socket.close()


def _when_ready(opened: socket.socket, step: Callable[[], T], deadline: float, *, for_writing: bool = False) -> T:
    """What a step on a socket that does not block returns, once it can be done."""
    while True:
        try:
            if time.monotonic() > deadline:
                raise TimeoutError
            return step()
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError) as error:
            # TLS may have to read before it can write, and the other way round.
            writes = isinstance(error, ssl.SSLWantWriteError) or (for_writing and isinstance(error, BlockingIOError))
            wait_ready(opened, for_writing=writes, deadline=deadline)


class ResponseParser:
    """A reply while it comes in, filled by the parser."""

    def __init__(self) -> None:
        self.headers: list[tuple[bytes, bytes]] = []
        self.body: list[bytes] = []
        self.status = 0
        self.over = self.reusable = self._until_closed = False
        self._parser = httptools.HttpResponseParser(self)

    def feed(self, piece: bytes) -> None:
        """Bytes as they come. Raises httptools.HttpParserError where they are no reply."""
        try:
            self._parser.feed_data(piece)
        except httptools.HttpParserError:
            # Whatever follows a whole reply does not take it away.
            if not self.over:
                raise
            self.reusable = False

    def on_message_begin(self) -> None:
        """A message begins; after the reply there should be none, and who knows what it belongs to."""
        self.reusable = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header."""
        if not self.over:
            self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """All headers are there."""
        if self.over:
            return
        self.status = self._parser.get_status_code()
        names = {name.lower() for name, _ in self.headers}
        self._until_closed = not names & {b"content-length", b"transfer-encoding"}

    def on_body(self, piece: bytes) -> None:
        """A piece of the body, without its framing."""
        if not self.over:
            self.body.append(piece)

    def on_message_complete(self) -> None:
        """One message is whole; one that only says that more is to come (1xx) does not count."""
        if self.status < 200:
            self.headers.clear()
        elif not self.over:
            self.over, self.reusable = True, self._parser.should_keep_alive()

    def feed_eof(self) -> bool:
        """Nothing more comes: whether that is how this reply ends."""
        return self.status >= 200 and self._until_closed


class PollTransport(httpx2.BaseTransport):
    """Requests and whole replies over connections that are kept; safe to call from many threads.

    The `connect` timeout of a request is for connecting (each address of the host), `read` for all of the rest. What is
    raised are the errors httpx2 has for it: ConnectError and ConnectTimeout where surely nothing was sent.

    Args:
        trust: for https; None is for http.
    """

    def __init__(self, trust: ssl.SSLContext | None) -> None:
        self._trust = trust
        if trust is not None:
            trust.set_alpn_protocols(["http/1.1"])
        # Where it goes -> idle connections, the last used on top. Lists, because pop and append need no lock.
        self._idle: dict[tuple[str, str, int | None], list[Connection]] = {}
        # Host and port -> when they were looked up, and where it is.
        self._addresses: dict[tuple[str, int], tuple[float, list[Any]]] = {}

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """The whole reply."""
        url, timeout = request.url, request.extensions["timeout"]
        idle = self._idle.setdefault((url.scheme, url.host, url.port), [])
        connection = _fresh(idle) or self._connect(request, timeout["connect"])
        try:
            ends = time.monotonic() + (NO_TIMEOUT_S if timeout["read"] is None else timeout["read"])
            came = self._exchange(connection, request, ends)
        except TimeoutError as error:
            connection.close()
            raise httpx2.ReadTimeout("no whole reply in time", request=request) from error
        except (OSError, httptools.HttpParserError) as error:
            connection.close()
            raise httpx2.RemoteProtocolError(str(error), request=request) from error
        except BaseException:
            connection.close()
            raise
        if came.reusable:
            connection.quiet_since = time.monotonic()
            idle.append(connection)
        else:
            connection.close()
        return httpx2.Response(came.status, headers=came.headers, content=b"".join(came.body))

    def _connect(self, request: httpx2.Request, within_s: float | None) -> Connection:
        url = request.url
        secure = url.scheme == "https"
        # A redirect may lead from http to https.
        trust = (self._trust or httpx2.create_ssl_context()) if secure else None
        within_s = NO_TIMEOUT_S if within_s is None else within_s
        try:
            addresses = self._looked_up(url.host, url.port or (443 if secure else 80))
            return Connection(_opened(url.host, addresses, trust, within_s))
        except TimeoutError as error:
            raise httpx2.ConnectTimeout(str(error), request=request) from error
        except OSError as error:
            raise httpx2.ConnectError(str(error), request=request) from error

    def _looked_up(self, host: str, port: int) -> list[Any]:
        """The addresses of a host. Looking them up blocks, so some hundred connections at once do it once."""
        known = self._addresses.get((host, port))
        if known is None or time.monotonic() - known[0] > DNS_CACHE_S:
            known = (time.monotonic(), socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
            self._addresses[host, port] = known
        return known[1]

    def _exchange(self, connection: Connection, request: httpx2.Request, deadline: float) -> ResponseParser:
        connection.send(_as_bytes(request), deadline)
        came = ResponseParser()
        while not came.over:
            piece = connection.receive(deadline)
            if piece:
                came.feed(piece)
            elif came.feed_eof():
                break
            else:
                raise ConnectionResetError("the connection was cut")
        return came

    def close(self) -> None:
        """Hang up everywhere."""
        for idle in self._idle.values():
            while idle:
                idle.pop().close()


def _opened(host: str, addresses: list[Any], trust: ssl.SSLContext | None, within_s: float) -> socket.socket:
    """A connected socket that does not block, by the first address of the host that answers within that time."""
    refused: OSError = OSError(f"{host} has no address")
    for family, kind, protocol, _, address in addresses:
        opened, ends = socket.socket(family, kind, protocol), time.monotonic() + within_s
        try:
            opened.setblocking(False)
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            failed = opened.connect_ex(address)
            if failed in (errno.EINPROGRESS, errno.EWOULDBLOCK):
                wait_ready(opened, for_writing=True, deadline=ends)
                failed = opened.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if failed:
                raise OSError(failed, os.strerror(failed))
            if trust is not None:
                secured = opened = trust.wrap_socket(opened, server_hostname=host, do_handshake_on_connect=False)
                _when_ready(secured, secured.do_handshake, ends)
            return opened
        except OSError as error:
            opened.close()
            if isinstance(error, ssl.SSLError):
                raise
            refused = error
        except BaseException:
            opened.close()
            raise
    raise refused


def _fresh(idle: list[Connection]) -> Connection | None:
    """A connection that may be used again; those that may not are closed on the way."""
    while idle:
        try:
            connection = idle.pop()
        except IndexError:  # another thread was quicker
            return None
        if connection.is_reusable():
            return connection
        connection.close()
    return None


def _as_bytes(request: httpx2.Request) -> bytes:
    lines = [f"{request.method} ".encode() + request.url.raw_path + b" HTTP/1.1"]
    lines += [name + b": " + value for name, value in request.headers.raw]
    return b"\r\n".join([*lines, b"", request.read()])
