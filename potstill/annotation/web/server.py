"""Serves an app on a port of this machine until Ctrl-C. Loopback only: nothing here is fit for a network."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

from potstill.annotation.web.guard import CsrfGuard
from potstill.errors import BadSpec, missing_extra

if TYPE_CHECKING:
    from starlette.types import ASGIApp

HOST = "127.0.0.1"
ALLOWED_HOSTS = (HOST, "localhost")


def serve(app: ASGIApp, port: int, on_ready: Callable[[str], None]) -> None:
    """Serve `app` behind the host check and the CSRF guard until the process is interrupted.

    Args:
        app: an ASGI app.
        port: 0 takes any free port.
        on_ready: called with the address once the port is open.

    Raises:
        BadSpec: the port is in use or out of range.
        MissingExtra: starlette or uvicorn is not installed.
    """
    try:
        import uvicorn
        from starlette.middleware.trustedhost import TrustedHostMiddleware
    except ModuleNotFoundError as error:
        raise missing_extra(error.name or "starlette", "web", "A page in the browser") from error
    with _listening_socket(port) as listener:
        guarded = CsrfGuard(TrustedHostMiddleware(app, ALLOWED_HOSTS, www_redirect=False))
        config = uvicorn.Config(guarded, log_level="warning", lifespan="off", access_log=False)
        server = uvicorn.Server(config)
        try:
            on_ready(f"http://{HOST}:{listener.getsockname()[1]}/")
            server.run(sockets=[listener])
        except KeyboardInterrupt:
            return  # Ctrl-C is the intended way to stop it


def _listening_socket(port: int) -> socket.socket:
    try:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((HOST, port))
        listener.listen(64)
    except (OSError, OverflowError) as error:
        listener.close()
        raise BadSpec(f"Port {port} cannot be served: {error}.", "Choose another with --port.") from None
    return listener
