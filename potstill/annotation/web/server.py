"""An app on a port of this machine, until Ctrl-C. Loopback only: nothing here is fit for a network."""

from __future__ import annotations

import socket
from collections.abc import Callable

from potstill.annotation.web.guard import AsgiApp, LoopbackGuard
from potstill.errors import BadSpec, missing_extra

HOST = "127.0.0.1"


def serve(app: AsgiApp, port: int, on_ready: Callable[[str], None]) -> None:
    """Serve `app`, guarded, until the process is interrupted.

    Args:
        app: ASGI.
        port: 0 takes any that is free.
        ready: called with the address once a browser may ask.

    Raises:
        BadSpec: the port is taken, or is none.
        MissingExtra: uvicorn is not installed.
    """
    try:
        import uvicorn
    except ModuleNotFoundError as error:
        raise missing_extra("uvicorn", "web", "A page in the browser") from error
    with _listening(port) as line:
        port = line.getsockname()[1]
        config = uvicorn.Config(LoopbackGuard(app, port), log_level="warning", lifespan="off", access_log=False)
        server = uvicorn.Server(config)
        try:
            on_ready(f"http://{HOST}:{port}/")
            server.run(sockets=[line])
        except KeyboardInterrupt:
            return  # how it is meant to end


def _listening(port: int) -> socket.socket:
    try:
        line = socket.socket()
        line.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        line.bind((HOST, port))
        line.listen(64)
    except (OSError, OverflowError) as error:
        line.close()
        raise BadSpec(f"Nothing can be served on port {port}: {error}.", "Give another with --port.") from None
    return line
