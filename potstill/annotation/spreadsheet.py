"""Writes and reads labels as a table that any spreadsheet opens.

A cell that a spreadsheet would read as a formula is written with a leading quote, which an import ignores.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from potstill.annotation.import_labels import UNSURE, LabelEntry
from potstill.data.printable import with_formula, without_formula
from potstill.data.tables import ReadOptions, read_table, write_table
from potstill.errors import BadData
from potstill.ledger.store import Annotation, AnnotationStore

COLUMNS = ("id", "text", "label", "annotator", "seconds")


def write_spreadsheet(path: Path, labels: AnnotationStore, annotator: str = "") -> int:
    """Write a row for each label and one for each text without all its labels; returns the number of the latter.

    Args:
        path: .csv, .tsv, .jsonl or .parquet.
        labels: the run's label store.
        annotator: only this annotator's labels and open texts; "" for all.
    """
    rows = list(_rows(labels, annotator))
    write_table(path, COLUMNS, [asdict(row) for row in rows])
    return sum(not row.label for row in rows)


@dataclass(frozen=True)
class SpreadsheetRow:
    """One row of the table, with the columns `COLUMNS`."""

    id: str
    text: str
    label: str
    annotator: str
    seconds: float | str


def _rows(labels: AnnotationStore, annotator: str) -> Iterator[SpreadsheetRow]:
    annotations: dict[str, list[Annotation]] = {}
    for each in labels.annotations():
        if annotator in ("", each.annotator):
            annotations.setdefault(each.id, []).append(each)
    open_ids = {request.id for request in labels.open_requests(annotator)}
    for request in labels.requests():
        text = without_formula(request.text)
        for each in annotations.get(request.id, []):
            name, seconds = without_formula(each.annotator), round(each.seconds, 2)
            yield SpreadsheetRow(request.id, text, without_formula(each.label or UNSURE), name, seconds)
        if request.id in open_ids:
            yield SpreadsheetRow(request.id, text, "", without_formula(annotator), "")


def read_spreadsheet(
    path: Path,
    read: ReadOptions = ReadOptions(),  # noqa: B008 - frozen
) -> list[LabelEntry]:
    """The rows of a table with the columns `id` (or Label Studio's `potstill_id`) and `label`; the others are optional.

    Raises:
        BadData: a column is missing, or a time is not a number.
    """
    table = read_table(path, encoding=read.encoding, layout=read.layout, on_bad=read.on_bad_row or "error")
    names = {name.strip().lower(): name for name in table.columns}
    id_column = names.get("potstill_id", names.get("id"))
    if id_column is None or "label" not in names:
        raise BadData(
            f"{path.name} has no columns 'id' and 'label' (it has {', '.join(map(repr, table.columns))}).",
            "Use the file that potstill annotate RUN --export wrote.",
        )

    def cells(*candidates: str) -> list[str | None]:
        name = next((names[each] for each in candidates if each in names), None)
        return [None] * len(table) if name is None else list(table.column(name))

    rows = zip(
        table.line_numbers,
        cells(id_column.strip().lower()),
        cells("text"),
        cells("label"),
        cells("annotator"),
        cells("seconds", "lead_time"),
        strict=True,
    )
    return [
        LabelEntry(
            location=f"line {line}",
            id=(id or "").strip(),
            text=text or None,
            label=with_formula(label or ""),
            annotator=with_formula((annotator or "").strip()),
            seconds=_seconds(path, line, seconds),
        )
        for line, id, text, label, annotator, seconds in rows
    ]


def _seconds(path: Path, line: int, cell: str | None) -> float:
    try:
        seconds = float(cell or 0)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < 1e6:
        raise BadData(
            f"{path.name}, line {line}: {cell!r} is not a number of seconds.", "Correct it, or leave it empty."
        )
    return seconds
