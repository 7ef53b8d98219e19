"""People, real or simulated, for recipes that buy labels or answers: opened, and how many texts the money pays for."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from potstill.data.pool import Pool
from potstill.errors import BadData, BadSpec
from potstill.run.open_teacher import training_reserve
from potstill.run.run import Run
from potstill.run.spec import ComponentSpec
from potstill.teachers.base import Teacher
from potstill.teachers.simulated_human import FROM_POOL


def open_annotator(run: Run, component: ComponentSpec, hidden: Mapping[str, object] | None = None) -> Teacher:
    """Open a human teacher; one that simulates people from the pool is given the pool's hidden gold.

    Args:
        run: the run.
        component: its name and options.
        hidden: of a text-to-text task, text -> the gold that is held back.

    Raises:
        BadSpec: the teacher is not human.
        UnknownPrice: a label has no price.
    """
    if component.options.get("simulate_from") != FROM_POOL:
        hidden = None
    elif hidden is None:
        hidden = _hidden_labels(run.pool)
    annotator = run.open_teacher(component, hidden_gold=hidden)
    if annotator.category != "human":
        raise BadSpec(
            f"{component.name!r} is not human, and this procedure asks people.",
            "Take --teacher human (or replay with usd_per_label), or --procedure kd.",
        )
    return annotator


def _hidden_labels(pool: Pool) -> dict[str, int]:
    """Text -> label column, of the pool texts whose label is held back."""
    rows = np.flatnonzero(pool.hidden_labels >= 0).tolist()
    return {pool.texts[row]: int(pool.hidden_labels[row]) for row in rows}


def affordable_texts(run: Run, annotator: Teacher, n_texts: int | None, available: int) -> int:
    """How many texts people are asked about: `n_texts`, or as many as the money buys beside training; at most all.

    Raises:
        BadData: the money buys none.
    """
    label_micros = annotator.price.cost_micros(annotator.max_usage(["x"]))
    free_micros = run.ledger.limit - training_reserve(run.spec)
    affordable = available if not label_micros else min(available, free_micros // label_micros)
    if affordable < 1:
        free_usd = max(free_micros, 0) / 1e6
        one, what = ("A label", "labels") if run.task.form is None else ("An answer", "answers")
        raise BadData(
            f"{one} can cost ${label_micros / 1e6:.4f} and ${free_usd:.4f} of the budget is for {what}.",
            "Raise the budget (--budget USD).",
        )
    return min(n_texts or affordable, available)
