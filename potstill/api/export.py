"""`export`: a copy of a bundle in another folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from potstill.data.paths import as_path, as_text

if TYPE_CHECKING:
    from potstill.bundle.load import AnyBundle
    from potstill.data.task import JsonObject


@dataclass(frozen=True)
class ExportResult:
    """A copied bundle.

    Attributes:
        folder: where it is.
        bundle: loaded from there.
    """

    folder: Path
    bundle: AnyBundle

    @property
    def files(self) -> dict[str, int]:
        """The bytes of each of its files, by name."""
        return {name: file.bytes for name, file in self.bundle.record.files.items()}

    def to_json(self) -> JsonObject:
        """The folder, the graph that is served, and the files with their bytes."""
        return {"folder": as_text(self.folder), "graph": self.bundle.graph, "files": self.files}

    def to_text(self) -> str:
        """A line for each file, and the sum."""
        lines = [f"  {n / 1e6:9.3f} MB  {name}" for name, n in self.files.items()]
        return "\n".join([f"{as_text(self.folder)}: {sum(self.files.values()) / 1e6:.2f} MB", *lines])


def export(
    model: Annotated[str | Path, "A run's folder, or a bundle's."],
    folder: Annotated[str | Path, "Where the copy goes: a new folder, an empty one, or a bundle to replace."],
    *,
    slim: Annotated[bool, "Only what is served: no other graph, and no weights for transformers."] = False,
) -> ExportResult:
    """Copy a run's model to another folder, whole or only what is served.

    The copy is a bundle that transformers, transformers.js, text-embeddings-inference and onnxruntime read; one that an
    older potstill made is renewed.

    Raises:
        RunNotFound: there is no bundle, or the folder holds something else.
    """
    from potstill.bundle.export.copy_bundle import copy_bundle
    from potstill.bundle.load import load

    target = as_path(folder)
    return ExportResult(target, copy_bundle(load(model), target, slim=bool(slim)))
