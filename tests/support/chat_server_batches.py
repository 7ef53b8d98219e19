"""The stand-in's batch queue: files and batches as OpenAI has them, and Anthropic's message batches.

Nothing moves by itself: a test calls `work`, as often and as far as it wants. Faults are injected by method and path.
"""

from __future__ import annotations

import json
import re
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler
from itertools import count
from typing import Any

from support.chat_server import Body, FakeServer, Fault, send, send_error
from support.chat_server_messages import chat_of, message_of

_FILE = re.compile(rb'name="file"[^\r]*\r\n(?:[^\r]+\r\n)*\r\n(.*?)\r\n--', re.DOTALL)


@dataclass
class Batch:
    """One batch: its requests by name, what became of them, and where it stands."""

    id: str
    requests: dict[str, Body]
    metadata: dict[str, str]
    created: float
    status: str = "in_progress"
    results: dict[str, Body] = field(default_factory=dict)
    errors: dict[str, Body] = field(default_factory=dict)
    why: str = ""
    source: str = ""


@dataclass
class BatchQueue:
    """The queue; give it to a `FakeServer`.

    Attributes:
        room: how many requests may wait in all; a batch beyond that fails as OpenAI fails it.
        refuses: why every batch fails, or "".
        faults: (method, end of the path) -> fault; "cut" does the work and then cuts the connection.
        hides: batches are not listed.
        files: lines of every uploaded file.
        anthropic: speaks Anthropic's dialect.
    """

    room: int = 10**9
    refuses: str = ""
    faults: dict[tuple[str, str], Fault] = field(default_factory=dict)
    hides: bool = False
    anthropic: bool = False
    batches: dict[str, Batch] = field(default_factory=dict)
    files: dict[str, list[bytes]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._left: dict[tuple[str, str], int] = {}
        self._numbers = count()

    # --- what the provider does in its own time -----------------------------------------------------------

    def work(self, fake_server: FakeServer, most: int = 10**9, ends: str = "completed") -> None:
        """Work on `most` requests of every waiting batch, which then ends: completed, expired or cancelled."""
        for batch in [batch for batch in self.batches.values() if batch.status == "in_progress"]:
            for number, (name, body) in enumerate(batch.requests.items()):
                if number >= most:
                    batch.errors[name] = {"expired": True}
                    continue
                done = fake_server.work_on(chat_of(body) if self.anthropic else body)
                if isinstance(done, Fault):
                    batch.errors[name] = {"status": done.kind, "message": done.message, "code": done.code}
                else:
                    batch.results[name] = done
            batch.status = ends

    @property
    def asked(self) -> list[str]:
        """The names of all requests that were worked on."""
        return [name for batch in self.batches.values() for name in batch.results]

    # --- HTTP ---------------------------------------------------------------------------------------------

    def serve(self, fake_server: FakeServer, handler: BaseHTTPRequestHandler, content: bytes) -> bool:
        """Answer, if the path is one of the queue's."""
        path = handler.path.partition("?")[0].removeprefix("/v1")
        method = handler.command
        if not re.match(r"/(messages/)?(batches|files)", path):
            return False
        fault = self._fault(method, path)
        if fault and isinstance(fault.kind, int):
            send_error(handler, fault.kind, fault)
            return True
        found = self._found(method, path, content, fake_server)
        if found is None:
            send_error(handler, 404, Fault(404, message="not found"))
        elif fault and fault.kind == "cut":
            handler.close_connection = True
            handler.connection.close()
        else:
            send(handler, 200, found if isinstance(found, bytes) else json.dumps(found).encode())
        return True

    def _fault(self, method: str, path: str) -> Fault | None:
        for name, fault in self.faults.items():
            if name[0] == method and path.endswith(name[1]):
                with self._lock:
                    left = self._left.get(name, fault.times)
                    self._left[name] = left - 1
                if left > 0:
                    return fault
        return None

    def _found(self, method: str, path: str, content: bytes, fake_server: FakeServer) -> Any:
        parts = path.strip("/").split("/")
        if parts[0] == "messages":
            return self._messages(method, parts[2:], content, fake_server)
        if parts == ["files"]:
            found = _FILE.search(content)
            assert found is not None
            name = f"file-{next(self._numbers)}"
            self.files[name] = found[1].splitlines()
            return {"id": name, "object": "file", "bytes": 1, "created_at": 0, "filename": "x", "purpose": "batch"}
        if parts[0] == "files" and method == "DELETE":
            return {"id": parts[1], "object": "file", "deleted": True} if self.files.pop(parts[1], None) else None
        if parts[0] == "files":
            return b"\n".join(self.files[parts[1]]) if parts[1] in self.files else None
        if method == "POST":
            body = json.loads(content)
            lines = [json.loads(line) for line in self.files[body["input_file_id"]]]
            assert all(line["url"] == body["endpoint"] == "/v1/chat/completions" for line in lines)
            requests = {line["custom_id"]: line["body"] for line in lines}
            assert len(requests) == len(lines)
            batch = self._begin(requests, body["metadata"])
            batch.source = body["input_file_id"]
            return self._shown(batch)
        if len(parts) == 1:
            listed = [self._shown(batch) for batch in reversed(self.batches.values())]
            return {"object": "list", "data": [] if self.hides else listed, "has_more": False}
        batch = self.batches.get(parts[1])
        return None if batch is None else self._shown(batch)

    def _begin(self, requests: dict[str, Body], metadata: dict[str, str]) -> Batch:
        with self._lock:
            batch = Batch(f"batch-{len(self.batches)}", requests, metadata, time.time())
            waiting = sum(len(other.requests) for other in self.batches.values() if other.status == "in_progress")
            if self.refuses or waiting + len(requests) > self.room:
                batch.status = "failed"
                batch.why = self.refuses or "token_limit_exceeded"
            self.batches[batch.id] = batch
        return batch

    def _shown(self, batch: Batch) -> Body:
        shown: Body = {
            "id": batch.id,
            "object": "batch",
            "endpoint": "/v1/chat/completions",
            "input_file_id": batch.source,
            "completion_window": "24h",
            "status": batch.status,
            "created_at": int(batch.created),
            "metadata": batch.metadata,
            "request_counts": {
                "total": len(batch.requests),
                "completed": len(batch.results),
                "failed": sum(1 for error in batch.errors.values() if "status" in error),
            },
        }
        if batch.why:
            shown["errors"] = {"object": "list", "data": [{"code": batch.why, "message": f"{batch.why}: sorry"}]}
        if batch.status in ("completed", "expired", "cancelled"):
            shown["output_file_id"] = self._kept(f"{batch.id}-out", [_line(n, r) for n, r in batch.results.items()])
            shown["error_file_id"] = self._kept(f"{batch.id}-err", [_error(n, e) for n, e in batch.errors.items()])
        return shown

    def _kept(self, name: str, lines: list[Body]) -> str | None:
        # Replies come back in any order.
        self.files.setdefault(name, [json.dumps(line).encode() for line in reversed(lines)])
        return name if lines else None

    # --- Anthropic ----------------------------------------------------------------------------------------

    def _messages(self, method: str, parts: list[str], content: bytes, fake_server: FakeServer) -> Any:
        if method == "POST":
            requests = json.loads(content)["requests"]
            return self._message_batch(self._begin({r["custom_id"]: r["params"] for r in requests}, {}), fake_server)
        if not parts:
            listed = [self._message_batch(batch, fake_server) for batch in reversed(self.batches.values())]
            return {"data": [] if self.hides else listed, "has_more": False, "first_id": None, "last_id": None}
        batch = self.batches.get(parts[0])
        if batch is None:
            return None
        if len(parts) == 1:
            return self._message_batch(batch, fake_server)
        lines: list[Body] = [
            {"custom_id": name, "result": {"type": "succeeded", "message": message_of(done)}}
            for name, done in batch.results.items()
        ]
        for name, error in batch.errors.items():
            inner = {"type": error.get("code") or "api_error", "message": error.get("message", "")}
            failed = {"type": "errored", "error": {"type": "error", "error": inner}}
            lines.append({"custom_id": name, "result": failed if "status" in error else {"type": "expired"}})
        return b"\n".join(json.dumps(line).encode() for line in reversed(lines))

    def _message_batch(self, batch: Batch, fake_server: FakeServer) -> Body:
        over = batch.status != "in_progress"
        errored = sum(1 for error in batch.errors.values() if "status" in error)
        return {
            "id": batch.id,
            "type": "message_batch",
            "processing_status": "ended" if over else "in_progress",
            "request_counts": {
                "processing": 0 if over else len(batch.requests),
                "succeeded": len(batch.results),
                "errored": errored,
                "canceled": 0,
                "expired": len(batch.errors) - errored,
            },
            "created_at": datetime.fromtimestamp(batch.created, UTC).isoformat(),
            "expires_at": datetime.fromtimestamp(batch.created + 86400, UTC).isoformat(),
            "results_url": f"{fake_server.url}/messages/batches/{batch.id}/results" if over else None,
        }


def _line(name: str, done: Body) -> Body:
    return {"id": "x", "custom_id": name, "response": {"status_code": 200, "body": done}, "error": None}


def _error(name: str, error: Body) -> Body:
    if "status" not in error:
        code = {"code": "batch_expired", "message": "This request could not be executed in time."}
        return {"id": "x", "custom_id": name, "response": None, "error": code}
    body = {"error": {"message": error["message"], "code": error["code"]}}
    return {"id": "x", "custom_id": name, "response": {"status_code": error["status"], "body": body}, "error": None}
