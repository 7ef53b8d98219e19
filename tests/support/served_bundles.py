"""Small bundles, and servers of them in this process or another. Not a test itself."""

from __future__ import annotations

import http.client
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from support.commands import heed_signals

from potstill.bundle.export.export import export
from potstill.data.pairs import join_pair
from potstill.data.task import Task, TaskKind
from potstill.serving.access import Access
from potstill.serving.batching import Batcher
from potstill.serving.limits import ServingLimits
from potstill.serving.metrics import ServingMetrics
from potstill.serving.model import Computed, ServedModel
from potstill.serving.pool import ModelPool
from potstill.serving.server import Address, listening_socket, make_server
from potstill.serving.service import Service
from potstill.students.base import StudentConfig
from potstill.students.linear import LinearStudent
from potstill.testing import StudentContract

LABELS = StudentContract.labels  # food, sport, money
KEY = "a-key-of-the-tests-0123456789"


def write_bundle(folder: Path, kind: TaskKind = "single") -> Path:
    """A linear bundle that was calibrated on its training texts."""
    lesson = StudentContract().training_data()
    task = Task(LABELS, kind=kind)
    gold: Any = np.asarray(lesson.targets).argmax(axis=1)
    texts = list(lesson.texts)
    if kind == "pair":
        texts = [join_pair(text, text) for text in texts]
    if kind == "multi":
        gold = np.asarray(lesson.targets) > 0.5
    student = LinearStudent(StudentConfig(LABELS, kind=kind)).fit(replace(lesson, texts=texts))
    export(student, folder, task=task, texts=texts * 3, gold=np.concatenate([gold] * 3), calibrate=True)
    return folder


@dataclass(frozen=True)
class Response:
    """A response: status, headers by lower-case name, body."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


@dataclass
class Served:
    """A server at an address."""

    host: str
    port: int
    pool: ModelPool

    @property
    def url(self) -> str:
        """Without a slash at the end."""
        return f"http://{self.host}:{self.port}"

    def ask(self, path: str, body: Any = None, method: str | None = None, **headers: str) -> Response:
        """Send a request; a body that is not bytes is sent as JSON, an underscore in a header is a hyphen."""
        return ask(self.host, self.port, path, body, method, **headers)


def ask(host: str, port: int, path: str, body: Any = None, method: str | None = None, **headers: str) -> Response:
    """As `Served.ask`."""
    line = http.client.HTTPConnection(host, port, timeout=20)
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    given = {} if body is None else {"Content-Type": "application/json"}
    given |= {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        line.request(method or ("GET" if data is None else "POST"), path, data, given)
        reply = line.getresponse()
        return Response(reply.status, {name.lower(): value for name, value in reply.getheaders()}, reply.read())
    finally:
        line.close()


@contextmanager
def serving(
    folders: Mapping[str, Path] | Path,
    limits: ServingLimits | None = None,
    *,
    keys: tuple[bytes, ...] = (),
    **more: Any,
) -> Iterator[Served]:
    """A server in a thread of this process, all models loaded."""
    named = {"small": folders} if isinstance(folders, Path) else folders
    metrics = ServingMetrics()
    pool = ModelPool(named, limits or ServingLimits(), threads=1, on_batch=metrics.batch)
    pool.load_all()
    server = make_server(Service(pool, Access(keys), metrics=metrics, **more))
    with listening_socket(Address()) as listener:
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        yield Served("127.0.0.1", listener.getsockname()[1], pool)
        server.should_exit = True
        thread.join()
    pool.close()


class GatedModel(ServedModel):
    """A model whose batches wait until they are let through; it records them."""

    def __init__(self, name: str, bundle: Any) -> None:
        super().__init__(name, bundle)
        self.batches: list[list[Any]] = []
        self.gate = threading.Semaphore(0)
        self.entered = threading.Semaphore(0)

    def compute(self, texts: Any, *, embedding: bool = False) -> Computed:
        """As a model does, later."""
        self.batches.append(list(texts))
        self.entered.release()
        assert self.gate.acquire(timeout=20)
        if "poison" in texts:
            raise ValueError("a secret of the text")
        return super().compute(texts, embedding=embedding)


def put(pool: ModelPool, model: ServedModel) -> None:
    """Serve a model in place of the one that was loaded."""
    before = pool._batchers[model.name]
    pool._batchers[model.name] = Batcher(model, pool.limits)
    before.close()


@contextmanager
def serve_process(*arguments: object, environment: Mapping[str, str] | None = None) -> Iterator[tuple[Any, int]]:
    """`potstill serve` in a process of its own, once it is ready: the process, and the port."""
    command = [sys.executable, "-m", "potstill", "serve", *map(str, arguments), "--port", "0"]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **(environment or {})},
        preexec_fn=heed_signals,
    )
    try:
        assert process.stderr is not None
        line = process.stderr.readline()
        found = re.search(r"http://[^ ]*:(\d+)/", line)
        assert found, line + process.stderr.read()
        yield process, int(found[1])
    finally:
        process.kill()
        process.communicate()
