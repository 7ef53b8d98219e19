"""Opens a bundle's folder: its record and files are checked, and what is made of them predicts two texts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar

from potstill.bundle.check_graph import check_graph
from potstill.bundle.check_record import check_record
from potstill.bundle.find_folder import find_folder
from potstill.bundle.layout import find_graph
from potstill.bundle.preprocessors import PREPROCESSORS
from potstill.bundle.record import EXPORT_AGAIN, BundleRecord, check_files, newer_version, read_record
from potstill.bundle.saturation import warn_of_saturation
from potstill.bundle.sessions import available_cpus
from potstill.errors import BadData, BadInput, PotstillError, RunNotFound

RUST_PANIC = "PanicException"  # the class of a bug in a library that is written in Rust


class Loaded(Protocol):
    """What is made from a bundle's folder."""

    def try_out(self) -> None:
        """Predict two texts. Raises BadData, or the error of a library, if the files do not fit together."""


LoadedT = TypeVar("LoadedT", bound=Loaded)


def open_folder(
    path: str | Path,
    make: Callable[[Path, BundleRecord, str, int], LoadedT],
    *,
    verify: bool,
    threads: int | None,
    graph: str | None,
) -> LoadedT:
    """Check a bundle's folder and what `make` makes of folder, record, graph and threads; see `load`."""
    if threads is not None and threads < 1:
        raise BadInput(f"threads = {threads}; at least one is needed.", "Give one or more, or leave it out.")
    folder = find_folder(path, graph=graph, whole=verify)
    record = read_record(folder)
    check_record(record, folder)
    if record.preprocessor.name not in PREPROCESSORS:
        raise newer_version(folder, record.made_by)
    chosen = find_graph(graph or record.graph, record.files)
    check_files(folder, record, record.needed_files(chosen), verify=verify)
    for name in record.needed_files(chosen):
        if name.endswith(".onnx"):
            check_graph(folder / name, record.files_beside(name))
    warn_of_saturation(folder, chosen)
    n_threads = threads or available_cpus()
    try:
        bundle = make(folder, record, chosen, n_threads)
        bundle.try_out()
        return bundle
    except BadData as error:
        raise RunNotFound(f"{folder} is damaged: {error.message}", EXPORT_AGAIN) from error
    except PotstillError:
        raise
    except BaseException as error:
        # Any error of a library means that a file holds other values than were written; Rust's are no Exception.
        if not isinstance(error, Exception) and type(error).__name__ != RUST_PANIC:
            raise
        reason = (str(error) or "no reason given").splitlines()[0][:200]
        raise RunNotFound(f"{folder} is damaged: {type(error).__name__}: {reason}.", EXPORT_AGAIN) from error
