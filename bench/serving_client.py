"""The load generator of `serving.py`: clients that keep their connections, each with one request in flight.

Started as a process of its own, so that its processor time is known; reads one JSON job, prints one JSON result:

    {"host", "port", "path", "texts", "per_request", "clients", "seconds" or "requests", "rate"}
    -> {"seconds", "cpu_s", "statuses": {status: n}, "milliseconds": {status: {...}}, "offered", "late", "unanswered",
        "answered": all responses, also those before and after the seconds that are counted}

With `rate` requests are sent at that rate a second by the clients that are free, else as fast as they are answered.
Requests are built before the clock starts; responses are read as far as their length. Needs the standard library
alone, on Linux.
"""

from __future__ import annotations

import json
import select
import socket
import sys
import time
from collections import Counter, deque
from typing import Any

RECEIVED = 1 << 18
WARM_S = 0.5  # answers of the first moments are not counted


def build_requests(job: dict[str, Any]) -> list[bytes]:
    """One request for each `per_request` texts, the whole of it."""
    texts, size = job["texts"], job["per_request"]
    head = f"POST {job['path']} HTTP/1.1\r\nHost: {job['host']}\r\nContent-Type: application/json\r\nContent-Length: "
    found = []
    for start in range(0, len(texts) - size + 1, size):
        part = texts[start : start + size]
        inputs = part[0] if size == 1 else [[text] for text in part]
        body = json.dumps({"inputs": inputs}).encode()
        found.append(f"{head}{len(body)}\r\n\r\n".encode() + body)
    return found


class Load:
    """The clients, and what they count.

    Args:
        job: as above.
    """

    def __init__(self, job: dict[str, Any]) -> None:
        self.job = job
        self.requests = build_requests(job)
        self.address = (job["host"], job["port"])
        self.poll = select.epoll()
        self.lines: dict[int, socket.socket] = {}
        self.sent_at: dict[int, float] = {}
        self.received: dict[int, bytes] = {}
        self.free: deque[int] = deque()
        self.next = 0
        self.late = 0  # requests that found no free client
        self.answered = 0
        self.statuses: Counter[str] = Counter()
        self.seconds: dict[str, list[float]] = {}
        for _ in range(job["clients"]):
            self.connect()

    def connect(self) -> None:
        line = socket.create_connection(self.address, timeout=60)
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.lines[line.fileno()] = line
        self.poll.register(line.fileno(), select.EPOLLIN)
        self.free.append(line.fileno())

    def send(self, number: int) -> None:
        request = self.requests[self.next % len(self.requests)]
        self.next += 1
        self.sent_at[number] = time.perf_counter()
        try:
            self.lines[number].sendall(request)
        except OSError:
            self.broken(number)

    def broken(self, number: int) -> None:
        """A connection ended without a response."""
        self.statuses["broken"] += 1
        self.drop(number)

    def drop(self, number: int) -> None:
        self.poll.unregister(number)
        self.lines.pop(number).close()
        self.received.pop(number, None)
        self.connect()

    def read(self, number: int) -> bool:
        """Read what came; True if it was the end of a response."""
        try:
            data = self.received.pop(number, b"") + self.lines[number].recv(RECEIVED)
        except OSError:
            data = b""
        if not data:
            self.broken(number)
            return False
        end = data.find(b"\r\n\r\n")
        at = data.find(b"content-length: ", 0, end)
        if end < 0 or len(data) < end + 4 + int(data[at + 16 : data.find(b"\r\n", at)]):
            self.received[number] = data
            return False
        status = data[9:12].decode()
        self.statuses[status] += 1
        self.answered += 1
        self.seconds.setdefault(status, []).append(time.perf_counter() - self.sent_at[number])
        if b"connection: close" in data[:end]:
            self.drop(number)
        else:
            self.free.append(number)
        return True

    def run(self) -> dict[str, Any]:
        job, rate = self.job, self.job.get("rate")
        started = time.perf_counter()
        counted_from, used, limit = started, time.process_time(), job.get("requests") or 10**12
        ends, first = started + (job.get("seconds") or 10**9) + WARM_S, 0
        warm = not job.get("seconds")
        while True:
            now = time.perf_counter()
            if not warm and now - started > WARM_S:
                warm, counted_from, used, first = True, now, time.process_time(), self.next
                self.statuses.clear()
                self.seconds.clear()
            if now > ends or self.next >= limit:
                break
            due = limit if rate is None else int((now - started) * rate) - self.late
            while self.free and self.next < min(due, limit):
                self.send(self.free.popleft())
            if rate is not None and not self.free and self.next < due:
                self.late += due - self.next
            for number, _ in self.poll.poll(None if rate is None else 0.002, 1024):
                if number in self.lines:
                    self.read(number)
        elapsed, cpu_s = time.perf_counter() - counted_from, time.process_time() - used
        counted, offered = Counter(self.statuses), self.next - first + self.late
        waiting = len(self.lines) - len(self.free)
        stop = time.perf_counter() + 60
        while waiting and time.perf_counter() < stop:  # what is in flight is read, so that nothing is left behind
            for number, _ in self.poll.poll(1.0):
                waiting -= number in self.lines and self.read(number)
        if not job.get("seconds"):
            counted, elapsed, cpu_s = self.statuses, time.perf_counter() - started, time.process_time() - used
        return {
            "seconds": elapsed,
            "cpu_s": cpu_s,
            "answered": self.answered,
            "statuses": counted,
            "offered": offered,
            "late": self.late,
            "unanswered": waiting,
            "milliseconds": {status: percentiles(each) for status, each in self.seconds.items()},
        }


def percentiles(seconds: list[float]) -> dict[str, float]:
    """p50, p99 and the longest, milliseconds."""
    ordered = sorted(seconds)
    last = len(ordered) - 1
    parts = {"p50": ordered[last // 2], "p99": ordered[int(last * 0.99)], "longest": ordered[-1]}
    return {name: round(1000 * value, 2) for name, value in parts.items()}


def main() -> None:
    """Read the job, run it, print the result."""
    if "--help" in sys.argv:
        print(__doc__)
        return
    print(json.dumps(Load(json.loads(sys.stdin.read())).run()))


if __name__ == "__main__":
    main()
