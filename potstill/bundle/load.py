"""Loads a bundle of any task: `Bundle` gives labels, `EntityBundle` entities."""

from __future__ import annotations

from pathlib import Path

from potstill.bundle.bundle import Bundle
from potstill.bundle.bundle import load as load_labels
from potstill.bundle.entity_bundle import EntityBundle, load_entities
from potstill.bundle.record import RECORD_FILE, read_record
from potstill.data.paths import as_path


def load(
    path: str | Path, *, verify: bool = False, threads: int | None = None, graph: str | None = None
) -> Bundle | EntityBundle:
    """The bundle in a folder, or in the `bundle` folder of a run; see `bundle.load` for arguments and errors."""
    if finds_entities(path):
        return load_entities(path, verify=verify, threads=threads, graph=graph)
    return load_labels(path, verify=verify, threads=threads, graph=graph)


def finds_entities(path: str | Path) -> bool:
    """Whether the bundle in a folder finds entities. Raises RunNotFound if there is none."""
    folder = as_path(path)
    if not (folder / RECORD_FILE).is_file() and (folder / "bundle" / RECORD_FILE).is_file():
        folder = folder / "bundle"
    return read_record(folder).task.output is not None
