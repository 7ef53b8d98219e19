"""Argilla's exports: records with fields, responses and suggestions, the same as flat columns, and those of version 1.

Submitted responses are labels; suggestions are a model's and are not read. Each response becomes a row. Source:
Argilla's guide, pages "import and export datasets" (2.x) and "TextClassificationRecord" (1.x).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from potstill.data.label_cells import parse_nested
from potstill.data.label_exports.base import (
    ANNOTATOR,
    ExportRows,
    LabelExport,
    choose_question,
    counted,
    question_sentence,
)
from potstill.data.tables import Table

TOOL = "Argilla"
_OPEN = ("draft", "discarded", "pending")  # the states of a response that is no label
_FACTS = (ANNOTATOR, "id", "_server_id", "status", "external_id")
_RESPONSES, _SUGGESTION = ".responses", ".suggestion"


def read_argilla(table: Table, named: str, labels: Sequence[str]) -> LabelExport | None:
    """The export as a table; None if it is none of Argilla's."""
    columns = table.cells.keys()
    recorded = "fields" in columns and {"responses", "suggestions"} & columns
    if recorded and all(isinstance(parse_nested(cell), dict) for cell in table.column("fields")):
        return _read_records(table, named, labels)
    if any(name.endswith(_RESPONSES) and f"{name}.users" in columns for name in columns):
        return _read_flat(table, named, labels)
    if "annotation" in columns and {"prediction", "annotation_agent"} & columns and {"text", "inputs"} & columns:
        return _read_version_1(table)
    return None


def _read_records(table: Table, named: str, labels: Sequence[str]) -> LabelExport:
    rows, questions, fields, n_suggested = ExportRows(table), dict[str, None](), dict[str, None](), 0
    responses, suggestions = (table.cells.get(name) or [None] * len(table) for name in ("responses", "suggestions"))
    for row, cell in enumerate(table.column("fields")):
        texts = {f"{key}": value for key, value in parse_nested(cell).items()}
        fields |= dict.fromkeys(texts)
        answered: dict[str, dict[str, Any]] = {}
        for question, value, user in _responses(parse_nested(responses[row])):
            name = f"{question} (response)" if question in texts else question
            questions[name] = None
            answered.setdefault(user, {})[name] = value
        suggested = dict(_suggestions(parse_nested(suggestions[row])))
        n_suggested += bool(suggested) and not answered
        for user, values in answered.items() or [("", {})]:
            rows.add(row, {**texts, **suggested, **values, ANNOTATOR: user or None})
    read = rows.table(fields)
    return _export(table, read, list(questions), named, labels, n_suggested)


def _responses(value: Any) -> Iterator[tuple[str, Any, str]]:
    """(question, value, user) of each submitted response, of version 2 or of a feedback dataset of version 1."""
    if isinstance(value, dict):
        for question, given in value.items():
            for each in given if isinstance(given, list) else [given]:
                if isinstance(each, dict) and each.get("status") not in _OPEN and each.get("value") is not None:
                    yield str(question), each["value"], str(each.get("user_id") or "")
    for number, response in enumerate(value if isinstance(value, list) else []):
        values = response.get("values") if isinstance(response, dict) else None
        if isinstance(values, dict) and response.get("status") not in _OPEN:
            user = str(response.get("user_id") or number or "")
            for question, each in values.items():
                given = each.get("value") if isinstance(each, dict) else each
                if given is not None:
                    yield str(question), given, user


def _suggestions(value: Any) -> Iterator[tuple[str, Any]]:
    """(column, value) of each suggestion, of version 2 or of a feedback dataset of version 1."""
    if isinstance(value, dict):
        value = [{"question_name": question, **each} for question, each in value.items() if isinstance(each, dict)]
    for each in value if isinstance(value, list) else []:
        if isinstance(each, dict) and each.get("value") is not None:
            yield f"{each.get('question_name', '')}{_SUGGESTION}", each["value"]


def _read_flat(table: Table, named: str, labels: Sequence[str]) -> LabelExport:
    """Columns QUESTION.responses, .responses.users, .responses.status and .suggestion beside the fields."""
    questions = [name.removesuffix(_RESPONSES) for name in table.columns if name.endswith(_RESPONSES)]
    fields = [name for name in table.columns if not any(name.startswith(f"{each}.") for each in questions)]
    rows, n_suggested = ExportRows(table), 0
    for row in range(len(table)):
        texts = {name: table.column(name)[row] for name in fields}
        answered: dict[str, dict[str, Any]] = {}
        suggested: dict[str, Any] = {}
        for question in questions:
            part = {end: table.cells.get(f"{question}{_RESPONSES}{end}") for end in ("", ".users", ".status")}
            values, users, states = (parse_nested(cells[row]) if cells else None for cells in part.values())
            column = f"{question}{_SUGGESTION}"
            if column in table.cells:
                suggested[column] = table.cells[column][row]
            for n, value in enumerate(values if isinstance(values, list) else []):
                user = users[n] if isinstance(users, list) and n < len(users) else n
                state = states[n] if isinstance(states, list) and n < len(states) else ""
                if value is not None and state not in _OPEN:
                    name = f"{question} (response)" if question in texts else question
                    answered.setdefault(str(user), {})[name] = value
        n_suggested += any(suggested.values()) and not answered
        for user, given in answered.items() or [("", {})]:
            rows.add(row, {**texts, **suggested, **given, ANNOTATOR: user or None})
    read = rows.table(fields)
    found = [name for name in read.columns if name not in (*fields, ANNOTATOR) and not name.endswith(_SUGGESTION)]
    return _export(table, read, found, named, labels, n_suggested)


def _read_version_1(table: Table) -> LabelExport:
    """Text classification records of version 1: `text` or `inputs`, and `annotation`; `prediction` is a model's."""
    n = sum(bool(cell) for cell in table.column("annotation"))
    inputs = [parse_nested(cell) for cell in table.cells.get("inputs") or []]
    read = table
    if "text" not in table.cells or not any(table.column("text")):
        rows = ExportRows(table)
        for row, value in enumerate(inputs):
            text = "\n".join(map(str, value.values())) if isinstance(value, dict) else table.column("inputs")[row]
            rows.add(row, {"text": text, "annotation": table.column("annotation")[row]})
        read = rows.table()
    sentence = f"Read {table.name} as an export of {TOOL}: {len(table):,} records, {n:,} with an annotation."
    facts = frozenset(read.columns) - {"text", "annotation"}
    return LabelExport(TOOL, read, "text", "annotation", ("annotation",), facts, (sentence,))


def _export(
    table: Table, read: Table, questions: list[str], named: str, labels: Sequence[str], n_suggested: int
) -> LabelExport:
    label = choose_question(read, questions, named, labels)
    suggested = next((name for name in read.columns if name.endswith(_SUGGESTION)), "")
    sentences = [
        f"Read {table.name} as an export of {TOOL}: {len(table):,} records.",
        question_sentence(questions, label),
        f"{counted(n_suggested, 'record has', 'records have')} a suggestion and no submitted response, and no label; "
        f"suggestions are read with --label {suggested}." * bool(n_suggested),
    ]
    facts = frozenset({*_FACTS, *(name for name in read.columns if name.endswith(_SUGGESTION))}) & set(read.columns)
    return LabelExport(
        TOOL,
        read,
        label=label,
        questions=tuple(questions),
        facts=facts,
        sentences=tuple(filter(None, sentences)),
        offered=suggested,
    )
