"""Limits on the connections to a server: how many are open, and how long a request may take to arrive.

Without them a program that opens connections and sends nothing, or a request byte by byte, takes every file descriptor
of the server, and it is dead for all others. Here a connection more than allowed ends the one that has waited longest,
so that a new request is always read; and every connection has a deadline.
"""

from __future__ import annotations

import asyncio
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_CONNECTIONS = 60  # a browser opens six; a process may be allowed as few as 256 open files
MAX_BODY_BYTES = 65_536
REQUEST_S = 10.0  # from the start of a connection, or the end of the last response, to the end of the next request
RESPONSE_S = 30.0  # from the end of a request to the last byte of its response
Address = tuple[str, int]  # the client's side of a connection


@dataclass(frozen=True)
class ConnectionLimits:
    """How many connections may be open, and the seconds for each part of a request.

    Attributes:
        connections: open at once.
        idle_s: from the start of a connection, or the end of the last response, to the first byte of a request.
        request_s: from there to the end of the request.
        response_s: from the end of a request to the last byte of its response.
    """

    connections: int
    idle_s: float
    request_s: float
    response_s: float


@dataclass
class Connection:
    """An open connection, its deadline, and whether a request is arriving, or has arrived and is being answered."""

    transport: asyncio.Transport
    deadline: asyncio.TimerHandle
    answering: bool = False
    arriving: bool = False


class Connections:
    """The open connections, the one that has waited longest first.

    Args:
        limits: their number and deadlines; None for those of the annotation page, where idling counts as arriving.
    """

    def __init__(self, limits: ConnectionLimits | None = None) -> None:
        self._limits = limits or ConnectionLimits(MAX_CONNECTIONS, REQUEST_S, REQUEST_S, RESPONSE_S)
        self._open: dict[Address, Connection] = {}

    def add(self, transport: asyncio.Transport) -> None:
        """A connection was made; if there are too many, one is ended."""
        if len(self._open) >= self._limits.connections:
            waiting = (address for address, each in self._open.items() if not each.answering)
            self._end(next(waiting, next(iter(self._open))))
        self._start(_address(transport), transport, self._limits.idle_s)

    def discard(self, transport: asyncio.Transport) -> None:
        """A connection was lost."""
        address = _address(transport)
        # Another client may have the address of a connection that was ended before its loss is reported.
        if (found := self._open.get(address)) is not None and found.transport is transport:
            found.deadline.cancel()
            del self._open[address]

    def mark(self, address: Address, *, answering: bool) -> None:
        """The request on a connection has arrived, or its response has been sent."""
        if (found := self._open.pop(address, None)) is not None:
            found.deadline.cancel()
            seconds = self._limits.response_s if answering else self._limits.idle_s
            self._start(address, found.transport, seconds, answering=answering)

    def receiving(self, address: Address) -> None:
        """Bytes came; the first ones of a request start its deadline."""
        found = self._open.get(address)
        if found is not None and not found.answering and not found.arriving:
            found.deadline.cancel()
            found.deadline = asyncio.get_running_loop().call_later(self._limits.request_s, self._end, address)
            found.arriving = True

    def end_all(self, *, answering: bool) -> None:
        """End the connections that wait for a request, and with `answering` the others as well."""
        for address in [address for address, each in self._open.items() if answering or not each.answering]:
            self._end(address)

    def _start(
        self, address: Address, transport: asyncio.Transport, seconds: float, *, answering: bool = False
    ) -> None:
        deadline = asyncio.get_running_loop().call_later(seconds, self._end, address)
        self._open[address] = Connection(transport, deadline, answering)

    def _end(self, address: Address) -> None:
        connection = self._open.pop(address)
        connection.deadline.cancel()
        connection.transport.abort()


def _address(transport: asyncio.Transport) -> Address:
    host, port = transport.get_extra_info("peername")[:2]
    return str(host), int(port)


class RequestLimits:
    """ASGI middleware: reads the whole body of a request, up to `MAX_BODY_BYTES`, before the app is called.

    Args:
        app: the app to call.
        connections: stores which connections are being answered.
    """

    def __init__(self, app: ASGIApp, connections: Connections) -> None:
        self._app = app
        self._connections = connections

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > MAX_BODY_BYTES:
                headers = [(b"content-type", b"text/plain"), (b"connection", b"close")]
                await send({"type": "http.response.start", "status": 413, "headers": headers})
                await send({"type": "http.response.body", "body": b"The request is too large."})
                return
        parts: list[Message] = [{"type": "http.request", "body": body}]

        async def read() -> Message:
            return parts.pop() if parts else await receive()

        self._connections.mark(scope["client"], answering=True)
        try:
            await self._app(scope, read, send)
        except Exception:  # a bug: starlette has sent a response already, and uvicorn's log is off
            traceback.print_exc()
        finally:
            self._connections.mark(scope["client"], answering=False)
