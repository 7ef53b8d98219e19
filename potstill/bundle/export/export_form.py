"""A trained student of a text-to-text task -> a bundle folder: exported, checked, quantised if that pays.

The sibling of `export`: what is compared is of the form, the order of the steps is not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import isfinite
from pathlib import Path
from typing import Any, Generic, TypeVar

from potstill.bundle.export.copy_bundle import check_replaceable, finish
from potstill.bundle.export.export import NO_INT8_TEXTS, export_graph, keep_transformers
from potstill.bundle.form_bundle import FormBundle
from potstill.bundle.layout import INT8
from potstill.bundle.record import BundleRecord, ParityCheck, QuantizationResult, list_files
from potstill.data.atomic import atomic_folder
from potstill.data.task import Task
from potstill.students.base import TrainedModel

BundleT = TypeVar("BundleT", bound=FormBundle[Any])


@dataclass(frozen=True)
class FormChecks(Generic[BundleT]):
    """How a bundle of a form is checked.

    Attributes:
        parity: the bundle with its fp32 graph against the student; raises BadData if they differ.
        write_int8: writes the int8 graph of a bundle into a file.
        accept_int8: compares the bundle with fp32 and the one with int8; None if there are no texts to do so.
        notes: what the reader of the record should know.
        transformers: compares what transformers loads from the folder with the student, see
            `parity.check_transformers`; None if it loads nothing.
    """

    parity: Callable[[BundleT], ParityCheck]
    write_int8: Callable[[BundleT, Path], None]
    accept_int8: Callable[[BundleT, BundleT], QuantizationResult] | None
    notes: Callable[[BundleRecord], tuple[str, ...]]
    transformers: Callable[[BundleT], tuple[float, str]] | None = None


def export_form(
    student: TrainedModel,
    folder: Path,
    *,
    task: Task,
    kind: type[BundleT],
    checks: FormChecks[BundleT],
    complete: Callable[[BundleT], BundleRecord] | None = None,
) -> BundleT:
    """Write the student as a bundle; an earlier bundle in `folder` is replaced only when the new one is complete.

    Args:
        student: trained.
        folder: where the bundle goes; absent, empty, or a bundle.
        task: of the form.
        kind: the class of the bundle.
        checks: what is compared.
        complete: returns the record of the finished bundle with what only the caller knows: lineage, test metrics.

    Raises:
        BadData: the exported graph does not give what the student gives; nothing was written.
        RunNotFound: the folder holds something that is not a bundle.
    """
    check_replaceable(folder)
    with atomic_folder(folder) as fresh:
        record = export_graph(student, fresh, task)
        record = replace(record, notes=(*checks.notes(record), *record.notes))
        exact = kind(fresh, record)
        record = replace(record, parity=checks.parity(exact))
        if checks.transformers is not None:
            record = keep_transformers(fresh, record, *checks.transformers(exact))
        record = _try_int8(exact, record, checks)
        if complete is not None:
            record = complete(kind(fresh, record))
            record = replace(record, metrics={n: s for n, s in record.metrics.items() if isfinite(s.value)})
        finish(fresh, record)
    return kind.open(folder)


def _try_int8(exact: BundleT, record: BundleRecord, checks: FormChecks[BundleT]) -> BundleRecord:
    if checks.accept_int8 is None:
        return replace(record, notes=(*record.notes, NO_INT8_TEXTS))
    checks.write_int8(exact, exact.folder / INT8)
    files = list_files(exact.folder)
    small = type(exact)(exact.folder, replace(record, files=files), graph=INT8)
    result = checks.accept_int8(exact, small)
    record = replace(record, int8=result, notes=(*record.notes, result.reason))
    if result.accepted:
        return replace(record, graph=INT8, files=files)
    (exact.folder / INT8).unlink()
    return record
