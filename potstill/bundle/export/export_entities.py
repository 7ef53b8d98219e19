"""A trained student of entities -> a bundle folder: exported, checked against the original, quantised if that pays.

The sibling of `export`. The bundle must give the student's scores, or nothing is written; int8 is served only if it
loses at most half a point of entity F1 and is faster here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from potstill.bundle.entity_bundle import EntityBundle
from potstill.bundle.export.export import CHECK_TEXTS, EDGE_CASES
from potstill.bundle.export.export_form import FormChecks, export_form
from potstill.bundle.export.parity import PARITY_TEXTS, TOLERANCE
from potstill.bundle.export.quantize import TIMED_TEXTS, decide_int8, measure_speedup, write_int8
from potstill.bundle.record import BundleRecord, ParityCheck, QuantizationResult
from potstill.data.task import Task
from potstill.errors import BadData
from potstill.evaluation.text2text.entities import Entities, entity_counts, micro_f1
from potstill.students.base import Floats
from potstill.students.entity_student import EntityStudent, MarkedTexts


def export_entities(
    student: EntityStudent,
    folder: Path,
    *,
    task: Task,
    check: MarkedTexts,
    complete: Callable[[EntityBundle], BundleRecord] | None = None,
) -> EntityBundle:
    """Write the student as a bundle; an earlier bundle in `folder` is replaced only when the new one is complete.

    Args:
        student: trained.
        folder: where the bundle goes; absent, empty, or a bundle.
        task: of entities.
        check: texts to compare student and graph on, best ones it was not trained on; the first 1,000 are used.
        complete: returns the record of the finished bundle with what only the caller knows: lineage, test metrics.

    Raises:
        BadData: the exported graph does not give what the student gives; nothing was written.
        RunNotFound: the folder holds something that is not a bundle.
    """
    some = MarkedTexts(check.texts[:CHECK_TEXTS], check.entities[:CHECK_TEXTS])
    checks = FormChecks[EntityBundle](
        parity=lambda exact: _check_parity(student, exact, check.texts[:PARITY_TEXTS]),
        write_int8=lambda exact, target: write_int8(exact, target, some.texts),
        accept_int8=(lambda exact, small: _accept_int8(exact, small, some)) if len(some) else None,
        notes=_notes,
    )
    return export_form(student, folder, task=task, kind=EntityBundle, checks=checks, complete=complete)


def _notes(record: BundleRecord) -> tuple[str, ...]:
    inexact = record.student.get("inexact")
    if not inexact:
        return ()
    return (f"{inexact:.1%} of the entities it was trained on begin or end inside a word; it learnt the whole words.",)


def _check_parity(student: EntityStudent, bundle: EntityBundle, texts: Sequence[str]) -> ParityCheck:
    """The largest difference of a score, in batches and one by one.

    Raises:
        BadData: the difference is above the tolerance.
    """
    compared = [*texts, *EDGE_CASES]
    expected = student.unit_scores(compared)
    batched, alone = bundle.unit_scores(compared), [bundle.unit_scores([text])[0] for text in compared]
    largest = max((float(np.abs(each).max()) for each in expected if each.size), default=1.0)
    scale = max(1.0, largest / 10)
    difference = max(_difference(expected, batched), _difference(expected, alone)) / scale
    if not difference <= TOLERANCE:
        raise BadData(
            f"The exported graph differs from the student by {difference:.2g} in a score; {TOLERANCE:g} is allowed.",
            "This is a fault of the exporter: report it, with the versions of torch and onnxruntime.",
        )
    return ParityCheck(difference, TOLERANCE)


def _difference(ours: Sequence[Floats], theirs: Sequence[Floats]) -> float:
    pairs = zip(ours, theirs, strict=True)
    return max((float(np.abs(one - other).max()) for one, other in pairs if one.size), default=0.0)


def _accept_int8(exact: EntityBundle, small: EntityBundle, check: MarkedTexts) -> QuantizationResult:
    """Decide whether int8 is served, by entity F1 on the check texts and by speed."""
    fp32, int8 = ([each.entities for each in bundle.find_entities(check.texts)] for bundle in (exact, small))
    loss = _f1(exact, check, fp32) - _f1(exact, check, int8)
    agreement = float(np.mean([one == other for one, other in zip(fp32, int8, strict=True)]))
    some = check.texts[:TIMED_TEXTS]
    speedup = measure_speedup(lambda: exact.unit_scores(some), lambda: small.unit_scores(some))
    lost = f"{max(0.0, 100 * loss):.1f} points of entity F1 on {len(check):,} texts"
    return decide_int8(loss, speedup, lost, agreement, len(check))


def _f1(bundle: EntityBundle, check: MarkedTexts, predicted: Sequence[Entities]) -> float:
    return micro_f1(entity_counts(check.entities, predicted, bundle.labels))
