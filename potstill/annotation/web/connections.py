"""Limits on the connections to a server: how many are open, and how long a request may take to arrive.

Without them a program that opens connections and sends nothing, or a request byte by byte, takes every file descriptor
of the server, and it is dead for all others. Here a connection more than allowed ends the one that has waited longest,
so that a new request is always read; and every connection has a deadline.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_CONNECTIONS = 60  # a browser opens six; a process may be allowed as few as 256 open files
MAX_BODY_BYTES = 65_536
REQUEST_S = 10.0  # from the start of a connection, or the end of the last response, to the end of the next request
RESPONSE_S = 30.0  # from the end of a request to the last byte of its response
CLOCK_S = 0.005  # a timer may ring so much too early
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


@dataclass(eq=False)
class Connection:
    """An open connection: its deadline, and whether a request is arriving, or has arrived and is being answered.

    Attributes:
        transport: of it.
        due: when it is ended, by the loop's clock.
        timer: rings then or earlier; None before the first deadline.
        answering: a request has arrived.
        arriving: a part of a request has arrived.
        on_lost: called if the connection ends before the response to its request does.
    """

    transport: asyncio.Transport
    due: float = 0.0
    timer: asyncio.TimerHandle | None = None
    answering: bool = False
    arriving: bool = False
    on_lost: Callable[[], object] | None = None


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
        address = _address(transport)
        self._open[address] = Connection(transport)
        self._set_deadline(address, self._limits.idle_s)

    def discard(self, transport: asyncio.Transport) -> None:
        """A connection was lost."""
        address = _address(transport)
        # Another client may have the address of a connection that was ended before its loss is reported.
        if (found := self._open.get(address)) is not None and found.transport is transport:
            self._forget(address)

    def mark(self, address: Address, *, answering: bool) -> None:
        """The request on a connection has arrived, or its response has been sent."""
        if (found := self._open.pop(address, None)) is not None:
            self._open[address] = found
            found.answering, found.arriving, found.on_lost = answering, False, None
            self._set_deadline(address, self._limits.response_s if answering else self._limits.idle_s)

    def receiving(self, address: Address) -> None:
        """Bytes came; the first ones of a request start its deadline."""
        found = self._open.get(address)
        if found is not None and not found.answering and not found.arriving:
            found.arriving = True
            self._set_deadline(address, self._limits.request_s)

    def call_if_lost(self, address: Address, callback: Callable[[], object]) -> None:
        """Call `callback` if the connection ends before the response to its request does; at once if it has ended."""
        if (found := self._open.get(address)) is None:
            callback()
        else:
            found.on_lost = callback

    def end_all(self, *, answering: bool) -> None:
        """End the connections that wait for a request, and with `answering` the others as well."""
        for address in [address for address, each in self._open.items() if answering or not each.answering]:
            self._end(address)

    def _set_deadline(self, address: Address, seconds: float) -> None:
        """A timer that rings too early is left as it is: several deadlines a request would cost more than its bytes."""
        found = self._open[address]
        loop = asyncio.get_running_loop()
        found.due = loop.time() + seconds
        if found.timer is None or found.due < found.timer.when():
            self._set_timer(address, found)

    def _set_timer(self, address: Address, connection: Connection) -> None:
        if connection.timer is not None:
            connection.timer.cancel()
        connection.timer = asyncio.get_running_loop().call_at(connection.due, self._ring, address)

    def _ring(self, address: Address) -> None:
        found = self._open[address]
        if found.due - asyncio.get_running_loop().time() > CLOCK_S:
            self._set_timer(address, found)
        else:
            self._end(address)

    def _end(self, address: Address) -> None:
        self._forget(address).transport.abort()

    def _forget(self, address: Address) -> Connection:
        connection = self._open.pop(address)
        if connection.timer is not None:
            connection.timer.cancel()
        if connection.on_lost is not None:
            connection.on_lost()
        return connection


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
