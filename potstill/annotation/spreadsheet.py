"""Labels as a table: what people are asked out, what they said in. Opens in any spreadsheet.

A text that a spreadsheet would take for a formula gets a quote in front, which coming in is not looked at.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from potstill.annotation.import_labels import UNSURE, LabelEntry
from potstill.data.tables import read_table, write_table
from potstill.errors import BadData
from potstill.ledger.store import AnnotationStore

COLUMNS = ("id", "text", "label", "annotator", "seconds")
FORMULA_PREFIXES = ("=", "+", "-", "@", "\t", "\r")


def write_spreadsheet(path: Path, labels: AnnotationStore, annotator: str = "") -> int:
    """Write a row for each label that was given and one for each text that is still open; returns how many are open.

    Args:
        path: .csv, .tsv, .jsonl or .parquet.
        labels: the run's.
        annotator: only this person's labels, and the texts open to them; "" for everybody's.
    """
    rows = list(_rows(labels, annotator))
    write_table(path, COLUMNS, rows)
    return sum(not row["label"] for row in rows)


def _rows(labels: AnnotationStore, annotator: str) -> Iterator[Mapping[str, object]]:
    said: dict[str, list[dict[str, object]]] = {}
    for each in labels.annotations():
        if annotator in ("", each.annotator):
            row: dict[str, object] = {
                "label": each.label or UNSURE,
                "annotator": _safe(each.annotator),
                "seconds": round(each.seconds, 2),
            }
            said.setdefault(each.id, []).append(row)
    open_ids = {question.id for question in labels.open_requests(annotator)}
    for question in labels.requests():
        own: dict[str, object] = {"id": question.id, "text": _safe(question.text)}
        yield from (own | row for row in said.get(question.id, []))
        if question.id in open_ids:
            yield own | {"label": "", "annotator": _safe(annotator), "seconds": ""}


def read_spreadsheet(path: Path) -> list[LabelEntry]:
    """The rows of a table with the columns `id` (or Label Studio's `potstill_id`) and `label`; the others may lack.

    Raises BadData: not such a table.
    """
    table = read_table(path)
    names = {name.strip().lower(): name for name in table.columns}
    id_column = names.get("potstill_id", names.get("id"))
    if id_column is None or "label" not in names:
        raise BadData(
            f"{path.name} has no columns 'id' and 'label' (it has {', '.join(map(repr, table.columns))}).",
            "Take the file that potstill annotate RUN --export wrote.",
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
            label=label or "",
            annotator=(annotator or "").strip().removeprefix("'"),
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
        raise BadData(f"{path.name}, line {line}: {cell!r} is no number of seconds.", "Correct it, or leave it empty.")
    return seconds


def _safe(cell: str) -> str:
    return f"'{cell}" if cell.startswith(FORMULA_PREFIXES) else cell
