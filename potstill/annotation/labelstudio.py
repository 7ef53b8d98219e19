"""Writes Label Studio's task JSON and reads its export ("JSON"); JSON-MIN and CSV are read in `spreadsheet.py`.

What is different for the answers of a text-to-text task is in `form_labelstudio.py`.
Written: a list of tasks with `data` and `annotations`, and beside it the labelling configuration of the project. Read:
`annotations` with `result` items of the types "choices" and "taxonomy" of one control (`from_name`), `lead_time` and
`completed_by` (a number, or a user with an e-mail address). Source: Label Studio's guide, pages "task format", "export"
and the tag "Choices".
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from xml.sax.saxutils import quoteattr

from potstill.annotation.form_labelstudio import form_config, form_results
from potstill.annotation.import_labels import UNSURE, LabelEntries, LabelEntry
from potstill.annotation.labelstudio_tasks import (
    ANNOTATOR_PREFIX,
    CONTROL,
    StudioResult,
    StudioTask,
    annotator_name,
    choose_control,
    read_studio_file,
)
from potstill.data.atomic import atomic_file
from potstill.data.label_exports import read_export
from potstill.data.label_exports.label_studio import TOOL as LABEL_STUDIO
from potstill.data.pairs import PAIR_SEPARATOR
from potstill.data.tables import read_table
from potstill.data.task import JsonObject, Task
from potstill.errors import BadData
from potstill.ledger.store import Annotation, AnnotationStore

SELECT_FROM_N_LABELS = 12


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
            "annotations": [_annotation_json(each, request.text, task) for each in annotations.get(request.id, [])],
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
    if task.form is not None:
        return form_config(task)
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


def _annotation_json(annotation: Annotation, text: str, task: Task) -> JsonObject:
    if task.form is not None:
        results = form_results(task, annotation.id, text, annotation.label)
    else:
        value, to_name = {"choices": [annotation.label or UNSURE]}, next(iter(_texts(text)))
        results = [{"from_name": CONTROL, "to_name": to_name, "type": "choices", "value": value}]
    # Without `completed_by`: Label Studio refuses a file that names people who are not its users.
    meta = {"text": [ANNOTATOR_PREFIX + annotation.annotator]}
    results = [{**each, "meta": meta} for each in results]
    return {"result": results, "lead_time": annotation.seconds, "was_cancelled": False}


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
    tasks = read_studio_file(path)
    found = choose_control(path.name, tasks, _choices_of, (*labels, UNSURE), named)
    rows = (entry for number, each in enumerate(tasks, 1) for entry in _entries(path.name, number, each, found.name))
    return LabelEntries(tuple(rows), found.sentences)


def _choices_of(result: StudioResult) -> Sequence[str]:
    return result.value.labels if result.type in ("choices", "taxonomy") else ()


def _entries(file: str, number: int, task: StudioTask, control: str) -> Iterator[LabelEntry]:
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
        yield LabelEntry(where, data.potstill_id, text, label, annotator_name(annotation), annotation.lead_time or 0.0)
    if not annotations:
        yield LabelEntry(where, data.potstill_id, text, "")
