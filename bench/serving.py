"""`potstill serve` under load: rate, latency, overload and memory of a MiniLM student, beside other servers.

    python bench/serving.py [--data ../shared/data] [--made FOLDER] [--clients 1,8,64,512] [--seconds 5] [--rounds 3]
                            [--soak 100000] [--rivals PYTHON] [--skip overload soak]
    python bench/serving.py --only-soak static --soak 1000000   # adds to the stored record; a student of few operations

Exports the int8 bundle of BANKING77's few_shot_10 (head on frozen embeddings) into `--made`, once. Servers are real
processes, asked over loopback by `serving_client.py`, a process of its own. In interleaved rounds, so that other work
hits all alike: the bundle in a process without HTTP, then every server with every number of clients. The clients share
the processors with the server, so processor time a text stands beside the rates. Overload is ten times the rate that
64 clients got, in requests of 32 texts. The soak sends `--soak` texts, one a request, 64 in flight. `--rivals` is the
interpreter of an environment with fastapi, litserve, torch and transformers (`serving_rivals.py`). Writes JSON with the
commit and a section of RESULTS.md. Asserts nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from runtime import make, read
from sections import RESULTS, circumstances, commit, write_section
from serving_section import section_of

PACKAGES = ("onnxruntime", "starlette", "uvicorn", "httptools", "uvloop")
IN_FLIGHT = 64  # clients of the aim, the overload and the soak
PER_REQUEST = 32  # texts of a request, where a client sends several
OVERLOAD, OVERLOAD_CLIENTS, OVERLOAD_S = 10, 700, 15
RIVALS = {"fastapi": "FastAPI + transformers", "litserve": "LitServe + transformers"}
RIVAL_CLIENTS = 64  # at most: the others would wait for minutes
SAMPLES = 50  # looks at the memory during the soak
LOCAL = """
import json, sys, time
import potstill
job = json.load(sys.stdin)
bundle = potstill.load(job["folder"], threads=job["threads"])
texts = job["texts"]
parts = [texts[i : i + job["size"]] for i in range(0, len(texts), job["size"])]
bundle.predict_proba(texts)
began, used, done = time.perf_counter(), time.process_time(), 0
while time.perf_counter() - began < job["seconds"]:
    for part in parts:
        done += len(bundle.predict_proba(part))
print(json.dumps({"texts": done, "seconds": time.perf_counter() - began, "cpu_s": time.process_time() - used}))
"""


@dataclass(frozen=True)
class Server:
    """A server that runs: its port, and the process whose group it is."""

    name: str
    port: int
    pid: int

    def members(self) -> list[int]:
        """The server's processes: it and its children."""
        parents = {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
        found = [self.pid]
        for pid in found:
            found += [child for child, parent in parents.items() if parent == pid]
        return found

    @contextmanager
    def awake(self) -> Iterator[None]:
        """The server runs; else it is stopped, so that idle servers take no time from the one that is measured."""
        os.killpg(self.pid, signal.SIGCONT)
        yield
        os.killpg(self.pid, signal.SIGSTOP)

    def cpu_s(self) -> float:
        """Processor seconds so far."""
        ticks = 0
        for pid in self.members():
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def memory_mb(self) -> float:
        """Resident memory, 10^6 bytes."""
        kb = 0
        for pid in self.members():
            found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
            kb += int(found[1]) if found else 0
        return kb * 1024 / 1e6


@contextmanager
def running(name: str, command: Sequence[str]) -> Iterator[Server]:
    """A server in a process of its own, once it answers."""
    port = free_port()
    words = [str(port) if word == "PORT" else word for word in command]
    process = subprocess.Popen(
        words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    errors: list[str] = []
    try:
        wait_until_it_answers(process, port)
        os.killpg(process.pid, signal.SIGSTOP)
        yield Server(name, port, process.pid)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGCONT)
            os.killpg(process.pid, signal.SIGTERM)
        try:
            errors += (process.communicate(timeout=40)[1] or "").splitlines()
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        noise = [line for line in errors if "Traceback" in line or "Error" in line]
        if noise:
            print(f"{name} wrote to standard error: {noise[-1]}")


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as line:
        line.bind(("127.0.0.1", 0))
        return int(line.getsockname()[1])


def wait_until_it_answers(process: subprocess.Popen[str], port: int, limit_s: float = 180) -> None:
    """Return when a prediction succeeds.

    Raises:
        RuntimeError: the process ended, or does not answer in time.
    """
    import http.client

    ends = time.monotonic() + limit_s
    while time.monotonic() < ends:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended: {(process.communicate()[1] or '')[-500:]}")
        try:
            line = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
            line.request("POST", "/predict", b'{"inputs": "ready"}', {"Content-Type": "application/json"})
            if line.getresponse().status == 200:
                return
        except OSError:
            pass
        time.sleep(0.2)
    raise RuntimeError("the server does not answer")


def ask(server: Server, texts: Sequence[str], clients: int, **more: Any) -> dict[str, Any]:
    """Load on a server: what the clients counted, and the server's processor time."""
    job = {
        "host": "127.0.0.1",
        "port": server.port,
        "path": "/predict",
        "texts": texts,
        "per_request": 1,
        "clients": clients,
    }
    used = server.cpu_s()
    client = [sys.executable, str(Path(__file__).with_name("serving_client.py"))]
    with server.awake():
        done = subprocess.run(client, input=json.dumps(job | more), capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found | {"server_cpu_s": server.cpu_s() - used}


def local_rate(folder: Path, texts: Sequence[str], threads: int, seconds: float, size: int) -> dict[str, float]:
    """The bundle in a process without HTTP, `size` texts a call."""
    job = {"folder": str(folder), "threads": threads, "texts": texts, "seconds": seconds, "size": size}
    done = subprocess.run(
        [sys.executable, "-c", LOCAL], input=json.dumps(job), capture_output=True, text=True, check=True
    )
    found = json.loads(done.stdout)
    return {"texts_per_s": found["texts"] / found["seconds"], "cpu_us": 1e6 * found["cpu_s"] / found["texts"]}


def row_of(server: str, clients: int, per_request: int, runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Medians over the rounds of one server with one number of clients."""
    rates = [per_request * run["statuses"].get("200", 0) / run["seconds"] for run in runs]
    latency = [run["milliseconds"].get("200", {"p50": 0.0, "p99": 0.0}) for run in runs]
    others = sum(n for run in runs for status, n in run["statuses"].items() if status != "200")
    return {
        "server": server,
        "clients": clients,
        "texts_a_request": per_request,
        "texts_per_s": round(median(rates), 1),
        "p50_ms": round(median(each["p50"] for each in latency), 2),
        "p99_ms": round(median(each["p99"] for each in latency), 2),
        "server_cpu_us": round(median(1e6 * run["server_cpu_s"] / (per_request * run["answered"]) for run in runs), 1),
        "client_cpu_us": round(
            median(1e6 * run["cpu_s"] / (per_request * max(1, sum(run["statuses"].values()))) for run in runs), 1
        ),
        "others": others,
    }


def measure_load(
    given: argparse.Namespace, servers: Sequence[Server], folder: Path, texts: list[str]
) -> dict[str, Any]:
    """Rates and latencies of all servers, and of the bundle without HTTP, in interleaved rounds."""
    cells = [(server, clients, 1) for server in servers for clients in given.clients]
    cells = [cell for cell in cells if cell[0].name == "potstill" or cell[1] <= RIVAL_CLIENTS]
    cells += [(server, 8, PER_REQUEST) for server in servers if server.name == "potstill"]
    runs: list[list[dict[str, Any]]] = [[] for _ in cells]
    local: dict[str, list[dict[str, float]]] = {"all": [], "64": []}
    for _ in range(given.rounds):
        local["all"].append(local_rate(folder, texts, given.threads, given.seconds, len(texts)))
        local["64"].append(local_rate(folder, texts, given.threads, given.seconds, IN_FLIGHT))
        for found, (server, clients, per_request) in zip(runs, cells, strict=True):
            found.append(ask(server, texts, clients, seconds=given.seconds, per_request=per_request))
    middle = {
        size: {name: round(median(each[name] for each in found), 1) for name in ("texts_per_s", "cpu_us")}
        for size, found in local.items()
    }
    rows = [
        row_of(server.name, clients, per_request, found)
        for (server, clients, per_request), found in zip(cells, runs, strict=True)
    ]
    return {"in_process": middle, "rows": rows}


def measure_overload(server: Server, texts: list[str], capacity: float) -> dict[str, Any]:
    """Ten times the texts a second that the server answers, in requests of several texts."""
    rate = OVERLOAD * capacity / PER_REQUEST
    run = ask(server, texts, OVERLOAD_CLIENTS, seconds=OVERLOAD_S, per_request=PER_REQUEST, rate=rate)
    after = ask(server, texts, 1, requests=200)
    return run | {
        "capacity": capacity,
        "texts_a_request": PER_REQUEST,
        "asked": rate * PER_REQUEST,
        "clients": OVERLOAD_CLIENTS,
        "after_p50_ms": after["milliseconds"]["200"]["p50"],
    }


def measure_soak(server: Server, texts: list[str], requests: int) -> dict[str, Any]:
    """Many requests to one server, and its memory along the way."""
    memory = [round(server.memory_mb(), 1)]
    total: dict[str, int] = {}
    began, step = time.monotonic(), max(1, requests // SAMPLES)
    done = 0
    while done < requests:
        found = ask(server, texts, IN_FLIGHT, requests=min(step, requests - done))
        done += min(step, requests - done)
        for status, n in found["statuses"].items():
            total[status] = total.get(status, 0) + n
        memory.append(round(server.memory_mb(), 1))
        print(f"soak: {done:,} of {requests:,}, {memory[-1]:.1f} MB, {total}", flush=True)
    tenth = memory[max(1, len(memory) // 10)]
    return {
        "requests": requests,
        "seconds": round(time.monotonic() - began, 1),
        "statuses": total,
        "memory_mb": memory,
        "growth_mb": round(memory[-1] - tenth, 1),
    }


def served_folder(given: argparse.Namespace, place: Path) -> Path:
    """The int8 bundle, made if it is not there."""
    from potstill.bundle.bundle import load
    from potstill.bundle.layout import INT8
    from potstill.bundle.record import write_record

    if not (place / "why.txt").exists():
        (place / "why.txt").write_text(make(given, place), encoding="utf-8")
    folder = place / "int8" if (place / "int8").exists() else place / "bundle"
    bundle = load(folder)
    if bundle.precision != "int8":  # rejected by the accuracy check; its speed can be measured all the same
        write_record(folder, replace(bundle.record, graph=INT8))
    return folder


def commands(given: argparse.Namespace, folder: Path) -> dict[str, list[str]]:
    """Name -> the command of each server."""
    threads = str(given.threads)
    found = {
        "potstill": [sys.executable, "-m", "potstill", "serve", str(folder), "--port", "PORT", "--threads", threads]
    }
    for kind, name in RIVALS.items() if given.rivals else ():
        script = str(Path(__file__).with_name("serving_rivals.py"))
        found[name] = [str(given.rivals), script, kind, str(folder), "PORT", threads]
    return found


def slim_mb(folder: Path) -> float:
    """Megabytes of a slim copy of the bundle."""
    import potstill

    with tempfile.TemporaryDirectory() as scratch:
        potstill.export(folder, Path(scratch) / "slim", slim=True)
        return round(sum(file.stat().st_size for file in Path(scratch).rglob("*") if file.is_file()) / 1e6, 1)


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--weights", default="minilm")
    parser.add_argument("--made", type=Path)
    parser.add_argument("--clients", type=lambda words: list(map(int, words.split(","))), default=[1, 8, 64, 512])
    parser.add_argument("--seconds", type=float, default=5.0, help="of each cell of a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--soak", type=int, default=100_000, help="requests")
    parser.add_argument("--only-soak", choices=["static"], help="only the soak, with this student of --made")
    parser.add_argument("--rivals", type=Path, help="a Python with fastapi, litserve, torch and transformers")
    parser.add_argument("--skip", nargs="*", default=[], choices=["overload", "soak"])
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("results") / "serving.json")
    given = parser.parse_args()
    if given.only_soak and not given.made:
        parser.error("--only-soak needs --made FOLDER, where a run left its bundles")
    return given


def soak_alone(given: argparse.Namespace, place: Path) -> None:
    """The soak with another student, beside what the record has."""
    served_folder(given, place)
    texts = read(given.data / "banking77" / "test.parquet")[0]
    record: dict[str, Any] = json.loads(given.out.read_text(encoding="utf-8"))
    with running("potstill", commands(given, place / given.only_soak)["potstill"]) as ours:
        found = measure_soak(ours, texts, given.soak)
    record[f"soak_{given.only_soak}"] = found | {"commit": commit()}
    write_record_and_section(given, record)


def main() -> None:
    """Export, measure, write the section."""
    given = parse_arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))  # so that no stopped server is left behind
    if given.only_soak:
        soak_alone(given, given.made)
        return
    with tempfile.TemporaryDirectory() as scratch:
        place = given.made or Path(scratch) / "made"
        place.mkdir(parents=True, exist_ok=True)
        folder = served_folder(given, place)
        texts = read(given.data / "banking77" / "test.parquet")[0]
        record: dict[str, Any] = {
            **circumstances(),
            "threads": given.threads,
            "weights": given.weights,
            "seconds": given.seconds,
            "rounds": given.rounds,
            "versions": {name: version(name) for name in PACKAGES},
            "slim_mb": slim_mb(folder),
            "rivals": "measured" if given.rivals else "not measured: no --rivals PYTHON was given",
        }
        servers: list[Server] = []
        with ExitStack() as stack:
            for name, command in commands(given, folder).items():
                try:
                    servers.append(stack.enter_context(running(name, command)))
                except RuntimeError as error:
                    record["rivals"] = f"not all measured: {name}: {error}"
                    print(record["rivals"])
            record |= measure_load(given, servers, folder, texts)
            ours = next(server for server in servers if server.name == "potstill")
            rates = [row["texts_per_s"] for row in record["rows"] if row["server"] == "potstill"]
            if "overload" not in given.skip:
                record["overload"] = measure_overload(ours, texts, max(rates))
        if "soak" not in given.skip:
            with running("potstill", commands(given, folder)["potstill"]) as ours:
                record["soak"] = measure_soak(ours, texts, given.soak)
    write_record_and_section(given, record)


def write_record_and_section(given: argparse.Namespace, record: dict[str, Any]) -> None:
    """Write the JSON, and the section of RESULTS.md if it is the repository's."""
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    section = section_of(record)
    if given.out.parent == RESULTS.with_name("results"):
        write_section("serving", section)
    print(section)


if __name__ == "__main__":
    main()
