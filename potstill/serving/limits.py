"""The limits of a server: sizes of requests, texts that wait, connections and their deadlines; all on by default."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ServingLimits:
    """The limits of a server.

    Attributes:
        body_bytes: of a request's body.
        texts: of one request.
        characters: of one text, or of each text of a pair.
        queued_texts: of all requests that wait for one model; a request that does not fit is refused with 429.
        batch_tokens: padded tokens of one batch. A text that is longer is a batch of its own.
        connections: open at once; one more ends the one that has been idle for the longest time.
        idle_s: seconds that a connection may wait for a request.
        request_s: seconds from the first byte of a request to its last.
        response_s: seconds from the last byte of a request to the last byte of its response.
        drain_s: seconds that requests in flight are given when the server is stopped.
    """

    body_bytes: int = 2_000_000
    texts: int = 1024
    characters: int = 500_000
    queued_texts: int = 4096
    batch_tokens: int = 4096
    connections: int = 1000
    idle_s: float = 90.0
    request_s: float = 30.0
    response_s: float = 300.0
    drain_s: float = 30.0
