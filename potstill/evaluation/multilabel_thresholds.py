"""Applies the scaling and thresholds of a multi-label student, fitted on held-out texts, to new ones. Needs only numpy.

Each label has a scale, a shift and a threshold of its own, or all share one. Fitting is in `fit_thresholds.py`. Without
guarantees: multi-label tasks have no abstention, no conformal sets and no scope.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from potstill.evaluation.calibration import Array, sigmoid
from potstill.evaluation.metrics import JsonObject, Score


@dataclass(frozen=True)
class LabelScaling:
    """Logits -> probabilities of each label by itself: times `scale`, plus `shift`, sigmoid. One entry each, or K.

    `method` is "none", "temperature" (one scale) or "platt" (a scale and a shift a label: Platt 1999).
    """

    method: str = "none"
    scale: tuple[float, ...] = (1.0,)
    shift: tuple[float, ...] = (0.0,)

    def apply(self, logits: NDArray[np.floating]) -> Array:
        """(N, K) logits -> (N, K) probabilities."""
        return sigmoid(self.scaled(logits))

    def scaled(self, logits: NDArray[np.floating]) -> Array:
        """(N, K) logits -> (N, K) calibrated logits."""
        return np.asarray(np.asarray(logits, dtype=np.float64) * self.scale + self.shift)


@dataclass(frozen=True)
class LabelThresholds:
    """The probability from which a label is predicted.

    Attributes:
        thresholds: one for all labels, or K.
        never_empty: predict the most probable label if none reaches its threshold; set if every held-out text has one.
    """

    thresholds: tuple[float, ...] = (0.5,)
    never_empty: bool = False

    def apply(self, probs: NDArray[np.floating]) -> NDArray[np.bool_]:
        """(N, K) probabilities -> (N, K) bool, the predicted labels."""
        probs = np.asarray(probs)
        predicted = probs >= np.asarray(self.thresholds, dtype=probs.dtype)
        if self.never_empty and probs.size:
            empty = np.flatnonzero(~predicted.any(axis=1))
            predicted[empty, probs[empty].argmax(axis=1)] = True
        return np.asarray(predicted)


@dataclass(frozen=True)
class MultilabelGuarantees:
    """What `fit_multilabel_guarantees` measured of one graph on n held-out texts.

    Attributes:
        graph: SHA-256 of the graph whose logits were measured; valid for this graph only.
        n: held-out texts.
        scaling: logits -> probabilities of each label.
        label_thresholds: probabilities -> predicted labels.
        log_loss: method -> cross-validated log-loss a text, by which the scaling was selected.
        f1: "global" and "per label" -> cross-validated mean of micro and macro F1, by which thresholds were selected.
        ece_before, ece_after: calibration error of all decisions, cross-validated, with 95 % intervals.
        n_folds: 0 if the graph scored the texts; else see `guarantees.Guarantees.n_folds`.
    """

    graph: str
    n: int
    scaling: LabelScaling
    label_thresholds: LabelThresholds
    log_loss: Mapping[str, float]
    f1: Mapping[str, float]
    ece_before: Score
    ece_after: Score
    n_folds: int = 0

    def to_json(self) -> JsonObject:
        """A JSON object that `MultilabelGuarantees.from_json` reads."""
        return {**asdict(self), "kind": "multi"}

    @classmethod
    def from_json(cls, record: JsonObject) -> MultilabelGuarantees:
        """Read what `to_json` returned.

        Raises:
            KeyError, TypeError, ValueError: a key is missing, or a value has the wrong type.
        """
        scaling, thresholds = record["scaling"], record["label_thresholds"]
        return cls(
            graph=str(record["graph"]),
            n=int(record["n"]),
            scaling=LabelScaling(
                str(scaling["method"]), tuple(map(float, scaling["scale"])), tuple(map(float, scaling["shift"]))
            ),
            label_thresholds=LabelThresholds(
                tuple(map(float, thresholds["thresholds"])), bool(thresholds["never_empty"])
            ),
            log_loss={str(name): float(loss) for name, loss in record["log_loss"].items()},
            f1={str(name): float(value) for name, value in record["f1"].items()},
            ece_before=Score.from_json(record["ece_before"]),
            ece_after=Score.from_json(record["ece_after"]),
            n_folds=int(record.get("n_folds", 0)),
        )
