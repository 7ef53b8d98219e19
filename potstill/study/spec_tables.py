"""The tables of a `STUDY.toml`: `[[backbones]]`, `[kd]` and `[data.NAME]`, validated. Reads no data and no weights."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import Field, model_validator

from potstill.data.task import AnswerMetric, JsonObject, OutputForm
from potstill.registry import InvalidOption, Options
from potstill.run.spec import TableSpec

Procedure = str  # one of PROCEDURES, or the name of any other recipe
MetricName = Literal["accuracy", "macro_f1", "mcc"]
SubsetSize = Annotated[int, Field(gt=0)] | Literal["all"]
PROCEDURES: tuple[Procedure, ...] = ("ft", "p", "ft+kd", "p+kd", "llm+kd")
DEFAULT_PROCEDURES: tuple[Procedure, ...] = ("ft", "p", "ft+kd", "p+kd")
FORM_PROCEDURES: tuple[Procedure, ...] = ("ft", "ft+kd")  # of a study of entities or answers in words that names none
PROMPTED: tuple[Procedure, ...] = ("p", "p+kd")  # train by the words of labels


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
        temperature: of the softened distribution; entities and answers in words have none.
        train_on_gold: whether students are also trained on the gold labels.
        ft_teacher, p_teacher: backbones that teach in FT + KD and P + KD; None takes the largest.
        shots: gold examples of each class or type in the language model's prompt, of answers in words in all, in LLM +
            KD; above 0 the model with these examples is a baseline too.
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
    the folder given with --data. `form`, `metric` and `max_tokens` are those of a run's `[task]`.
    """

    sample: str | None = None
    folder: Path | None = None
    file: Path | None = None
    train: Path | None = None
    validation: Path | None = None
    pool: Path | None = None
    test: Path | None = None
    kind: Literal["single", "pair", "text2text"] | None = None
    form: OutputForm | None = None
    max_tokens: int | None = Field(default=None, gt=0)
    test_share: float | None = Field(default=None, gt=0, lt=1)
    on_leak: Literal["drop", "error", "allow"] = "error"
    on_conflict: Literal["drop", "first", "error"] | None = None
    on_duplicate: Literal["first", "keep"] | None = None
    labels: tuple[str, ...] = ()
    descriptions: dict[str, str] = Field(default_factory=dict)
    instruction: str = ""
    metric: MetricName | AnswerMetric | None = None
    prompt: JsonObject = Field(default_factory=dict)
    max_size: dict[Procedure, Annotated[int, Field(gt=0)]] = Field(default_factory=dict)
    max_unlabelled: int | None = Field(default=None, ge=0)

    @model_validator(mode="after")
    def _one_source(self) -> StudyDataSpec:
        given = [name for name in ("sample", "folder", "file", "train") if getattr(self, name) is not None]
        if len(given) != 1:
            raise InvalidOption("a data set has one source", "Name one of `sample`, `folder`, `file` and `train`.")
        return self

    @model_validator(mode="after")
    def _form_of_answers(self) -> StudyDataSpec:
        if self.form is None:
            self._check_labels()
        elif self.kind not in (None, "text2text"):
            raise InvalidOption(
                f"answers of the form {self.form!r} are of the kind 'text2text', not {self.kind!r}",
                "Leave the kind out, or the form.",
            )
        elif self.prompt:
            raise InvalidOption("a prompt has the words of labels, and this data set has none", "Leave prompt out.")
        elif self.form == "entities" and self.max_tokens is not None:
            raise InvalidOption("max_tokens is of answers in words", "Leave it out.")
        elif self.form == "free" and (self.labels or self.descriptions):
            raise InvalidOption("answers in words have no labels", "Leave labels and descriptions out.")
        check_metric(self.form, self.metric)
        return self

    def _check_labels(self) -> None:
        if self.kind == "text2text":
            known = " or ".join(f'"{form}"' for form in get_args(OutputForm))
            raise InvalidOption("a text-to-text task has a form of answers", f"Name it: form = {known}.")
        if self.max_tokens is not None:
            raise InvalidOption("max_tokens is of answers in words", 'Leave it out, or say form = "free".')


def check_metric(form: OutputForm | None, metric: str | None) -> None:
    """Check that a metric is one of answers of the form; None for labels. Raises InvalidOption."""
    if metric is None:
        return
    if form == "entities":
        raise InvalidOption(f"entities are compared by entity F1, not by {metric!r}", "Leave metric out.")
    known = get_args(MetricName if form is None else AnswerMetric)
    if metric not in known:
        of, has = ("answers in words", "labels") if form is None else ("labels", "answers in words")
        raise InvalidOption(
            f"the metric {metric!r} is of {of}, and these data have {has}", f"Take one of {', '.join(known)}."
        )
