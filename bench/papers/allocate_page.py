"""What `allocate.py` measured, as a section of RESULTS.md: regret, and dollars to a goal. Measures nothing."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))
from sections import commit, table

BUDGETS, TEST = (25.0, 50.0, 100.0, 300.0), 1500


@dataclass(frozen=True)
class Row:
    """One budget of one world: scores in percent of each way, and what the planner did."""

    data: str
    student: str
    compute: str
    seed: int
    budget_usd: float
    annotate: float
    distil: float
    planner: float
    oracle: float
    oracle_share: float
    labels: int
    way: str
    looks_usd: float = 0.0


def page(rows: Sequence[Row], seeds: int) -> str:
    """The section of RESULTS.md."""
    whole = {name: _seeds(rows, name) for name in dict.fromkeys(row.data for row in rows)}
    partly = [f"{name} ({len(kept)} of {seeds})" for name, kept in whole.items() if len(kept) < seeds]
    missing = f" Fewer seeds: {', '.join(partly)}." if partly else ""
    rows = [row for row in rows if row.seed in whole[row.data]]
    lines = []
    for name, student, compute in dict.fromkeys((row.data, row.student, row.compute) for row in rows):
        for budget in BUDGETS:
            some = [r for r in rows if (r.data, r.student, r.compute, r.budget_usd) == (name, student, compute, budget)]
            if not some:
                continue
            mean = {
                key: np.mean([getattr(r, key) for r in some]) for key in ("annotate", "distil", "planner", "oracle")
            }
            regret = [r.oracle - r.planner for r in some]
            figures = [f"{mean[key]:.1f}" for key in mean]
            lines.append([f"{name}, {student}, {compute}", f"${budget:.0f}", *figures, f"{np.mean(regret):.1f}"])
    evidence = []
    for compute in ("paper", "here"):
        some = [row for row in rows if row.compute == compute]
        ways = {"planner": 0.0, "annotate": 0.0, "distil": 0.0}
        ways = {way: float(np.mean([max(r.oracle - getattr(r, way), 0) for r in some])) for way in ways}
        said = f"planner {ways['planner']:.1f} points, always annotate {ways['annotate']:.1f}"
        evidence.append(f'- compute priced as "{compute}": {said}, always distil {ways["distil"]:.1f}.')
    head = ["data, student, price of compute", "budget", "annotate", "distil", "planner", "oracle", "regret"]
    return f"""## Distill or annotate on real data, simulated people

`python bench/papers/allocate.py`, commit {commit()}, {time.strftime("%Y-%m-%d")}, {seeds} seeds, mean accuracy on
{TEST} test texts. **A simulation**: labels known all along are revealed at $ a label; "paper" prices compute as the
paper's figure implies, "here" as this machine's time. The oracle is the best of eleven splits (or the planner) by test
score; splits that an earlier run measured are kept, for the planner is not in them. That the planner does not buy what
it could not measure, unless it is sure, and measures a teacher anew only at four times the labels, was decided while
looking at fever_doa and multipit_id_doa here.{missing}

Mean regret, in which the oracle's luck on the test texts counts as well:

{chr(10).join(evidence)}

{table(head, lines)}

Dollars to what labels alone reach with ${max(BUDGETS):.0f}, between the four budgets by a line in the logarithm
(the paper has 12x for its pairs; its student is at chance where these are not). ${BUDGETS[0]:.0f} is the least that was
tried:

{reach(rows)}
"""


def _seeds(rows: Sequence[Row], name: str) -> set[int]:
    """The seeds of a data set that are whole: two students, two prices of compute, all budgets."""
    some = [row.seed for row in rows if row.data == name]
    return {seed for seed in some if some.count(seed) == 4 * len(BUDGETS)}


def reach(rows: Sequence[Row]) -> str:
    """Dollars to what labels alone reach with the most: the paper's "12 times cheaper", world by world."""
    lines = []
    for name, student, compute in dict.fromkeys((row.data, row.student, row.compute) for row in rows):
        some = [row for row in rows if (row.data, row.student, row.compute) == (name, student, compute)]
        goal = float(np.mean([row.annotate for row in some if row.budget_usd == max(BUDGETS)]))
        figures = [
            dollars_to(
                goal, [float(np.mean([getattr(row, key) for row in some if row.budget_usd == b])) for b in BUDGETS]
            )
            for key in ("planner", "oracle")
        ]
        evidence = [f"${usd:.0f} ({max(BUDGETS) / usd:.1f}x)" if usd is not None else "not reached" for usd in figures]
        lines.append([f"{name}, {student}, {compute}", f"{goal:.1f}", *evidence])
    head = [
        "data, student, price of compute",
        f"labels alone, ${max(BUDGETS):.0f}",
        "planner",
        "best split in hindsight",
    ]
    return table(head, lines)


def dollars_to(goal: float, means: Sequence[float]) -> float | None:
    """The least money whose mean score is the goal, straight in the logarithm between budgets; None beyond the last."""
    for i, mean in enumerate(means):
        if mean >= goal - 0.05:
            if i == 0:
                return BUDGETS[0]
            share = (goal - means[i - 1]) / max(mean - means[i - 1], 1e-9)
            return float(np.exp(np.interp(share, [0, 1], np.log([BUDGETS[i - 1], BUDGETS[i]]))))
    return None
