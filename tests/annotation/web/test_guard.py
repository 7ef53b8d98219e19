"""The guards of the annotation page: only the page itself may write, and only at its own address."""

from __future__ import annotations

import http.client
import json
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.annotation_run import begin, labels_of

from potstill.annotation.web.guard import MAX_BODY_BYTES
from potstill.annotation.web.server import serve
from potstill.errors import BadSpec


def ask(
    url: str, path: str, body: Any = None, method: str | None = None, **headers: str
) -> tuple[int, dict[str, str], str]:
    """Status, headers and text of a response; an underscore in a header's name is sent as a hyphen."""
    host = url.split("/")[2]
    line = http.client.HTTPConnection(host, timeout=20)
    data = None if body is None else json.dumps(body) if not isinstance(body, str) else body
    given = {"Host": host, **({"Origin": f"http://{host}", "Content-Type": "application/json"} if data else {})}
    given |= {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        line.putrequest(method or ("POST" if data else "GET"), path, skip_host=True)
        for name, value in {**given, **({"Content-Length": str(len(data))} if data else {})}.items():
            if value:
                line.putheader(name, value)
        line.endheaders(data.encode() if data else None)
        reply = line.getresponse()
        return reply.status, {name.lower(): value for name, value in reply.getheaders()}, reply.read().decode()
    finally:
        line.close()


def test_only_the_page_itself_may_write_and_only_at_its_own_address(tmp_path: Path, served: Callable[..., Any]) -> None:
    run = begin(tmp_path)
    server = served(run)
    text = json.loads(ask(server.url, "/state?annotator=ann")[2])["text"]
    label = {"annotator": "ann", "id": text["id"], "label": "sports", "seconds": 1}
    evil = "http://evil.example"
    refused: list[dict[str, Any]] = [
        {"status": 400, "path": "/", "Host": "evil.example"},
        {"status": 400, "path": "/state?annotator=ann", "Host": "evil.example:80"},
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
    for wrong in ({"label": "<b>"}, {"annotator": ""}, {"annotator": "x" * 99}, {"id": 5}, {"label": 5}):
        status, _, content = ask(server.url, "/label", body={**label, **wrong})
        assert status == 400, wrong
        assert json.loads(content)["error"]
    assert json.loads(ask(server.url, "/label", body={**label, "id": "x"})[2])["outcome"] == "unknown"
    labels = labels_of(run)
    assert not labels.annotations()
    for odd in (-5, 1e300, "long", None, True):
        assert ask(server.url, "/label", body={**label, "seconds": odd})[0] == 200
    (stored,) = labels.annotations()
    assert 0 <= stored.seconds <= 86_400
    labels.close()


def test_ctrl_c_stops_the_server_and_prints_the_summary(tmp_path: Path, served: Callable[..., Any]) -> None:
    server = served(begin(tmp_path))
    server.process.send_signal(signal.SIGINT)
    output, _ = server.process.communicate(timeout=60)
    assert server.process.returncode == 0
    assert "0 of 20 texts have every label" in output


def test_a_port_in_use_or_out_of_range_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other, pytest.raises(BadSpec, match="port"):
        serve(lambda *_: None, other.getsockname()[1], print)  # type: ignore[arg-type, return-value]
    with pytest.raises(BadSpec, match="port"):
        serve(lambda *_: None, 70_000, print)  # type: ignore[arg-type, return-value]
