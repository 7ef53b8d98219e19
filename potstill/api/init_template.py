"""A first potstill.toml for a data file: every guess as a value, the other keys as comments."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from potstill.data.atomic import atomic_file
from potstill.data.task import Task
from potstill.errors import BadSpec
from potstill.ledger.prices import parse_usd
from potstill.procedures import LABELS_ONLY_PROCEDURE
from potstill.run.inputs import read_inputs, spec_overrides
from potstill.run.spec import DEFAULT_PROCEDURE
from potstill.students import DEFAULT_STUDENT
from potstill.teachers import DEFAULT_TEACHER, TRAINED_TEACHER

SPEC_FILE = "potstill.toml"
SHOWN_LABELS = 30


def write_spec_template(
    data: Path, out: Path | None, budget: str | float | None, options: Mapping[str, object], *, force: bool
) -> tuple[Path, list[str]]:
    """Write the TOML file for `data`; return its path and the guesses, in sentences.

    Raises:
        BadData: the file cannot be read, or has no text column.
        BadSpec: the TOML file exists already.
    """
    out = out or data.with_name(SPEC_FILE)
    if out.exists() and not force:
        raise BadSpec(f"{out} exists already.", "Give another name with -o, or --force.")
    if budget is not None:
        parse_usd(budget)
    order = read_inputs(data, None, spec_overrides(None, None, budget or 1, options))
    file = data.name if data.absolute().parent == out.absolute().parent else str(data.absolute())
    given = order.spec.data.model_dump(mode="json", exclude_none=True, exclude={"file"})
    columns = {**given, **order.columns}
    with atomic_file(out) as path:
        path.write_text(_toml(order.task, file, columns, budget), encoding="utf-8")
    return out, [*order.messages]


def _toml(task: Task, file: str, columns: Mapping[str, object], budget: str | float | None) -> str:
    text = json.dumps  # TOML's basic strings escape as JSON's do

    def quoted(value: object) -> str:
        return text(value, ensure_ascii=False)

    labels = ",\n  ".join(quoted(label) for label in task.labels)
    descriptions = "\n".join(f'# {quoted(label)} = ""' for label in task.labels[:SHOWN_LABELS])
    sum_usd = f"budget = {quoted(str(budget))}" if budget is not None else "budget = 1.00"
    return f"""# The settings of a run. Start it with: potstill distill {SPEC_FILE}
{sum_usd}  # US dollars for everything: model calls, labels, compute

[task]
name = {quoted(task.name)}
kind = {quoted(task.kind)}  # one text and one label (single), two texts (pair), several labels (multi)
labels = [
  {labels},
]
# instruction = "Decide what the customer wants."

[task.descriptions]  # one sentence a label helps every teacher
{descriptions}

[data]
file = {quoted(file)}  # or: train = "...", pool = "...", test = "..."
{chr(10).join(f"{name} = {quoted(value)}" for name, value in columns.items())}
# delimiter = ";"       # of a CSV file: one character, or "tab"
# header = false        # the first line is a row; the columns are column_1, column_2, ...
# skip_rows = 1         # lines above the header
# quotes = "text"       # a quote opens no cell (cells: it does, over lines, too)
# missing = ["nan", "N/A"]  # words in a label cell that mean: no label; without this line the usual ones
# on_conflict = "drop"  # one text with two labels: drop, first, error
# on_leak = "drop"      # a training text that is also in test: drop, error, allow

[teacher]
name = {quoted(TRAINED_TEACHER if task.kind == "multi" else DEFAULT_TEACHER)}  # or "openai:MODEL", "trained:BACKBONE"

[student]
name = {quoted(DEFAULT_STUDENT)}  # or "static", "linear"

[procedure]
name = {quoted(LABELS_ONLY_PROCEDURE if task.kind == "multi" else DEFAULT_PROCEDURE)}  # or "finetune", "kd"

[prices]
# usd_per_hour = 0.10  # this machine
"""
