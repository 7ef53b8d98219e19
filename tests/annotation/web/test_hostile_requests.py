"""Requests with any body: each gets a response with a reason, none of them an error of the server, and only labels of
the task are stored."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import ASGIApp, Message
from support.annotation_run import LABELS, begin

from potstill.annotation import AnnotationSession
from potstill.annotation.session import MAX_SECONDS
from potstill.annotation.web.app import create_app
from potstill.annotation.web.connections import Connections, RequestLimits
from potstill.annotation.web.guard import CsrfGuard

ORIGIN = "http://127.0.0.1:1"
PATHS = ("/next", "/label", "/skip", "/undo")


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AnnotationSession]:
    """The labels of a run with twenty texts."""
    session = AnnotationSession(begin(tmp_path_factory.mktemp("hostile")))
    yield session
    session.close()


def respond(app: ASGIApp, path: str, body: bytes) -> tuple[int, bytes]:
    """Status and body of the response to a POST as the page sends it."""
    sent: list[Message] = []
    parts = [body[i : i + 1000] for i in range(0, len(body), 1000)] or [b""]

    async def receive() -> Message:
        return {"type": "http.request", "body": parts.pop(0), "more_body": bool(parts)}

    async def send(message: Message) -> None:
        sent.append(message)

    headers = {"host": ORIGIN[7:], "origin": ORIGIN, "content-type": "application/json", "content-length": len(body)}
    scope = {
        "type": "http",
        "method": "POST",
        "path": path,
        "query_string": b"",
        "headers": [(name.encode(), str(value).encode()) for name, value in headers.items()],
        "client": ("127.0.0.1", 2),
    }
    asyncio.run(app(scope, receive, send))
    return sent[0]["status"], b"".join(each.get("body", b"") for each in sent[1:])


def check(session: AnnotationSession, path: str, body: bytes) -> int:
    """Send a body; returns the status, which is never that of a failure of the server."""
    status, reply = respond(CsrfGuard(RequestLimits(create_app(session), Connections())), path, body)
    assert status in (200, 400, 403), (path, body[:200])
    if status != 403:
        assert status == 200 or json.loads(reply)["error"]
    for each in session.store.annotations():
        assert each.label in (*LABELS, "")
        assert 0 <= each.seconds <= MAX_SECONDS
        assert each.annotator.isprintable()
    return status


NESTED = ["[" * 30_000, "[" * 30_000 + "]" * 30_000, '{"annotator":' * 3000 + "1" + "}" * 3000, "[" * 150 + "]" * 150]
NUMBERS = ["1e400", "-1e400", "1" + "0" * 400, "-1" + "0" * 400, "1" + "0" * 5000, "NaN", "Infinity", "-0", "1e-400"]
STRINGS = [r'"\ud800"', r'"\udfff\ud800"', r'"\u0000"', r'"\u001b[2J\u0007"', '"' + "x" * 60_000 + '"', '"', "\ufeff"]


@pytest.mark.parametrize("path", PATHS)
def test_values_that_no_page_sends_get_a_reason(session: AnnotationSession, path: str) -> None:
    for odd in (*NESTED, *NUMBERS, *STRINGS, "null", "true", "{}", "[]", "{", ""):
        check(session, path, odd.encode())
        for field in ("annotator", "id", "label", "seconds"):
            fields = {"annotator": '"ann"', "id": '"x"', "label": '"sports"', "seconds": "1", field: odd}
            check(session, path, ("{" + ",".join(f'"{name}":{value}' for name, value in fields.items()) + "}").encode())
    for raw in (b"\xff\xfe{\x00}\x00", b'{"annotator": "\xed\xa0\x80"}', b"\x80" * 100, b'{"annotator": "\x00"}'):
        assert check(session, path, raw) == 400


any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(LABELS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
fields = st.fixed_dictionaries(
    {}, optional={"annotator": any_json | st.just("ann"), "id": any_json, "label": any_json, "seconds": any_json}
)


@given(data=st.data(), path=st.sampled_from(PATHS))
def test_any_json_gets_a_response(session: AnnotationSession, data: st.DataObject, path: str) -> None:
    body: dict[str, Any] = data.draw(fields)
    if data.draw(st.booleans()):
        body["id"] = data.draw(st.sampled_from([each.id for each in session.store.requests()]))
    check(session, path, json.dumps(body).encode())


@given(body=st.binary(max_size=200), path=st.sampled_from(PATHS))
def test_any_bytes_get_a_response(session: AnnotationSession, body: bytes, path: str) -> None:
    check(session, path, body)
