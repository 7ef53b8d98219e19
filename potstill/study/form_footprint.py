"""The footprint of a student of entities or of answers in words: the sibling of `footprint.py`.

Parameters and speed are those of the exported bundle. FLOPs of entities are counted over the products of matrices in
the graph, those of answers in words in PyTorch, over all steps of an answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from potstill.bundle.export.export_entities import export_entities
from potstill.bundle.export.export_free_text import export_free_text
from potstill.bundle.layout import ENCODER, FP32, precision_of
from potstill.data.task import Task
from potstill.errors import PotstillError
from potstill.evaluation.energy import cpu_meter
from potstill.evaluation.latency import measure_latency
from potstill.run.entity_verbs import marked_texts
from potstill.run.free_text_verbs import answered_texts
from potstill.study.footprint import (
    COUNTED_TEXTS,
    TIMED_TEXTS,
    count_graph,
    count_parameters,
    count_torch_flops,
    not_exported,
    without_export,
)
from potstill.study.records import Footprint

TIMED_ANSWERS = 64  # texts that are answered in words to measure the speed


@dataclass(frozen=True)
class _Exported:
    """A bundle, and what is counted of its student."""

    bundle: Any
    parameters: int | None
    flops: float | None


def measure_form_footprint(student: Any, task: Task, test: Any, note: str = "") -> Footprint:
    """Export the student and measure it on test texts; what cannot be measured is None, and the note says why.

    Args:
        student: trained.
        task: of entities or of answers in words.
        test: the test part of its pool; int8 is decided by it.
        note: which cell it was measured on.
    """
    entities = task.form == "entities"
    texts, predict = list(test.texts), student.find_entities if entities else student.generate
    with TemporaryDirectory(prefix="potstill-") as scratch:
        folder = Path(scratch) / "bundle"
        try:
            made = (_export_entities if entities else _export_free_text)(student, folder, task, test)
        except (PotstillError, NotImplementedError, RuntimeError, OSError) as error:
            return without_export(predict, texts, not_exported(error))
        timed = texts[: TIMED_TEXTS if entities else TIMED_ANSWERS]
        speed = measure_latency(made.bundle.predict, timed, seconds=1.0, meter=cpu_meter())
        return Footprint(
            parameters=made.parameters,
            flops=made.flops,
            texts_per_s=speed.texts_per_s,
            p50_ms=speed.p50_ms,
            p99_ms=speed.p99_ms,
            size_mb=made.bundle.size_mb,
            joules_per_1000=None if speed.joules_per_text is None else 1000 * speed.joules_per_text,
            dtype=precision_of(made.bundle.graph),
            note=note,
        )


def _export_entities(student: Any, folder: Path, task: Task, test: Any) -> _Exported:
    bundle = export_entities(student, folder, task=task, check=marked_texts(test))
    counted = count_graph(folder / FP32, bundle.preprocessor, _some(test.texts))
    return _Exported(bundle, counted.parameters, counted.flops)


def _export_free_text(student: Any, folder: Path, task: Task, test: Any) -> _Exported:
    bundle = export_free_text(student, folder, task=task, check=answered_texts(test))
    graphs = [folder / name for name in (FP32, ENCODER) if (folder / name).exists()]
    counts = [count_parameters(graph) for graph in graphs]
    parameters = None if None in counts else sum(each or 0 for each in counts)
    return _Exported(bundle, parameters, count_torch_flops(student.generate, _some(test.texts)))


def _some(texts: Sequence[str]) -> Sequence[str]:
    return texts[:COUNTED_TEXTS]
