"""Serves an app on a port of this machine until Ctrl-C. Loopback only: nothing here is fit for a network."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

from potstill.annotation.web.connections import Connections, RequestLimits
from potstill.annotation.web.guard import CsrfGuard
from potstill.errors import BadSpec, missing_extra

if TYPE_CHECKING:
    import uvicorn
    from starlette.types import ASGIApp

HOST = "127.0.0.1"
ALLOWED_HOSTS = (HOST, "localhost")
ACCEPTED_AT_ONCE = 16  # connections, each of which is an open file before it is counted
BACKLOG = 1024  # connections that wait to be accepted; the next one would wait for a second
LAST_RESPONSES_S = 1.0  # how long Ctrl-C waits for the responses that are being sent


def serve(app: ASGIApp, port: int, on_ready: Callable[[str], None]) -> None:
    """Serve `app` behind the host check, the CSRF guard and the limits until the process is interrupted.

    Args:
        app: an ASGI app.
        port: 0 takes any free port.
        on_ready: called with the address once the port is open.

    Raises:
        BadSpec: the port is in use or out of range.
        MissingExtra: starlette or uvicorn is not installed.
    """
    server = make_server(app)
    with _listening_socket(port) as listener:
        try:
            on_ready(f"http://{HOST}:{listener.getsockname()[1]}/")
            server.run(sockets=[listener])
        except KeyboardInterrupt:
            return  # Ctrl-C is the intended way to stop it


def make_server(app: ASGIApp) -> uvicorn.Server:
    """A server with limits on its connections, which ends the waiting ones when it is stopped."""
    try:
        import uvicorn
        from starlette.middleware.trustedhost import TrustedHostMiddleware
        from uvicorn.protocols.http.h11_impl import H11Protocol
    except ModuleNotFoundError as error:
        raise missing_extra(error.name or "starlette", "web", "A page in the browser") from error
    connections = Connections()
    trusted = TrustedHostMiddleware(app, ALLOWED_HOSTS, www_redirect=False)
    guarded = CsrfGuard(RequestLimits(trusted, connections))

    class LimitedProtocol(H11Protocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            connections.add(transport)
            super().connection_made(transport)

        def connection_lost(self, exc: Exception | None) -> None:
            connections.discard(self.transport)
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            try:
                super().data_received(data)
            except Exception:  # bytes that the parser of HTTP has no error for end their connection, and nothing else
                self.transport.abort()

    class StoppableServer(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            for each in sockets or ():
                each.listen(BACKLOG)

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            connections.end_all(answering=False)
            asyncio.get_running_loop().call_later(LAST_RESPONSES_S, lambda: connections.end_all(answering=True))
            await super().shutdown(sockets)

    config = uvicorn.Config(
        guarded,
        http=LimitedProtocol,
        ws="none",
        backlog=ACCEPTED_AT_ONCE,
        log_level="critical",  # it logs what clients send wrong as if it were an error of the app
        lifespan="off",
        access_log=False,
        proxy_headers=False,  # the address of a client is that of its connection, whatever its headers say
    )
    return StoppableServer(config)


def _listening_socket(port: int) -> socket.socket:
    try:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((HOST, port))
        listener.listen(BACKLOG)
    except (OSError, OverflowError) as error:
        listener.close()
        raise BadSpec(f"Port {port} cannot be served: {error}.", "Choose another with --port.") from None
    return listener
