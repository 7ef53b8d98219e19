"""A target for spawned processes: they import it by name, which they cannot do with a test module."""

from __future__ import annotations

from pathlib import Path

from potstill.ledger.store import Annotation, AnnotationStore


def label_forty(folder: Path, annotator: str) -> None:
    """Label the texts t0 to t39 as one annotator."""
    labels = AnnotationStore(folder)
    for i in range(40):
        labels.add(Annotation(f"t{i}", annotator, "x"))
    labels.close()
