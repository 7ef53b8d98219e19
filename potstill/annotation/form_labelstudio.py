"""People's answers in a text-to-text task as Label Studio has them: marks of a `Labels` control, or a `TextArea`.

Written are results and the labelling configuration; read is the export ("JSON"). A text with nothing in it, and one
that a person could not answer, are choices of a control of their own, `STATE`. An annotation without any mark is one
with nothing in it, too. Places in texts are UTF-16 units there. Source: Label Studio's guide, pages "task format" and
"export" and the tags "Labels" and "TextArea".
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from xml.sax.saxutils import quoteattr

from potstill.annotation.import_labels import UNSURE, LabelEntries, LabelEntry
from potstill.annotation.labelstudio_tasks import (
    CONTROL,
    StudioAnnotation,
    StudioResult,
    StudioTask,
    annotator_name,
    choose_control,
    read_studio_file,
)
from potstill.data.entities.build import decode_entities
from potstill.data.entities.label_studio import MARK_TYPES, annotation_marks, span_result
from potstill.data.form_annotations import NOTHING
from potstill.data.tables import read_table
from potstill.data.task import JsonObject, Task
from potstill.errors import BadData

STATE = "state"  # the name of the control of what is no mark and no answer
TEXT_AREA = "textarea"


def form_config(task: Task) -> str:
    """The labelling configuration of a project for a text-to-text task."""
    lines, shown = ["<View>"], '  <Text name="text" value="$text"/>'
    if task.instruction:
        lines.append(f"  <Header value={quoteattr(task.instruction)}/>")
    if task.form == "entities":
        lines.append(f'  <Labels name="{CONTROL}" toName="text">')
        for name in task.labels:
            hint = f" hint={quoteattr(task.descriptions[name])}" if task.descriptions.get(name) else ""
            lines.append(f"    <Label value={quoteattr(name)}{hint}/>")
        lines += ["  </Labels>", shown]
    else:
        lines += [shown, f'  <TextArea name="{CONTROL}" toName="text" rows="4" maxSubmissions="1" editable="true"/>']
    lines.append(f'  <Choices name="{STATE}" toName="text" choice="single" showInLine="true">')
    if task.form == "entities":
        lines.append(f'    <Choice value="{NOTHING}"/>')
    return "\n".join([*lines, f'    <Choice value="{UNSURE}" hint="cannot tell"/>', "  </Choices>", "</View>", ""])


def form_results(task: Task, id: str, text: str, label: str) -> list[JsonObject]:
    """A stored answer as the results of an annotation.

    Args:
        task: of the form `entities` or `free`.
        id: of the text.
        text: the text.
        label: the stored answer; "" for unsure.
    """
    if label and task.form == "free":
        return [{"from_name": CONTROL, "to_name": "text", "type": TEXT_AREA, "value": {"text": [label]}}]
    entities = (decode_entities(label) or ()) if label else ()
    if entities:
        return [span_result(f"{id}-{nth}", text, each) for nth, each in enumerate(entities)]
    state = NOTHING if label else UNSURE
    return [{"from_name": STATE, "to_name": "text", "type": "choices", "value": {"choices": [state]}}]


def is_form_task_list(path: Path) -> bool:
    """Whether a file is to be read as Label Studio's tasks: JSON with their `data`, or JSON that is no table."""
    if path.suffix.lower() != ".json" or not path.is_file():
        return path.suffix.lower() == ".json"
    try:
        return "data" in read_table(path, on_bad="skip").cells
    except BadData:
        return True


def read_form_tasks(path: Path, task: Task, named: str = "") -> LabelEntries:
    """The answers of an export; a task without annotations becomes an entry without an answer.

    Args:
        path: a .json file.
        task: of the form `entities` or `free`.
        named: the control that the user named; "" to choose.

    Raises:
        BadData: not JSON, not an export, or an annotation with several answers, or with marks and a state.
    """
    tasks = read_studio_file(path)
    names_of = _marked_types if task.form == "entities" else _written_words
    found = choose_control(path.name, tasks, names_of, task.labels, named, (STATE,))
    rows = (entry for n, each in enumerate(tasks, 1) for entry in _entries(path.name, n, each, task, found.name))
    return LabelEntries(tuple(rows), found.sentences)


def _marked_types(result: StudioResult) -> Sequence[str]:
    """The types of a mark; none of another result."""
    return _listed(result, result.type) if result.type in MARK_TYPES else ()


def _written_words(result: StudioResult) -> Sequence[str]:
    """The texts of a text area; none of another result."""
    return _listed(result, "text") if result.type == TEXT_AREA else ()


def _listed(result: StudioResult, name: str) -> list[str]:
    given = (result.value.model_extra or {}).get(name)
    return [each for each in (given if isinstance(given, list) else [given]) if isinstance(each, str)]


def _entries(file: str, number: int, studio: StudioTask, task: Task, control: str) -> Iterator[LabelEntry]:
    where, data = f"task {studio.id or number}", studio.data
    annotations = [each for each in studio.annotations if not each.was_cancelled]
    read = _marks if task.form == "entities" else _words
    for each in annotations:
        label = read(f"{file}, {where}", each, control)
        yield LabelEntry(where, data.potstill_id, data.text, label, annotator_name(each), each.lead_time or 0.0)
    if not annotations:
        yield LabelEntry(where, data.potstill_id, data.text, "")


def _states(annotation: StudioAnnotation) -> list[str]:
    chosen = [name for each in annotation.result if each.from_name == STATE for name in each.value.choices]
    return [name for name in chosen if name in (NOTHING, UNSURE)]


def _marks(where: str, annotation: StudioAnnotation, control: str) -> str:
    """The marks of an annotation as JSON; `UNSURE` if that was chosen."""
    results = [each.model_dump() for each in annotation.result if each.from_name == control]
    marks, states = list(annotation_marks({"result": results})), _states(annotation)
    if marks and states:
        raise BadData(f"{where} has marks, and the choice {states[0]!r}.", "Remove one of them.")
    return UNSURE if UNSURE in states else json.dumps(marks)


def _words(where: str, annotation: StudioAnnotation, control: str) -> str:
    """The answer of an annotation as a list with one text; `UNSURE` if that was chosen; "" if there is none."""
    written = [words for each in annotation.result if each.from_name == control for words in _written_words(each)]
    words, states = [each for each in written if each.strip()], _states(annotation)
    if len(words) > 1:
        raise BadData(f"{where} has {len(words)} answers; one is expected.", "Keep one of them.")
    if words and states:
        raise BadData(f"{where} has an answer, and the choice {states[0]!r}.", "Remove one of them.")
    return UNSURE if UNSURE in states else json.dumps(words) if words else ""
