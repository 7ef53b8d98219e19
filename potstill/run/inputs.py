"""Reads the inputs of a run: files, options, a TOML file or Python objects become a Spec, a Task and a Pool."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from potstill.data.label_values import normalise_label
from potstill.data.pool import Pool, PoolOptions, build_pool
from potstill.data.task import JsonObject, Task
from potstill.errors import BadSpec
from potstill.run.spec import ABLATION_PROCEDURE, Spec, merge_specs


@dataclass(frozen=True)
class RunInputs:
    """The inputs of a run, read and checked.

    Attributes:
        spec, task, pool: what the run works on.
        name: of the task.
        source: the files, in words.
        messages: what was found and cleaned while reading, a sentence each.
        columns: part of a row -> the column it was read from.
    """

    spec: Spec
    task: Task
    pool: Pool
    name: str
    source: str
    messages: tuple[str, ...]
    columns: Mapping[str, str]


def spec_overrides(
    teacher: str | None, student: str | None, budget: str | float | None, options: Mapping[str, object]
) -> JsonObject:
    """The parameters of a command as overrides of a spec."""
    rest = dict(options)

    def take(*names: str) -> dict[str, object]:
        return {name: rest.pop(name) for name in names if name in rest}

    teacher_table = {**_named(teacher), **take("base_url", "batch", "redact")}
    procedure_table = _named(rest.pop("procedure", None))
    for name in ("report", "hard_negatives"):
        if rest.pop(f"no_{name}", False):
            procedure_table = {"name": ABLATION_PROCEDURE, **procedure_table, name: False}
    task_table = take("kind", "labels")
    if "labels" in task_table:
        task_table["labels"] = [label.strip() for label in str(task_table["labels"]).split(",")]
    if rest.pop("no_header", False):
        rest["header"] = False
    if isinstance(rest.get("missing"), str):
        rest["missing"] = [word.strip() for word in str(rest["missing"]).split(",") if word.strip()]
    tables: dict[str, object] = {
        "teacher": teacher_table,
        "student": _named(student),
        "procedure": procedure_table,
        "prices": take("usd_per_hour", "usd_per_label"),
        "task": task_table,
        **take("seed"),
        **({} if budget is None else {"budget": budget}),
    }
    return {name: value for name, value in {**tables, "data": rest}.items() if value != {}}


def _named(name: object) -> dict[str, object]:
    return {} if name is None else {"name": name}


def read_inputs(data: Path | Task, pool: Path | Pool | None, overrides: JsonObject) -> RunInputs:
    """Read the files, and complete the spec.

    Args:
        data: a table, a potstill.toml, or a Task.
        pool: a file of unlabelled texts, or the Task's Pool.
        overrides: values that replace those of the potstill.toml.

    Raises:
        BadData: a file cannot be used.
        BadSpec: an invalid option, or no data.
    """
    if isinstance(data, Task):
        if not isinstance(pool, Pool):
            raise BadSpec("A Task was given without its texts.", "Give a Pool as the second argument.")
        return RunInputs(Spec.from_dict(overrides), data, pool, data.name, "given in Python", (), {})
    path = Path(data)
    if pool is not None:
        overrides = merge_specs(overrides, {"data": {"pool": str(pool)}})
    if path.suffix == ".toml":
        spec = Spec.from_toml(path, overrides)
        name = spec.task.name or path.absolute().parent.name
    else:
        name = path.stem
        source = {"train": str(path)} if "test" in overrides.get("data", {}) else {"file": str(path)}
        spec = Spec.from_dict(merge_specs({"data": source, "task": {"name": name}}, overrides))
    given = spec.data.model_dump(exclude_none=True)
    parts = {"data": "file", "train": "train", "pool": "pool", "validation": "validation", "test": "test"}
    sources = {part: given.pop(key) for part, key in parts.items() if key in given}
    if not sources:
        raise BadSpec("No data are given.", "Name a file under [data], or as the first argument.")
    built = build_pool(sources, labels=spec.task.labels, options=PoolOptions(**given, kind=_kind(spec), seed=spec.seed))
    task = Task(
        labels=built.pool.labels,
        name=name,
        descriptions={normalise_label(label): about for label, about in spec.task.descriptions.items()},
        instruction=spec.task.instruction,
        kind=built.pool.kind,
    )
    files = ", ".join(str(path) for path in sources.values())
    columns = dict(built.report.sources[0].columns)
    if built.report.sources[0].separator:
        columns["label_separator"] = built.report.sources[0].separator
    return RunInputs(spec, task, built.pool, name, files, tuple(built.report.sentences()), columns)


def _kind(spec: Spec) -> Literal["", "single", "pair", "multi"]:
    kind = spec.task.kind
    if kind == "text2text":
        raise BadSpec("Tasks of the kind 'text2text' are not supported yet.", "Take single, pair or multi.")
    return kind or ""
