"""What a request costs through six ways to send it, all under the same `Run.ask`: held, settled and stored alike.

    python bench/transports.py [-n 4000] [--in-flight 16 256] [--rounds 5] [--out bench/results/transports.json]

Only the way from the teacher to the server and back is exchanged; prompt, bound, hold, parsing, settling and storing are
potstill's own. `greenlets` is what ships (`teachers/transport.py`). `threads` has the same connections and a thread for
each call. `sdk` is sixteen clients of the SDK with small pools, shared by threads. `sdk, prepared` sends the request that
the SDK prepared once, through the same sixteen pools. `asyncio` and `aiohttp` are the SDK's AsyncOpenAI over httpx and over
aiohttp, and `aiohttp, prepared` is aiohttp with the SDK's headers: their calls are greenlets that wait for coroutines, so
that no code exists twice. The provider and the processes are those of bench/teachers.py; ways take turns within a round,
and processor time counts, because it is hardly disturbed by what else the machine does. aiohttp is measured if installed.
Prints a table and writes JSON with the commit. Asserts nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import statistics
import subprocess
import sys
import threading
from collections.abc import Callable, Coroutine
from datetime import datetime
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import httpx2
import openai
import teachers as bench
from support.provider import provider

from potstill.engines import greenlets, workers
from potstill.teachers import transport
from potstill.teachers.sdk_adapter import SdkClient

N_CLIENTS = 16
TIMEOUT_S = 60.0
JSON_HEADERS = {"headers": {"Content-Type": "application/json"}}


class AsyncioLoop:
    """The interface of `engines.greenlets.GreenletLoop` on an asyncio loop, with `wait_for` for coroutines."""

    def __init__(self, stop: threading.Event) -> None:
        import greenlet

        self._greenlet, self._getcurrent, self._stop = greenlet.greenlet, greenlet.getcurrent, stop
        self._loop = asyncio.new_event_loop()
        self._n_alive, self._ending = 0, False
        self._yielding: list[Any] = []

    def call_soon(self, function: Callable[[], None]) -> None:
        self._loop.call_soon_threadsafe(function)

    def stop_when_idle(self) -> None:
        def last() -> None:
            self._ending = True
            self._stop_if_idle()

        self.call_soon(last)

    def _stop_if_idle(self) -> None:
        if self._ending and not self._n_alive:
            self._loop.stop()

    def run(self) -> None:
        self._home = self._getcurrent()
        greenlets._here.loop = self
        with greenlets.cancel_on(self._stop):
            self._loop.run_forever()
        del greenlets._here.loop
        self._loop.close()

    def spawn(self, function: Callable[[], None]) -> None:
        def whole() -> None:
            try:
                function()
            finally:
                self._n_alive -= 1
                self._loop.call_soon(self._stop_if_idle)

        self._n_alive += 1
        self._loop.call_soon(self._greenlet(whole, self._home).switch)

    def resume(self, waiting: Any) -> None:
        self._loop.call_soon(waiting.switch)

    @property
    def current(self) -> Any:
        return self._getcurrent()

    def switch_out(self) -> None:
        self._home.switch()

    def others_first(self) -> None:
        if not self._yielding:
            self._loop.call_later(greenlets.YIELD_WAIT_S, self._resume_yielding)
        self._yielding.append(self._getcurrent())
        self._home.switch()

    def _resume_yielding(self) -> None:
        resumed, self._yielding = self._yielding, []
        for each in resumed:
            each.switch()

    def rest(self, seconds: float) -> bool:
        self._loop.call_later(seconds, self._getcurrent().switch)
        self._home.switch()
        return not self._stop.is_set()

    def wait_for(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        caller = self._getcurrent()
        task = self._loop.create_task(coroutine)
        task.add_done_callback(lambda _: caller.switch())
        self._home.switch()
        return task.result()


# --- ways to send: each replaces SdkClient._reply ---------------------------------------------------------------


def use_threads() -> None:
    """The same connections, a thread for each call."""
    transport.DeadlineClient.greenlet_safe = property(lambda self: False)  # type: ignore[assignment, method-assign]


LOCK, LOCAL, NUMBERS = threading.Lock(), threading.local(), count()
CLIENTS: list[Any] = []


def _clients(self: Any, in_flight: int) -> Any:
    """The SDK client of this thread, one of sixteen."""
    if not hasattr(LOCAL, "client"):
        with LOCK:
            size = max(1, -(-in_flight // N_CLIENTS)) + 1
            limits = httpx2.Limits(max_connections=size, max_keepalive_connections=size)
            while len(CLIENTS) < N_CLIENTS:
                CLIENTS.append(
                    openai.OpenAI(
                        api_key="none", base_url=self.client.base_url, max_retries=0, timeout=TIMEOUT_S,
                        http_client=openai.DefaultHttpxClient(trust_env=False, limits=limits),
                    )
                )  # fmt: skip
            LOCAL.client = CLIENTS[next(NUMBERS) % N_CLIENTS]
    return LOCAL.client


def use_sdk(in_flight: int) -> None:
    """Sixteen SDK clients, shared by threads."""
    use_threads()

    def reply(self: Any, path: str, content: bytes) -> Any:
        client = _clients(self, in_flight)
        return client.post(path, cast_to=httpx2.Response, content=content, options=JSON_HEADERS)

    SdkClient._reply = reply  # type: ignore[method-assign]


def use_sdk_prepared(in_flight: int) -> None:
    """As `use_sdk`; the request that the SDK prepared once is sent again with another body."""
    use_threads()

    def reply(self: Any, path: str, content: bytes) -> Any:
        client = _clients(self, in_flight)
        made = self._made.get(path)
        if made is None:
            first = client.post(path, cast_to=httpx2.Response, content=content, options=JSON_HEADERS)
            self._made[path] = first.request
            return first
        return client._client.send(transport.copy_request(made, content))

    SdkClient._reply = reply  # type: ignore[method-assign]


def use_asyncio(over_aiohttp: bool) -> None:
    """AsyncOpenAI on an asyncio loop."""
    workers.GreenletLoop = AsyncioLoop  # type: ignore[misc, assignment]

    async def post(self: Any, path: str, content: bytes) -> Any:
        if not hasattr(self, "_async"):
            limits = httpx2.Limits(max_connections=1024, max_keepalive_connections=1024)
            make = openai.DefaultAioHttpClient if over_aiohttp else openai.DefaultAsyncHttpxClient
            self._async = openai.AsyncOpenAI(
                api_key="none", base_url=self.client.base_url, max_retries=0, timeout=TIMEOUT_S,
                http_client=make(trust_env=False, limits=limits),
            )  # fmt: skip
        async with asyncio.timeout(TIMEOUT_S):
            return await self._async.post(path, cast_to=httpx2.Response, content=content, options=JSON_HEADERS)

    SdkClient._reply = lambda self, path, content: greenlets._here.loop.wait_for(post(self, path, content))  # type: ignore[method-assign]


def use_aiohttp_prepared(in_threads: bool) -> None:
    """aiohttp without the SDK, with the headers that the SDK prepared; calls are greenlets, or threads."""
    import aiohttp

    workers.GreenletLoop = AsyncioLoop  # type: ignore[misc, assignment]
    loop = asyncio.new_event_loop()
    if in_threads:
        use_threads()
        threading.Thread(target=loop.run_forever, daemon=True).start()

    async def post(self: Any, path: str, content: bytes) -> Any:
        if not hasattr(self, "_session"):
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=1024), timeout=aiohttp.ClientTimeout(total=TIMEOUT_S),
                headers={"Content-Type": "application/json", "Authorization": "Bearer none"},
            )  # fmt: skip
        url = str(self.client.base_url).rstrip("/") + path
        async with self._session.post(url, data=content) as response:
            return SimpleNamespace(content=await response.read(), is_success=response.status < 300)

    def reply(self: Any, path: str, content: bytes) -> Any:
        if in_threads:
            return asyncio.run_coroutine_threadsafe(post(self, path, content), loop).result()
        return greenlets._here.loop.wait_for(post(self, path, content))

    SdkClient._reply = reply  # type: ignore[method-assign]


def use_urllib3(in_flight: int) -> None:
    """urllib3's pool, shared by threads, with the headers that the SDK prepared."""
    import urllib3

    use_threads()

    def reply(self: Any, path: str, content: bytes) -> Any:
        if not hasattr(self, "_pool"):
            with LOCK:
                self._pool = urllib3.PoolManager(maxsize=in_flight, retries=False, timeout=TIMEOUT_S)
        url = str(self.client.base_url).rstrip("/") + path
        headers = {"Content-Type": "application/json", "Authorization": "Bearer none"}
        response = self._pool.request("POST", url, body=content, headers=headers)
        return SimpleNamespace(content=response.data, is_success=response.status < 300)

    SdkClient._reply = reply  # type: ignore[method-assign]


def use_http_client() -> None:
    """The standard library's connections, one a thread."""
    import http.client

    use_threads()

    def reply(self: Any, path: str, content: bytes) -> Any:
        base = self.client.base_url
        if not hasattr(LOCAL, "connection"):
            LOCAL.connection = http.client.HTTPConnection(base.host, base.port, timeout=TIMEOUT_S)
        headers = {"Content-Type": "application/json", "Authorization": "Bearer none"}
        LOCAL.connection.request("POST", base.path.rstrip("/") + path, body=content, headers=headers)
        response = LOCAL.connection.getresponse()
        return SimpleNamespace(content=response.read(), is_success=response.status < 300)

    SdkClient._reply = reply  # type: ignore[method-assign]


WAYS: dict[str, Callable[[int], None]] = {
    "greenlets": lambda in_flight: None,
    "threads": lambda in_flight: use_threads(),
    "urllib3": use_urllib3,
    "http.client": lambda in_flight: use_http_client(),
    "sdk": use_sdk,
    "sdk, prepared": use_sdk_prepared,
    "asyncio": lambda in_flight: use_asyncio(over_aiohttp=False),
    "aiohttp": lambda in_flight: use_asyncio(over_aiohttp=True),
    "aiohttp, prepared": lambda in_flight: use_aiohttp_prepared(in_threads=False),
    "aiohttp, prepared, threads": lambda in_flight: use_aiohttp_prepared(in_threads=True),
}


def main() -> None:
    """Measure all ways in turn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-n", type=int, default=4000)
    parser.add_argument("--in-flight", type=int, nargs="*", default=[16, 256])
    parser.add_argument("--latency-s", type=float, default=0.1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="*", default=list(WAYS))
    parser.add_argument("--out", type=Path, default=Path("bench/results/transports.json"))
    parser.add_argument("--work", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.work:
        WAYS[args.only[0]](args.in_flight[0])
        print(json.dumps(bench.work("potstill", args.work, args.n, args.in_flight[0])))
        return
    ways = [way for way in args.only if find_spec("aiohttp") or not way.startswith("aiohttp")]
    rows: list[dict[str, Any]] = []
    for in_flight in args.in_flight:
        # Few calls in flight take their time: fewer requests measure them as well.
        n = min(args.n, int(15 * in_flight / args.latency_s))
        for round_number in range(args.rounds):
            for way in ways:
                with provider(args.latency_s, constant=True) as url:
                    command = [sys.executable, __file__, "--work", url, "--only", way, "-n", str(n)]
                    done = subprocess.run(
                        [*command, "--in-flight", str(in_flight)],
                        stdout=subprocess.PIPE,
                        stderr=subprocess.DEVNULL,
                        text=True,
                        check=True,
                    )
                row = {"way": way, "in_flight": in_flight, "round": round_number, "n": n, **json.loads(done.stdout)}
                row |= {"per_s": n / row["seconds"], "cpu_ms": 1000 * row["cpu_s"] / n}
                rows.append(row)
        print(
            f"\n{in_flight} calls in flight, {args.latency_s} s each: {in_flight / args.latency_s:.0f} requests/s at most"
        )
        print(f"{'way':<26} {'CPU ms/request':>15} {'x of greenlets':>15} {'requests/s':>11} {'peak MB':>8}")
        for way in ways:
            mine = [row for row in rows if row["way"] == way and row["in_flight"] == in_flight]
            first = [row for row in rows if row["way"] == ways[0] and row["in_flight"] == in_flight]
            ratio = statistics.median(a["cpu_ms"] / b["cpu_ms"] for a, b in zip(mine, first, strict=True))
            cpu, speed, peak = (statistics.median(row[of] for row in mine) for of in ("cpu_ms", "per_s", "peak_mb"))
            print(f"{way:<26} {cpu:>15.2f} {ratio:>15.2f} {speed:>11.0f} {peak:>8.0f}", flush=True)
    git = ["git", "describe", "--always", "--dirty"]
    found = {
        "commit": subprocess.run(git, capture_output=True, text=True).stdout.strip(),
        "date": datetime.now().astimezone().isoformat(timespec="seconds"),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "versions": {name: module.__version__ for name, module in (("openai", openai), ("httpx2", httpx2))},
        "settings": {"latency_s": args.latency_s, "rounds": args.rounds},
        "rows": rows,
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
