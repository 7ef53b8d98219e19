"""Bad requests over real HTTP: the protocol's own error shape, the right status, and the server goes on."""

from __future__ import annotations

import gzip
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.served_bundles import KEY, Served, serving

from potstill.serving.limits import ServingLimits

LIMITS = ServingLimits(body_bytes=200_000, texts=8, characters=1000)
TEI_TYPES = {"Empty", "Validation", "Tokenizer", "Backend", "Overloaded", "Unhealthy"}
BODIES: dict[bytes, int] = {
    b"": 400,
    b"not json": 400,
    b'{"inputs": "a"': 400,
    b'{"inputs": "\\ud800"}': 400,  # half a surrogate
    b'{"inputs": "\xff"}': 400,
    b"\xff\xfe{\x00}\x00": 400,
    b"[" * 30_000: 400,
    b"null": 422,
    b"[]": 422,
    b"{}": 422,
    b'{"inputs": null}': 422,
    b'{"inputs": 3}': 422,
    b'{"inputs": []}': 422,
    b'{"inputs": [[]]}': 422,
    b'{"inputs": ["a", "b", "c"]}': 422,
    b'{"inputs": ["a", "b"]}': 422,
    b'{"inputs": [["a"], "b"]}': 422,
    b'{"inputs": [["a", "b", "c"]]}': 422,
    b'{"inputs": [["a"], ["b", 3]]}': 422,
    b'{"inputs": "a", "truncate": "perhaps"}': 422,
    b'{"inputs": "a", "truncation_direction": "up"}': 422,
    json.dumps({"inputs": [["a"]] * 9}).encode(): 413,
    json.dumps({"inputs": "a" * 1001}).encode(): 413,
    b'{"inputs": "' + b"a" * 200_000 + b'"}': 413,
    b'{"inputs": "a \\u0000 b"}': 200,  # a NUL is a character
    b'{"inputs": ""}': 200,
    '{"inputs": "🙂 ␞ \\ud83d\\ude42"}'.encode(): 200,
}


@pytest.fixture(scope="module")
def strict(bundle_folder: Path) -> Iterator[Served]:
    """A server with low limits."""
    with serving(bundle_folder, LIMITS) as server:
        yield server


def check(server: Served, path: str, body: bytes, **headers: str) -> int:
    """The status of the response, which is never a failure of the server, and has TEI's shape."""
    reply = server.ask(path, body, **headers)
    if reply.status != 200:
        assert set(reply.json()) == {"error", "error_type"}, reply.body
        assert reply.json()["error_type"] in TEI_TYPES
    assert reply.status < 500, (body[:100], reply.body)
    return reply.status


@pytest.mark.parametrize("body", BODIES, ids=lambda body: repr(body[:30]))
def test_each_bad_body_gets_its_status(strict: Served, body: bytes) -> None:
    assert check(strict, "/predict", body) == BODIES[body]
    assert check(strict, "/predict", b'{"inputs": "good"}') == 200


def test_a_body_of_many_megabytes_is_refused_before_it_is_parsed(strict: Served) -> None:
    body = b'{"inputs": "' + b"a" * 1_500_000 + b'"}'
    assert check(strict, "/predict", body) == 413
    with socket.create_connection((strict.host, strict.port)) as line:
        line.sendall(b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 99999999999\r\n\r\n")
        assert line.recv(100).startswith(b"HTTP/1.1 413")
    assert check(strict, "/predict", b'{"inputs": "good"}') == 200


def test_a_compressed_body_and_another_type_are_not_read(strict: Served) -> None:
    bomb = gzip.compress(b" " * 10_000_000)
    assert check(strict, "/predict", bomb, Content_Encoding="gzip") == 415
    assert check(strict, "/predict", b'{"inputs": "a"}', Content_Type="text/plain") == 415
    assert check(strict, "/predict", b'{"inputs": "a"}', Content_Type="application/json; charset=utf-8") == 200


def test_addresses_and_models_that_are_not_there(strict: Served) -> None:
    assert check(strict, "/models/other/predict", b'{"inputs": "a"}') == 404
    assert "'other'" in strict.ask("/models/other/predict", b'{"inputs": "a"}').json()["error"]
    assert strict.ask("/nothing").status == 404
    assert strict.ask("/predict").status == 405
    assert strict.ask("/predict", method="DELETE").status == 405


def test_a_page_of_another_site_may_not_ask_a_server_without_a_key(strict: Served) -> None:
    assert check(strict, "/predict", b'{"inputs": "a"}', Host="evil.example") == 403
    assert check(strict, "/predict", b'{"inputs": "a"}', Origin="http://evil.example") == 403
    own = f"127.0.0.1:{strict.port}"
    assert check(strict, "/predict", b'{"inputs": "a"}', Host=own, Origin=f"http://{own}") == 200


def test_a_key_opens_the_server_and_probes_need_none(bundle_folder: Path) -> None:
    with serving(bundle_folder, keys=(b"another-key-1234567", KEY.encode())) as server:
        body = b'{"inputs": "a"}'
        assert check(server, "/predict", body, Authorization=f"Bearer {KEY}", Host="my.example") == 200
        for wrong in ("", "Bearer", f"Bearer {KEY}x", f"Basic {KEY}", KEY, "Bearer \xff"):
            reply = server.ask("/predict", body, Authorization=wrong)
            assert (reply.status, reply.headers["www-authenticate"]) == (401, "Bearer")
            assert KEY not in reply.body.decode()
        assert server.ask("/info").status == 401
        assert [server.ask(path).status for path in ("/health", "/ping")] == [200, 200]


any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=60)
@given(inputs=any_json, more=st.dictionaries(st.sampled_from(["truncate", "raw_scores", "parameters"]), any_json))
def test_any_json_gets_a_response(strict: Served, inputs: Any, more: dict[str, Any]) -> None:
    for path in ("/predict", "/"):
        check(strict, path, json.dumps({"inputs": inputs, **more}).encode())


@settings(max_examples=40)
@given(body=st.binary(max_size=200))
def test_any_bytes_get_a_response(strict: Served, body: bytes) -> None:
    check(strict, "/predict", body)
