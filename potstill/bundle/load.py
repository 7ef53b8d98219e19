"""Loads a bundle of any task: `Bundle` gives labels, `EntityBundle` entities, `FreeTextBundle` answers in words."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from potstill.bundle.bundle import Bundle
from potstill.bundle.bundle import load as load_labels
from potstill.bundle.entity_bundle import EntityBundle
from potstill.bundle.find_folder import find_folder
from potstill.bundle.free_text_bundle import FreeTextBundle
from potstill.bundle.record import read_record
from potstill.data.task import OutputForm

AnyBundle = Bundle | EntityBundle | FreeTextBundle
FORM_BUNDLES: Mapping[OutputForm, type[EntityBundle | FreeTextBundle]] = {
    "entities": EntityBundle,
    "free": FreeTextBundle,
}


def load(
    path: str | Path,
    *,
    verify: bool = False,
    threads: int | None = None,
    graph: str | None = None,
    revision: str | None = None,
) -> AnyBundle:
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
    form = form_of(folder)
    if form is None:
        return load_labels(folder, verify=verify, threads=threads, graph=graph)
    return FORM_BUNDLES[form].open(folder, verify=verify, threads=threads, graph=graph)


def form_of(path: str | Path) -> OutputForm | None:
    """The form of the answers of the bundle in a folder; None for labels. Raises RunNotFound if there is none."""
    return read_record(find_folder(path)).task.form
