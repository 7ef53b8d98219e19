"""Accepts writes only from the annotation page itself: CSRF check and security headers of a page on loopback.

A form or script of another site fails by the Origin header and the content type, a frame around the page by the
response headers. A name that resolves to 127.0.0.1 (DNS rebinding) is refused by starlette's TrustedHostMiddleware
(`server.py`). Other users of the same machine are not kept out: everyone who can connect to loopback can label.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from potstill.annotation.web.connections import MAX_BODY_BYTES

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADERS = {
    b"content-security-policy": b"default-src 'none'; frame-ancestors 'none'",
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"DENY",
    b"referrer-policy": b"no-referrer",
    b"cross-origin-resource-policy": b"same-origin",
    b"cross-origin-opener-policy": b"same-origin",
    b"cache-control": b"no-store",
}


class CsrfGuard:
    """ASGI middleware: refuses writes that do not come from the page itself, and adds `HEADERS` to every response.

    Args:
        app: the app to guard.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                present = {name.lower() for name, _ in message["headers"]}
                missing = [(name, value) for name, value in HEADERS.items() if name not in present]
                message = {**message, "headers": [*message["headers"], *missing]}
            await send(message)

        reason = _refusal(scope)
        if reason:
            start = {"type": "http.response.start", "status": 403, "headers": [(b"content-type", b"text/plain")]}
            await send_with_headers(start)
            await send_with_headers({"type": "http.response.body", "body": reason.encode()})
            return
        await self._app(scope, receive, send_with_headers)


def _refusal(scope: Scope) -> str:
    """Why a request is refused; "" if it is not."""
    if scope["method"] in ("GET", "HEAD"):
        return ""
    headers = dict(scope["headers"])
    if headers.get(b"origin") != b"http://" + headers.get(b"host", b""):
        return "Only the page itself may write."
    if headers.get(b"content-type", b"").split(b";")[0].strip() != b"application/json":
        return "Only JSON is read."
    length = headers.get(b"content-length", b"")
    if not length.isdigit() or len(length) > 9 or int(length) > MAX_BODY_BYTES:
        return "The request is too large."
    return ""
