"""The specification of a study: the keys of a `STUDY.toml`, validated. Reads no data and no weights."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PrivateAttr, ValidationError, field_validator, model_validator

from potstill.data.paths import as_text
from potstill.data.task import ANSWERS, AnswerMetric, JsonObject, Output, OutputForm
from potstill.data.toml_file import read_toml
from potstill.engines import DEFAULT_ENGINE
from potstill.errors import BadSpec, did_you_mean
from potstill.ledger.prices import parse_usd
from potstill.registry import MAX_SHOWN_VALUE, InvalidOption, OptionError, Options
from potstill.run.spec import DEFAULT_USD_PER_HOUR, ComponentSpec
from potstill.study.spec_tables import (
    DEFAULT_PROCEDURES,
    FORM_PROCEDURES,
    PROMPTED,
    BackboneSpec,
    KdSpec,
    MetricName,
    Procedure,
    StudyDataSpec,
    SubsetSize,
    check_metric,
)

ENTITY_METRIC = "entity_f1"


class StudySpec(Options):
    """The specification of a study.

    Attributes:
        name: a title, and the name of its folder.
        budget: USD for this machine's time and for model calls, all cells together.
        procedures: of finetune, prompt, ft-kd, p-kd and llm+kd; baselines are always run. By default all but the last,
            and those of `FORM_PROCEDURES` for entities and answers in words.
        backbones: the models.
        data: name -> data set.
        sizes: gold labels per class or in total (`per`); "all" takes all there are. Without classes always in total.
        seeds: how many, or which.
        validation_share: of the gold, used only to select among `alternatives`; it counts as gold. Of entities and
            answers in words it is always set aside: students end their training, or choose their weights, by it.
        max_unlabelled: texts set aside for distillation if there is no pool; they are never gold.
        max_test: test texts at most; the same for all cells.
        max_size: procedure -> the largest size it is run at.
        kd: temperature and teachers of distillation.
        teacher: a language model, for LLM + KD and as a baseline.
        metric: of all data sets that name none; None for accuracy, entity F1 or token F1.
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
    metric: MetricName | AnswerMetric | None = None
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
    def form(self) -> OutputForm | None:
        """The form of the answers of all data sets; None if they have labels."""
        return next(iter(self.data.values())).form

    def output(self, data: str) -> Output | None:
        """The answers of a data set; None if it has labels."""
        own = self.data[data]
        if own.form is None:
            return None
        metric: Any = own.metric or self.metric
        return Output(own.form, metric, own.max_tokens)

    def metric_of(self, data: str) -> str:
        """The metric that the students of a data set are compared by."""
        output = self.output(data)
        if output is not None:
            return output.metric or ENTITY_METRIC
        return self.data[data].metric or self.metric or "accuracy"

    @property
    def needs_validation(self) -> bool:
        """Whether gold is set aside to select among alternatives, or for students that need some."""
        alternatives = any(each.alternatives for each in self.backbones)
        return self.validation_share > 0 and (alternatives or self.form is not None)

    @property
    def distils(self) -> bool:
        """Whether any procedure needs unlabelled texts."""
        return any(is_distilled(each) for each in self.procedures)

    @model_validator(mode="before")
    @classmethod
    def _form_defaults(cls, given: Any) -> Any:
        """Without classes the sizes are in total, and the default procedures are those that make sense."""
        data = given.get("data") if isinstance(given, Mapping) else None
        tables = data.values() if isinstance(data, Mapping) else ()
        if any(isinstance(each, Mapping) and each.get("form") is not None for each in tables):
            return {"procedures": FORM_PROCEDURES, "per": "total", **given}
        return given

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

    @model_validator(mode="after")
    def _one_sort_of_answers(self) -> StudySpec:
        """All data sets have labels, entities or answers in words, and nothing is asked for that these have not."""
        forms = dict.fromkeys(each.form for each in self.data.values())
        if len(forms) > 1:
            names = " and ".join("labels" if form is None else ANSWERS[form] for form in forms)
            raise InvalidOption(f"its data sets have {names}, and a study has one of these", "Make a study of each.")
        check_metric(self.form, self.metric)
        if self.form is not None:
            self._check_form(ANSWERS[self.form])
        return self

    def _check_form(self, has: str) -> None:
        prompted = next((each for each in self._named_procedures() if each in PROMPTED), None)
        if prompted is not None:
            raise InvalidOption(
                f"the procedure {prompted!r} trains by the words of labels, and its data sets have {has}",
                "Take ft, ft+kd or llm+kd.",
            )
        given = next((name for name in ("temperature", "p_teacher") if name in self.kd.model_fields_set), None)
        if given is not None:
            raise InvalidOption(
                f"{given} under [kd] is about scores of labels, and its data sets have {has}", f"Leave {given} out."
            )
        if self.per == "class":
            raise InvalidOption(
                f'per = "class" needs classes, and its data sets have {has}', "Leave per out: sizes are in total."
            )
        backbone = next((each.name for each in self.backbones if each.prompt), None)
        if backbone is not None:
            raise InvalidOption(
                f"the backbone {backbone!r} has a prompt with the words of labels, and its data sets have {has}",
                "Leave prompt out.",
            )

    def _named_procedures(self) -> Iterator[Procedure]:
        """Those to run, of the study and of each backbone."""
        yield from self.procedures
        for backbone in self.backbones:
            yield from backbone.procedures or ()

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
