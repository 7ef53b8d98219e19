"""The specification of a run: what `potstill.toml` may say, and what the command line's options become.

Only `budget` is required; everything else has a default.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    field_validator,
    model_validator,
)

from potstill.data.label_sets import Separator
from potstill.data.paths import as_path
from potstill.data.tables import Format, OnBadRow, Quotes, is_stream
from potstill.data.task import AnswerMetric, JsonObject, Output, OutputForm, Task, TaskKind
from potstill.data.toml_file import read_toml
from potstill.engines import DEFAULT_ENGINE
from potstill.errors import BadSpec, did_you_mean
from potstill.ledger.prices import Rates, parse_usd
from potstill.registry import MAX_SHOWN_VALUE, InvalidOption, OptionError, Options
from potstill.run.secrets import check_secrets, shown
from potstill.students import DEFAULT_STUDENT, FORM_STUDENTS
from potstill.students import REGISTRY as STUDENTS
from potstill.students.kinds import student_kind
from potstill.teachers import TRAINED_TEACHER
from potstill.teachers.kinds import teacher_kind

Files = Path | Annotated[tuple[Path, ...], Field(min_length=1)]  # of one shape
DEFAULT_USD_PER_HOUR = Decimal("0.10")
# The recipes of a run that names none: by default, with people as the teacher, and with flags for PGKD's ablations.
DEFAULT_PROCEDURE, HUMAN_PROCEDURE, ABLATION_PROCEDURE = "kd", "annotate", "pgkd"
FORM_PROCEDURE = "finetune"  # of a run on entities or free texts that names none, and no teacher
PEER_PROCEDURE = "selftrain"  # of a run that names a peer, and no recipe


def _sheet_number(given: Any) -> Any:
    """A sheet's number as a string."""
    return str(given) if isinstance(given, int) and not isinstance(given, bool) else given


def _column_names(given: Any) -> Any:
    """Several columns, one a label, as one name."""
    return ",".join(map(str, given)) if isinstance(given, list | tuple) else given


class TaskSpec(Options):
    """`[task]`: what to decide. Missing `labels`, `kind` and `form` are those found in the data.

    `metric` and `max_tokens` are of answers of the form `free`; see `data.task.Output`.
    """

    name: str = ""
    labels: tuple[str, ...] = ()
    descriptions: dict[str, str] = Field(default_factory=dict)
    instruction: str = ""
    kind: TaskKind | None = None
    form: OutputForm | None = None
    metric: AnswerMetric | None = None
    max_tokens: int | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _form_of_answers(self) -> TaskSpec:
        if self.form is not None and self.kind not in (None, "text2text"):
            raise InvalidOption(
                f"answers of the form {self.form!r} are of the kind 'text2text', not {self.kind!r}",
                "Leave the kind out, or the form.",
            )
        return self

    @property
    def output(self) -> Output | None:
        """The answers that are named; None if no form is."""
        return None if self.form is None else Output(self.form, self.metric, self.max_tokens)


class TableSpec(Options):
    """How tables are read: their columns, their format, and how many rows; what is None is guessed or the default."""

    text: str | None = None
    text_b: str | None = None
    label: Annotated[str | None, BeforeValidator(_column_names)] = None
    label_separator: Separator | None = None
    split: str | None = None
    answer: str | None = None
    missing: tuple[str, ...] | None = None
    format: Format | None = None
    sheet: Annotated[str, BeforeValidator(_sheet_number)] | None = None
    delimiter: str | None = None
    quotes: Quotes | None = None
    escape: str | None = None
    header: bool | None = None
    skip_rows: int | None = Field(default=None, ge=0)
    encoding: str | None = None
    on_bad_row: OnBadRow | None = None
    limit: int | None = Field(default=None, gt=0)


class DataSpec(TableSpec):
    """`[data]`: the files, relative to the TOML file, and how to read them.

    `file` is one table with everything; or `train` (with labels), `pool` (without), `validation` and `test`. Each may
    be a list of files with the same columns.
    """

    file: Files | None = None
    train: Files | None = None
    pool: Files | None = None
    validation: Files | None = None
    test: Files | None = None
    on_duplicate: Literal["first", "keep"] | None = None
    on_conflict: Literal["drop", "first", "error"] | None = None
    on_leak: Literal["drop", "error", "allow"] | None = None
    test_share: float | None = Field(default=None, ge=0, lt=1)
    validation_share: float | None = Field(default=None, ge=0, lt=1)
    gold: int | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _one_or_many(self) -> DataSpec:
        if self.file is not None and self.train is not None:
            raise InvalidOption(
                "`file` (one table with everything) and `train` are both named", "Leave one of them out."
            )
        return self


class ComponentSpec(BaseModel):
    """`[teacher]`, `[student]`, `[procedure]`: a registered name; the other keys are that kind's own options."""

    model_config = ConfigDict(extra="allow", frozen=True)
    name: str

    @model_validator(mode="before")
    @classmethod
    def _without_secrets(cls, given: Any) -> Any:
        check_secrets(given, f"The table of {given.get('name')!r}" if isinstance(given, Mapping) else "")
        return given

    @property
    def options(self) -> JsonObject:
        """Every key but the name."""
        return dict(self.model_extra or {})

    @property
    def kind(self) -> str:
        """The part of the name before the colon."""
        return self.name.partition(":")[0]

    @property
    def model(self) -> str:
        """The part of the name after the colon; may be empty."""
        return self.name.partition(":")[2]

    def with_options(self, options: JsonObject) -> ComponentSpec:
        """The component with `options` laid over its own; itself if there are none."""
        return ComponentSpec(name=self.name, **{**self.options, **options}) if options else self


class Spec(Options):
    """The options of a run.

    `budget` is in USD and covers everything: model calls, labels, compute. With `cache` the run shares its answers with
    the other runs in the same folder. `engine` runs the calls to the teacher.
    """

    budget: Decimal
    seed: int = Field(default=0, ge=0, lt=2**31)
    task: TaskSpec = TaskSpec()
    data: DataSpec = DataSpec()
    teacher: ComponentSpec | None = None
    student: ComponentSpec = ComponentSpec(name=DEFAULT_STUDENT)
    procedure: ComponentSpec = ComponentSpec(name=DEFAULT_PROCEDURE)
    prices: JsonObject = Field(default_factory=dict)
    cache: bool = True
    engine: str = DEFAULT_ENGINE
    _folder: Path = PrivateAttr(default_factory=Path)

    @property
    def folder(self) -> Path:
        """The folder that relative file names of the spec start from: the TOML file's, or the working directory."""
        return self._folder

    def with_folder(self, folder: Path) -> Self:
        """A copy whose relative file names are looked up from `folder`."""
        copied = self.model_copy()
        copied._folder = folder
        return copied

    @field_validator("budget", mode="before")
    @classmethod
    def _sum(cls, value: Any) -> Decimal:
        return Decimal(parse_usd(value)) / 1_000_000

    @model_validator(mode="before")
    @classmethod
    def _default_human_procedure(cls, given: Any) -> Any:
        """With people as the teacher the recipe is `HUMAN_PROCEDURE`, unless another is named."""
        if isinstance(given, dict):
            check_secrets(given.get("prices"), "[prices]")
        if isinstance(given, dict) and "procedure" not in given:
            teacher = given.get("teacher")
            name = teacher.get("name") if isinstance(teacher, Mapping) else teacher
            if isinstance(name, str) and teacher_kind(name.partition(":")[0]).capabilities.human:
                return {**given, "procedure": HUMAN_PROCEDURE}
        return given

    @field_validator("teacher", "student", "procedure", mode="before")
    @classmethod
    def _bare_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @property
    def limit_micros(self) -> int:
        """The budget in micro-dollars."""
        return parse_usd(self.budget)

    @property
    def compute_rates(self) -> Rates:
        """The price of this machine's time.

        Raises:
            BadSpec: `usd_per_hour` is not an amount of money.
        """
        given = self.prices.get("usd_per_hour")
        if given is None:
            return Rates("assumed: a small 2-core cloud machine", usd_per_hour=DEFAULT_USD_PER_HOUR)
        return Rates("[prices] usd_per_hour", usd_per_hour=Decimal(parse_usd(given)) / 1_000_000)

    def with_form_defaults(self, form: OutputForm) -> Self:
        """The spec for answers of a form: a student and a recipe that can do it, unless others are named."""
        procedure = DEFAULT_PROCEDURE if self.teacher is not None else FORM_PROCEDURE
        defaults = {"student": FORM_STUDENTS[form], "procedure": procedure}
        missing = {
            name: ComponentSpec(name=kind) for name, kind in defaults.items() if name not in self.model_fields_set
        }
        return self.model_copy(update=missing)

    def identity(self) -> JsonObject:
        """What a run cannot change: all but the budget, which may be raised, and the data, known by content."""
        left_out = {"budget", "data", "task", "cache", "engine"}
        record: JsonObject = json.loads(self.model_dump_json(exclude=left_out, exclude_none=True))
        return record

    @classmethod
    def from_dict(cls, record: JsonObject) -> Spec:
        """The spec in a mapping shaped like the TOML file.

        Raises:
            BadSpec: an unknown key (the hint names the nearest), or an invalid value.
        """
        try:
            return cls.model_validate(dict(record))
        except ValidationError as error:
            raise _as_bad_spec(error) from None

    @classmethod
    def from_toml(cls, path: Path, overrides: JsonObject | None = None) -> Spec:
        """The spec in a TOML file; its data paths are relative to the file's folder.

        Args:
            path: the file.
            overrides: values that replace the file's, in tables of the same shape.

        Raises:
            BadSpec: the file does not exist, is not TOML, or is not a spec.
        """
        record = read_toml(path, "Write one with: potstill init DATA")
        data = record.get("data")
        if isinstance(data, dict):
            for name in ("file", "train", "pool", "validation", "test"):
                given = data.get(name)
                if isinstance(given, str):
                    data[name] = _beside(path, given)
                elif isinstance(given, list) and all(isinstance(each, str) for each in given):
                    data[name] = [_beside(path, each) for each in given]
        spec = cls.from_dict(merge_specs(record, overrides or {}))
        spec._folder = path.parent
        return spec


def _beside(toml: Path, name: str) -> str:
    """A data file that a TOML file names, relative to its folder; standard input stays."""
    return name if is_stream(name) else str(toml.parent / as_path(name))


def teacher_backbone(teacher: ComponentSpec, form: OutputForm | None = None) -> ComponentSpec:
    """The student in a trained teacher's name: "trained:gte-small" is an encoder, "trained:cloze:smollm2" has a kind.

    The kind alone is enough: "trained:linear". In a text-to-text task weights alone are of the form's default student.
    """
    kind, default = teacher.model.partition(":")[0], DEFAULT_STUDENT if form is None else FORM_STUDENTS[form]
    name = teacher.model if kind in STUDENTS else f"{default}:{teacher.model}".rstrip(":")
    return ComponentSpec(name=name, **teacher.options)


def check_teacher_task(teacher: ComponentSpec, task: Task) -> None:
    """Raise BadSpec if teachers of this kind cannot answer about this task."""
    capabilities = teacher_kind(teacher.kind).capabilities
    if task.kind not in capabilities.task_kinds or not _answers(task.form, capabilities.output_forms):
        raise BadSpec(
            f"The teacher {teacher.name!r} cannot answer about a task of the {_task_words(task)}.",
            "Take another with --teacher, or --procedure finetune.",
        )


def check_student_task(student: ComponentSpec, task: Task) -> None:
    """Raise BadSpec if students of this kind give labels and the task has none, and the like."""
    capabilities = student_kind(student.kind).capabilities
    if ("text2text" in capabilities.task_kinds) != (task.form is not None) or not _answers(
        task.form, capabilities.output_forms
    ):
        other = DEFAULT_STUDENT if task.form is None else FORM_STUDENTS[task.form]
        raise BadSpec(
            f"The student {student.name!r} cannot learn a task of the {_task_words(task)}.", f"Take --student {other}."
        )


def _answers(form: OutputForm | None, forms: Collection[OutputForm]) -> bool:
    return form is None or form in forms


def _task_words(task: Task) -> str:
    return f"kind {task.kind!r}" if task.form is None else f"kind {task.kind!r} and the form {task.form!r}"


def trained_teacher(student: ComponentSpec) -> ComponentSpec:
    """The teacher spec of a student, such as trained:gte-small; the inverse of `teacher_backbone`."""
    return ComponentSpec(name=f"{TRAINED_TEACHER}:{student.name}", **student.options)


def quick_student(student: ComponentSpec) -> ComponentSpec:
    """The student with the options under which its kind trains in seconds."""
    return student.with_options(student_kind(student.kind).capabilities.quick_options)


def merge_specs(record: JsonObject, overrides: JsonObject) -> JsonObject:
    """`record` with the values of `overrides`, table by table; a new `name` in a table drops its old options."""
    merged = dict(record)
    for name, value in overrides.items():
        old = merged.get(name)
        if isinstance(old, str) and name in ("teacher", "student", "procedure"):
            old = {"name": old}
        if isinstance(value, Mapping) and isinstance(old, Mapping):
            renamed = "name" in value and name != "task" and value["name"] != old.get("name")
            merged[name] = dict(value) if renamed else merge_specs(old, value)
        else:
            merged[name] = value
    return merged


def diff_specs(old: JsonObject, new: JsonObject) -> list[str]:
    """The differences of two identities, a phrase each: 'student.name was "linear" and is "static"'."""
    flat_old, flat_new = _flat(old), _flat(new)
    return [
        f"{name} was {shown(flat_old.get(name))} and is {shown(flat_new.get(name))}"
        for name in sorted(flat_old.keys() | flat_new.keys())
        if flat_old.get(name) != flat_new.get(name)
    ]


def _flat(record: JsonObject, prefix: str = "") -> dict[str, object]:
    flat: dict[str, object] = {}
    for name, value in record.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


def _as_bad_spec(error: ValidationError) -> BadSpec:
    found = OptionError.of(Spec, error)
    if found.is_unknown:
        return BadSpec(f"The spec has no key {found.name!r}.", did_you_mean(found.name.rpartition(".")[2], found.known))
    if found.is_missing:
        if found.name == "budget":
            return BadSpec("No budget is given.", "Say how many US dollars may be spent, with --budget or `budget =`.")
        return BadSpec(f"The spec lacks {found.name!r}.", "Add it.")
    given = shown(found.given)[:MAX_SHOWN_VALUE]
    return BadSpec(f"{found.name} = {given} is not valid{found.reason}.", found.mend)
