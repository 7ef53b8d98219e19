"""How fast the `openai` teacher asks through a run, beside bare loops over the same SDK, and what a big pool weighs.

    python bench/teachers.py [-n 20000] [--in-flight 256] [--latency-s 0.1] [--out bench/results/teachers.json]

A provider in another process (tests/support) answers every request after the same time, always the same, so that
the clients are what is measured. Each client has a process of its own; they take turns, so that a busy moment hits all
of them. `sockets` sends ready bytes and reads none of the answer's meaning: it shows what provider and machine can do.
`asyncio` and `threads` are bare loops over the SDK. `potstill` is `Run.ask`: prompt, bound, hold, request, strict
reading, settle and keep, each durable. The ideal is in-flight / latency; the limit is what `sockets` reached in this
run; the bare loop is the better of the two so far. CPU is that of the client's process alone.
Prints a table and writes JSON with the commit. Asserts nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from support.provider import provider

LABELS = ("billing", "delivery")
PRICES = {"m": {"usd_per_million_input": 0.4, "usd_per_million_output": 1.6}}
POOL = 1_000_000
BIG_SLICE = 2_000


def text_of(number: int) -> str:
    """A text of 100 bytes, no two alike."""
    return f"{number:>8} the parcel never came and my card was charged twice, please help me with this today ".ljust(
        100
    )


def open_teacher(url: str, parallel: int) -> Any:
    """The teacher, and its task."""
    from potstill.data.task import Task
    from potstill.teachers.base import TeacherSetup
    from potstill.teachers.openai import open_teacher as opened
    from potstill.teachers.price_options import PriceOptions

    os.environ.setdefault("OPENAI_API_KEY", "none")
    return opened(
        TeacherSetup(Task(LABELS), "m", (), {"base_url": url, "parallel": parallel}, PriceOptions.parse(PRICES))
    )


def body_of(teacher: Any) -> Callable[[int], dict[str, Any]]:
    """What the teacher would send about text number i, as arguments of the SDK; only the text is made anew."""
    first = text_of(0)
    body = dict(teacher._server.request_body(teacher._question.request(first)))
    last = body["messages"][-1]

    def make(number: int) -> dict[str, Any]:
        message = {**last, "content": last["content"].replace(first.strip(), text_of(number).strip())}
        return {**body, "messages": [*body["messages"][:-1], message]}

    return make


# --- the clients: each asks n times and returns the seconds it took --------------------------------------------


def by_sockets(url: str, n: int, parallel: int) -> float:
    """Ready bytes over open connections; an answer is counted when its last byte is there."""
    content = json.dumps(body_of(open_teacher(url, parallel))(0)).encode()
    host, port = url.split("/")[2].split(":")
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(content)}\r\n\r\n"
    request = head.encode() + content
    left = n

    class Client(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport: Any = transport
            self.got, self.wanted = 0, 0
            self.ask()

        def ask(self) -> None:
            nonlocal left
            if left <= 0:
                self.transport.close()
                return
            left -= 1
            self.got = self.wanted = 0
            self.transport.write(request)

        def data_received(self, data: bytes) -> None:
            if not self.wanted:
                end = data.index(b"\r\n\r\n") + 4
                self.wanted = end + int(data.split(b"Content-Length: ", 1)[1].split(b"\r\n", 1)[0])
            self.got += len(data)
            if self.got >= self.wanted:
                self.ask()

        def connection_lost(self, _: Exception | None) -> None:
            over.release()

    over = asyncio.Semaphore(0)

    async def run() -> float:
        began = time.perf_counter()
        for _ in range(parallel):
            await asyncio.get_running_loop().create_connection(Client, host, int(port))
        for _ in range(parallel):
            await over.acquire()
        return time.perf_counter() - began

    return asyncio.run(run())


def by_asyncio(url: str, n: int, parallel: int) -> float:
    """The SDK's own asynchronous client in a bare loop; the reply is the SDK's object and the label is read from it."""
    import openai

    make = body_of(open_teacher(url, parallel))
    numbers = iter(range(n))

    async def run() -> float:
        limits = openai.DefaultAsyncHttpxClient(trust_env=False)
        client = openai.AsyncOpenAI(api_key="none", base_url=url, max_retries=0, timeout=60, http_client=limits)

        async def work() -> None:
            for number in numbers:
                done = await client.chat.completions.create(**make(number))
                json.loads(done.choices[0].message.content or "")

        began = time.perf_counter()
        await asyncio.gather(*(work() for _ in range(parallel)))
        return time.perf_counter() - began

    return asyncio.run(run())


def by_threads(url: str, n: int, parallel: int) -> float:
    """The SDK's client in bare threads."""
    import openai

    make = body_of(open_teacher(url, parallel))
    http = openai.DefaultHttpxClient(trust_env=False)
    client = openai.OpenAI(api_key="none", base_url=url, max_retries=0, timeout=60, http_client=http)

    def work(number: int) -> None:
        done = client.chat.completions.create(**make(number))
        json.loads(done.choices[0].message.content or "")

    began = time.perf_counter()
    with ThreadPoolExecutor(parallel) as pool:
        for _ in pool.map(work, range(n)):
            pass
    return time.perf_counter() - began


def by_potstill(url: str, n: int, parallel: int) -> float:
    """`Run.ask`, with everything it does."""
    return ask_of_pool(url, n, n, parallel)


def by_potstill_big(url: str, n: int, parallel: int) -> float:
    """`Run.ask` of a slice of a pool of a million texts."""
    return ask_of_pool(url, POOL, BIG_SLICE, parallel)


def ask_of_pool(url: str, size: int, n: int, parallel: int) -> float:
    """The seconds `Run.ask` takes for `n` texts of a pool of `size`."""
    import numpy as np

    from potstill.data.pool import Pool
    from potstill.data.task import Task
    from potstill.run.run import Run
    from potstill.run.spec import Spec

    nobody = np.full(size, -1)
    ids = tuple(f"texts.csv:{number + 2}" for number in range(size))
    texts = tuple(text_of(number) for number in range(size))
    pool = Pool(LABELS, texts, nobody, np.full(size, "pool"), ids, nobody.copy())
    spec = Spec.from_dict({"budget": 1000, "teacher": "openai:m", "student": "linear", "prices": PRICES})
    teacher = open_teacher(url, parallel)
    with tempfile.TemporaryDirectory() as folder, Run.open(Path(folder) / "run", spec, Task(LABELS), pool) as run:
        part = run.pool.subset("pool")
        began = time.perf_counter()
        answers = run.ask(teacher, part.texts[:n])
        seconds = time.perf_counter() - began
    assert answers.answered.all(), answers.state_counts
    return seconds


CLIENTS: dict[str, Callable[[str, int, int], float]] = {
    "sockets": by_sockets,
    "asyncio": by_asyncio,
    "threads": by_threads,
    "potstill": by_potstill,
    "potstill, pool of 1,000,000": by_potstill_big,
}


def work(name: str, url: str, n: int, parallel: int) -> dict[str, Any]:
    """One client's figures, measured in this process."""
    import openai.types.chat  # noqa: F401  importing is nobody's work

    marks: list[float] = []

    def cpu() -> float:
        used = resource.getrusage(resource.RUSAGE_SELF)
        return used.ru_utime + used.ru_stime

    # Opening, building and importing are not what is measured: a first round warms up.
    if "pool" not in name:
        CLIENTS[name](url, min(n, 200), min(parallel, 64))
    marks.append(cpu())
    seconds = CLIENTS[name](url, n, parallel)
    marks.append(cpu())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": seconds, "cpu_s": marks[1] - marks[0], "peak_mb": peak}


def _of(row: dict[str, Any], rows: list[dict[str, Any]], *clients: str) -> float | None:
    """Its speed as a share of the quickest of these clients; None where none of them ran before."""
    speeds = [each["per_s"] for each in rows if each["client"] in clients]
    return row["per_s"] / max(speeds) if speeds else None


def main() -> None:
    """Measure all clients in turn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-n", type=int, default=20_000)
    parser.add_argument("--in-flight", type=int, default=256)
    parser.add_argument("--latency-s", type=float, default=0.1)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--only", nargs="*", default=list(CLIENTS))
    parser.add_argument("--out", type=Path, default=Path("bench/results/teachers.json"))
    parser.add_argument("--work", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.work:
        print(json.dumps(work(asked.only[0], asked.work, asked.n, asked.in_flight)))
        return
    rows: list[dict[str, Any]] = []
    ideal = asked.in_flight / asked.latency_s
    print(f"ideal: {ideal:.0f} requests/s\n")
    head = f"{'of ideal':>9} {'of limit':>9} {'of bare':>8} {'CPU ms/req':>11} {'peak MB':>8}"
    print(f"{'client':<28} {'req/s':>7} {head}")
    for _ in range(asked.rounds):
        for name in asked.only:
            with provider(asked.latency_s, constant=True) as url:
                command = [sys.executable, __file__, "--work", url, "--only", name, "-n", str(asked.n)]
                done = subprocess.run(
                    [*command, "--in-flight", str(asked.in_flight)], stdout=subprocess.PIPE, text=True
                )
            row = {"client": name, "n": BIG_SLICE if "pool" in name else asked.n, **json.loads(done.stdout)}
            row["per_s"] = row["n"] / row["seconds"]
            row["of_ideal"] = row["per_s"] / ideal
            row["of_limit"] = _of(row, rows, "sockets")
            row["of_bare"] = _of(row, rows, "asyncio", "threads")
            row["cpu_ms"] = 1000 * row["cpu_s"] / row["n"]
            cpu = f"{row['cpu_ms']:>11.2f}" if "pool" not in name else f"{'':>11}"
            limit, bare = (f"{row[of]:.2f}" if row[of] else "" for of in ("of_limit", "of_bare"))
            shares = f"{row['of_ideal']:>9.2f} {limit:>9} {bare:>8}"
            print(f"{name:<28} {row['per_s']:>7.0f} {shares} {cpu} {row['peak_mb']:>8.0f}", flush=True)
            rows.append(row)
    git = ["git", "describe", "--always", "--dirty"]
    found = {
        "commit": subprocess.run(git, capture_output=True, text=True).stdout.strip(),
        "date": datetime.now().astimezone().isoformat(timespec="seconds"),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "settings": {"in_flight": asked.in_flight, "latency_s": asked.latency_s, "ideal_per_s": ideal},
        "rows": rows,
    }
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    asked.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
