"""Requests to a served page, as its own script sends them or not. Not a test itself."""

from __future__ import annotations

import http.client
import json
import socket
from typing import Any


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


def connect(url: str, sent: bytes = b"") -> socket.socket:
    """A connection on which these bytes were sent."""
    host, port = url.split("/")[2].split(":")
    line = socket.create_connection((host, int(port)), timeout=20)
    line.sendall(sent)
    return line


def all_bytes(line: socket.socket) -> bytes:
    """What comes until the server ends the connection."""
    found = b""
    try:
        while part := line.recv(65_536):
            found += part
    except ConnectionError:
        pass
    return found
