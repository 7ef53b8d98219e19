"""Label Studio's exports: JSON, JSON-MIN and CSV, with the controls Choices, Taxonomy and Rating.

A result names its control in `from_name`; each control becomes a column. An annotation that was skipped is none.
Source: Label Studio's guide, pages "task format" and "export".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from potstill.data.label_cells import parse_nested
from potstill.data.label_exports.base import (
    ANNOTATOR,
    SECONDS,
    ExportRows,
    LabelExport,
    choose_question,
    counted,
    question_sentence,
    records,
)
from potstill.data.tables import Table

TOOL = "Label Studio"
ANNOTATOR_PREFIX = "annotator: "  # in the `meta` of a result: our annotators are not users of Label Studio
_LABELLING = ("choices", "taxonomy", "rating")  # the types of result that label the whole text
_META = frozenset({"id", ANNOTATOR, "annotation_id", "created_at", "updated_at", SECONDS})


def read_label_studio(table: Table, named: str, labels: Sequence[str]) -> LabelExport | None:
    """The export as a table; None if it is none of Label Studio's."""
    if "data" in table.cells and {"annotations", "completions", "predictions"} & table.cells.keys():
        if all(isinstance(parse_nested(cell), dict) for cell in table.column("data")):
            return _read_json(table, named, labels)
    elif {"annotation_id", ANNOTATOR} <= table.cells.keys():
        return _read_flat(table, named, labels)
    return None


def _read_json(table: Table, named: str, labels: Sequence[str]) -> LabelExport:
    rows, controls = ExportRows(table), dict[str, int]()
    other, n_skipped, n_predictions, n_annotations = Counter[str](), 0, 0, 0
    data_keys: dict[str, None] = {}
    done = table.cells.get("annotations") or table.cells.get("completions") or [None] * len(table)
    predicted = table.cells.get("predictions") or [None] * len(table)
    for row, (cell, given, guesses) in enumerate(zip(table.column("data"), done, predicted, strict=True)):
        data = {f"{key}": value for key, value in parse_nested(cell).items()}
        data_keys |= dict.fromkeys(data)
        n_predictions += bool(records(guesses))
        annotations = records(given)
        kept = [each for each in annotations if not each.get("was_cancelled") and not each.get("skipped")]
        n_skipped += len(annotations) - len(kept)
        for annotation in kept or [{}]:
            n_annotations += bool(annotation)
            values: dict[str, Any] = dict(data)
            for control, kind, value in _results(annotation):
                if kind not in _LABELLING:
                    other[control] += 1
                    continue
                column = f"{control} ({kind})" if control in data else control
                controls[column] = controls.get(column, 0) + 1
                values[column] = [*values.get(column, []), *value]
            about = {ANNOTATOR: annotator_name(annotation), SECONDS: annotation.get("lead_time")}
            rows.add(row, values | {name: fact for name, fact in about.items() if name not in data and annotation})
    read = rows.table(data_keys)
    label = choose_question(read, list(controls), named, labels)
    sentences = [
        f"Read {table.name} as an export of {TOOL}: {len(table):,} tasks with {n_annotations:,} annotations.",
        question_sentence(list(controls), label, "controls"),
        f"{counted(n_skipped, 'annotation was', 'annotations were')} skipped by the annotator, and not read here."
        * bool(n_skipped),
        f"{counted(n_predictions, 'task has', 'tasks have')} predictions, which are not read as labels."
        * bool(n_predictions),
        *(f"The control {name!r} does not label the whole text: {n:,} results not read." for name, n in other.items()),
    ]
    facts = frozenset({ANNOTATOR, SECONDS} - data_keys.keys())
    return LabelExport(
        TOOL, read, label=label, questions=tuple(controls), facts=facts, sentences=tuple(filter(None, sentences))
    )


def _results(annotation: Mapping[str, Any]) -> Iterator[tuple[str, str, list[Any]]]:
    """(control, type, values) of each result of an annotation."""
    results = annotation.get("result")
    for result in results if isinstance(results, list) else []:
        if not isinstance(result, dict) or not isinstance(result.get("value"), dict):
            continue
        kind = str(result.get("type", ""))
        value = result["value"].get(kind)
        yield str(result.get("from_name", "label")), kind, value if isinstance(value, list) else [value]


def annotator_name(annotation: Mapping[str, Any]) -> str | None:
    """The name that our own export noted, or the user of Label Studio; None if there is neither."""
    results = annotation.get("result")
    for result in results if isinstance(results, list) else []:
        meta = result.get("meta") if isinstance(result, dict) else None
        notes = meta.get("text") if isinstance(meta, dict) else None
        for note in notes if isinstance(notes, list) else []:
            if isinstance(note, str) and note.startswith(ANNOTATOR_PREFIX):
                return note.removeprefix(ANNOTATOR_PREFIX)
    by = annotation.get("completed_by")
    if isinstance(by, dict):
        name = by.get("email") or f"{by.get('first_name', '')} {by.get('last_name', '')}".strip()
        return str(name) if name else f"user {by['id']}" if by.get("id") is not None else None
    return None if by is None else f"user {by}"


def _read_flat(table: Table, named: str, labels: Sequence[str]) -> LabelExport:
    """JSON-MIN or CSV: the data, `id`, a column a control, `annotator`, `annotation_id`, and times."""
    columns = list(table.columns)
    first, last = columns.index("id") + 1 if "id" in columns else 0, columns.index(ANNOTATOR)
    controls = [name for name in columns[first:last] if name not in _META] if first else []
    if named in columns and named not in controls:
        controls.append(named)
    label = choose_question(table, controls, named, labels)
    sentences = [
        f"Read {table.name} as an export of {TOOL}: {len(table):,} annotations.",
        question_sentence(controls, label, "controls"),
    ]
    return LabelExport(
        TOOL,
        table,
        label=label,
        questions=tuple(controls),
        facts=_META & set(columns),
        sentences=tuple(filter(None, sentences)),
    )
