"""Checks the values of a bundle's record, so that a damaged one is refused when it is loaded: types, ranges, lengths.

Needs the standard library alone. Does not look at the files.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

from potstill.bundle.layout import is_bundle_path
from potstill.bundle.record import EXPORT_AGAIN, RECORD_FILE, BundleRecord
from potstill.data.task import TaskKind
from potstill.errors import RunNotFound
from potstill.evaluation.guarantees import Guarantees
from potstill.evaluation.metrics import is_finite_number
from potstill.evaluation.multilabel_thresholds import MultilabelGuarantees

MAX_BYTES = 2**50  # of a file: a petabyte


def check_record(record: BundleRecord, folder: Path) -> None:
    """Check the record that was read from the bundle in `folder`.

    Raises:
        RunNotFound: a value cannot be; the message names the key of the first one.
    """
    try:
        _check_record(record)
    except ValueError as error:
        raise RunNotFound(f"{folder / RECORD_FILE} is damaged: {error}.", EXPORT_AGAIN) from error


def _check_record(record: BundleRecord) -> None:
    _check_task(record)
    for name, file in record.files.items():
        _check(is_bundle_path(name), "files", name)
        _check(type(file.bytes) is int and 0 <= file.bytes < MAX_BYTES, f"files.{name}.bytes", file.bytes)
        _check(isinstance(file.sha256, str), f"files.{name}.sha256", file.sha256)
    for name in record.preprocessor.files:
        _check(isinstance(name, str) and is_bundle_path(name), "preprocessor.files", name)
    _check(is_finite_number(record.temperature) and record.temperature > 0, "temperature", record.temperature)
    _check(isinstance(record.calibration_in_graph, bool), "calibration_in_graph", record.calibration_in_graph)
    threshold = record.abstain_threshold
    _check(threshold is None or (is_finite_number(threshold) and 0 <= threshold <= 1), "abstain_threshold", threshold)
    _check_measured(record)
    if isinstance(record.guarantees, Guarantees):
        _check_guarantees(record.guarantees, len(record.task.labels))
        # What lies in the graph is undone for the guarantees.
        undone = not record.calibration_in_graph or all(record.guarantees.scaling.scale)
        _check(undone, "guarantees.scaling.scale", 0)
    elif isinstance(record.guarantees, MultilabelGuarantees):
        _check_multilabel(record.guarantees, len(record.task.labels))


def _check_task(record: BundleRecord) -> None:
    task = record.task
    texts = (*task.labels, *task.descriptions, *task.descriptions.values(), task.name, task.instruction)
    _check(all(isinstance(text, str) for text in texts), "task", "a value that is no text")
    _check(task.kind in get_args(TaskKind), "task.kind", task.kind)
    _check(len(record.text_columns) <= 2, "text_columns", record.text_columns)
    lineage = vars(record.lineage).values()
    _check(all(isinstance(text, str) for text in (*record.notes, *lineage)), "notes", "a value that is no text")


def _check_measured(record: BundleRecord) -> None:
    numbers: list[tuple[str, Any]] = [("transformers_difference", record.transformers_difference)]
    if record.parity is not None:
        numbers += [(f"parity.{name}", value) for name, value in vars(record.parity).items()]
    if record.int8 is not None:
        _check(isinstance(record.int8.reason, str), "int8.reason", record.int8.reason)
        _check(isinstance(record.int8.accepted, bool), "int8.accepted", record.int8.accepted)
        names = ("accuracy_loss", "agreement", "speedup", "texts")
        numbers += [(f"int8.{name}", getattr(record.int8, name)) for name in names]
    for metric, score in record.metrics.items():
        numbers += [(f"metrics.{metric}.{name}", value) for name, value in vars(score).items()]
    for name, value in numbers:
        # What was not finite when it was measured is written as null.
        _check(value is None or is_finite_number(value), name, value)


def _check_guarantees(measured: Guarantees, n_labels: int) -> None:
    _check(measured.n >= 1, "guarantees.n", measured.n)
    _check(measured.n_folds >= 0, "guarantees.n_folds", measured.n_folds)
    _check_scaling(measured.scaling.method, measured.scaling.scale, measured.scaling.shift, n_labels)
    counts = list(zip(measured.n_wrong_above, measured.n_above, strict=True))
    _check(all(0 <= wrong <= above <= measured.n for wrong, above in counts), "guarantees.n_above", "such counts")
    scores = [score for score in measured.conformal_scores if score is not None]
    _check(all(score >= 0 for score in scores), "guarantees.conformal_scores", "a score below zero or NaN")
    energies = measured.energy_quantiles
    _check(all(map(is_finite_number, energies)), "guarantees.energy_quantiles", "a value that is not finite")
    _check(list(energies) == sorted(energies), "guarantees.energy_quantiles", "values out of order")


def _check_multilabel(measured: MultilabelGuarantees, n_labels: int) -> None:
    _check(measured.n >= 1, "guarantees.n", measured.n)
    _check(measured.n_folds >= 0, "guarantees.n_folds", measured.n_folds)
    _check_scaling(measured.scaling.method, measured.scaling.scale, measured.scaling.shift, n_labels)
    thresholds = measured.label_thresholds.thresholds
    _check(len(thresholds) in (1, n_labels), "guarantees.label_thresholds", f"{len(thresholds)} thresholds")
    _check(all(0 <= each <= 1 for each in thresholds), "guarantees.label_thresholds", "one outside [0, 1]")


def _check_scaling(method: object, scale: tuple[float, ...], shift: tuple[float, ...], n_labels: int) -> None:
    _check(isinstance(method, str), "guarantees.scaling.method", method)
    for name, values in (("scale", scale), ("shift", shift)):
        _check(len(values) in (1, n_labels), f"guarantees.scaling.{name}", f"{len(values)} values")
        _check(all(map(is_finite_number, values)), f"guarantees.scaling.{name}", "a value that is not finite")
    _check(len(scale) > 1 or scale[0] > 0, "guarantees.scaling.scale", scale[0])


def _check(holds: bool, key: str, value: object) -> None:
    if not holds:
        shown = value if isinstance(value, str) else repr(value)
        raise ValueError(f"{key} cannot be {shown[:80]}")
