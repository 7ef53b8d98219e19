"""Finds the folder of a bundle by what a user gives: a bundle's folder, a run's, or a repository of the hub."""

from __future__ import annotations

from pathlib import Path

from potstill.bundle.record import RECORD_FILE
from potstill.data.paths import as_path
from potstill.errors import BadInput

RUNS = "runs"  # where runs are by default, on the machine that made them


def find_folder(
    given: str | Path, *, revision: str | None = None, graph: str | None = None, whole: bool = False
) -> Path:
    """The folder of a bundle; a folder of that name here comes before the hub.

    Args:
        given: a bundle's folder, a run's, or, if there is no such folder, "owner/name" or "owner/name@revision" of the
            Hugging Face hub. A path is never sought there, nor a name whose first part is a folder here, or "runs".
        revision: a branch, a tag or a commit of the repository.
        graph: the graph that will be loaded, as `load` takes it.
        whole: fetch every file from the hub.

    Raises:
        RunNotFound: the hub has no such bundle, or cannot be reached.
        BadInput: a revision of a folder.
        MissingExtra: huggingface-hub is not installed.
    """
    folder = as_path(given)
    here = folder.exists() or folder.parent.exists() or folder.parts[:1] == (RUNS,)
    if isinstance(given, str) and not here:
        from potstill.bundle.hub import HubName, fetch_bundle

        name = HubName.parse(given, revision)
        if name is not None:
            return fetch_bundle(name, graph=graph, whole=whole)
    if revision is not None:
        raise BadInput(f"{given} is a folder, and only a repository has revisions.", "Leave the revision out.")
    if not (folder / RECORD_FILE).is_file() and (folder / "bundle" / RECORD_FILE).is_file():
        return folder / "bundle"
    return folder
