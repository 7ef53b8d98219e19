"""Runs that wait for answers, begun once and copied for each test."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from support.answer_run import EMOJI, N_FILED, begin


@pytest.fixture(scope="session")
def begun(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    forms = ("entities", "free")
    return {form: begin(tmp_path_factory.mktemp(form), form, n=N_FILED, extra=(EMOJI,)) for form in forms}


@pytest.fixture
def entities(begun: dict[str, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(begun["entities"].parent, tmp_path / "entities")) / "run"


@pytest.fixture
def free(begun: dict[str, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(begun["free"].parent, tmp_path / "free")) / "run"


@pytest.fixture(params=["entities", "free"])
def run(request: pytest.FixtureRequest) -> Path:
    found: Path = request.getfixturevalue(request.param)
    return found
