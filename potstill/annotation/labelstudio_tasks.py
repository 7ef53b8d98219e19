"""The shape of Label Studio's tasks in an exported JSON file, and what is common to labels and answers in them.

Source: Label Studio's guide, pages "task format" and "export".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from potstill.data.label_exports.base import best_question
from potstill.data.label_values import PATH_SEPARATOR
from potstill.errors import BadData, did_you_mean

CONTROL = "label"  # the name of the control in our labelling configuration
ANNOTATOR_PREFIX = "annotator: "  # in the `meta` of a result: our annotators are not users of Label Studio
BOM = b"\xef\xbb\xbf"


class StudioValue(BaseModel):
    """`value` of a result: the chosen labels, or their paths in a taxonomy; a span or a text is in `model_extra`."""

    model_config = ConfigDict(extra="allow")
    choices: list[str] = []
    taxonomy: list[list[str]] = []

    @property
    def labels(self) -> list[str]:
        """The choices, and the paths as one name each."""
        return [*self.choices, *(PATH_SEPARATOR.join(path) for path in self.taxonomy)]


class StudioMeta(BaseModel):
    """`meta` of a result: notes, here the annotator."""

    text: list[str] = []


class StudioResult(BaseModel):
    """An entry of `result`: one answered control of the page."""

    type: str
    from_name: str = CONTROL
    value: StudioValue = StudioValue()
    meta: StudioMeta | None = None


class StudioUser(BaseModel):
    """`completed_by`: the person of Label Studio who labelled."""

    id: int | None = None
    email: str = ""
    first_name: str = ""
    last_name: str = ""


class StudioAnnotation(BaseModel):
    """An entry of `annotations`: one person's answer about one text."""

    result: list[StudioResult]
    was_cancelled: bool | None = None
    lead_time: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    completed_by: int | StudioUser | None = None


class StudioData(BaseModel):
    """`data` of a task: the text, or the two texts of a pair."""

    text: str | None = None
    text_a: str | None = None
    text_b: str | None = None
    potstill_id: str = ""


class StudioTask(BaseModel):
    """An exported task: a text and its annotations."""

    id: int | str | None = None
    data: StudioData
    annotations: list[StudioAnnotation] = []


_TASKS = TypeAdapter(list[StudioTask])


def read_studio_file(path: Path) -> list[StudioTask]:
    """The tasks of an exported file.

    Raises:
        BadData: not JSON, or not an export.
    """
    try:
        return _TASKS.validate_json(path.read_bytes().removeprefix(BOM))
    except FileNotFoundError:
        raise BadData(f"There is no file {path}.", "Check the path.") from None
    except OSError as error:
        raise BadData(f"{path.name} cannot be read: {error.strerror}.", "Check the file.") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise BadData(
            f"{path.name} is not an export of Label Studio: {where}: {first['msg'][:1].lower()}{first['msg'][1:]}.",
            "Export the project as JSON.",
        ) from None


@dataclass(frozen=True)
class StudioControl:
    """The control whose answers are read, and a sentence on each other one."""

    name: str
    sentences: tuple[str, ...]


def choose_control(
    file: str,
    tasks: Sequence[StudioTask],
    names_of: Callable[[StudioResult], Sequence[str]],
    labels: Sequence[str],
    named: str,
    known: Collection[str] = (),
) -> StudioControl:
    """The control (`from_name`) whose answers are the labels.

    Args:
        file: its name, for messages.
        tasks: of the file.
        names_of: what a result answers; nothing if its control is of another type.
        labels: the task's; empty for the control with most answers.
        named: the control that the user named; "" to choose.
        known: other controls that are read.

    Raises:
        BadData: the named control is not in the file.
    """
    answers: dict[str, Counter[str]] = {}
    n_results = Counter(each.from_name for task in tasks for by in task.annotations for each in by.result)
    for result in (each for task in tasks for annotation in task.annotations for each in annotation.result):
        answers.setdefault(result.from_name, Counter()).update(names_of(result))
    if named and named not in answers:
        raise BadData(f"{file} has no control {named!r}.", did_you_mean(named, answers))
    control = named or best_question({name: counts for name, counts in answers.items() if counts}, labels)
    return StudioControl(
        control,
        tuple(
            f"{file}: the answers of the control {name!r} are not read ({n_results[name]:,}); the labels are those "
            f"of {control!r}. Another control: --label NAME"
            for name in answers
            if name != control and name not in known
        ),
    )


def annotator_name(annotation: StudioAnnotation) -> str:
    """The annotator that we noted in a result, else the user of Label Studio; "" if unknown."""
    notes = [line for result in annotation.result if result.meta is not None for line in result.meta.text]
    for line in notes:
        if line.startswith(ANNOTATOR_PREFIX):
            return line.removeprefix(ANNOTATOR_PREFIX)
    by = annotation.completed_by
    if isinstance(by, StudioUser):
        return by.email or f"{by.first_name} {by.last_name}".strip() or (f"user {by.id}" if by.id is not None else "")
    return "" if by is None else f"user {by}"
