"""Prodigy's, doccano's, spaCy's and fastText's files: one row a text, the labels in one column.

Prodigy's `answer` is read in `pool/prodigy_answers.py`. Not read: marks on parts of a text (`spans`, or doccano's
triples), which do not label the text. Source: each tool's documentation of its formats.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from potstill.data.label_cells import parse_nested
from potstill.data.label_exports.base import ExportRows, LabelExport, records
from potstill.data.tables import Table

_PRODIGY_FACTS = frozenset(
    {"_input_hash", "_task_hash", "_session_id", "_view_id", "_annotator_id", "_timestamp", "meta", "config", "options"}
)
_FASTTEXT = "__label__"
_COMMENTS = ("Comments", "comments")
_DOCCANO = frozenset({"id", "text", "data", "label", "labels", "annotations", "meta", "username", *_COMMENTS})


def read_prodigy(table: Table, named: str, labels: Sequence[str]) -> LabelExport | None:
    """Prodigy's export: `accept` with the chosen options, `label`, or `cats`; None if it is none of Prodigy's."""
    hashed = {"_input_hash", "_task_hash"} & table.cells.keys()
    chosen = "accept" in table.cells and all(
        isinstance(parse_nested(cell), list) for cell in table.column("accept") if cell
    )
    if not hashed and not (chosen and {"options", "answer"} & table.cells.keys()):
        return None
    column = next((name for name in ("accept", "label", "cats") if name in table.cells), "")
    if column == "accept" and not chosen:
        column = ""
    sentence = f"Read {table.name} as an export of Prodigy: {len(table):,} texts."
    facts = _PRODIGY_FACTS & set(table.columns)
    return LabelExport("Prodigy", table, label=column, questions=(column,), facts=facts, sentences=(sentence,))


def read_doccano(table: Table, named: str, labels: Sequence[str]) -> LabelExport | None:
    """doccano's export: `label`, `labels` or `annotations` with a list a text; None if it is none of doccano's."""
    text = next((name for name in ("text", "data") if name in table.cells), "")
    column = next((name for name in ("label", "labels", "annotations") if name in table.cells), "")
    if not text or not column or not set(table.columns) <= _DOCCANO or "id" not in table.cells:
        return None
    listed = all(isinstance(parse_nested(cell), list) for cell in table.column(column) if cell)
    if not listed and not any(name in table.cells for name in _COMMENTS):
        return None
    if column == "annotations" and not all("label" in each for cell in table.column(column) for each in records(cell)):
        return None
    sentence = f"Read {table.name} as an export of doccano: {len(table):,} texts."
    facts = frozenset(table.columns) - {text, column}
    return LabelExport("doccano", table, text, column, (column,), facts, (sentence,))


def read_fasttext(table: Table, named: str, labels: Sequence[str]) -> LabelExport | None:
    """fastText's lines: `__label__a __label__b text`; None if most lines have no label in front."""
    if len(table.columns) != 1:
        return None
    lines = [cell or "" for cell in table.column(table.columns[0])]
    if 2 * sum(line.startswith(_FASTTEXT) for line in lines) < len(lines):
        return None
    rows = ExportRows(table)
    for row, line in enumerate(lines):
        words = line.split()
        n = next((n for n, word in enumerate(words) if not word.startswith(_FASTTEXT)), len(words))
        names = [word.removeprefix(_FASTTEXT) for word in words[:n]]
        rows.add(row, {"text": " ".join(words[n:]), "label": names or None})
    sentence = f"{table.name} holds lines of fastText: its words with {_FASTTEXT} in front are the labels."
    return LabelExport("fastText", rows.table(), "text", "label", ("label",), sentences=(sentence,))


def read_spacy(table: Table, named: str, labels: Sequence[str]) -> LabelExport | None:
    """Examples of spaCy's text categoriser: `cats` with a score a label, or `[text, {"cats": ...}]`."""
    if table.columns == ("column_1", "column_2"):
        rows = ExportRows(table)
        for row, (text, cell) in enumerate(zip(*table.cells.values(), strict=True)):
            value = parse_nested(cell)
            if not isinstance(value, dict) or "cats" not in value:
                return None
            rows.add(row, {"text": text, "cats": value["cats"]})
        table = replace(rows.table(), name=table.name)
    elif "cats" not in table.cells or not any(isinstance(parse_nested(cell), dict) for cell in table.column("cats")):
        return None
    sentence = f"{table.name} holds examples of spaCy's text categoriser: `cats` has a score a label."
    text = "text" if "text" in table.cells else ""
    return LabelExport("spaCy", table, text, "cats", ("cats",), sentences=(sentence,))
