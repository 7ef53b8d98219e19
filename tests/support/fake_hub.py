"""A stand-in for the Hugging Face hub on loopback, with the routes that pushing and loading a bundle use."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

OWNER, TOKEN, READ_ONLY = "me", "hf_writes", "hf_reads"
LARGE = (".onnx", ".safetensors")


@dataclass
class Repository:
    """A repository: the files of each commit, by its hash, in order."""

    private: bool
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)

    @property
    def head(self) -> str:
        return list(self.commits)[-1] if self.commits else "0" * 40


@dataclass
class FakeHub:
    """What the stand-in holds, and the requests it got."""

    url: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)


class _Handler(BaseHTTPRequestHandler):
    hub: FakeHub

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def handle_any(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        if self.headers.get("Transfer-Encoding") == "chunked":
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        path = self.path.partition("?")[0]
        self.hub.requests.append(f"{self.command} {path}")
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        for pattern, answer in ROUTES:
            if found := re.fullmatch(pattern, f"{self.command} {path}"):
                status, headers, content = answer(self.hub, token, body, *found.groups())
                break
        else:
            status, headers, content = 404, {}, b"{}"
        self.send_response(status)
        sent = {"Content-Length": str(len(content)), "Content-Type": "application/json", **headers}
        for name, value in sent.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


for _method in ("GET", "HEAD", "POST", "PUT"):
    setattr(_Handler, f"do_{_method}", _Handler.handle_any)


Answer = tuple[int, dict[str, str], bytes]


def _json(value: Any, status: int = 200, **headers: str) -> Answer:
    return status, headers, json.dumps(value).encode()


def _create(hub: FakeHub, token: str, body: bytes) -> Answer:
    asked = json.loads(body)
    name = f"{asked['organization']}/{asked['name']}"
    if token not in (TOKEN, READ_ONLY):
        return _json({"error": "Invalid credentials"}, 401)
    if token == READ_ONLY or asked["organization"] != OWNER:
        return _json({"error": "You have no right to create it"}, 403)
    if name in hub.repositories:
        return _json({"error": "You already created this model repo", "url": f"{hub.url}/{name}"}, 409)
    hub.repositories[name] = Repository(asked.get("visibility") == "private" or asked.get("private") is True)
    return _json({"url": f"{hub.url}/{name}", "name": name, "id": name})


def _preupload(hub: FakeHub, token: str, body: bytes, name: str, revision: str) -> Answer:
    if token != TOKEN:
        return _json({"error": "no right"}, 403)
    if name not in hub.repositories:
        return _json({"error": "Repository not found"}, 404, **{"X-Error-Code": "RepoNotFound"})
    files = [
        {"path": each["path"], "uploadMode": "lfs" if each["path"].endswith(LARGE) else "regular"}
        for each in json.loads(body)["files"]
    ]
    return _json({"files": [{**each, "shouldIgnore": False, "oid": None} for each in files]})


def _batch(hub: FakeHub, token: str, body: bytes, name: str) -> Answer:
    objects = json.loads(body)["objects"]
    uploads = [
        {**each, "authenticated": True, "actions": {"upload": {"href": f"{hub.url}/blobs/{each['oid']}"}}}
        for each in objects
    ]
    return _json({"transfer": "basic", "objects": uploads})


def _blob(hub: FakeHub, token: str, body: bytes, oid: str) -> Answer:
    assert hashlib.sha256(body).hexdigest() == oid
    hub.blobs[oid] = body
    return 200, {}, b""


def _commit(hub: FakeHub, token: str, body: bytes, name: str, revision: str) -> Answer:
    repository = hub.repositories[name]
    files = dict(repository.commits.get(repository.head, {}))
    for line in body.splitlines():
        entry = json.loads(line)
        value = entry["value"]
        if entry["key"] == "file":
            files[value["path"]] = base64.b64decode(value["content"])
        elif entry["key"] == "lfsFile":
            files[value["path"]] = hub.blobs[value["oid"]]
        elif entry["key"] == "deletedFile":
            del files[value["path"]]
    commit = hashlib.sha1(f"{name} {len(repository.commits)}".encode()).hexdigest()
    repository.commits[commit] = files
    return _json({"commitUrl": f"{hub.url}/{name}/commit/{commit}", "commitOid": commit, "success": True})


def _info(hub: FakeHub, token: str, body: bytes, name: str, revision: str | None = None) -> Answer:
    if name not in hub.repositories:
        return _json({"error": "Repository not found"}, 404, **{"X-Error-Code": "RepoNotFound"})
    repository = hub.repositories[name]
    siblings = [{"rfilename": path} for path in repository.commits.get(repository.head, {})]
    return _json(
        {"id": name, "modelId": name, "sha": repository.head, "private": True, "tags": [], "siblings": siblings}
    )


def _tree(hub: FakeHub, token: str, body: bytes, name: str, revision: str) -> Answer:
    if name not in hub.repositories:
        return _json({"error": "Repository not found"}, 404, **{"X-Error-Code": "RepoNotFound"})
    files = hub.repositories[name].commits.get(hub.repositories[name].head, {})
    return _json(
        [{"type": "file", "path": path, "size": len(content), "oid": "0" * 40} for path, content in files.items()]
    )


def _resolve(hub: FakeHub, token: str, body: bytes, name: str, revision: str, path: str) -> Answer:
    repository = hub.repositories.get(name)
    if repository is None or (repository.private and token not in (TOKEN, READ_ONLY)):
        return _json({"error": "Repository not found"}, 401, **{"X-Error-Code": "RepoNotFound"})
    commit = repository.head if revision == "main" else revision
    if commit not in repository.commits:
        return _json({"error": "Revision not found"}, 404, **{"X-Error-Code": "RevisionNotFound"})
    content = repository.commits[commit].get(path)
    if content is None:
        missing = {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit}
        return _json({"error": "Entry not found"}, 404, **missing)
    etag = hashlib.sha256(content).hexdigest()
    return 200, {"X-Repo-Commit": commit, "ETag": f'"{etag}"', "Content-Type": "application/octet-stream"}, content


_NAME = r"([^/]+/[^/]+)"
ROUTES = (
    (r"POST /api/repos/create", _create),
    (r"POST /api/validate-yaml", lambda hub, token, body: _json({"errors": [], "warnings": []})),
    (rf"POST /api/models/{_NAME}/preupload/(.+)", _preupload),
    (rf"POST /{_NAME}\.git/info/lfs/objects/batch", _batch),
    (r"PUT /blobs/(.+)", _blob),
    (rf"POST /api/models/{_NAME}/commit/(.+)", _commit),
    (rf"GET /api/models/{_NAME}/tree/(.+)", _tree),
    (rf"GET /api/models/{_NAME}", _info),
    (rf"GET /api/models/{_NAME}/revision/(.+)", _info),
    (rf"(?:GET|HEAD) /{_NAME}/resolve/([^/]+)/(.+)", _resolve),
)


@contextmanager
def fake_hub() -> Iterator[FakeHub]:
    """A running stand-in."""
    hub = FakeHub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
