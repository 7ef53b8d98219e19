"""What a caller said - files, flags, a TOML file, Python objects - becomes a Spec, a Task and a Pool."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from potstill.data.pool import Pool, PoolOptions, build_pool
from potstill.data.task import Task
from potstill.errors import BadSpec
from potstill.run.spec import Spec, merge_specs


@dataclass(frozen=True)
class RunInputs:
    """What was asked, read and checked."""

    spec: Spec
    task: Task
    pool: Pool
    name: str
    source: str
    messages: tuple[str, ...]
    columns: Mapping[str, str]


def spec_overrides(
    teacher: str | None, student: str | None, budget: str | float | None, options: Mapping[str, Any]
) -> dict[str, Any]:
    """The parameters as a piece of a spec."""
    given = {"teacher": teacher, "student": student, "budget": budget}
    over: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    for name in ("teacher", "student"):
        if name in over:
            over[name] = {"name": over[name]}
    data = dict(options)
    asked = {name: data.pop(name) for name in ("base_url", "batch", "redact") if name in data}
    if asked:
        over["teacher"] = {**over.get("teacher", {}), **asked}
    if "procedure" in data:
        over["procedure"] = {"name": data.pop("procedure")}
    for name in ("report", "hard_negatives"):
        if data.pop(f"no_{name}", False):
            over["procedure"] = {"name": "pgkd", **over.get("procedure", {}), name: False}
    if "seed" in data:
        over["seed"] = data.pop("seed")
    prices = {name: data.pop(name) for name in ("usd_per_hour", "usd_per_label") if name in data}
    if prices:
        over["prices"] = prices
    task: dict[str, Any] = {"kind": data.pop("kind")} if "kind" in data else {}
    if "labels" in data:
        task["labels"] = [label.strip() for label in str(data.pop("labels")).split(",")]
    if task:
        over["task"] = task
    if data:
        over["data"] = data
    return over


def read_inputs(data: Path | Task, pool: Path | Pool | None, overrides: dict[str, Any]) -> RunInputs:
    """What `distill` is to do: the files read and checked, the spec complete.

    Args:
        data: a table, a potstill.toml, or a Task.
        pool: a file of unlabelled texts, or the Task's Pool.
        over: a piece of a spec that wins over the file's.

    Raises:
        BadData: a file cannot be used.
        BadSpec: an option cannot be, or there are no data.
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
        descriptions=spec.task.descriptions,
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
        raise BadSpec("Tasks of the kind 'text2text' are not there yet.", "Take single, pair or multi.")
    return kind or ""
