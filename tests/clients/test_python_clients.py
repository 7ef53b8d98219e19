"""Clients of other servers, each in an environment of its own, ask `potstill serve` as their users would."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.served_bundles import serve_process, write_bundle

HERE = Path(__file__).parent
# Environment of `make clients` -> scripts that it runs. Their requirements contradict one another.
SCRIPTS = [
    ("python", "ask_tei.py"),
    ("python", "ask_hub.py"),
    ("triton", "ask_triton.py"),
    ("kserve", "ask_kserve.py"),
]


def environment(name: str) -> Path:
    """The `bin` folder of an environment; skips if it was not made."""
    folder = Path(os.environ.get("POTSTILL_CLIENTS", "/nonexistent")) / name / "bin"
    if not folder.is_dir():
        pytest.skip("make clients installs what this test needs")
    return folder.absolute()


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of three models: small (the default), pairs and several."""
    folder = tmp_path_factory.mktemp("bundles")
    kinds = {"small": "single", "pairs": "pair", "several": "multi"}
    named = [f"{name}={write_bundle(folder / name, kind)}" for name, kind in kinds.items()]  # type: ignore[arg-type]
    with serve_process(*named) as (_, port):
        yield f"http://127.0.0.1:{port}"


@pytest.mark.parametrize(("name", "script"), SCRIPTS)
def test_clients_of_other_servers_are_answered(name: str, script: str, request: pytest.FixtureRequest) -> None:
    python = environment(name) / "python"
    done = subprocess.run(
        [python, HERE / script, request.getfixturevalue("url")],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={key: value for key, value in os.environ.items() if not key.endswith("_OFFLINE")},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    print(done.stdout.strip())


def test_schemathesis_finds_no_request_that_the_server_mistakes(request: pytest.FixtureRequest) -> None:
    schemathesis = environment("python") / "schemathesis"
    url = request.getfixturevalue("url")
    command = [schemathesis, "run", f"{url}/openapi.json", "--checks", "not_a_server_error,response_schema_conformance"]
    done = subprocess.run(
        [*command, "--max-examples", "30", "--seed", "1", "--phases", "examples,coverage,fuzzing", "--no-color"],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
        cwd=request.getfixturevalue("tmp_path"),
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert re.search(r"\d+ (passed|generated)", done.stdout), done.stdout
