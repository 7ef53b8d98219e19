"""Label Studio's marks on parts of a text: JSON tasks read as a table, and entities written as tasks.

Read are results of the types `labels` and `hypertextlabels` with a start and an end; skipped annotations and
predictions are not. Source: Label Studio's guide, pages "task format" and "export".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from potstill.data.entities.marks import UTF16
from potstill.data.label_cells import parse_nested
from potstill.data.label_exports.base import ExportRows, counted, records
from potstill.data.tables import Table
from potstill.data.task import JsonObject
from potstill.evaluation.text2text.entities import Entities, Entity

MARKS = "entities"  # the column of the marks
MARK_TYPES = ("labels", "hypertextlabels")  # types of results


def read_marked_tasks(table: Table) -> tuple[Table, tuple[str, ...]]:
    """The tasks as a table with their data and the column `entities`, a row an annotation; any other table as it is.

    Returns:
        The table, and what was read and what was not, in sentences.
    """
    done = table.cells.get("annotations") or table.cells.get("completions")
    if "data" not in table.cells or done is None:
        return table, ()
    if not all(isinstance(parse_nested(cell), dict) for cell in table.column("data")):
        return table, ()
    rows, n_annotations, n_skipped, n_other = ExportRows(table), 0, 0, 0
    for row, (cell, given) in enumerate(zip(table.column("data"), done, strict=True)):
        data = {f"{key}": value for key, value in parse_nested(cell).items() if key != MARKS}
        annotations = records(given)
        kept = [each for each in annotations if not each.get("was_cancelled") and not each.get("skipped")]
        n_skipped += len(annotations) - len(kept)
        for annotation in kept:
            marks = list(annotation_marks(annotation))
            results = annotation.get("result")
            n_other += (len(results) if isinstance(results, list) else 0) - len(marks)
            n_annotations += 1
            rows.add(row, {**data, MARKS: marks})
        if not kept:
            rows.add(row, {**data, MARKS: None})
    sentences = [
        f"Read {table.name} as an export of Label Studio: {len(table):,} tasks with "
        f"{counted(n_annotations, 'annotation', 'annotations')}.",
        f"{counted(n_skipped, 'annotation was', 'annotations were')} skipped by the annotator, and not read."
        * bool(n_skipped),
        f"{counted(n_other, 'result is', 'results are')} no marks on the text, and not read." * bool(n_other),
    ]
    return rows.table(), tuple(filter(None, sentences))


def are_marked_tasks(table: Table) -> bool:
    """Whether a table is an export of Label Studio whose results are marks on the text, and nothing else."""
    done = table.cells.get("annotations") or table.cells.get("completions")
    if "data" not in table.cells or done is None:
        return False
    kinds = {
        result.get("type")
        for cell in done
        for annotation in records(cell)
        for result in (annotation["result"] if isinstance(annotation.get("result"), list) else ())
        if isinstance(result, dict)
    }
    return bool(kinds) and kinds <= set(MARK_TYPES)


def annotation_marks(annotation: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The marks among the results of an annotation, as `read_marks` reads them; see `MARK_TYPES`."""
    results = annotation.get("result")
    for result in results if isinstance(results, list) else []:
        value = result.get("value") if isinstance(result, dict) else None
        if not isinstance(value, dict) or result.get("type") not in MARK_TYPES:
            continue
        # Both kinds name a character; hypertextlabels has it in globalOffsets.
        offsets = value.get("globalOffsets")
        places = offsets if isinstance(offsets, dict) else value
        names = value.get(str(result["type"])) or value.get("labels")
        for name in names if isinstance(names, list) else [names]:
            mark = {"start": places.get("start"), "end": places.get("end"), "type": name, "units": UTF16}
            yield mark | ({"words": value["text"]} if isinstance(value.get("text"), str) else {})


def marked_task(number: int, text: str, entities: Entities, scores: Sequence[float], model: str) -> dict[str, Any]:
    """A task for Label Studio with a model's entities as its prediction, for a labelling config with `Labels` "label".

    Args:
        number: of the task.
        text: its text.
        entities: of the model.
        scores: the confidence of each entity.
        model: its name.
    """
    results = [
        {**span_result(f"{number}-{nth}", text, each), "score": round(score, 4)}
        for nth, (each, score) in enumerate(zip(entities, scores, strict=True))
    ]
    return {"data": {"text": text}, "predictions": [{"model_version": model, "result": results}]}


def span_result(id: str, text: str, entity: Entity) -> JsonObject:
    """An entity as a result of the control `Labels` "label" on the text "text"; its places are UTF-16 units.

    Args:
        id: of the result, in its task.
        text: the text.
        entity: one of its entities.
    """
    return {
        "id": id,
        "from_name": "label",
        "to_name": "text",
        "type": "labels",
        "value": {
            "start": len(text[: entity.start].encode("utf-16-le", "surrogatepass")) // 2,
            "end": len(text[: entity.end].encode("utf-16-le", "surrogatepass")) // 2,
            "text": text[entity.start : entity.end],
            "labels": [entity.type],
        },
    }
