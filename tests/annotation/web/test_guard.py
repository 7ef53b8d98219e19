"""The guards of the annotation page: only the page itself may write, and only at its own address."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.annotation_run import begin, labels_of
from support.page_requests import ask

from potstill.annotation.web.connections import MAX_BODY_BYTES
from potstill.annotation.web.server import serve
from potstill.errors import BadSpec


def test_only_the_page_itself_may_write_and_only_at_its_own_address(tmp_path: Path, served: Callable[..., Any]) -> None:
    run = begin(tmp_path)
    server = served(run)
    assert ask(server.url, "/next?annotator=ann", method="GET")[0] == 405  # which would reserve a text
    text = json.loads(ask(server.url, "/next", body={"annotator": "ann"})[2])["text"]
    label = {"annotator": "ann", "id": text["id"], "label": "sports", "seconds": 1}
    evil = "http://evil.example"
    refused: list[dict[str, Any]] = [
        {"status": 400, "path": "/", "Host": "evil.example"},
        {"path": "/next", "body": {"annotator": "ann"}, "Origin": evil},
        {"status": 400, "path": "/", "Host": "evil.example:80"},
        {"status": 400, "path": "/label", "body": label, "Host": "evil.example", "Origin": evil},
        {"path": "/label", "body": label, "Host": "evil.example"},
        {"path": "/label", "body": label, "Origin": evil},
        {"path": "/label", "body": label, "Origin": "null"},
        {"path": "/label", "body": label, "Origin": ""},
        {"path": "/label", "body": label, "Content_Type": "text/plain"},
        {"path": "/label", "body": label, "Content_Type": "application/x-www-form-urlencoded"},
        {"path": "/label", "body": {**label, "more": "x" * MAX_BODY_BYTES}},
    ]
    for each in refused:
        expected = each.pop("status", 403)
        status, headers, _ = ask(server.url, **each)
        assert status == expected, each
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert ask(server.url, "/label", method="GET")[0] == 405
    assert ask(server.url, "/label", body="[1, 2]")[0] == 400
    assert ask(server.url, "/label", body="not json")[0] == 400
    for wrong in ({"label": "<b>"}, {"annotator": ""}, {"annotator": "x" * 999}, {"id": 5}, {"label": 5}):
        status, _, content = ask(server.url, "/label", body={**label, **wrong})
        assert status == 400, wrong
        assert json.loads(content)["error"]
    assert json.loads(ask(server.url, "/label", body={**label, "id": "x"})[2])["outcome"] == "unknown"
    labels = labels_of(run)
    assert not labels.annotations()
    for odd in (-5, 1e300, 10**400, "long", None, True):
        assert ask(server.url, "/label", body={**label, "seconds": odd})[0] == 200
    (stored,) = labels.annotations()
    assert 0 <= stored.seconds <= 86_400
    labels.close()


def test_a_port_in_use_or_out_of_range_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other, pytest.raises(BadSpec, match="port"):
        serve(lambda *_: None, other.getsockname()[1], print)  # type: ignore[arg-type, return-value]
    with pytest.raises(BadSpec, match="port"):
        serve(lambda *_: None, 70_000, print)  # type: ignore[arg-type, return-value]
