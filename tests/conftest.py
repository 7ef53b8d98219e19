"""What every test can rely on: no network beyond loopback, no key to spend with, few threads, and real weights.

The guards are set when this file is imported, before any test, fixture or heavy library. A child process inherits the
environment: it finds no key, a closed hub and a dead proxy.

Weights come from `potstill fetch`. A test that needs some takes the fixture `smollm2`, `minilm` or `potion`, a path. It
is skipped if they were not fetched, unless POTSTILL_REQUIRE_WEIGHTS is set, as `make test` does.
"""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis
import pytest

# No test asserts a time: the first example of a test may load a library. A change is tested on the same cases each
# time, so that what fails was broken by it; POTSTILL_NIGHTLY draws new ones.
NIGHTLY = bool(os.environ.get("POTSTILL_NIGHTLY"))
hypothesis.settings.register_profile("potstill", deadline=None, derandomize=not NIGHTLY)
hypothesis.settings.load_profile("potstill")

# One thread each: tests give the same figures everywhere, and two processes on a small machine do not fight.
THREADS = os.environ.get("POTSTILL_TEST_THREADS", "1")
for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS"):
    os.environ.setdefault(name, THREADS)
os.environ["TOKENIZERS_PARALLELISM"] = "false"

for name in list(os.environ):
    if name.upper().endswith(("_API_KEY", "_TOKEN")) or name.upper().startswith(("OPENAI_", "ANTHROPIC_", "AZURE_")):
        del os.environ[name]
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_OFFLINE"] = "1"
for name in ("http_proxy", "https_proxy", "all_proxy"):
    os.environ.pop(name.upper(), None)
    os.environ[name] = "http://127.0.0.1:9"
os.environ["no_proxy"] = os.environ["NO_PROXY"] = "127.0.0.1,localhost,::1"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with a slow test first: with several workers none is left with one at the end."""
    if not NIGHTLY:
        for item in items:
            if item.get_closest_marker("nightly"):
                item.add_marker(pytest.mark.skip(reason="runs with POTSTILL_NIGHTLY=1"))
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


class BeyondLoopback(RuntimeError):
    """A test tried to reach the network. No OSError, so that no retry and no `except OSError` swallows it."""


def _refuse_beyond_loopback(host: object) -> None:
    if host in (None, "", b"", "localhost", b"localhost"):
        return
    try:
        if ipaddress.ip_address(host.decode() if isinstance(host, bytes) else str(host)).is_loopback:
            return
    except ValueError:
        pass
    raise BeyondLoopback(f"a test tried to reach {host!r}; tests stay on loopback")


def _guarded(real: Callable[..., Any]) -> Callable[..., Any]:
    def connect(self: socket.socket, address: Any, *rest: Any) -> Any:
        if self.family in (socket.AF_INET, socket.AF_INET6):
            _refuse_beyond_loopback(address[0])
        return real(self, address, *rest)

    return connect


def _guarded_lookup(host: Any, *rest: Any, **more: Any) -> Any:
    _refuse_beyond_loopback(host)
    return _look_up(host, *rest, **more)


_look_up = socket.getaddrinfo
socket.socket.connect = _guarded(socket.socket.connect)  # type: ignore[method-assign]
socket.socket.connect_ex = _guarded(socket.socket.connect_ex)  # type: ignore[method-assign]
socket.getaddrinfo = _guarded_lookup


@pytest.fixture(scope="session")
def weights_of() -> Callable[[str], Path]:
    """Call it with the name of a download; returns the folder (for a GGUF, the file) with its weights."""

    def find(name: str) -> Path:
        from potstill.models.downloads.fetch import cached_path

        path = cached_path(name)
        if path is None:
            say = f"the weights {name!r} are not here; run: potstill fetch {name}"
            if os.environ.get("POTSTILL_REQUIRE_WEIGHTS"):
                pytest.fail(say)
            pytest.skip(say)
        return path

    return find


@pytest.fixture(scope="session")
def smollm2(weights_of: Callable[[str], Path]) -> Path:
    """SmolLM2-135M-Instruct: a GGUF file."""
    return weights_of("smollm2")


@pytest.fixture(scope="session")
def minilm(weights_of: Callable[[str], Path]) -> Path:
    """all-MiniLM-L6-v2: a transformers folder."""
    return weights_of("minilm")


@pytest.fixture(scope="session")
def potion(weights_of: Callable[[str], Path]) -> Path:
    """potion-base-8M: a folder of static vectors."""
    return weights_of("potion-8m")


@pytest.fixture(scope="session")
def free_text_run(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A finished run of a tiny causal student that answers in words, beside the files it was made from."""
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from support.answered import write_run

    from potstill.api import distill

    folder = tmp_path_factory.mktemp("answers")
    return distill(write_run(folder), out=folder / "run")
