"""The recipe `allocate` as it is shipped, beside a budget spent on labels alone and on distilling alone.

    python bench/papers/allocate_shipped.py [--data ../shared/data] [--sets NAME ...] [--seeds 0 1 2] [--max-hours H]

Starts of 500 and 1,000 labels, of which 100 validate (Kang et al. 2023 start from 1,000 and 5,000). The student is
`static:potion-8m`, the teacher a regression on `encoder:mpnet`, with 14 times the parameters and some hundred thousand
times the FLOPs a text. Models and their time are real, at the paper's price of a GPU hour for an hour of this machine;
people are a simulation: labels known all along, sold at the paper's price or an assumed one. Every cell is a run of its
own and stored when it ends: the same command goes on where it stopped. A cell that fails is stored with its reason and
run again next time. `allocate.py` has the planner in a loop of its own, and the best split in hindsight.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

sys.path.append(str(Path(__file__).parents[1]))
from kang2023 import USD_PER_LABEL
from pgkd import labelled, pool_of
from pgkd_page import half_width
from sections import commit, table, write_section

from potstill.data.atomic import atomic_file
from potstill.data.pool import Pool
from potstill.data.task import Task
from potstill.errors import PotstillError
from potstill.procedures.kinds import recipe_kind
from potstill.run.notes import Allocated
from potstill.run.run import Run
from potstill.run.spec import Spec

RESULTS = Path(__file__).parents[1] / "results" / "allocate_shipped.json"
COMMAND = "python bench/papers/allocate_shipped.py"
SETS = ("banking77", "fever_doa", "ag_news")
PRICES = {"fever_doa": USD_PER_LABEL["FEVER"]}
ASSUMED_LABEL = 0.15  # USD, for the sets that the paper does not price
USD_PER_HOUR = 1.875  # the paper's A100
STARTS, BUDGETS, VALIDATION, POOL, TEST = (500, 1000), (50.0, 150.0), 100, 4000, 1500
STUDENT, LARGE = "static:potion-8m", "encoder:mpnet"
LARGE_OPTIONS = {"mode": "frozen"}
ARMS = ("annotate", "distil", "allocate")


@dataclass(frozen=True)
class SpendingRow:
    """One way to spend one budget, or why it is not there.

    Attributes:
        data, start, budget, arm, seed: which cell; `start` are labels, `budget` is in USD.
        state: "done", or "failed" with the `reason`.
        accuracy: on the test texts.
        labels: bought in addition.
        compute_usd: charged for training and for the teacher's answers.
        way: the strategy whose student `allocate` returned.
        commit: what was measured.
    """

    data: str
    start: int
    budget: float
    arm: str
    seed: int
    state: str = "failed"
    reason: str = ""
    accuracy: float | None = None
    labels: int = 0
    compute_usd: float = 0.0
    way: str = ""
    commit: str = ""

    @property
    def key(self) -> tuple[str, int, float, str, int]:
        """What tells the cell from others."""
        return self.data, self.start, self.budget, self.arm, self.seed


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--sets", nargs="*", default=list(SETS), choices=SETS)
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("runs/bench-allocate-shipped"), help="the folder of the runs")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--max-hours", type=float, default=1000.0, help="no cell is begun later")
    parser.add_argument("--no-write", action="store_true", help="leave RESULTS.md as it is")
    options = parser.parse_args()
    ends = time.monotonic() + 3600 * options.max_hours
    cells = [
        SpendingRow(name, start, budget, arm, seed)
        for seed in options.seeds
        for name in options.sets
        for start in STARTS
        for budget in BUDGETS
        for arm in ARMS
    ]
    for cell in cells:
        if any(row.key == cell.key and row.state == "done" for row in read_rows(options.results)):
            continue
        if time.monotonic() > ends:
            print("The time is up; the same command goes on.")
            break
        row = run_cell(replace(cell, commit=commit()), options)
        store(options.results, row)
        print(row, flush=True)
    if not options.no_write:
        write_section("allocate-shipped", page(read_rows(options.results)))


def run_cell(cell: SpendingRow, options: argparse.Namespace) -> SpendingRow:
    """Run one cell; what goes wrong is its reason."""
    try:
        return measure(cell, options)
    except PotstillError as error:
        return replace(cell, reason=str(error))
    except Exception as error:  # a cell without memory must not stop the others
        return replace(cell, reason=f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}")


def measure(cell: SpendingRow, options: argparse.Namespace) -> SpendingRow:
    price = PRICES.get(cell.data, ASSUMED_LABEL)
    bought = int(cell.budget / price) if cell.arm == "annotate" else 0
    pool = pool_for(cell, options.data / cell.data, bought)
    folder = options.out / f"{cell.data}-{cell.seed}" / f"{cell.arm}-{cell.start}-{cell.budget:g}"
    with Run.open(folder, spec_for(cell, price), Task(pool.labels, name=cell.data), pool) as run:
        student = recipe_kind(run.spec.procedure.kind)(run)
        accuracy = run.evaluate(student, pool.subset("test"), "test").accuracy.value
        found = [note.record for note in run.notes() if isinstance(note.record, Allocated)]
        usd = run.ledger.totals().by_category.get("compute", 0) / 1e6
    n_bought = found[-1].n_labels - (cell.start - VALIDATION) if found else bought  # the start counts there
    way = found[-1].candidate if found else cell.arm
    return replace(cell, state="done", accuracy=accuracy, labels=n_bought, compute_usd=round(usd, 3), way=way)


def pool_for(cell: SpendingRow, folder: Path, bought: int) -> Pool:
    """The start, what is bought beside it, and the rest without labels; the order is the seed's."""
    draw = np.random.default_rng(cell.seed)
    train, test = (labelled(folder / f"{split}.parquet") for split in ("train", "test"))
    held_out = {text for text, _ in test}
    order = [train[i] for i in draw.permutation(len(train)) if train[i][0] not in held_out]
    measured = [test[i] for i in np.random.default_rng(5).permutation(len(test))[:TEST]]
    learn, rest = order[VALIDATION : cell.start + bought], order[cell.start + bought :][:POOL]
    parts = {"validation": order[:VALIDATION], "train": learn, "pool": rest, "test": measured}
    labels = sorted({label for _, label in train})
    return pool_of([(*row, split) for split, rows in parts.items() for row in rows], labels)


def spec_for(cell: SpendingRow, price: float) -> Spec:
    procedure: dict[str, Any] = {"name": "finetune"}
    record: dict[str, Any] = {"budget": cell.budget, "seed": cell.seed, "student": STUDENT}
    if cell.arm == "distil":
        procedure = {"name": "kd"}
        record["teacher"] = {"name": f"trained:{LARGE}", **LARGE_OPTIONS}
    if cell.arm == "allocate":
        large = {"large_model": LARGE, "large_model_options": LARGE_OPTIONS}
        procedure = {"name": "allocate", **large, "annotator": {"simulate_from": "pool"}}
    prices = {"usd_per_label": price, "usd_per_hour": USD_PER_HOUR}
    return Spec.from_dict({**record, "procedure": procedure, "prices": prices})


def read_rows(file: Path) -> list[SpendingRow]:
    return [SpendingRow(**row) for row in json.loads(file.read_text("utf-8"))["rows"]] if file.exists() else []


def store(file: Path, row: SpendingRow) -> None:
    """Add a row, in place of that of the same cell."""
    rows = [*(each for each in read_rows(file) if each.key != row.key), row]
    file.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(file) as path:
        path.write_text(json.dumps({"command": COMMAND, "rows": [asdict(each) for each in rows]}, indent=1) + "\n")


def page(rows: Sequence[SpendingRow]) -> str:
    """The section of RESULTS.md: accuracy in % by set, start and budget, and what `allocate` loses."""
    done = {row.key: row for row in rows if row.state == "done"}
    commits = ", ".join(sorted({row.commit for row in done.values()}))
    head = ["set, start, extra money", "seeds", *ARMS, "`allocate` less the better of both", "labels bought", "ways"]
    lines, regrets = [], []
    for cell in dict.fromkeys(key[:3] for key in done):
        seeds = [key[4] for key in done if key[:3] == cell and key[3] == "allocate"]
        seeds = [seed for seed in seeds if all((*cell, arm, seed) in done for arm in ARMS)]
        if not seeds:
            continue
        score = {arm: np.array([done[*cell, arm, seed].accuracy for seed in seeds], dtype=float) for arm in ARMS}
        gap = score["allocate"] - np.maximum(score["annotate"], score["distil"])
        regrets += gap.tolist()
        found = [done[*cell, "allocate", seed] for seed in seeds]
        lines.append(
            [
                f"{cell[0]}, {cell[1]:,} labels, ${cell[2]:.0f}",
                str(len(seeds)),
                *(f"{100 * score[arm].mean():.1f}" for arm in ARMS),
                f"{100 * gap.mean():+.1f}" + (f" ± {100 * half_width(gap):.1f}" if len(gap) > 1 else ""),
                f"{np.mean([row.labels for row in found]):.0f}",
                ", ".join(sorted({row.way for row in found})),
            ]
        )
    text = f"""## Distill or annotate: the recipe `allocate` as shipped

`{COMMAND}`, commit {commits or "none"}. Student `{STUDENT}`, teacher `{LARGE}` (frozen), ${USD_PER_HOUR} an hour of
this machine. **People are a simulation**; the models are real. ± is a 95 % t-interval over seeds.

{table(head, lines) if lines else "Not measured."}
"""
    failed = [f"- {'-'.join(map(str, row.key))}: {row.reason}" for row in rows if row.state == "failed"]
    if regrets:
        text += f"\nOver all of them `allocate` less the better of both: {100 * np.mean(regrets):+.1f} points."
    return "\n".join([text, *(["Failed:", "", *failed] if failed else [])])


if __name__ == "__main__":
    main()
