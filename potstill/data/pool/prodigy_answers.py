"""Prodigy's column `answer`: a rejected label is not that of the text, and an ignored text is unlabelled."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from potstill.data.column_guess import NO_COLUMN
from potstill.data.label_cells import parse_label_cell
from potstill.data.pool.clean import format_rows
from potstill.data.tables import Table

ANSWER_COLUMN = "answer"
_ANSWERS = frozenset({"accept", "reject", "ignore"})


@dataclass(frozen=True)
class AnsweredLabels:
    """The N label cells after the answers, and a sentence on each kind of answer but "accept"."""

    cells: list[str]
    sentences: tuple[str, ...] = ()


def find_answer_column(table: Table, named: str) -> str:
    """The column with accept, reject or ignore in each row: the named one, or a column `answer`; "" if there is none.

    Raises:
        BadData: there is no column of that name.
    """
    if named:
        if named != NO_COLUMN:
            table.column(named)
        return "" if named == NO_COLUMN else named
    if ANSWER_COLUMN not in table.cells:
        return ""
    answers = {(cell or "").strip().casefold() for cell in table.column(ANSWER_COLUMN)} - {""}
    return ANSWER_COLUMN if answers and answers <= _ANSWERS else ""


def apply_answers(labels: Sequence[str], table: Table, column: str) -> AnsweredLabels:
    """Empty the labels that were rejected or ignored; with one label in the file a rejected one becomes "not LABEL"."""
    answers = [(cell or "").strip().casefold() for cell in table.column(column)]
    counts = Counter(answer for answer, label in zip(answers, labels, strict=True) if label)
    only = {label for label in labels if label and parse_label_cell(label).form == "name"}
    only = only if only == set(labels) - {""} else set()
    other = f"not {next(iter(only))}" if len(only) == 1 and counts["accept"] else ""
    cells = [
        other if answer == "reject" and label else "" if answer in ("reject", "ignore") else label
        for answer, label in zip(answers, labels, strict=True)
    ]
    end = f"(column {column!r}; --answer={NO_COLUMN} learns all labels)"
    sentences = []
    for answer, label in (("reject", other), ("ignore", "")):
        if n := counts[answer]:
            result = f"read as the label {label!r}" if label else "read as unlabelled"
            sentences.append(f"{format_rows(n)} of {table.name} with the answer {answer!r}: {result} {end}.")
    return AnsweredLabels(cells, tuple(sentences))
