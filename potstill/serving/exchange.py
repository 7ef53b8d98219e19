"""One request: its body within the limits, the wait for its answer, and what happens when the caller leaves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING

from potstill.errors import RequestRefused
from potstill.serving.batching import Batcher, Ticket
from potstill.serving.limits import ServingLimits
from potstill.serving.served import AnyAnswer

if TYPE_CHECKING:
    from starlette.types import Receive

DISCARDED = 10  # times the limit: as much of a body is read before it is refused, so that the client sees the reason


class CallerGone(Exception):
    """The caller closed the connection before the answer; nothing is sent."""


def media_type(headers: Mapping[str, str]) -> str:
    """The content type without its parameters; "" if there is none."""
    return headers.get("content-type", "").partition(";")[0].strip().lower()


def check_media(headers: Mapping[str, str], accepted: Collection[str]) -> None:
    """Compare the content type and encoding with what is read.

    Args:
        headers: by lower-case name.
        accepted: content types; empty for any. A request that names none is read.

    Raises:
        RequestRefused: compressed, or of another type.
    """
    encoding = headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise RequestRefused("media", f"A body encoded as {encoding[:40]!r} is not read.", "Send it uncompressed.")
    media = media_type(headers)
    if accepted and media and media not in accepted and not media.endswith("+json"):
        raise RequestRefused(
            "media",
            f"The content type {media[:80]!r} is not read.",
            f"Send the header Content-Type: {' or '.join(accepted)}.",
        )


async def read_body(receive: Receive, headers: Mapping[str, str], limits: ServingLimits) -> bytes:
    """The whole body of a request.

    Raises:
        RequestRefused: it is too large.
        CallerGone: the caller left.
    """
    announced = headers.get("content-length", "")
    size = int(announced) if announced.isdecimal() and len(announced) < 19 else 0
    parts: list[bytes] = []
    length, more = 0, size <= DISCARDED * limits.body_bytes
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise CallerGone
        part = message.get("body", b"")
        length += len(part)
        if length <= limits.body_bytes:
            parts.append(part)
        more = message.get("more_body", False) and length <= DISCARDED * limits.body_bytes
    if max(length, size) > limits.body_bytes:
        raise RequestRefused(
            "large", f"The body has more than {limits.body_bytes} bytes.", "Send the texts in several requests."
        )
    return parts[0] if len(parts) == 1 else b"".join(parts)


async def answer_or_leave(
    call_if_lost: Callable[[Callable[[], object]], None], batcher: Batcher, ticket: Ticket
) -> AnyAnswer:
    """The answer to a request; its texts leave the queue if the caller does.

    Args:
        call_if_lost: takes what is called if the connection ends before the response.
        batcher: that has the request.
        ticket: of the request.

    Raises:
        RequestRefused: the model failed on these texts.
        CallerGone: the caller left.
    """
    left = False

    def leave() -> None:
        nonlocal left
        left = True
        ticket.future.cancel()

    call_if_lost(leave)
    try:
        return await batcher.wait(ticket)
    except asyncio.CancelledError:
        if left:
            raise CallerGone from None
        raise  # the server cancelled the request: its time to drain is over
