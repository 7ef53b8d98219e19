"""The specification of a study: the keys of a `STUDY.toml`, validated. Reads no data and no weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PrivateAttr, ValidationError, field_validator, model_validator

from potstill.data.paths import as_text
from potstill.data.task import JsonObject
from potstill.data.toml_file import read_toml
from potstill.engines import DEFAULT_ENGINE
from potstill.errors import BadSpec, did_you_mean
from potstill.ledger.prices import parse_usd
from potstill.registry import MAX_SHOWN_VALUE, InvalidOption, OptionError, Options
from potstill.run.spec import DEFAULT_USD_PER_HOUR, ComponentSpec, TableSpec

Procedure = str  # one of PROCEDURES, or the name of any other recipe
MetricName = Literal["accuracy", "macro_f1", "mcc"]
SubsetSize = Annotated[int, Field(gt=0)] | Literal["all"]
PROCEDURES: tuple[Procedure, ...] = ("ft", "p", "ft+kd", "p+kd", "llm+kd")
DEFAULT_PROCEDURES: tuple[Procedure, ...] = ("ft", "p", "ft+kd", "p+kd")


class BackboneSpec(Options):
    """`[[backbones]]`.

    Attributes:
        name: weights by name or path, or a student kind without weights.
        student: a student kind and its weights, if the name is only a title.
        procedures: those to run; None runs all that the backbone can.
        options: of the student with a classification head.
        prompt: of the student with a language-model head.
        alternatives: option tables, of which the best on the validation texts is selected.
    """

    name: str
    student: str | None = None
    procedures: tuple[Procedure, ...] | None = None
    options: JsonObject = Field(default_factory=dict)
    prompt: JsonObject = Field(default_factory=dict)
    alternatives: tuple[JsonObject, ...] = ()


class KdSpec(Options):
    """`[kd]`.

    Attributes:
        temperature: of the softened distribution.
        train_on_gold: whether students are also trained on the gold labels.
        ft_teacher, p_teacher: backbones that teach in FT + KD and P + KD; None takes the largest.
        shots: gold examples of each class in the language model's prompt, in LLM + KD; above 0 the model with these
            examples is a baseline too.
    """

    temperature: float = Field(default=2.0, gt=0, lt=100)
    train_on_gold: bool = False
    ft_teacher: str | None = None
    p_teacher: str | None = None
    shots: int = Field(default=0, ge=0)


class StudyDataSpec(TableSpec):
    """`[data.NAME]`: sample data, a folder with train and test files, or the files themselves; columns and labels.

    `max_size` and `max_unlabelled` replace the study's, for long texts or many labels. `prompt` (pattern, words) is
    merged over that of the backbones, because label words differ by task. Paths are relative to the study's file, or to
    the folder given with --data.
    """

    sample: str | None = None
    folder: Path | None = None
    file: Path | None = None
    train: Path | None = None
    validation: Path | None = None
    pool: Path | None = None
    test: Path | None = None
    kind: Literal["single", "pair"] | None = None
    test_share: float | None = Field(default=None, gt=0, lt=1)
    on_leak: Literal["drop", "error", "allow"] = "error"
    on_conflict: Literal["drop", "first", "error"] | None = None
    on_duplicate: Literal["first", "keep"] | None = None
    labels: tuple[str, ...] = ()
    descriptions: dict[str, str] = Field(default_factory=dict)
    instruction: str = ""
    metric: MetricName | None = None
    prompt: JsonObject = Field(default_factory=dict)
    max_size: dict[Procedure, Annotated[int, Field(gt=0)]] = Field(default_factory=dict)
    max_unlabelled: int | None = Field(default=None, ge=0)

    @model_validator(mode="after")
    def _one_source(self) -> StudyDataSpec:
        given = [name for name in ("sample", "folder", "file", "train") if getattr(self, name) is not None]
        if len(given) != 1:
            raise InvalidOption("a data set has one source", "Name one of `sample`, `folder`, `file` and `train`.")
        return self


class StudySpec(Options):
    """The specification of a study.

    Attributes:
        name: a title, and the name of its folder.
        budget: USD for this machine's time and for model calls, all cells together.
        procedures: of finetune, prompt, ft-kd, p-kd and llm+kd; baselines are always run.
        backbones: the models.
        data: name -> data set.
        sizes: gold labels per class or in total (`per`); "all" takes all there are.
        seeds: how many, or which.
        validation_share: of the gold, used only to select among `alternatives`; it counts as gold.
        max_unlabelled: texts set aside for distillation if there is no pool; they are never gold.
        max_test: test texts at most; the same for all cells.
        max_size: procedure -> the largest size it is run at.
        kd: temperature and teachers of distillation.
        teacher: a language model, for LLM + KD and as a baseline.
        metric: of all data sets that name none.
        usd_per_label: what a gold label would have cost.
        usd_per_hour: price of this machine.
        engine: runs the cells, and the calls to the teacher.
        layout: "setfit" also prints the table of SetFit's few-shot protocol.
        prices: as in a run's specification.
    """

    name: str = "study"
    budget: Decimal
    procedures: tuple[Procedure, ...] = Field(default=DEFAULT_PROCEDURES, min_length=1)
    backbones: tuple[BackboneSpec, ...] = Field(min_length=1)
    data: dict[str, StudyDataSpec] = Field(min_length=1)
    sizes: tuple[SubsetSize, ...] = Field(min_length=1)
    per: Literal["class", "total"] = "class"
    seeds: tuple[Annotated[int, Field(ge=0, lt=2**31)], ...] = Field(default=(0, 1, 2), min_length=1)
    validation_share: float = Field(default=0.2, ge=0, lt=1)
    max_unlabelled: int = Field(default=1000, ge=0)
    max_test: int = Field(default=2000, gt=0)
    max_size: dict[Procedure, Annotated[int, Field(gt=0)]] = Field(default_factory=dict)
    kd: KdSpec = KdSpec()
    teacher: ComponentSpec | None = None
    metric: MetricName = "accuracy"
    usd_per_label: float = Field(default=0.0, ge=0)
    usd_per_hour: float = Field(default=float(DEFAULT_USD_PER_HOUR), gt=0)
    layout: Literal["", "setfit"] = ""
    engine: str = DEFAULT_ENGINE
    prices: JsonObject = Field(default_factory=dict)
    _folder: Path = PrivateAttr(default_factory=Path)

    @property
    def folder(self) -> Path:
        """The folder that relative file names start from."""
        return self._folder

    @property
    def limit_micros(self) -> int:
        """The budget in micro-dollars."""
        return parse_usd(self.budget)

    @property
    def needs_validation(self) -> bool:
        """Whether gold is set aside to select among alternatives."""
        return self.validation_share > 0 and any(each.alternatives for each in self.backbones)

    @property
    def distils(self) -> bool:
        """Whether any procedure needs unlabelled texts."""
        return any(is_distilled(each) for each in self.procedures)

    @field_validator("budget", mode="before")
    @classmethod
    def _sum(cls, value: Any) -> Decimal:
        return Decimal(parse_usd(value)) / 1_000_000

    @field_validator("seeds", mode="before")
    @classmethod
    def _counted(cls, value: Any) -> Any:
        return tuple(range(value)) if isinstance(value, int) and 0 < value < 1000 else value

    @field_validator("teacher", mode="before")
    @classmethod
    def _bare_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @field_validator("backbones", mode="before")
    @classmethod
    def _bare_names(cls, value: Any) -> Any:
        if not isinstance(value, list | tuple):
            return value
        return [{"name": each} if isinstance(each, str) else each for each in value]

    @model_validator(mode="after")
    def _check_consistency(self) -> StudySpec:
        for what, given in (("sizes", self.sizes), ("seeds", self.seeds), ("procedures", self.procedures)):
            if len(set(given)) < len(given):
                raise InvalidOption(f"`{what}` names one twice", "Name each once.")
        names = [each.name for each in self.backbones]
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise InvalidOption(f"two backbones have the same name: {twice!r}", "Give each a name of its own.")
        if "llm+kd" in self.procedures and self.teacher is None:
            raise InvalidOption("`llm+kd` needs a [teacher]", "Name one, or leave the procedure out.")
        if self.kd.shots and self.teacher is None:
            raise InvalidOption(
                "`shots` under [kd] are examples for a [teacher], and there is none", "Name one, or leave shots out."
            )
        for teacher in (self.kd.ft_teacher, self.kd.p_teacher):
            if teacher is not None and teacher not in names:
                raise InvalidOption(
                    f"the teacher {teacher!r} under [kd] is not one of the backbones",
                    f"Name one of {', '.join(names)}.",
                )
        return self

    @classmethod
    def from_dict(cls, record: Mapping[str, object], folder: Path = Path()) -> StudySpec:
        """Validate a mapping shaped like the TOML file.

        Raises:
            BadSpec: an unknown key (the hint names the nearest), or an invalid value.
        """
        try:
            spec = cls.model_validate(dict(record))
        except ValidationError as error:
            raise _as_bad_spec(error) from None
        spec._folder = folder
        return spec

    @classmethod
    def from_toml(cls, path: Path, overrides: Mapping[str, object] | None = None) -> StudySpec:
        """Read a TOML file; `overrides` replace its top-level keys.

        Raises:
            BadSpec: no such file, not TOML, or not a study.
        """
        record = read_toml(path, "Begin with a copy of one in studies/.")
        return cls.from_dict({"name": Path(as_text(path)).stem, **record, **(overrides or {})}, path.parent)


def is_distilled(procedure: str) -> bool:
    """Whether the student of a procedure is trained on a teacher's answers about unlabelled texts."""
    return procedure.endswith("+kd")


def _as_bad_spec(error: ValidationError) -> BadSpec:
    found = OptionError.of(StudySpec, error)
    if found.is_unknown:
        near = did_you_mean(found.name.rpartition(".")[2], found.known)
        return BadSpec(f"A study has no key {found.name!r}.", near)
    if found.is_missing:
        return BadSpec(f"The study lacks {found.name!r}.", "Add it; docs/compare.md shows every key.")
    if not found.name:
        return BadSpec(f"The study is invalid{found.reason}.", found.mend)
    value = json.dumps(found.given, default=str)[:MAX_SHOWN_VALUE]
    return BadSpec(f"{found.name} = {value} is invalid{found.reason}.", found.mend)
