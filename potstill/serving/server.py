"""A uvicorn server of the app: a socket, limits on connections, drain on SIGTERM, and a thread that loads the models.

The socket listens before the models are loaded, so that probes get "not ready" instead of a refused connection.
Covers one process. TLS is left to a proxy.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING, Any

from potstill.annotation.web.connections import ConnectionLimits, Connections
from potstill.errors import BadSpec, PotstillError, missing_extra
from potstill.serving.app import create_app
from potstill.serving.limits import ServingLimits
from potstill.serving.reload import Reloader, on_hangup
from potstill.serving.service import Service

if TYPE_CHECKING:
    import uvicorn
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

BACKLOG = 1024
KEEP_ALIVE_S = 75  # longer than the usual proxy's minute
FREE_FILES = 100  # descriptors left for what is no connection


@dataclass(frozen=True)
class Address:
    """Where a server listens; port 0 takes any free one."""

    host: str = "127.0.0.1"
    port: int = 0

    def url(self, port: int) -> str:
        """The address in a browser."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{port}/"


class ArrivalMarks:
    """ASGI middleware: marks when the whole of a request has arrived, and when its response was sent.

    The app may call `potstill.call_if_lost` of the scope with what is to be done if the caller leaves before that.

    Args:
        app: the app to call.
        connections: whose deadlines change.
    """

    def __init__(self, app: ASGIApp, connections: Connections) -> None:
        self._app = app
        self._connections = connections

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            return
        arrived, connections, client = False, self._connections, scope["client"]
        scope["potstill.call_if_lost"] = partial(connections.call_if_lost, client)

        async def read() -> Message:
            nonlocal arrived
            message = await receive()
            if not arrived and message["type"] == "http.request" and not message.get("more_body", False):
                arrived = True
                connections.mark(client, answering=True)
            return message

        try:
            await self._app(scope, read, send)
        finally:
            connections.mark(client, answering=False)


def serve_until_stopped(
    service: Service, address: Address, on_ready: Callable[[str], None], *, watch: bool = False
) -> None:
    """Serve until SIGTERM or Ctrl-C; requests in flight are answered first.

    Args:
        service: the models, loaded or not, and who may ask.
        address: where to listen.
        on_ready: called with the URL once every model is loaded and warm.
        watch: load a bundle anew when its record changes; SIGHUP loads all anew in any case.

    Raises:
        BadSpec: the address cannot be listened on.
        RunNotFound: a bundle cannot be loaded.
        MissingExtra: starlette or uvicorn is not installed.
    """
    server = make_server(service)
    with listening_socket(address) as listener:
        url = address.url(listener.getsockname()[1])
        failure: list[PotstillError] = []

        async def run() -> None:
            loading = asyncio.create_task(_load(service, lambda: on_ready(url), server, failure))
            watching = asyncio.create_task(_watch(service, server, loading, on_change=watch))
            await server.serve(sockets=[listener])
            watching.cancel()
            await loading

        with asyncio.Runner(loop_factory=server.config.get_loop_factory()) as runner:
            runner.run(run())
        service.pool.close()
        if service.log is not None:
            service.log.close()
        if failure:
            raise failure[0]


async def _load(
    service: Service, on_ready: Callable[[], None], server: uvicorn.Server, failure: list[PotstillError]
) -> None:
    try:
        await asyncio.to_thread(service.pool.load_all)
        on_ready()
    except PotstillError as error:
        failure.append(error)
        server.should_exit = True


async def _watch(service: Service, server: uvicorn.Server, loading: asyncio.Task[None], *, on_change: bool) -> None:
    """Once the models are loaded, load them anew on SIGHUP and, if asked for, when they change."""
    reloader = Reloader(service.pool, service.metrics)
    reloader.remember()
    await asyncio.wait([loading])
    running: set[asyncio.Task[None]] = set()

    def reload() -> None:
        if service.log is not None:
            service.log.reopen()
        task = asyncio.create_task(asyncio.to_thread(reloader.reload_all))
        running.add(task)
        task.add_done_callback(running.discard)

    on_hangup(reload, lambda: server.handle_exit(signal.SIGTERM, None))
    if on_change:
        await reloader.watch()
    await asyncio.Event().wait()


def make_server(service: Service) -> uvicorn.Server:
    """A server with limits on its connections, which answers requests in flight when it is stopped.

    Raises:
        MissingExtra: starlette or uvicorn is not installed.
    """
    try:
        import uvicorn
    except ModuleNotFoundError as error:
        raise missing_extra("uvicorn", "web", "Serving a bundle") from error
    limits = service.pool.limits
    connections = Connections(_connection_limits(limits))

    class DrainingServer(uvicorn.Server):
        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            service.pool.drain()
            super().handle_exit(sig, frame)

        @contextmanager
        def capture_signals(self) -> Iterator[None]:
            if threading.current_thread() is not threading.main_thread():
                yield
                return
            before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
            try:
                yield
            finally:  # uvicorn would raise the signal again: stopping is no failure here
                for number, handler in before.items():
                    signal.signal(number, handler)

    config = uvicorn.Config(
        ArrivalMarks(create_app(service), connections),
        http=_limited_protocol(connections),
        ws="none",
        backlog=BACKLOG,
        log_config=None,
        log_level="critical",  # it logs what clients send wrong as if it were an error of the app
        lifespan="off",
        access_log=False,
        proxy_headers=False,  # the address of a client is that of its connection, whatever its headers say
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=int(limits.drain_s),
    )
    return DrainingServer(config)


def _connection_limits(limits: ServingLimits) -> ConnectionLimits:
    return ConnectionLimits(
        min(limits.connections, _open_files() - FREE_FILES), limits.idle_s, limits.request_s, limits.response_s
    )


def _open_files() -> int:
    """How many files this process may have open."""
    try:
        import resource
    except ModuleNotFoundError:  # Windows
        return 2000
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return soft if soft > 2 * FREE_FILES else 2 * FREE_FILES


def _limited_protocol(connections: Connections) -> type[asyncio.Protocol]:
    """Uvicorn's protocol, httptools if that is installed, with deadlines."""
    base: Any
    try:
        from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol as base  # noqa: N813
    except ModuleNotFoundError:
        from uvicorn.protocols.http.h11_impl import H11Protocol as base  # noqa: N813

    class LimitedProtocol(base):  # type: ignore[misc]
        def connection_made(self, transport: asyncio.Transport) -> None:
            connections.add(transport)
            super().connection_made(transport)

        def connection_lost(self, exc: Exception | None) -> None:
            connections.discard(self.transport)
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            connections.receiving(self.client)
            try:
                super().data_received(data)
            except Exception:  # bytes that the parser of HTTP has no error for end their connection, and nothing else
                self.transport.abort()

    return LimitedProtocol


def listening_socket(address: Address) -> socket.socket:
    """A socket that listens.

    Raises:
        BadSpec: the port is in use or out of range, or the host is no address of this machine.
    """
    if not 0 <= address.port < 65_536:
        raise BadSpec(f"{address.port} is no port.", "Give --port N between 1 and 65535, or 0 for any free one.")
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, where = found[0]
        listener = socket.socket(family, kind, protocol)
    except (OSError, OverflowError, UnicodeError) as error:
        raise BadSpec(f"{address.host} cannot be served: {error}.", "Choose another with --host.") from None
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(where)
        listener.listen(BACKLOG)
    except (OSError, OverflowError) as error:
        listener.close()
        raise BadSpec(
            f"Port {address.port} of {address.host} cannot be served: {error}.", "Choose another with --port."
        ) from None
    return listener
