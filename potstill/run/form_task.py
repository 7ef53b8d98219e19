"""Decides whether a run's task is text to text: as the user says, or of entities by the form of the data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from potstill.data.entities.columns import holds_entities
from potstill.data.pool import PoolOptions
from potstill.data.pool.source_tables import read_tables
from potstill.data.task import Output
from potstill.errors import BadSpec
from potstill.run.spec import TaskSpec


@dataclass(frozen=True)
class FoundTask:
    """What the task's answers are.

    Attributes:
        output: the form of the answers; None in a task of labels.
        sources: the sources, as tables if they had to be read.
        sentences: what was guessed.
    """

    output: Output | None
    sources: Mapping[str, Any]
    sentences: tuple[str, ...] = ()


def find_form_task(task: TaskSpec, sources: Mapping[str, Any], options: PoolOptions) -> FoundTask:
    """The form of the answers that the user named, or that the first source has.

    Raises:
        BadData: what `read_tables` raises.
        BadSpec: a text-to-text task whose form is neither named nor seen, or a metric or limit of another form.
    """
    given = next((name for name in ("metric", "max_tokens") if getattr(task, name) is not None), None)
    if given is not None and task.form != "free":
        raise BadSpec(
            f"{given} is of answers in words, and the task is not said to have any.",
            f"Say so with --form free, or leave {given} out.",
        )
    if task.output is not None:
        return FoundTask(task.output, sources)
    if task.kind not in (None, "text2text") or options.text_b or (task.kind is None and options.label_separator):
        return FoundTask(None, sources)
    tables = read_tables(sources, options)
    first = next(iter(tables.values()))
    if holds_entities(first):
        said = f"Read {first.name} as texts with marked entities by the form of its cells; --kind single reads labels."
        return FoundTask(Output(), tables, (said,) if task.kind is None else ())
    if task.kind == "text2text":
        raise BadSpec(
            f"The task is text2text, and {first.name} does not show the form of its answers.",
            "Name it; spans with a type are --form entities, and answers in words --form free",
        )
    return FoundTask(None, tables)
