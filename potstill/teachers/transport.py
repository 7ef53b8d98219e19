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
from potstill.teachers.rate_limit import ConnectFailed, RequestError, ResponseLost

# An idle connection is not used after this time: a router in between may have dropped it.
MAX_IDLE_S = 5.0
DNS_CACHE_S = 30
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
    """Posts to one server; safe to call from many threads and greenlets.

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
        return wait_for(self._post(url, headers, content))

    async def _post(self, url: str, headers: Mapping[str, str], content: bytes) -> HttpReply:
        session = _session(self._trust_env)
        failed: RequestError
        try:
            async with session.post(
                url, headers=headers, data=content, timeout=self._timeout, ssl=self._trust
            ) as response:
                return HttpReply(response.status, response.headers, await response.read())
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
