"""Writes Label Studio's task JSON and reads its export ("JSON"); JSON-MIN and CSV are read in `spreadsheet.py`.

Written: a list of tasks with `data` and `annotations`, and beside it the labelling configuration of the project. Read:
`annotations` with `result` items of the types "choices" and "taxonomy" of one control (`from_name`), `lead_time` and
`completed_by` (a number, or a user with an e-mail address). Source: Label Studio's guide, pages "task format", "export"
and the tag "Choices".
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from xml.sax.saxutils import quoteattr

from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from potstill.annotation.import_labels import UNSURE, LabelEntries, LabelEntry
from potstill.data.atomic import atomic_file
from potstill.data.label_exports import read_export
from potstill.data.label_exports.base import best_question
from potstill.data.label_exports.label_studio import TOOL as LABEL_STUDIO
from potstill.data.label_values import PATH_SEPARATOR
from potstill.data.pairs import PAIR_SEPARATOR
from potstill.data.tables import read_table
from potstill.data.task import JsonObject, Task
from potstill.errors import BadData, did_you_mean
from potstill.ledger.store import Annotation, AnnotationStore

CONTROL = "label"  # the name of the Choices tag
ANNOTATOR_PREFIX = "annotator: "  # in the `meta` of a result: our annotators are not users of Label Studio
SELECT_FROM_N_LABELS = 12
BOM = b"\xef\xbb\xbf"


def write_tasks(path: Path, labels: AnnotationStore, task: Task, annotator: str = "") -> int:
    """Write the tasks to `path` and the labelling configuration to an .xml file beside it.

    Args:
        path: a .json file.
        labels: the run's label store; its labels are written as annotations.
        task: the run's task.
        annotator: write only the texts that this annotator has not labelled; "" for all.

    Returns:
        The number of texts without all their labels.
    """
    annotations: dict[str, list[Annotation]] = {}
    for each in labels.annotations():
        annotations.setdefault(each.id, []).append(each)
    requests = labels.requests()
    open_ids = {request.id for request in labels.open_requests(annotator)}
    tasks = [
        {
            "id": number,
            "data": {**_texts(request.text), "potstill_id": request.id},
            "annotations": [_annotation_json(each, request.text) for each in annotations.get(request.id, [])],
        }
        for number, request in enumerate(requests, 1)
        if not annotator or request.id in open_ids
    ]
    with atomic_file(path) as file:
        file.write_text(json.dumps(tasks, ensure_ascii=False, indent=1), encoding="utf-8")
    with atomic_file(path.with_suffix(".xml")) as file:
        pair = any(PAIR_SEPARATOR in request.text for request in requests)
        file.write_text(labelling_config(task, pair=pair), encoding="utf-8")
    return len(open_ids)


def labelling_config(task: Task, *, pair: bool = False) -> str:
    """The labelling configuration of a project for this task."""
    texts = ("text_a", "text_b") if pair else ("text",)
    layout = ' layout="select"' if task.n_labels > SELECT_FROM_N_LABELS else ' showInLine="true"'
    lines = ["<View>"]
    if task.instruction:
        lines.append(f"  <Header value={quoteattr(task.instruction)}/>")
    lines += [f'  <Text name="{name}" value="${name}"/>' for name in texts]
    lines.append(f'  <Choices name="{CONTROL}" toName="{texts[0]}" choice="single"{layout}>')
    for label in (*task.labels, *(() if UNSURE in task.labels else (UNSURE,))):
        description = task.descriptions.get(label, "" if label != UNSURE else "cannot tell")
        hint = f" hint={quoteattr(description)}" if description else ""
        lines.append(f"    <Choice value={quoteattr(label)}{hint}/>")
    return "\n".join([*lines, "  </Choices>", "</View>", ""])


def _texts(text: str) -> dict[str, str]:
    if PAIR_SEPARATOR not in text:
        return {"text": text}
    first, _, second = text.partition(PAIR_SEPARATOR)
    return {"text_a": first, "text_b": second}


def _annotation_json(annotation: Annotation, text: str) -> JsonObject:
    # Without `completed_by`: Label Studio refuses a file that names people who are not its users.
    result = {
        "from_name": CONTROL,
        "to_name": next(iter(_texts(text))),
        "type": "choices",
        "value": {"choices": [annotation.label or UNSURE]},
        "meta": {"text": [ANNOTATOR_PREFIX + annotation.annotator]},
    }
    return {"result": [result], "lead_time": annotation.seconds, "was_cancelled": False}


class _Value(BaseModel):
    """`value` of a result: the chosen labels, or their paths in a taxonomy."""

    choices: list[str] = []
    taxonomy: list[list[str]] = []

    @property
    def labels(self) -> list[str]:
        """The choices, and the paths as one name each."""
        return [*self.choices, *(PATH_SEPARATOR.join(path) for path in self.taxonomy)]


class _Meta(BaseModel):
    """`meta` of a result: notes, here the annotator."""

    text: list[str] = []


class _Result(BaseModel):
    """An entry of `result`: one answered control of the page."""

    type: str
    from_name: str = CONTROL
    value: _Value = _Value()
    meta: _Meta | None = None


class _User(BaseModel):
    """`completed_by`: the person of Label Studio who labelled."""

    id: int | None = None
    email: str = ""
    first_name: str = ""
    last_name: str = ""


class _Annotation(BaseModel):
    """An entry of `annotations`: one person's answer about one text."""

    result: list[_Result]
    was_cancelled: bool | None = None
    lead_time: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    completed_by: int | _User | None = None


class _Data(BaseModel):
    """`data` of a task: the text, or the two texts of a pair."""

    text: str | None = None
    text_a: str | None = None
    text_b: str | None = None
    potstill_id: str = ""


class _Task(BaseModel):
    """An exported task: a text and its annotations."""

    id: int | str | None = None
    data: _Data
    annotations: list[_Annotation] = []


_TASKS = TypeAdapter(list[_Task])


def is_task_list(path: Path) -> bool:
    """Whether a file is to be read as Label Studio's tasks: JSON, and not the export of another tool."""
    if path.suffix.lower() != ".json" or not path.is_file():
        return path.suffix.lower() == ".json"
    try:
        export = read_export(read_table(path, on_bad="skip"))
    except BadData:
        return True
    return export is None or (export.tool == LABEL_STUDIO and "annotation_id" not in export.facts)


def read_tasks(path: Path, labels: Sequence[str] = (), named: str = "") -> LabelEntries:
    """The labels of an export; a task without annotations becomes an unlabelled entry.

    Args:
        path: a .json file.
        labels: the task's; of several controls the one that asks for them is read.
        named: the control that the user named; "" to choose.

    Raises:
        BadData: not JSON, not an export, or several choices in one annotation.
    """
    try:
        tasks = _TASKS.validate_json(path.read_bytes().removeprefix(BOM))
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
    control, sentences = _choose_control(path.name, tasks, labels, named)
    rows = (entry for number, each in enumerate(tasks, 1) for entry in _entries(path.name, number, each, control))
    return LabelEntries(tuple(rows), sentences)


def _choose_control(
    file: str, tasks: Sequence[_Task], labels: Sequence[str], named: str
) -> tuple[str, tuple[str, ...]]:
    """The control (`from_name`) whose choices are the labels, and a sentence on each other one."""
    answers: dict[str, Counter[str]] = {}
    n_results = Counter(each.from_name for task in tasks for by in task.annotations for each in by.result)
    for result in (each for task in tasks for annotation in task.annotations for each in annotation.result):
        counts = answers.setdefault(result.from_name, Counter())
        counts.update(result.value.labels if result.type in ("choices", "taxonomy") else ())
    if named and named not in answers:
        raise BadData(f"{file} has no control {named!r}.", did_you_mean(named, answers))
    control = named or best_question({name: counts for name, counts in answers.items() if counts}, (*labels, UNSURE))
    return control, tuple(
        f"{file}: the answers of the control {name!r} are not read ({n_results[name]:,}); the labels are those "
        f"of {control!r}. Another control: --label NAME"
        for name in answers
        if name != control
    )


def _entries(file: str, number: int, task: _Task, control: str) -> Iterator[LabelEntry]:
    where, data = f"task {task.id or number}", task.data
    text = data.text
    if data.text_a is not None and data.text_b is not None:
        text = PAIR_SEPARATOR.join((data.text_a, data.text_b))
    annotations = [each for each in task.annotations if not each.was_cancelled]
    for annotation in annotations:
        chosen = [label for each in annotation.result if each.from_name == control for label in each.value.labels]
        if len(chosen) > 1:
            raise BadData(
                f"{file}, {where} has {len(chosen)} choices; one is expected.",
                'Set choice="single" in the configuration.',
            )
        label = chosen[0] if chosen else ""
        yield LabelEntry(where, data.potstill_id, text, label, _annotator_name(annotation), annotation.lead_time or 0.0)
    if not annotations:
        yield LabelEntry(where, data.potstill_id, text, "")


def _annotator_name(annotation: _Annotation) -> str:
    notes = [line for result in annotation.result if result.meta is not None for line in result.meta.text]
    for line in notes:
        if line.startswith(ANNOTATOR_PREFIX):
            return line.removeprefix(ANNOTATOR_PREFIX)
    by = annotation.completed_by
    if isinstance(by, _User):
        return by.email or f"{by.first_name} {by.last_name}".strip() or (f"user {by.id}" if by.id is not None else "")
    return "" if by is None else f"user {by}"
