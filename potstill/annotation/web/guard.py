"""Who may talk to a page on loopback: this machine's browser, from the page itself, and nobody through it.

A name that resolves to 127.0.0.1 (DNS rebinding) fails by the Host header, a form or script of another site (CSRF) by
Origin and by the content type, a frame around the page by its headers. Other users of the same machine are not kept
out: whoever may open a connection to loopback may label. Plain ASGI, no library.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]

MAX_BODY_BYTES = 65_536
HEADERS = {
    b"content-security-policy": b"default-src 'none'; frame-ancestors 'none'",
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"DENY",
    b"referrer-policy": b"no-referrer",
    b"cross-origin-resource-policy": b"same-origin",
    b"cross-origin-opener-policy": b"same-origin",
    b"cache-control": b"no-store",
}


class LoopbackGuard:
    """Lets through what the page itself asks, and gives every answer the headers that keep it in its place.

    Args:
        app: what is guarded.
        port: the port of this machine that the page is on.
    """

    def __init__(self, app: AsgiApp, port: int) -> None:
        self._app = app
        self._hosts = {f"{name}:{port}".encode() for name in ("127.0.0.1", "localhost", "[::1]")}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            return

        async def sealed(message: Message) -> None:
            if message["type"] == "http.response.start":
                there = {name.lower() for name, _ in message["headers"]}
                extra = [(name, value) for name, value in HEADERS.items() if name not in there]
                message = {**message, "headers": [*message["headers"], *extra]}
            await send(message)

        reason = self._refusal(scope)
        if reason:
            await sealed({"type": "http.response.start", "status": 403, "headers": [(b"content-type", b"text/plain")]})
            await sealed({"type": "http.response.body", "body": reason.encode()})
            return
        await self._app(scope, receive, sealed)

    def _refusal(self, scope: Scope) -> str:
        """Why a request is refused; "" where it is not."""
        headers = dict(scope["headers"])
        if len([1 for name, _ in scope["headers"] if name == b"host"]) != 1 or headers[b"host"] not in self._hosts:
            return "This page is only for the address it was opened at."
        if scope["method"] in ("GET", "HEAD"):
            return ""
        if headers.get(b"origin") != b"http://" + headers[b"host"]:
            return "Only the page itself may write."
        if headers.get(b"content-type", b"").split(b";")[0].strip() != b"application/json":
            return "Only JSON is read."
        length = headers.get(b"content-length", b"")
        if not length.isdigit() or int(length) > MAX_BODY_BYTES:
            return "Too much at once."
        return ""
