"""How the logits of one graph of a bundle become probabilities, and what is guaranteed of them. Needs only numpy.

The graphs of a bundle of format 3 give calibrated logits: their last step is the scaling that was fitted on held-out
texts. In older formats the scaling is in the record alone, and is applied to what the graph gives.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from potstill.bundle.record import BundleRecord
from potstill.evaluation.calibration import Array
from potstill.evaluation.guarantees import Guarantees, Scaling
from potstill.evaluation.multilabel_thresholds import LabelScaling, LabelThresholds, MultilabelGuarantees


@dataclass(frozen=True)
class GraphCalibration:
    """Of one graph.

    Attributes:
        scaling: the graph's logits -> probabilities.
        in_graph: the scaling that is a part of the graph; None if it gives the student's own logits.
        guarantees: measured of this very graph on held-out texts; None without such texts, and in a multi-label task.
        multilabel_guarantees: the same of a multi-label task; None otherwise.
        threshold: the probability below which a prediction is not confident; None if there is no threshold.
        label_thresholds: of a multi-label task.
    """

    scaling: Scaling | LabelScaling
    in_graph: Scaling | LabelScaling | None = None
    guarantees: Guarantees | None = None
    multilabel_guarantees: MultilabelGuarantees | None = None
    threshold: float | None = None
    label_thresholds: LabelThresholds = field(default_factory=LabelThresholds)

    @property
    def shown(self) -> Scaling | LabelScaling:
        """The scaling between the student's logits and the probabilities, wherever it is done."""
        return self.in_graph or self.scaling

    def uncalibrated(self, logits: NDArray[np.floating]) -> Array:
        """(N, K) logits of the graph -> (N, K) of the student, which the guarantees were measured on."""
        values = np.asarray(logits, dtype=np.float64)
        if self.in_graph is None:
            return values
        return np.asarray((values - self.in_graph.shift) / self.in_graph.scale)


def calibration_of(record: BundleRecord, graph: str) -> GraphCalibration:
    """The calibration of the graph of that name, one of the record's files."""
    multilabel = record.task.kind == "multi"
    plain: Scaling | LabelScaling = LabelScaling() if multilabel else Scaling()
    measured = record.guarantees
    if measured is None:
        if multilabel or record.calibration_in_graph:
            return GraphCalibration(plain)
        return GraphCalibration(
            Scaling("temperature", scale=(1 / record.temperature,)), threshold=record.abstain_threshold
        )
    in_graph = measured.scaling if record.calibration_in_graph else None
    if measured.graph != record.files[graph].sha256:  # guarantees belong to the graph whose SHA-256 they name
        return GraphCalibration(plain, in_graph)
    scaling = plain if in_graph else measured.scaling
    if isinstance(measured, MultilabelGuarantees):
        thresholds = measured.label_thresholds
        return GraphCalibration(scaling, in_graph, multilabel_guarantees=measured, label_thresholds=thresholds)
    return GraphCalibration(scaling, in_graph, guarantees=measured, threshold=measured.threshold())
