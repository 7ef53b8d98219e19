"""Folds the calibration of a bundle into its graphs and its weights for transformers, so that every program shows it.

The scaling was fitted on the logits of the graph that is served; the other graph and the weights get the same one. Does
not fit it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from potstill.bundle.bundle import Bundle
from potstill.bundle.export.edit_graph import add_calibration
from potstill.bundle.export.parity import TOLERANCE
from potstill.bundle.layout import FP32, INT8, TRANSFORMERS_WEIGHTS
from potstill.bundle.record import BundleRecord, list_files
from potstill.errors import BadData
from potstill.students.scale_classifier import scale_classifier


def fold_calibration(folder: Path, record: BundleRecord, texts: Sequence[str]) -> BundleRecord:
    """Make the scaling of `record.guarantees` a part of every graph in the folder, and of the weights for transformers.

    Args:
        folder: the bundle, whose graphs give the student's own logits.
        record: with guarantees.
        texts: a few texts to compare the graphs on, before and after.

    Returns:
        The record of the changed bundle: its guarantees name the changed graph.

    Raises:
        BadData: a changed graph does not give what it should.
        MissingExtra: there are weights for transformers, and safetensors is not installed.
    """
    measured = record.guarantees
    if measured is None:
        return record
    scaling = measured.scaling
    if scaling.method != "none":
        for name in (FP32, INT8):
            if (folder / name).exists():
                before = Bundle(folder, record, graph=name).predict_logits(texts)
                add_calibration(folder / name, scaling.scale, scaling.shift)
                _check(Bundle(folder, record, graph=name).predict_logits(texts), scaling.scaled(before), name)
        if (folder / TRANSFORMERS_WEIGHTS).exists():
            scale_classifier(folder, scaling.scale, scaling.shift)
    files = list_files(folder)
    measured = replace(measured, graph=files[record.graph].sha256)
    return replace(record, guarantees=measured, files=files, calibration_in_graph=True)


def _check(found: NDArray[np.floating], wanted: NDArray[np.floating], name: str) -> None:
    difference = float(np.abs(found - wanted).max()) / max(1.0, float(np.abs(wanted).max()) / 10)
    if not difference <= TOLERANCE:
        raise BadData(
            f"The calibrated graph {name} differs by {difference:.2g} in a logit; {TOLERANCE:g} is allowed.",
            "This is a fault of the exporter: report it, with the versions of torch and onnxruntime.",
        )
