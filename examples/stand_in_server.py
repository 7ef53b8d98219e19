"""A stand-in for an OpenAI-compatible server, on this machine's loopback: no model, no network, no bill.

It reads the labels and their codes out of the prompt and picks the label whose words share most with the text, by a
small word list. For `api_teacher.py` where no key is set; it says nothing about any real model.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

WORDS = {
    "billing": {"charged", "amount", "refund", "invoice", "card", "fee", "discount", "tax", "money", "bill", "paid"},
    "delivery": {"parcel", "tracking", "courier", "bell", "ship", "size", "missing", "depot", "delivery", "box"},
    "account": {"log", "password", "close", "code", "email", "login", "sign", "account", "data", "user", "profile"},
}


def choose_code(messages: list[dict[str, str]]) -> str:
    """The code of the label that shares most words with the text."""
    codes = dict(re.findall(r"^(\w+): (\w+)", messages[0]["content"], re.MULTILINE))
    text = re.findall(r"<text>\n(.*?)\n</text>", messages[-1]["content"], re.DOTALL)[-1]
    words = set(re.findall(r"\w+", text.lower()))
    return max(codes, key=lambda code: len(words & WORDS.get(codes[code], set())))


def complete(body: dict[str, Any]) -> dict[str, Any]:
    """The reply to one chat completion request, with believable token counts."""
    code = choose_code(body["messages"])
    content = json.dumps({"label": code}) if "response_format" in body else code
    n_prompt = sum(len(message["content"]) // 4 + 8 for message in body["messages"])
    choices = [
        {"index": number, "finish_reason": "stop", "message": {"role": "assistant", "content": content}}
        for number in range(body.get("n", 1))
    ]
    usage = {"prompt_tokens": n_prompt, "completion_tokens": 6, "total_tokens": n_prompt + 6}
    head = {"id": "stand-in", "object": "chat.completion", "created": 0, "model": body["model"]}
    return {**head, "choices": choices, "usage": usage}


class Handler(BaseHTTPRequestHandler):
    """Answers POST /v1/chat/completions."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Read one request, send one completion."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        content = json.dumps(complete(body)).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Print no line for each request."""


@contextmanager
def serve_stand_in() -> Iterator[str]:
    """Serve on a free port of loopback; gives the base URL."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    finally:
        server.shutdown()
        server.server_close()
