"""The server as a thread and as a process: it starts, drains, reloads under load, and refuses in one sentence."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from support.served_bundles import KEY, GatedModel, ask, put, serve_process, serving

from potstill import cli
from potstill.bundle.bundle import load
from potstill.serving.access import KEY_VARIABLE
from potstill.serving.limits import ServingLimits
from potstill.serving.pool import ModelPool
from potstill.serving.server import Address, listening_socket, make_server
from potstill.serving.service import Service

BODY = {"inputs": "the soup"}


@pytest.fixture
def gated(bundle_folder: Path) -> GatedModel:
    return GatedModel("small", load(bundle_folder, threads=1))


def test_sigterm_answers_what_is_in_flight_and_ends(bundle_folder: Path, gated: GatedModel) -> None:
    pool = ModelPool({"small": bundle_folder}, threads=1)
    pool.load_all()
    put(pool, gated)
    server = make_server(Service(pool))
    with listening_socket(Address()) as listener, ThreadPoolExecutor(8) as callers:
        port = listener.getsockname()[1]
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        answers = [callers.submit(ask, "127.0.0.1", port, "/predict", BODY) for _ in range(4)]
        assert gated.entered.acquire(timeout=20)
        assert ask("127.0.0.1", port, "/health").status == 200
        server.handle_exit(signal.SIGTERM, None)
        assert not pool.ready
        for _ in range(4):
            gated.gate.release()
        assert [each.result(20).status for each in answers] == [200] * 4
        thread.join(20)
        assert not thread.is_alive()
    with pytest.raises(OSError):
        ask("127.0.0.1", port, "/health")
    pool.close()


def test_a_caller_who_hangs_up_leaves_the_queue(bundle_folder: Path, gated: GatedModel) -> None:
    with serving(bundle_folder) as server, ThreadPoolExecutor(2) as callers:
        put(server.pool, gated)
        first = callers.submit(server.ask, "/predict", BODY)
        assert gated.entered.acquire(timeout=20)
        body = json.dumps({"inputs": [["gone"]] * 50}).encode()
        with socket.create_connection((server.host, server.port)) as line:
            head = b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            line.sendall(head + f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
            _until(lambda: server.pool.batcher().waiting == 50)
        _until(lambda: server.pool.batcher().waiting == 0)
        gated.gate.release()
        assert first.result(20).status == 200
        assert gated.batches == [["the soup"]]


def _until(condition: Callable[[], Any]) -> None:
    for _ in range(2000):
        if condition():
            return
        threading.Event().wait(0.01)
    raise AssertionError("never")


def test_a_full_queue_gives_429_and_retry_after(bundle_folder: Path, gated: GatedModel) -> None:
    with serving(bundle_folder, ServingLimits(queued_texts=2)) as server, ThreadPoolExecutor(4) as callers:
        put(server.pool, gated)
        first = callers.submit(server.ask, "/predict", BODY)
        assert gated.entered.acquire(timeout=20)
        waiting = callers.submit(server.ask, "/predict", {"inputs": [["a"], ["b"]]})
        _until(lambda: server.pool.batcher().waiting == 2)
        refused = server.ask("/predict", BODY)
        assert (refused.status, refused.json()["error_type"]) == (429, "Overloaded")
        assert int(refused.headers["retry-after"]) >= 1
        for _ in range(2):
            gated.gate.release()
        assert [first.result(20).status, waiting.result(20).status] == [200, 200]


def test_reloading_under_load_loses_no_request(bundle_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(bundle_folder, tmp_path / "bundle")
    stop = threading.Event()
    with serving(tmp_path / "bundle") as server, ThreadPoolExecutor(4) as callers:

        def load_it() -> list[int]:
            statuses = []
            while not stop.is_set():
                statuses.append(server.ask("/predict", {"inputs": [["a"], ["b"]]}).status)
            return statuses

        running = [callers.submit(load_it) for _ in range(4)]
        for _ in range(5):
            server.pool.load("small")
        stop.set()
        statuses = [status for each in running for status in each.result(30)]
        assert statuses
        assert set(statuses) == {200}


def test_a_slow_client_and_a_crowd_do_not_stop_the_server(bundle_folder: Path) -> None:
    with serving(bundle_folder, ServingLimits(connections=4, request_s=0.3, idle_s=5)) as server:
        crowd = [socket.create_connection((server.host, server.port)) for _ in range(12)]
        assert server.ask("/predict", BODY).status == 200
        with socket.create_connection((server.host, server.port)) as line:
            line.sendall(b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n\r\n{")
            line.settimeout(20)
            assert line.recv(100) == b""  # ended by its deadline
        for each in crowd:
            each.close()
        assert server.ask("/predict", BODY).status == 200


def test_a_process_serves_several_models_and_ends_well(bundle_folder: Path, pair_folder: Path, tmp_path: Path) -> None:
    key_file = tmp_path / "keys"
    key_file.write_text(f"\n{KEY}\n")
    with serve_process(f"first={bundle_folder}", pair_folder, "--key-file", key_file) as (process, port):
        key = f"Bearer {KEY}"
        assert ask("127.0.0.1", port, "/health").status == 200
        assert ask("127.0.0.1", port, "/info").status == 401
        assert ask("127.0.0.1", port, "/info", Authorization=key).json()["models"] == ["first", "pairs"]
        assert ask("127.0.0.1", port, "/models/first", {"inputs": "secret text"}, Authorization=key).status == 200
        assert ask("127.0.0.1", port, "/predict", b"\xffsecret text", Authorization=key).status == 400
        process.send_signal(signal.SIGTERM)
        out, errors = process.communicate(timeout=30)
        assert process.returncode == 0
        assert errors == ""
        assert "secret" not in out + errors
        assert KEY not in out + errors


def test_what_cannot_be_served_is_said_in_a_sentence(bundle_folder: Path, tmp_path: Path) -> None:
    damaged, newer = tmp_path / "damaged", tmp_path / "newer"
    for folder in (damaged, newer):
        shutil.copytree(bundle_folder, folder)
    (damaged / "onnx" / "model.onnx").write_bytes(b"x")
    record = json.loads((newer / "potstill.json").read_text())
    (newer / "potstill.json").write_text(json.dumps({**record, "format": 99}))
    (tmp_path / "short").write_text("short")
    (tmp_path / "empty").write_text("\n")
    refused = {
        (str(tmp_path / "nothing"),): "does not exist",
        (str(damaged),): "bytes",
        (str(newer),): "newer potstill",
        (str(bundle_folder), f"{tmp_path}/../{tmp_path.name}/x/../{bundle_folder.name}"): "both called",
        (f"a b={bundle_folder}",): "cannot be a model's name",
        (str(bundle_folder), "--host", "0.0.0.0"): "asks for a key",
        (str(bundle_folder), "--key-file", str(tmp_path / "short")): "fewer than 16",
        (str(bundle_folder), "--key-file", str(tmp_path / "empty")): "holds no key",
        (str(bundle_folder), "--key-file", str(tmp_path / "none")): "cannot be read",
        (str(bundle_folder), "--port", "99999"): "is no port",
        (str(bundle_folder), "--max-queue", "0"): "below one",
    }
    for arguments, sentence in refused.items():
        found = CliRunner(env={KEY_VARIABLE: None}).invoke(cli.app, ["serve", *arguments])
        assert sentence in str(found.exception), arguments
        assert found.exception is not None
        assert "Traceback" not in found.output
