"""The container: what its Dockerfile installs serves a bundle, and what compose.yaml says is a command that exists."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path

import pytest

import potstill

ROOT = Path(__file__).parents[1]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
# Runs the command line where everything but the named top-level modules and the standard library is absent.
ALONE = """
import importlib.abc, json, sys
absent = set(json.loads(sys.argv.pop(1)))
class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in absent:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
from potstill.cli import main
main()
"""


def installed_packages() -> list[str]:
    """The packages that the Dockerfile names."""
    command = re.search(r"--constraint constraints\.txt \\\n(.*?) \\\n", DOCKERFILE)
    assert command, "the Dockerfile installs packages with constraints.txt"
    return command[1].split()


def with_requirements(packages: list[str]) -> set[str]:
    """The packages and all that they require, without extras."""
    found: set[str] = set()
    while packages:
        name = re.sub(r"[-_.]+", "-", packages.pop()).lower()
        if name in found:
            continue
        found.add(name)
        try:
            lines = requires(name) or []
        except PackageNotFoundError:  # for another system
            continue
        packages += [re.split(r"[ ;<>=!~\[(]", line)[0] for line in lines if "extra ==" not in line]
    return found


def absent_modules() -> list[str]:
    """Top-level modules of this environment that the container does not have."""
    kept = with_requirements(installed_packages()) | {"potstill"}
    return sorted(
        module
        for module, owners in packages_distributions().items()
        if not {re.sub(r"[-_.]+", "-", owner).lower() for owner in owners} & kept
    )


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("container")
    rows = [f"the {word} team won {n},sport" for n in range(20) for word in ("first", "last")]
    rows += [f"the {word} bank lost {n},money" for n in range(20) for word in ("first", "last")]
    (folder / "data.csv").write_text("\n".join(["text,label", *rows]), encoding="utf-8")
    potstill.distill(folder / "data.csv", student="linear", procedure="finetune", budget=0.01, out=folder / "run")
    return folder / "run"


@pytest.fixture(scope="module")
def served(bundle: Path) -> Iterator[str]:
    """The address of a server that has only what the container has."""
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", ALONE, json.dumps(absent_modules()), "serve", str(bundle), "--port", "0"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    seen = ""
    try:
        for line in process.stdout:
            seen += line
            if found := re.search(r"http://127\.0\.0\.1:\d+", line):
                yield found[0]
                break
        else:
            pytest.fail(f"the server did not start:\n{seen}")
    finally:
        process.terminate()
        process.wait(timeout=60)


def test_the_packages_of_the_container_are_enough_to_serve(served: str) -> None:
    assert "torch" in absent_modules()
    assert "sklearn" in absent_modules()
    body = json.dumps({"inputs": "the first team won"}).encode()
    request = urllib.request.Request(f"{served}/predict", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as reply:
        assert json.load(reply)[0]["label"] == "sport"


def test_the_health_check_of_the_container_passes(served: str) -> None:
    check = re.search(r'CMD \["python3", "-c", "(.*)"\]', DOCKERFILE)
    assert check
    port = served.rsplit(":", 1)[1]
    assert "127.0.0.1:8080/health" in check[1]
    done = subprocess.run([sys.executable, "-c", check[1].replace("8080", port)], check=False, timeout=60)
    assert done.returncode == 0


def test_the_image_runs_as_another_user_and_copies_only_the_package() -> None:
    assert re.search(r"^USER 65532:65532$", DOCKERFILE, re.M)
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    assert ignored[0] == "*"
    copied = re.findall(r"^COPY (?!--from)(.*) \S+$", DOCKERFILE, re.M)
    names = {name for line in copied for name in line.split()}
    assert names == {name[1:] for name in ignored if name.startswith("!")}
    assert all((ROOT / name).exists() for name in names)


def test_compose_gives_the_options_that_serve_has() -> None:
    compose = (ROOT / "compose.yaml").read_text(encoding="utf-8")
    flags = set(re.findall(r"--[a-z-]+", compose + DOCKERFILE.split("ENTRYPOINT")[1])) - {"--build"}
    help_text = subprocess.run(
        [sys.executable, "-m", "potstill", "serve", "--help"], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout
    assert flags
    assert all(flag in help_text for flag in flags), flags
