"""Labels as Label Studio's JSON: its tasks out, its export ("JSON", not "JSON-MIN") in.

Out: a list of tasks with `data` and `annotations`, and beside it the labelling configuration of the project. In: what
its Export button writes: `annotations` with `result` items of the type "choices", `lead_time` and `completed_by`
(a number, or a person with an e-mail address). Source: its guide, pages "task format", "export" and the tag "Choices".
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

from potstill.annotation.taking import UNSURE, Entry
from potstill.errors import BadData
from potstill.pairs import PAIR_SEPARATOR
from potstill.store import Label, Labels
from potstill.task import Task
from potstill.whole import whole_file

CONTROL = "label"  # the name of the Choices tag
WHO = "annotator: "  # a person's name, in the `meta` of a result: their users have no names of ours
LONG_LIST = 12


def write_tasks(path: Path, labels: Labels, task: Task, annotator: str = "") -> int:
    """Write PATH, tasks to be imported, and beside it NAME.xml, the labelling configuration; returns how many are open.

    Labels that were given go along as annotations. `annotator` leaves only the texts open to this person.
    """
    said: dict[str, list[Label]] = {}
    for each in labels.said():
        said.setdefault(each.id, []).append(each)
    open_ids = {question.id for question in labels.waiting(annotator)}
    tasks = [
        {
            "id": number,
            "data": {**_texts(question.text), "potstill_id": question.id},
            "annotations": [_annotation(each, question.text) for each in said.get(question.id, [])],
        }
        for number, question in enumerate(labels.questions(), 1)
        if not annotator or question.id in open_ids
    ]
    with whole_file(path) as file:
        file.write_text(json.dumps(tasks, ensure_ascii=False, indent=1), encoding="utf-8")
    with whole_file(path.with_suffix(".xml")) as file:
        pair = any(PAIR_SEPARATOR in question.text for question in labels.questions())
        file.write_text(configuration(task, pair=pair), encoding="utf-8")
    return len(open_ids)


def configuration(task: Task, *, pair: bool = False) -> str:
    """The labelling configuration of a project for this task."""
    texts = ("text_a", "text_b") if pair else ("text",)
    layout = ' layout="select"' if task.n_labels > LONG_LIST else ' showInLine="true"'
    lines = ["<View>"]
    if task.instruction:
        lines.append(f"  <Header value={quoteattr(task.instruction)}/>")
    lines += [f'  <Text name="{name}" value="${name}"/>' for name in texts]
    lines.append(f'  <Choices name="{CONTROL}" toName="{texts[0]}" choice="single"{layout}>')
    for label in (*task.labels, *(() if UNSURE in task.labels else (UNSURE,))):
        about = task.descriptions.get(label, "" if label != UNSURE else "cannot tell")
        hint = f" hint={quoteattr(about)}" if about else ""
        lines.append(f"    <Choice value={quoteattr(label)}{hint}/>")
    return "\n".join([*lines, "  </Choices>", "</View>", ""])


def _texts(text: str) -> dict[str, str]:
    if PAIR_SEPARATOR not in text:
        return {"text": text}
    one, _, other = text.partition(PAIR_SEPARATOR)
    return {"text_a": one, "text_b": other}


def _annotation(label: Label, text: str) -> dict[str, Any]:
    # Without `completed_by`: they refuse a file that names people who are no users of theirs.
    result = {
        "from_name": CONTROL,
        "to_name": next(iter(_texts(text))),
        "type": "choices",
        "value": {"choices": [label.label or UNSURE]},
        "meta": {"text": [WHO + label.annotator]},
    }
    return {"result": [result], "lead_time": label.seconds, "was_cancelled": False}


def read_tasks(path: Path) -> list[Entry]:
    """The labels of an export; a task without annotations is an entry that is still open.

    Raises BadData: not JSON, not an export, several choices where one is wanted.
    """
    try:
        tasks = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise BadData(f"There is no file {path}.", "Check the path.") from None
    except (ValueError, OSError) as error:
        raise BadData(f"{path.name} cannot be read as JSON: {error}.", "Export it again.") from None
    if not isinstance(tasks, list) or not all(isinstance(each, dict) for each in tasks):
        raise BadData(f"{path.name} is not a list of tasks.", "Export it from Label Studio as JSON.")
    return [entry for number, each in enumerate(tasks, 1) for entry in _entries(path.name, number, each)]


def _entries(file: str, number: int, task: Mapping[str, Any]) -> Iterator[Entry]:
    where, data = f"task {task.get('id', number)}", task.get("data")
    if not isinstance(data, dict):
        raise BadData(f"{file}, {where} has no data.", "Export it as JSON, not as JSON-MIN.")
    parts = [data.get("text_a"), data.get("text_b")] if "text_a" in data else [data.get("text")]
    text = PAIR_SEPARATOR.join(map(str, parts)) if None not in parts else None
    id = str(data.get("potstill_id") or "")
    given = [each for each in task.get("annotations") or () if not each.get("was_cancelled")]
    for annotation in given:
        choices = _choices(file, where, annotation)
        if choices:
            seconds = annotation.get("lead_time")
            yield Entry(
                where=where,
                id=id,
                text=text,
                label=choices,
                annotator=_who(annotation),
                seconds=float(seconds) if isinstance(seconds, int | float) else 0.0,
            )
    if not given:
        yield Entry(where, id, text, "")


def _choices(file: str, where: str, annotation: Mapping[str, Any]) -> str:
    results = annotation.get("result")
    if not isinstance(results, list):
        raise BadData(f"{file}, {where}: an annotation without a result.", "Export it from Label Studio as JSON.")
    found = [
        choice
        for result in results
        if isinstance(result, dict) and result.get("type") == "choices"
        for choice in (result.get("value") or {}).get("choices") or ()
    ]
    if len(found) > 1:
        raise BadData(
            f"{file}, {where} has {len(found)} choices, and one is wanted.", 'Set choice="single" in the configuration.'
        )
    return str(found[0]) if found else ""


def _who(annotation: Mapping[str, Any]) -> str:
    for result in annotation.get("result") or ():
        for line in (result.get("meta") or {}).get("text") or ():
            if str(line).startswith(WHO):
                return str(line).removeprefix(WHO)
    by = annotation.get("completed_by")
    if isinstance(by, dict):
        named = " ".join(str(by.get(part) or "") for part in ("first_name", "last_name")).strip()
        return str(by.get("email") or named or (f"user {by['id']}" if "id" in by else ""))
    return f"user {by}" if by is not None else ""
