"""A provider in a process of its own, quick enough to be measured against, that keeps its own books.

    python tests/support/provider.py [--latency-s 0.1] [--faults 0.25] [--constant]

Prints its address on the first line. Speaks `/v1/chat/completions` and nothing else of a provider; what it says is
worked out as in `chat_server.py`. Every request is written down with what was billed for it: `GET /books`.
It bills whatever it worked on, also where the reply was cut, garbled or never sent. Which fault befalls a request
depends on its text and on how often that was asked, so two runs meet the same ones. Never two that cost in a row: a
text may be billed three times at most before a teacher gives it up. Does not stream, does no batches.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import math
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Of equal weight; those that cost are billed and bring nothing that can be read.
FREE = ("429", "429 with Retry-After", "500")
COSTLY = ("hang", "cut", "garbage", "unknown label")


@dataclass(frozen=True)
class Entry:
    """One request in the provider's books.

    Attributes:
        text: what was asked about.
        arrived: seconds since 1970.
        fault: what went wrong, or "".
        prompt, output: billed tokens.
    """

    text: str
    arrived: float
    fault: str
    prompt: int
    output: int

    @property
    def good(self) -> bool:
        """It was answered, as far as the provider knows."""
        return not self.fault

    @property
    def billed(self) -> bool:
        """It costs money."""
        return self.prompt > 0


class Provider:
    """What to answer, when, and what went wrong."""

    def __init__(self, latency_s: float, faults: float, constant: bool) -> None:
        self.latency_s = latency_s
        self.faults = faults
        self.constant = constant
        self.books: list[Entry] = []
        self.asked: Counter[str] = Counter()
        self.ready = _reply({"A": 0.9, "B": 0.1}, 150) if constant else b""

    def answer(self, content: bytes) -> tuple[float, bytes | None]:
        """How long it takes, and the bytes that are sent; None cuts the connection."""
        if self.constant:
            return self.latency_s, self.ready
        from support.chat_server import beliefs_of, last_text, tokens_of

        body = json.loads(content)
        text = last_text(body)
        fault = self._fault(text)
        self.asked[text] += 1
        luck = random.Random(f"{text} {self.asked[text]} latency")
        wait = min(luck.expovariate(1 / self.latency_s), 4 * self.latency_s) if self.latency_s else 0.0
        if fault in FREE:
            self.books.append(Entry(text, time.time(), fault, 0, 0))
            if fault == "500":
                return wait, _http(500, {"error": {"message": "out of order"}})
            asks = "Retry-After: 0.2\r\n" if "Retry" in fault else ""
            return 0.0, _http(429, {"error": {"message": "too many requests"}}, asks)
        prompt = sum(8 + tokens_of(message["content"]) for message in body["messages"])
        self.books.append(Entry(text, time.time(), fault, prompt, 8))
        if fault == "hang":
            return 30.0, None
        if fault == "cut":
            return wait, b"HTTP/1.1 200 OK\r\nContent-Length: 4000\r\n\r\n" + b'{"choices": [{"mess'
        if fault == "garbage":
            return wait, _http(200, '{"choices": [{"mess')
        return wait, _reply({"Z9": 1.0} if fault else beliefs_of(body), prompt)

    def _fault(self, text: str) -> str:
        before = self._drawn(text, self.asked[text] - 1)
        drawn = self._drawn(text, self.asked[text])
        return "" if drawn in COSTLY and before in COSTLY else drawn

    def _drawn(self, text: str, number: int) -> str:
        luck = random.Random(f"{text} {number} fault")
        return luck.choice(FREE + COSTLY) if number >= 0 and luck.random() < self.faults else ""


def _reply(beliefs: dict[str, float], prompt: int) -> bytes:
    """A completion with log-probabilities over the codes."""
    code = max(beliefs, key=lambda each: (beliefs[each], each))
    alternatives = [
        {"token": token, "logprob": math.log(0.9 * p), "bytes": None}
        for token, p in sorted(beliefs.items(), key=lambda pair: -pair[1])
    ]
    steps = [
        {"token": token, "logprob": math.log(0.9), "bytes": None, "top_logprobs": alternatives if token == code else []}
        for token in ('{"', "label", '":"', code, '"}')
    ]
    message = {"role": "assistant", "content": json.dumps({"label": code}, separators=(",", ":")), "refusal": None}
    choice = {"index": 0, "finish_reason": "stop", "message": message, "logprobs": {"content": steps}}
    usage = {"prompt_tokens": prompt, "completion_tokens": 8, "total_tokens": prompt + 8}
    done = {"id": "x", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice], "usage": usage}
    return _http(200, done)


def _http(status: int, body: Any, more: str = "") -> bytes:
    content = (body if isinstance(body, str) else json.dumps(body)).encode()
    head = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\n{more}Content-Length: {len(content)}\r\n\r\n"
    return head.encode() + content


class Connection(asyncio.Protocol):
    """One connection; its requests come one after the other."""

    def __init__(self, provider: Provider) -> None:
        self.provider = provider
        self.buffer = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Somebody is there."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer once a whole request is here."""
        self.buffer += data
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = bytes(self.buffer[:end])
        if head.startswith(b"GET"):
            books = [[e.text, e.arrived, e.fault, e.prompt, e.output] for e in self.provider.books]
            self._send(_http(200, books))
            self.buffer.clear()
            return
        at = head.lower().index(b"content-length:") + 15
        length = int(head[at:].split(b"\r\n", 1)[0])
        if len(self.buffer) < end + 4 + length:
            return
        content = bytes(self.buffer[end + 4 : end + 4 + length])
        del self.buffer[: end + 4 + length]
        wait, reply = self.provider.answer(content)
        asyncio.get_running_loop().call_later(wait, self._send, reply)

    def _send(self, reply: bytes | None) -> None:
        if self.transport.is_closing():
            return
        if reply is not None:
            self.transport.write(reply)
        if reply is None or b"Length: 4000" in reply[:60]:
            self.transport.close()


async def serve(provider: Provider) -> None:
    """Serve until the process is ended."""
    server = await asyncio.get_running_loop().create_server(lambda: Connection(provider), "127.0.0.1", 0, backlog=1024)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", flush=True)
    await server.serve_forever()


@contextmanager
def provider(latency_s: float = 0.1, faults: float = 0.0, constant: bool = False) -> Iterator[str]:
    """A provider's address, in a process of its own that ends with the block."""
    command = [sys.executable, "-m", "support.provider", "--latency-s", str(latency_s), "--faults", str(faults)]
    tests = Path(__file__).parents[1]
    with subprocess.Popen(command + ["--constant"] * constant, stdout=subprocess.PIPE, text=True, cwd=tests) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip()
        finally:
            process.kill()


def read_books(url: str) -> list[Entry]:
    """The provider's books."""
    host = url.split("/")[2]
    connection = http.client.HTTPConnection(host, timeout=30)
    try:
        connection.request("GET", "/books")
        return [Entry(*row) for row in json.loads(connection.getresponse().read())]
    finally:
        connection.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--latency-s", type=float, default=0.1)
    parser.add_argument("--faults", type=float, default=0.0, help="the share of requests that go wrong")
    parser.add_argument("--constant", action="store_true", help="always the same answer, unread: for measuring")
    asked = parser.parse_args()
    asyncio.run(serve(Provider(asked.latency_s, asked.faults, asked.constant)))
