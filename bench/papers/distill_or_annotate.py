"""Distill or annotate? The planner on the figures of Kang et al. 2023, beside the two rules of thumb.

    python bench/papers/distill_or_annotate.py

For each of the paper's 48 cells (a task, starting labels, extra money) the planner gets the prices, and the scores and
costs of the paper's Pareto figure up to the starting labels; in a second round only the scores of labels alone, so that
what a teacher brings is its prior knowledge. It predicts which is better, more labels or a distilled teacher, with a
probability. No cell is used to fit anything. The compute costs are what the figure's totals leave after the labels: a
fixed part, one for each label, one for each distilled text. Real training runs are in `allocate.py`.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from kang2023 import CELLS, PARETO, USD_PER_LABEL, Cell, Seen
from numpy.typing import NDArray

from potstill.procedures.allocate.expected_scores import (
    InterpolatedScores,
    Measurement,
    PilotScores,
    TeacherMeasurement,
)
from potstill.procedures.allocate.learning_curves import N_DRAWS, CurvePoint, fit_learning_curve
from potstill.procedures.allocate.strategies import UnitCosts, compare_strategies

sys.path.insert(0, str(Path(__file__).parent.parent))
from sections import commit, table, write_section

RESULTS = Path(__file__).parent.parent / "results" / "distill_or_annotate.json"
READING_SCORE, READING_COST = 0.01, 0.05  # errors of values read off a plot
# The labels of a task; for generation and question answering a number at which chance is about zero.
N_LABELS = {"WLP": 18, "Stance": 5, "FEVER": 2, "MultiPIT_Id": 2, "MultiPIT_Gen": 50, "NQ": 50}
NO_LIMIT = 1e9  # the paper had more unlabelled text than money


@dataclass(frozen=True)
class Prediction:
    """The planner's prediction of a cell: P(distilling is better), the expected scores in percent, and the truth."""

    cell: Cell
    distil_wins: float
    annotate: float
    distil: float

    @property
    def sure(self) -> bool:
        """Whether nine draws of ten agree."""
        return not 0.1 < self.distil_wins < 0.9

    @property
    def right(self) -> bool:
        """Whether the more likely side won."""
        return (self.distil_wins > 0.5) == (self.cell.distil > self.cell.annotate)


def main() -> None:
    argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0]).parse_args()
    predictions = [predict(cell) for cell in CELLS]
    alone = [predict(cell, distilled=False) for cell in CELLS]
    for each in (*predictions, *alone):
        cell = each.cell
        print(
            f"{cell.task:13} {cell.start:>6,} +${cell.extra_usd:<4.0f}"
            f" annotate {each.annotate:5.1f} ({cell.annotate:4.1f})"
            f"  distil {each.distil:5.1f} ({cell.distil:4.1f})  P {each.distil_wins:4.0%}"
            f"  {'right' if each.right else 'WRONG'}{'' if each.sure else ', unsure'}"
        )
    record = {
        "format": 1,
        "bench": "distill_or_annotate",
        "commit": commit(),
        "cells": [asdict(each) for each in predictions],
        "cells_without_distilled_scores": [asdict(each) for each in alone],
    }
    RESULTS.write_text(json.dumps(record, indent=1))
    section = page(predictions, alone)
    write_section("distill-or-annotate", section)
    print(section)


def predict(cell: Cell, *, distilled: bool = True) -> Prediction:
    """The prediction for one cell from the figure's points up to its starting labels, distilled ones or not."""
    known = [seen for seen in PARETO if seen.task == cell.task and seen.labels <= cell.start]
    scores: InterpolatedScores | PilotScores
    if distilled:
        scores = InterpolatedScores(
            [Measurement(each.labels, each.texts, each.score / 100) for each in known], std_error=READING_SCORE
        )
    else:
        curve = fit_learning_curve(points_of_labels([each for each in known if not each.texts]))
        scores = PilotScores(curve, TeacherMeasurement(), n_labels=N_LABELS[cell.task], std_error=READING_SCORE)
    costs = costs_of(cell.task, [each for each in known if each.texts])
    comparison = compare_strategies(
        scores,
        costs,
        cell.extra_usd,
        n_labels_owned=cell.start,
        n_unlabelled=NO_LIMIT,
        strategies=("annotate", "distil"),
    )
    annotate, distil = comparison.get("annotate"), comparison.get("distil")
    assert annotate is not None
    assert distil is not None
    return Prediction(cell, distil.win_probability, 100 * annotate.score.value, 100 * distil.score.value)


def points_of_labels(known: Sequence[Seen]) -> list[CurvePoint]:
    """The points of labels alone, and one interpolated between the first two: a curve needs four."""
    sizes, scores = ([getattr(each, name) for each in known] for name in ("labels", "score"))
    middle = round((sizes[0] * sizes[1]) ** 0.5)
    return [
        CurvePoint(n, (score / 100,)) for n, score in zip([*sizes, middle], [*scores, sum(scores[:2]) / 2], strict=True)
    ]


def costs_of(task: str, known: Sequence[Seen]) -> UnitCosts:
    """Non-negative least squares through total less labels, once for each draw of the reading error."""
    from scipy.optimize import nnls

    labels = np.array([each.labels for each in known], dtype=np.float64)
    usd = np.array([each.usd for each in known])
    design = np.stack([np.ones_like(labels), labels, np.array([each.texts for each in known])], axis=1)
    scale = design.max(axis=0)
    draw = np.random.default_rng(0)
    fitted = np.empty((N_DRAWS, 3))
    for row in range(N_DRAWS):
        read = usd * (1 + READING_COST * draw.standard_normal(len(usd)))
        # A figure's error grows with the figure, so each point counts by its inverse.
        fitted[row] = nnls(design / scale / usd[:, None], (read - labels * USD_PER_LABEL[task]) / usd)[0] / scale
    fixed, a_label, a_text = fitted.T

    def teacher(n: float) -> NDArray[np.float64]:
        return np.asarray(fixed + a_label * n)

    return UnitCosts(
        usd_per_label=USD_PER_LABEL[task], teacher_training=teacher, usd_per_distilled=np.maximum(a_text, 1e-6)
    )


def page(predictions: Sequence[Prediction], alone: Sequence[Prediction]) -> str:
    """The section of RESULTS.md."""
    losing = [each for each in predictions if each.cell.distil < each.cell.annotate]
    sure = [each for each in predictions if each.sure]
    naive = sum(each.cell.distil > each.cell.annotate for each in predictions)
    caught = sum(each.right or not each.sure for each in losing)
    sure_alone = [each for each in alone if each.sure]
    rows = [
        ["the planner", f"{sum(each.right for each in predictions)} of {len(predictions)}"],
        ["the planner, where it is sure", f"{sum(each.right for each in sure)} of {len(sure)}"],
        ["the planner without distilled scores", f"{sum(each.right for each in alone)} of {len(alone)}"],
        ["the same, where it is sure", f"{sum(each.right for each in sure_alone)} of {len(sure_alone)}"],
        ["always distil", f"{naive} of {len(predictions)}"],
        ["always annotate", f"{len(predictions) - naive} of {len(predictions)}"],
    ]
    lines = [
        f"- {each.cell.task}, {each.cell.start:,} labels, +${each.cell.extra_usd:.0f}: "
        f"annotate {each.cell.annotate}, distil {each.cell.distil}; the planner gave distilling {each.distil_wins:.0%}."
        for each in losing
    ]
    return f"""## Distill or annotate: the planner on the paper's own 48 cells

`python bench/papers/distill_or_annotate.py`, commit {commit()}, {time.strftime("%Y-%m-%d")}. It gets the prices and
the paper's Pareto figure up to the starting labels. No cell was fitted; how a curve goes on beyond its last point was
settled while looking at this table. Without distilled scores it gets those of labels alone (and one
interpolated between the first two, as a curve needs four), and the prices.

{table(["who says which is better", "right"], rows)}

The cells in which distilling loses, {caught} of {len(losing)} of them predicted or called unsure:

{chr(10).join(lines)}
"""


if __name__ == "__main__":
    main()
