"""Writes and reads labels as a table that any spreadsheet opens.

A cell that a spreadsheet would read as a formula is written with a leading quote, which an import ignores.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from potstill.annotation.import_labels import UNSURE, LabelEntries, LabelEntry
from potstill.data.column_guess import guess_columns
from potstill.data.form_annotations import FormAnnotations
from potstill.data.label_columns import read_label_column
from potstill.data.label_exports import LabelExport, read_export
from potstill.data.label_values import clean_cells
from potstill.data.pool.prodigy_answers import find_answer_column
from potstill.data.printable import with_formula, without_formula
from potstill.data.tables import ReadOptions, Table, read_table, write_table
from potstill.errors import BadData
from potstill.ledger.store import Annotation, AnnotationStore

COLUMNS = ("id", "text", "label", "annotator", "seconds")


def write_spreadsheet(
    path: Path, labels: AnnotationStore, annotator: str = "", form: FormAnnotations | None = None
) -> int:
    """Write a row for each label and one for each text without all its labels; returns the number of the latter.

    Args:
        path: .csv, .tsv, .jsonl or .parquet.
        labels: the run's label store.
        annotator: only this annotator's labels and open texts; "" for all.
        form: of the answers, which names their column, in a text-to-text task.
    """
    rows, names = list(_rows(labels, annotator, form)), {name: name for name in COLUMNS}
    names["label"] = "label" if form is None else form.column
    write_table(path, [*names.values()], [{names[name]: cell for name, cell in asdict(row).items()} for row in rows])
    return sum(not row.label for row in rows)


@dataclass(frozen=True)
class SpreadsheetRow:
    """One row of the table, with the columns `COLUMNS`."""

    id: str
    text: str
    label: str
    annotator: str
    seconds: float | str


def _rows(labels: AnnotationStore, annotator: str, form: FormAnnotations | None) -> Iterator[SpreadsheetRow]:
    annotations: dict[str, list[Annotation]] = {}
    for each in labels.annotations():
        if annotator in ("", each.annotator):
            annotations.setdefault(each.id, []).append(each)
    open_ids = {request.id for request in labels.open_requests(annotator)}
    for request in labels.requests():
        text = without_formula(request.text)
        for each in annotations.get(request.id, []):
            name, seconds = without_formula(each.annotator), round(each.seconds, 2)
            label = form.cell(request.text, each.label) if form and each.label else each.label or UNSURE
            yield SpreadsheetRow(request.id, text, without_formula(label), name, seconds)
        if request.id in open_ids:
            yield SpreadsheetRow(request.id, text, "", without_formula(annotator), "")


def read_spreadsheet(
    path: Path,
    read: ReadOptions = ReadOptions(),  # noqa: B008 - frozen
    labels: Sequence[str] = (),
    named: str = "",
) -> LabelEntries:
    """The rows of a table with a column of labels and one of ids (`id`, Label Studio's `potstill_id`) or of texts.

    It is a table that `write_spreadsheet` wrote, or the export of a labelling tool.

    Args:
        path: the file.
        read: how it is read.
        labels: the task's.
        named: the column of the labels, or the question of an export; "" to find it.

    Raises:
        BadData: a column is missing, a time is not a number, a label cell cannot be read or has several labels.
    """
    table = read_table(path, encoding=read.encoding, layout=read.layout, on_bad=read.on_bad_row or "error")
    export = read_export(table, named, (*labels, UNSURE))
    table = table if export is None else export.table
    names = {name.strip().lower(): name for name in table.columns}
    id_column = "potstill_id" if "potstill_id" in names else "id" if export is None and "id" in names else ""
    label_column = named or (export.label if export else "") or names.get("label", "")
    if label_column not in table.cells or not (id_column or export):
        raise BadData(
            f"{path.name} has no columns 'id' and {named or 'label'!r} (it has {', '.join(map(repr, table.columns))}).",
            "Use the file that potstill annotate RUN --export wrote, or name the column of the labels: --label COLUMN",
        )

    def cells(*candidates: str) -> Sequence[str | None]:
        name = next((names[each] for each in candidates if each in names), None)
        return [None] * len(table) if name is None else table.column(name)

    found, sentences = _labels(table, label_column, labels)
    text_column = "" if export is None else _text_column(export, label_column)
    rows = zip(
        table.line_numbers,
        cells(id_column),
        table.column(text_column) if text_column else cells("text"),
        found,
        cells("annotator", "_session_id", "_annotator_id"),
        cells("seconds", "lead_time"),
        strict=True,
    )
    entries = (
        LabelEntry(
            location=f"line {line}",
            id=(id or "").strip(),
            text=text or None,
            label=label,
            annotator=with_formula((annotator or "").strip()),
            seconds=read_seconds(path, line, seconds),
        )
        for line, id, text, label, annotator, seconds in rows
    )
    return LabelEntries(tuple(entries), (*(export.sentences if export else ()), *sentences))


def _text_column(export: LabelExport, label: str) -> str:
    """The column of an export's texts."""
    left_out = export.facts | set(export.questions) | {label, "potstill_id"}
    rest = tuple(name for name in export.table.columns if name not in left_out)
    return export.text or guess_columns(replace(export.table, columns=rest), unlabelled=True, pairs=False).text


def _labels(table: Table, column: str, labels: Sequence[str]) -> tuple[list[str], tuple[str, ...]]:
    """The label of each row, "" if it has none; and what was changed."""
    plain = [with_formula(cell or "") for cell in table.column(column)]
    cleaned = clean_cells(plain, table.name, named=(*labels, UNSURE), advise=False)
    values, sentences = cleaned.cells, cleaned.sentences
    if answer := find_answer_column(table, ""):
        accepted = [(cell or "").strip().casefold() == "accept" for cell in table.column(answer)]
        values = [value if kept else "" for value, kept in zip(values, accepted, strict=True)]
        n = sum(bool(old) for old, new in zip(cleaned.cells, values, strict=True) if not new)
        sentences += (f"{n} rows of {table.name} were rejected or ignored, and have no label.",) * bool(n)
    read = read_label_column(values, kind="single", named=labels)
    for row, problem in sorted(read.problems.items())[:1]:
        raise BadData(f"{table.name}, line {table.line_numbers[row]}: {problem}.", "Correct this cell.")
    several = next((row for row, each in enumerate(read.names) if each and len(each) > 1), None)
    if several is not None:
        raise BadData(
            f"{table.name}, line {table.line_numbers[several]} has {len(read.names[several] or ())} labels; one is "
            "expected.",
            "Keep one label a text.",
        )
    return [each[0] if each else "" for each in read.names], sentences


def read_seconds(path: Path, line: int, cell: str | None) -> float:
    """The time of a label; 0 if the cell is empty. Raises BadData if it is not a number of seconds."""
    try:
        seconds = float(cell or 0)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < 1e6:
        raise BadData(
            f"{path.name}, line {line}: {cell!r} is not a number of seconds.", "Correct it, or leave it empty."
        )
    return seconds
