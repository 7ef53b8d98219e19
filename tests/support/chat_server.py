"""A stand-in for an OpenAI-compatible provider: a real HTTP server on loopback, with faults on demand.

Speaks `/v1/chat/completions` with log-probabilities, structured output, `n`, usage and prompt caching. It reads the
codes out of the system message and answers by counting which words the text shares with each label, so that what it
says can be predicted. Faults are injected by the number of the request or by a word in the text. Does not stream.
Anthropic's dialect is in `chat_server_messages.py`, batches and files are in `chat_server_batches.py`, entities in
`chat_server_entities.py`, answers in words in `chat_server_answers.py`.
"""

from __future__ import annotations

import json
import math
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol, Self

from support.chat_server_answers import answer_in
from support.chat_server_entities import entities_in
from support.chat_server_messages import chat_of, message_of

Body = dict[str, Any]

_CODE = re.compile(r"^(\w+): (.+)$", re.MULTILINE)
_TEXT = re.compile(r"<text>\n(.*?)\n</text>", re.DOTALL)


@dataclass(frozen=True)
class Fault:
    """What goes wrong, and how often.

    Attributes:
        kind: a status code, or "hang", "cut", "drip", "garbage", "no-usage", "wrong-usage", "filter",
            "refusal", "said", "empty", "length".
        times: how many requests it befalls; the next is answered.
        retry_after: value of the Retry-After header.
        message, code, param: the fields of the error.
        said: what it answers instead (kind "said").
    """

    kind: int | str
    times: int = 10**9
    retry_after: str | None = None
    message: str = "no"
    code: str | None = None
    param: str | None = None
    said: str = ""


class Queue(Protocol):
    """What else the server serves."""

    def serve(self, fake_server: FakeServer, handler: BaseHTTPRequestHandler, content: bytes) -> bool:
        """Answer, if the path is one of the queue's."""


@dataclass
class FakeServer:
    """The server; use it as a context manager.

    Attributes:
        by_number: request number (from 0) -> fault.
        by_word: a word in the last text -> fault.
        refuses: request fields the server answers with a 400: "logprobs", "top_logprobs", "response_format", "n",
            "temperature", "max_tokens", "max_completion_tokens".
        ignores: features it silently leaves out: "logprobs", "response_format", "n".
        token_of: splits a reply into tokens.
        key: the key it wants; None takes any.
        models: the models it has; None has any.
        latency_s: how long it thinks.
        writes: what it answers when asked to write texts.
        mutate: changes a chat completion before it is sent; also one of a batch.
        seen: the bodies of all requests that reached it.
        billed: (prompt, completion) tokens of all replies.
        queue: its batch queue, if it has one.
        catalogue: path after /v1 -> what a GET shows there, or a status; other paths are not found.
        shown: the path and the Authorization header of every GET.
    """

    by_number: Mapping[int, Fault] = field(default_factory=dict)
    by_word: Mapping[str, Fault] = field(default_factory=dict)
    refuses: frozenset[str] = frozenset()
    ignores: frozenset[str] = frozenset()
    token_of: Callable[[str], list[str]] = field(default=lambda reply: re.findall(r"\w+|[^\w]+", reply))
    key: str | None = None
    models: frozenset[str] | None = None
    latency_s: float = 0.0
    writes: str = '{"texts": ["one", "two"]}'
    mutate: Callable[[Body], object] | None = None
    seen: list[Body] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    billed: list[tuple[int, int]] = field(default_factory=list)
    most_in_flight: int = 0
    queue: Queue | None = None
    catalogue: Mapping[str, Any] = field(default_factory=dict)
    shown: list[tuple[str, str]] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._lock = threading.Lock()
        self._left: dict[Any, int] = {}
        self._prefixes: set[str] = set()
        self._in_flight = 0
        fake_server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                content = self.rfile.read(int(self.headers["Content-Length"]))
                if fake_server.queue is not None and fake_server.queue.serve(fake_server, self, content):
                    return
                body: Body = json.loads(content)
                if self.path.endswith("/messages"):
                    fake_server.serve(self, chat_of(body), message_of)
                else:
                    fake_server.serve(self, body)

            def do_GET(self) -> None:
                if fake_server.queue is not None and fake_server.queue.serve(fake_server, self, b""):
                    return
                path = self.path.removeprefix("/v1")
                fake_server.shown.append(
                    (path, self.headers.get("Authorization") or self.headers.get("x-api-key") or "")
                )
                page = fake_server.catalogue.get(path, 404)
                if isinstance(page, int):
                    send_error(self, page, Fault(page, message="not found"))
                else:
                    send(self, 200, page if isinstance(page, bytes) else json.dumps(page).encode())

            def do_DELETE(self) -> None:
                self.do_GET()

            def log_message(self, *_: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

            def handle_error(self, *_: Any) -> None:
                pass

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    # --- one request -------------------------------------------------------------------------------------------

    def serve(self, handler: BaseHTTPRequestHandler, body: Body, dress: Callable[[Body], Body] = dict) -> None:
        """Answer one request for a chat completion, dressed as another API's."""
        with self._lock:
            number = len(self.seen)
            self.seen.append(body)
            self.headers.append({name.lower(): value for name, value in handler.headers.items()})
            self._in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self._in_flight)
        try:
            time.sleep(self.latency_s)
            self._respond(handler, body, self._fault(number, body), dress)
        finally:
            with self._lock:
                self._in_flight -= 1

    def _fault(self, number: int, body: Body) -> Fault | None:
        asked = [(number, self.by_number.get(number))]
        asked += [(word, fault) for word, fault in self.by_word.items() if word in last_text(body)]
        for name, fault in asked:
            if fault is None:
                continue
            with self._lock:
                left = self._left.get(name, fault.times)
                self._left[name] = left - 1
            if left > 0:
                return fault
        return None

    def _respond(
        self, handler: BaseHTTPRequestHandler, body: Body, fault: Fault | None, dress: Callable[[Body], Body]
    ) -> None:
        kind = fault.kind if fault else None
        shown = (handler.headers.get("Authorization") or "")[7:] or handler.headers.get("x-api-key") or ""
        if self.key is not None and shown != self.key:
            return send_error(handler, 401, Fault(401, message=f"Incorrect API key provided: {shown}"))
        if self.models is not None and body["model"] not in self.models:
            return send_error(handler, 404, Fault(404, message="no such model", code="model_not_found"))
        unwanted = sorted(self.refuses & body.keys())
        if unwanted:
            name = unwanted[0]
            return send_error(handler, 400, Fault(400, message=f"Unsupported parameter: '{name}'", param=name))
        if fault and isinstance(fault.kind, int):
            return send_error(handler, fault.kind, fault)
        if kind == "hang":
            time.sleep(1.0)
        if kind in ("cut", "hang"):
            handler.close_connection = True
            handler.connection.close()
            return None
        if kind == "garbage":
            return send(handler, 200, b'{"choices": [{"mess')
        content = json.dumps(dress(self._completion(body, fault))).encode()
        if kind == "drip":
            handler.send_response(200)
            handler.send_header("Content-Length", str(len(content)))
            handler.end_headers()
            for byte in content:
                handler.wfile.write(bytes([byte]))
                time.sleep(0.02)
            return None
        return send(handler, 200, content)

    def work_on(self, body: Body) -> Body | Fault:
        """What becomes of one request of a batch: a completion, or the status it ends with."""
        fault = self._fault(-1, body)
        if fault and isinstance(fault.kind, int):
            return fault
        return self._completion(body, fault)

    def _completion(self, body: Body, fault: Fault | None) -> Body:
        kind = fault.kind if fault else None
        n = 1 if "n" in self.ignores else body.get("n", 1)
        choices = [self._choice(body, fault, number) for number in range(n)]
        prompt = sum(8 + tokens_of(message["content"]) for message in body["messages"])
        output = sum(choice.pop("_tokens") for choice in choices)
        prefix = json.dumps(body["messages"][:-1])
        with self._lock:
            cached = 0 if prefix not in self._prefixes else sum(tokens_of(m["content"]) for m in body["messages"][:-1])
            self._prefixes.add(prefix)
            self.billed.append((prompt, output))
        usage: Body = {"prompt_tokens": prompt, "completion_tokens": output, "total_tokens": prompt + output}
        usage["prompt_tokens_details"] = {"cached_tokens": cached}
        if kind == "wrong-usage":
            usage |= {"prompt_tokens": 10**6}
        done: Body = {"id": "x", "object": "chat.completion", "created": 0, "model": body["model"], "choices": choices}
        done = done if kind == "no-usage" else done | {"usage": usage}
        if self.mutate is not None:
            self.mutate(done)
        return done

    def _choice(self, body: Body, fault: Fault | None, number: int) -> Body:
        kind = fault.kind if fault else None
        beliefs = beliefs_of(body)
        structured = "response_format" in body and "response_format" not in self.ignores
        code = sampled(beliefs, number, body.get("temperature", 1.0)) if beliefs else ""
        reply = json.dumps({"label": code}) if structured else code
        if any("Which labels fit?" in message["content"] for message in body["messages"]):
            codes = named_in(beliefs, number)
            reply = json.dumps({"labels": codes}) if structured else ", ".join(codes) or "NONE"
        if not beliefs:
            reply = entities_in(body) or answer_in(body) or self.writes
        if kind == "said" and fault:
            reply = fault.said
        finish, refusal = "stop", None
        if kind == "filter":
            finish, reply = "content_filter", ""
        if kind == "refusal":
            reply, refusal = "", "I cannot help with that."
        if kind in ("empty", "length"):
            finish, reply = "length", ""
        tokens = self.token_of(reply)
        message = {"role": "assistant", "content": reply, "refusal": refusal}
        choice: Body = {"index": number, "finish_reason": finish, "message": message, "logprobs": None}
        choice["_tokens"] = max(1, len(tokens))
        if body.get("logprobs") and "logprobs" not in self.ignores and beliefs:
            top = body.get("top_logprobs", 0)
            choice["logprobs"] = {"content": [_token(token, beliefs, top) for token in tokens]}
        return choice


def last_text(body: Body) -> str:
    """The text that is asked about: the last one shown by the user."""
    shown = [message["content"] for message in body["messages"] if message["role"] == "user"]
    found = [text for content in shown for text in _TEXT.findall(content)]
    return found[-1] if found else shown[-1]


def beliefs_of(body: Body) -> dict[str, float]:
    """Code -> probability: more where the text names more words of the label. Empty where no codes are offered."""
    codes = dict(_CODE.findall(body["messages"][0]["content"]))
    if not codes:
        # A shortlist stands with the text, and ends in "none of these", which shares no word with it.
        lists = [
            message["content"].split("<text>")[0] for message in body["messages"] if "<text>" in message["content"]
        ]
        codes = dict(_CODE.findall(lists[-1])) if lists else {}
    if "texts" in body["messages"][0]["content"].split("Answer with JSON only")[-1] and not codes:
        return {}
    words = set(re.findall(r"\w+", last_text(body).casefold()))
    weights = {}
    for code, line in codes.items():
        named = set(re.findall(r"\w+", line.split(" - ")[0].casefold()))
        weights[code] = math.exp(2.0 * len(named & words))
    total = sum(weights.values())
    return {code: weight / total for code, weight in weights.items()}


def sampled(beliefs: Mapping[str, float], number: int, temperature: float) -> str:
    """The likeliest code at temperature 0; else samples that cover the beliefs evenly."""
    if temperature == 0 or number == 0:
        return max(beliefs, key=lambda code: (beliefs[code], code))
    point, total = (number * 0.618034) % 1.0, 0.0
    for code, probability in beliefs.items():
        total += probability
        if point < total:
            return code
    return code


def named_in(beliefs: Mapping[str, float], number: int) -> list[str]:
    """The codes whose labels share a word with the text; later samples forget the last of several."""
    codes = [code for code, belief in beliefs.items() if belief > 1.5 * min(beliefs.values())]
    return codes[:-1] if number and len(codes) > 1 else codes


def tokens_of(content: str) -> int:
    """A believable token count: one for about four bytes."""
    return len(content.encode()) // 4 + 1


def _token(token: str, beliefs: Mapping[str, float], top: int) -> Body:
    alternatives = dict(beliefs) if token in beliefs else {token: 0.99}
    # A model never puts all its mass on the codes.
    ranked = sorted(((p * 0.9, t) for t, p in alternatives.items()), reverse=True)[:top]
    listed = [{"token": t, "logprob": math.log(p), "bytes": None} for p, t in ranked]
    own = alternatives.get(token, 0.99) * 0.9
    return {"token": token, "logprob": math.log(own), "bytes": None, "top_logprobs": listed}


def send_error(handler: BaseHTTPRequestHandler, status: int, fault: Fault) -> None:
    record = {"error": {"message": fault.message, "code": fault.code, "param": fault.param, "type": "x"}}
    send(handler, status, json.dumps(record).encode(), fault.retry_after)


def send(handler: BaseHTTPRequestHandler, status: int, content: bytes, retry_after: str | None = None) -> None:
    handler.send_response(status)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", str(len(content)))
    if retry_after is not None:
        handler.send_header("Retry-After", retry_after)
    handler.end_headers()
    handler.wfile.write(content)
