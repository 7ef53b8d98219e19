"""What was measured of a student that gives several labels, applied to new texts. Needs numpy alone.

Each label has a scale, a shift and a threshold of its own, or shares them. Does not cover measuring (`thresholds.py`).
Of sets of labels nothing is promised: no abstaining, no conformal sets, no scope.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from potstill.evaluation.calibration import Array, sigmoid
from potstill.evaluation.metrics import Score


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
        return sigmoid(np.asarray(logits, dtype=np.float64) * self.scale + np.asarray(self.shift))


@dataclass(frozen=True)
class LabelThresholds:
    """From which probability on a label is given.

    Attributes:
        thresholds: one for all labels, or K.
        never_empty: a text for which no label reaches its threshold gets the likeliest: no held-out text had none.
    """

    thresholds: tuple[float, ...] = (0.5,)
    never_empty: bool = False

    def apply(self, probs: NDArray[np.floating]) -> NDArray[np.bool_]:
        """(N, K) probabilities -> (N, K) the labels given."""
        probs = np.asarray(probs)
        given = probs >= np.asarray(self.thresholds, dtype=probs.dtype)
        if self.never_empty and probs.size:
            empty = np.flatnonzero(~given.any(axis=1))
            given[empty, probs[empty].argmax(axis=1)] = True
        return np.asarray(given)


@dataclass(frozen=True)
class MultilabelGuarantees:
    """What `thresholds.measure_several` found of one graph on n held-out texts.

    Attributes:
        graph: SHA-256 of the graph whose logits were measured; of another graph this says nothing.
        n: texts.
        scaling: how its logits become probabilities.
        cut: which labels are given.
        log_loss: method -> cross-validated log-loss a text, what the scaling was chosen by.
        f1: "global" and "per label" -> cross-validated mean of micro and macro F1, what the thresholds were chosen by.
        ece_before, ece_after: calibration error of all decisions, cross-validated, with 95 % intervals.
    """

    graph: str
    n: int
    scaling: LabelScaling
    label_thresholds: LabelThresholds
    log_loss: Mapping[str, float]
    f1: Mapping[str, float]
    ece_before: Score
    ece_after: Score

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary that `MultilabelGuarantees.from_json` reads back."""
        return {**asdict(self), "kind": "multi"}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> MultilabelGuarantees:
        """What `to_json` wrote.

        Raises:
            KeyError, TypeError, ValueError: it is not.
        """
        scaling, cut = record["scaling"], record["label_thresholds"]
        return cls(
            graph=str(record["graph"]),
            n=int(record["n"]),
            scaling=LabelScaling(
                str(scaling["method"]), tuple(map(float, scaling["scale"])), tuple(map(float, scaling["shift"]))
            ),
            label_thresholds=LabelThresholds(tuple(map(float, cut["thresholds"])), bool(cut["never_empty"])),
            log_loss={str(name): float(loss) for name, loss in record["log_loss"].items()},
            f1={str(name): float(value) for name, value in record["f1"].items()},
            ece_before=Score.from_json(record["ece_before"]),
            ece_after=Score.from_json(record["ece_after"]),
        )
