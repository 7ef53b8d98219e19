"""Reads the inputs of a run: files, options, a TOML file or Python objects become a Spec, a Task and a Pool."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from potstill.data.column_guess import SPLIT_ALIASES
from potstill.data.entities.build import EntityPoolBuild, build_entity_pool
from potstill.data.entities.pool import EntityPool
from potstill.data.frames import frame_columns, open_frame, read_frame
from potstill.data.free_text.build import FreeTextPoolBuild, build_free_text_pool
from potstill.data.free_text.pool import FreeTextPool
from potstill.data.label_values import normalise_label
from potstill.data.paths import as_path, as_text, is_paths
from potstill.data.pool import Pool, PoolBuild, PoolOptions, build_pool
from potstill.data.tables import COMPRESSION_SUFFIXES, STANDARD_INPUT, Guess, Layout, Table, is_stream
from potstill.data.task import JsonObject, OutputForm, Task
from potstill.errors import BadData, BadSpec
from potstill.run.form_task import FoundTask, find_form_task
from potstill.run.spec import ABLATION_PROCEDURE, HUMAN_PROCEDURE, PEER_PROCEDURE, Spec, TaskSpec, merge_specs

_FORM_POOLS: Mapping[OutputForm, type[EntityPool | FreeTextPool]] = {"entities": EntityPool, "free": FreeTextPool}
PARTS = ("file", "train", "pool", "validation", "test")  # of the data, in the order they are read


@dataclass(frozen=True)
class RunInputs:
    """The inputs of a run, read and checked.

    Attributes:
        spec, task, pool: what the run works on; the pool of a text-to-text task is an `EntityPool` or a `FreeTextPool`.
        name: of the task.
        source: the files, in words.
        messages: what was found and cleaned while reading, a sentence each.
        columns: part of a row -> the column it was read from.
        layout, guesses: how the first source is laid out, and what of it and its columns was guessed.
    """

    spec: Spec
    task: Task
    pool: Pool
    name: str
    source: str
    messages: tuple[str, ...]
    columns: Mapping[str, str]
    layout: Layout = field(default_factory=Layout)
    guesses: tuple[Guess, ...] = ()


def spec_overrides(
    teacher: str | None, student: str | None, budget: str | float | None, options: Mapping[str, object]
) -> JsonObject:
    """The parameters of a command as overrides of a spec."""
    rest = dict(options)

    def take(*names: str) -> dict[str, object]:
        return {name: rest.pop(name) for name in names if name in rest}

    teacher_table = {**_named(teacher), **take("base_url", "batch", "redact")}
    procedure_table = _named(rest.pop("procedure", None))
    if "peer" in rest:
        procedure_table = {"name": PEER_PROCEDURE, **procedure_table, **take("peer")}
    for name in ("validation_report", "hard_negatives"):
        if rest.pop(f"no_{name}", False):
            procedure_table = {"name": ABLATION_PROCEDURE, **procedure_table, name: False}
    task_table = take("kind", "form", "labels", "metric", "max_tokens")
    if "labels" in task_table:
        given = task_table["labels"]
        names = given.split(",") if isinstance(given, str) else list(map(str, given))  # type: ignore[call-overload]
        task_table["labels"] = [name.strip() for name in names]
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


def read_inputs(
    data: Any, pool: Any, overrides: JsonObject, validates: Callable[[str], bool] = lambda procedure: False
) -> RunInputs:
    """Read the files, and complete the spec.

    Args:
        data: the path of a table or of a potstill.toml, several paths of tables of one shape, a data frame, or a Task.
        pool: unlabelled texts as a path, several paths or a data frame, or the Task's Pool.
        overrides: values that replace those of the potstill.toml.
        validates: whether the recipe of a name needs validation texts, even if there are few labels.

    Raises:
        BadData: a file cannot be used.
        BadSpec: an invalid option, or no data.
    """
    if isinstance(data, Task):
        return _given_inputs(data, pool, Spec.from_dict(overrides))
    files = {name: value for name, value in overrides.get("data", {}).items() if value is not None}
    files |= {} if pool is None else {"pool": pool}
    frames = {part: files.pop(part) for part in PARTS if part in files and not is_paths(files[part])}
    files |= {part: _as_text(files[part]) for part in PARTS if part in files}
    overrides = {**overrides, "data": files} if files else {k: v for k, v in overrides.items() if k != "data"}
    first = "train" if "test" in files or "test" in frames else "file"
    path = _data_path(data)
    if path is None:
        frames, name = {**frames, **_frames(data, first)}, "data"
        spec = Spec.from_dict(merge_specs({"task": {"name": name}}, overrides))
    elif path.suffix == ".toml":
        spec = Spec.from_toml(path, overrides)
        name = spec.task.name or path.absolute().parent.name
    else:
        name = _task_name(path)
        spec = Spec.from_dict(merge_specs({"data": {first: _as_text(data)}, "task": {"name": name}}, overrides))
    given = spec.data.model_dump(exclude_none=True)
    if not validates(spec.procedure.name):
        given.setdefault("validation_share", None)
    tables = {part: read_frame(frame, part if part != "file" else "data") for part, frame in frames.items()}
    given |= tables
    sources = {"data" if part == "file" else part: given.pop(part) for part in PARTS if part in given}
    if not sources:
        raise BadSpec("No data are given.", "Name a file under [data], or as the first argument.")
    streams = [path for each in sources.values() if not isinstance(each, Table) for path in _paths(each)]
    if streams.count(STANDARD_INPUT) > 1:
        raise BadSpec("Standard input is named twice, and can be read once.", "Give a file for the others.")
    options = PoolOptions(**given, seed=spec.seed)
    found = find_form_task(spec.task, sources, options)
    if found.output is not None:
        spec = spec.with_form_defaults(found.output.form)
    # Where people are asked first, gold is what they give.
    built = _build(found, spec.task, options, needs_gold=spec.procedure.name != HUMAN_PROCEDURE)
    task = Task(
        labels=built.pool.labels,
        name=name,
        descriptions={normalise_label(label): about for label, about in spec.task.descriptions.items()},
        instruction=spec.task.instruction,
        kind="text2text" if found.output is not None else cast(Pool, built.pool).kind,
        output=found.output,
    )
    source = ", ".join(each.name if isinstance(each, Table) else ", ".join(_paths(each)) for each in sources.values())
    first_read = built.report.sources[0]
    columns = dict(first_read.columns)
    if first_read.separator:
        columns["label_separator"] = first_read.separator
    messages = (*found.sentences, *built.report.sentences())
    pool_read = cast(Pool, built.pool)  # of a form: it has the same splits and texts, and is read by its recipes
    return RunInputs(spec, task, pool_read, name, source, messages, columns, first_read.layout, first_read.guesses)


def _build(
    found: FoundTask, task: TaskSpec, options: PoolOptions, *, needs_gold: bool
) -> PoolBuild | EntityPoolBuild | FreeTextPoolBuild:
    """The pool of the sources, by the form of the answers."""
    if found.output is None:
        kind: Any = task.kind or ""
        return build_pool(found.sources, labels=task.labels, options=replace(options, kind=kind))
    if found.output.form == "entities":
        return build_entity_pool(found.sources, types=task.labels, options=options, needs_gold=needs_gold)
    if task.labels:
        raise BadSpec("Answers in words have no labels.", "Leave --labels out, or take another --form.")
    return build_free_text_pool(found.sources, options=options, needs_gold=needs_gold)


def _given_inputs(task: Task, pool: Any, spec: Spec) -> RunInputs:
    """The inputs of a Task and its texts from Python."""
    expected: type[Pool | EntityPool | FreeTextPool] = Pool if task.form is None else _FORM_POOLS[task.form]
    if not isinstance(pool, expected):
        raise BadSpec("A Task was given without its texts.", f"Give a {expected.__name__} as the second argument.")
    spec = spec if task.form is None else spec.with_form_defaults(task.form)
    return RunInputs(spec, task, cast(Pool, pool), task.name, "given in Python", (), {})


def _data_path(data: Any) -> Path | None:
    """The path of the TOML file, or of the first data file; None if the data are no files."""
    if not is_paths(data):
        return None
    toml = next((each for each in _paths(data) if each.endswith(".toml")), None)
    if toml is not None and len(_paths(data)) > 1:
        raise BadSpec(f"{toml} is given beside data files.", "Name the files in it (file = [...]), or leave it out.")
    return as_path(data if isinstance(data, str | Path) else data[0])


def _frames(data: Any, first: str) -> dict[str, Any]:
    """Part of the data -> its frame: one, or those of a mapping of splits such as a `DatasetDict`."""
    if not isinstance(data, Mapping) or not data or not all(map(_is_frame, data.values())):
        return {first: data}
    unknown = next((name for name in data if str(name).casefold() not in SPLIT_ALIASES), None)
    if unknown is not None:
        raise BadData(
            f"{unknown!r} is no split; the data have {', '.join(map(repr, data))}.",
            "Give one of them, as in data['train'], or name them train, validation, test and pool.",
        )
    return {SPLIT_ALIASES[str(name).casefold()]: frame for name, frame in data.items()}


def _is_frame(value: Any) -> bool:
    return not isinstance(value, str | Mapping) and frame_columns(open_frame(value)) is not None


def _as_text(files: Any) -> str | list[str]:
    """A path or several as the spec has them."""
    return str(as_path(files)) if isinstance(files, str | Path) else [str(as_path(each)) for each in files]


def _paths(files: Any) -> list[str]:
    return [str(files)] if isinstance(files, str | Path) else [str(each) for each in files]


def _task_name(path: Path) -> str:
    """A file's name without its endings, for a task without a name."""
    if is_stream(path):
        return "standard-input"
    path = Path(as_text(path))
    packed = path.suffix.lower() in COMPRESSION_SUFFIXES and path.with_suffix("").suffix
    return path.with_suffix("").stem if packed else path.stem
