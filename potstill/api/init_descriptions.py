"""`init --describe`: a teacher's descriptions of the labels, shown, and written into potstill.toml for correction."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from potstill.data.atomic import atomic_file
from potstill.data.paths import folder_name, utf8_folder
from potstill.data.task import DescriptionRequest, content_key
from potstill.data.toml_file import comment, quoted
from potstill.errors import BadSpec, SpendingDeclined
from potstill.ledger.amounts import usd_amount, usd_range
from potstill.ledger.prices import micros_to_usd
from potstill.planning.cost import NOT_REDACTED
from potstill.planning.description_cost import estimate_description_usd
from potstill.reports.text import usd
from potstill.run.describe_labels import (
    LabelDescriptions,
    check_describes,
    check_has_labels,
    describe_labels,
    description_requests,
)
from potstill.run.inputs import RunInputs
from potstill.run.open_teacher import open_teacher
from potstill.run.run import Run
from potstill.teachers.kinds import teacher_kind

if TYPE_CHECKING:
    from potstill.run import ProgressReporter
    from potstill.teachers.base import Teacher

TABLE = "[task.descriptions]"
_HEADER = re.compile(r"^\s*\[\s*task\s*\.\s*descriptions\s*\]")


def describe_in_file(
    file: Path, inputs: RunInputs, reporter: ProgressReporter | None, agreed: bool
) -> LabelDescriptions:
    """`describe_in_toml` of a file, in place."""
    before = file.read_text(encoding="utf-8-sig")
    after, found = describe_in_toml(before, inputs, reporter, agreed)
    if after != before:
        with atomic_file(file) as path:
            path.write_text(after, encoding="utf-8")
    return found


def describe_in_toml(
    toml: str, inputs: RunInputs, reporter: ProgressReporter | None, agreed: bool
) -> tuple[str, LabelDescriptions]:
    """Let the spec's teacher describe the labels that have no description, and write the sentences into the TOML text.

    What was bought is stored in a run of its own: if this is stopped, the same call buys only what is missing.

    Raises:
        BadSpec: no teacher is named, the task has no labels, the teacher describes none, or the text has its
            descriptions elsewhere than in a table.
        SpendingDeclined: the user said no.
        MoneyError: the budget does not suffice for one description.
    """
    spec, task = inputs.spec, inputs.task
    check_has_labels(task)
    if spec.teacher is None:
        raise BadSpec("Descriptions are written by a teacher, and none is named.", "Add --teacher local:qwen-1.5b.")
    check_describes(spec.teacher.name, teacher_kind(spec.teacher.kind).capabilities)
    planned = open_teacher(spec, task, spec.teacher)
    check_describes(planned.name, planned.capabilities)
    requests = description_requests(task, inputs.pool, spec.seed)
    if not requests:
        return toml, LabelDescriptions(planned.name, {}, (), 0.0)
    insert_descriptions(toml, {each.label: "so" for each in requests}, planned.name)  # refused before it costs anything
    _confirm_spending(planned, inputs, requests, reporter, agreed)
    digest = content_key(spec.identity(), inputs.pool.key, task.key)[:8]
    folder = utf8_folder(Path("runs") / f"{folder_name(inputs.name)}-descriptions-{digest}")
    with Run.open(folder, spec, task, inputs.pool, reporter) as run:
        found = describe_labels(run, run.teacher(), requests)
    paid = f"{found.teacher} for {usd_amount(found.usd)}, beside the budget"
    return insert_descriptions(toml, found.descriptions, paid), found


def _confirm_spending(
    teacher: Teacher,
    inputs: RunInputs,
    requests: Sequence[DescriptionRequest],
    reporter: ProgressReporter | None,
    agreed: bool,
) -> None:
    """Show what a teacher that sends texts away will cost; ask before it is spent, unless the user `agreed`."""
    if not teacher.capabilities.remote:
        return
    low, high = estimate_description_usd(teacher, requests)
    if reporter is None:
        return
    cost, limit = usd_range(low, high), usd(micros_to_usd(inputs.spec.limit_micros))
    reporter.info(
        f"Letting {teacher.name} describe {len(requests)} labels costs {cost}, at most {limit}: it is paid beside the "
        "budget, which distill can spend in full later."
    )
    redacts = bool(inputs.spec.teacher and inputs.spec.teacher.options.get("redact"))
    how = "addresses and numbers taken out" if redacts else NOT_REDACTED
    n_texts = len({each.text for request in requests for each in request.examples})
    reporter.info(f"The labels and {n_texts} texts go to {teacher.metadata.host or 'its server'}, {how}.")
    if high and not teacher.simulated and not agreed and not reporter.confirm("Spend it?"):
        raise SpendingDeclined("Nothing was asked and nothing was spent.", "Add --yes to go on without a question.")


def insert_descriptions(toml: str, descriptions: Mapping[str, str], author: str) -> str:
    """The TOML text with these descriptions in its table; all else stays as it is.

    Comments that hold the place of a label's description give way to it.

    Args:
        toml: a spec.
        descriptions: label -> one sentence; empty ones are left out.
        author: who wrote them, and for how much.

    Raises:
        BadSpec: the descriptions of the file are written in another way than as a table of their own.
    """
    written = {label: text for label, text in descriptions.items() if text}
    rows = [f"{quoted(label)} = {quoted(text)}" for label, text in written.items()]
    if rows:
        rows.insert(0, f"# Written by {comment(author)}: correct them.")
    lines = toml.removesuffix("\n").split("\n")
    at = next((number for number, line in enumerate(lines) if _HEADER.match(line)), None)
    if at is None:
        new = [*lines, "", TABLE, *rows]
    else:
        names = [quoted(label) for label in written]
        places = {*(f'# {name} = ""' for name in names), *(f'{name} = ""' for name in names)}
        rest = [line for line in lines[at + 1 :] if line.rstrip() not in places]
        new = [*lines[: at + 1], *rows, *rest]
    text = "\n".join(new) + "\n"
    before = tomllib.loads(toml)
    task = before.setdefault("task", {})
    task["descriptions"] = {**task.get("descriptions", {}), **written}
    try:
        fits = tomllib.loads(text) == before
    except tomllib.TOMLDecodeError:
        fits = False
    if not fits:
        raise BadSpec(
            "Descriptions cannot be added to this file.", f"Write those it has under {TABLE}, one label a line."
        )
    return text
