"""Sends requests to a chat model's server and reads complete replies: aiohttp, with one deadline for each request.

The official SDKs send through httpx, which spends more processor time on hundreds of calls in flight than everything
else together (`docs/decisions/2026-11-30-transport.md`). All clients share a session, and so its connections.
Independent of the provider; does not stream. aiohttp is an optional dependency: this module is imported on first use.
"""

from __future__ import annotations

import asyncio
import atexit
import ssl
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache

import aiohttp

from potstill.engines.greenlets import event_loop, wait_for
from potstill.teachers.endpoint import MAX_REPLY_BYTES, same_origin
from potstill.teachers.rate_limit import ConnectFailed, RequestError, ResponseLost

# An idle connection is not used after this time: a router in between may have dropped it.
MAX_IDLE_S = 5.0
DNS_CACHE_S = 30
REDIRECTS, MAX_REDIRECTS = (307, 308), 5  # others would make a POST a GET, and are the status of the reply
# Headers of a prepared request that belong to its body or to its connection.
HOP_HEADERS = frozenset({"accept-encoding", "connection", "content-length", "host", "transfer-encoding"})


@dataclass(frozen=True)
class HttpReply:
    """A whole reply; `content` is decoded."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    @property
    def ok(self) -> bool:
        """Whether the status is a success."""
        return 200 <= self.status < 300


class HttpClient:
    """Posts to one server, and gets what it shows; safe to call from many threads and greenlets.

    Args:
        host: the server, for error messages.
        timeout_s: the deadline of a request, from connecting to the last byte of the reply.
        connect_s: the deadline of connecting.
        trust: certificate authorities; None for http.
        trust_env: the environment may name proxies.
    """

    def __init__(
        self, host: str, timeout_s: float, connect_s: float, *, trust: ssl.SSLContext | None, trust_env: bool
    ) -> None:
        self._host = host
        self._timeout = aiohttp.ClientTimeout(total=timeout_s, sock_connect=connect_s)
        self._trust = True if trust is None else trust
        self._trust_env = trust_env

    def post(self, url: str, headers: Mapping[str, str], content: bytes) -> HttpReply:
        """The reply, whatever its status. Sent once.

        Raises:
            ConnectFailed: nothing was sent.
            ResponseLost: the request may have arrived, and no whole reply came back in time.
        """
        return wait_for(self._send("POST", url, headers, content))

    def get(self, url: str, headers: Mapping[str, str]) -> HttpReply:
        """As `post`, for what a server shows."""
        return wait_for(self._send("GET", url, headers, None))

    async def _send(self, method: str, url: str, headers: Mapping[str, str], content: bytes | None) -> HttpReply:
        session = _session(self._trust_env)
        failed: RequestError
        try:
            for _ in range(MAX_REDIRECTS):
                async with session.request(
                    method,
                    url,
                    headers=headers,
                    data=content,
                    timeout=self._timeout,
                    ssl=self._trust,
                    allow_redirects=False,
                ) as response:
                    target = response.headers.get("Location") if 300 <= response.status < 400 else None
                    address = url if target is None else same_origin(url, target)
                    if target is None or response.status not in REDIRECTS:
                        return HttpReply(response.status, response.headers, await _read(response))
                    url = address
            failed = ResponseLost("the server redirects without end")
        except _TooLarge:
            failed = ResponseLost(f"a reply of more than {MAX_REPLY_BYTES >> 20} MB")
        except (
            aiohttp.ClientConnectorError,
            aiohttp.ConnectionTimeoutError,
            aiohttp.ClientHttpProxyError,
            aiohttp.InvalidURL,
        ):
            failed = ConnectFailed(f"The server at {self._host} cannot be reached.")
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            failed = ResponseLost(f"the connection broke or timed out ({type(error).__name__})")
        # Outside the handler: the library's error holds the request, and so the key.
        raise failed


class _TooLarge(Exception):
    """A reply has more than `MAX_REPLY_BYTES`."""


async def _read(response: aiohttp.ClientResponse) -> bytes:
    """The decoded body. Raises _TooLarge before it takes more memory than that."""
    parts: list[bytes] = []
    size = 0
    async for part in response.content.iter_chunked(2**16):
        size += len(part)
        if size > MAX_REPLY_BYTES:
            response.close()
            raise _TooLarge
        parts.append(part)
    return b"".join(parts)


@cache
def _session(trust_env: bool) -> aiohttp.ClientSession:
    """The session of the shared event loop, begun when first needed."""
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=MAX_IDLE_S, ttl_dns_cache=DNS_CACHE_S)
    session = aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar(), trust_env=trust_env)
    atexit.register(_close, session)
    return session


def _close(session: aiohttp.ClientSession) -> None:
    """Close the connections before the interpreter ends; a call in flight does not delay that."""
    if event_loop().is_running():
        with suppress(Exception):
            asyncio.run_coroutine_threadsafe(session.close(), event_loop()).result(1.0)
