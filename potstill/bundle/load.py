"""Loads a bundle of any task: `Bundle` gives labels, `EntityBundle` entities."""

from __future__ import annotations

from pathlib import Path

from potstill.bundle.bundle import Bundle
from potstill.bundle.bundle import load as load_labels
from potstill.bundle.entity_bundle import EntityBundle, load_entities
from potstill.bundle.find_folder import find_folder
from potstill.bundle.record import read_record


def load(
    path: str | Path,
    *,
    verify: bool = False,
    threads: int | None = None,
    graph: str | None = None,
    revision: str | None = None,
) -> Bundle | EntityBundle:
    """The bundle in a folder, in the `bundle` folder of a run, or in a repository of the Hugging Face hub.

    Args:
        path: the bundle's or the run's folder; or "owner/name", if there is no such folder. Of a repository only what
            predicting reads is downloaded.
        verify: see `bundle.load`, which has the other errors, too.
        threads: see `bundle.load`.
        graph: see `bundle.load`.
        revision: a branch, a tag or a commit of the repository; "owner/name@revision" says the same.

    Raises:
        RunNotFound: there is no such bundle, or the hub cannot be reached.
        BadInput: a revision of a folder.
    """
    folder = find_folder(path, revision=revision, graph=graph, whole=verify)
    if finds_entities(folder):
        return load_entities(folder, verify=verify, threads=threads, graph=graph)
    return load_labels(folder, verify=verify, threads=threads, graph=graph)


def finds_entities(path: str | Path) -> bool:
    """Whether the bundle in a folder finds entities. Raises RunNotFound if there is none."""
    return read_record(find_folder(path)).task.output is not None
