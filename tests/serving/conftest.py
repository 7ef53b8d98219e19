"""Bundles to serve, made once, and a server of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.served_bundles import Served, serving, write_bundle


@pytest.fixture(scope="session")
def bundle_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One label a text."""
    return write_bundle(tmp_path_factory.mktemp("bundles") / "small")


@pytest.fixture(scope="session")
def pair_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One label for a pair of texts."""
    return write_bundle(tmp_path_factory.mktemp("bundles") / "pairs", "pair")


@pytest.fixture(scope="session")
def multilabel_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Several labels a text."""
    return write_bundle(tmp_path_factory.mktemp("bundles") / "several", "multi")


@pytest.fixture(scope="module")
def served(bundle_folder: Path, pair_folder: Path, multilabel_folder: Path) -> Iterator[Served]:
    """A server of three models: small (the default), pairs and several."""
    with serving({"small": bundle_folder, "pairs": pair_folder, "several": multilabel_folder}) as server:
        yield server
