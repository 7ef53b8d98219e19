"""What an export becomes, and how its nested cells are read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from potstill.data.label_cells import parse_label_cell, parse_nested
from potstill.data.label_values import LabelMatcher
from potstill.data.tables import Cell, Table
from potstill.data.tables.base import to_cell

ANNOTATOR, SECONDS = "annotator", "lead_time"


@dataclass(frozen=True)
class LabelExport:
    """An export as a plain table.

    Attributes:
        tool: its name, for messages.
        table: a row for each annotation, or for each text without one.
        text: the column of the text; "" to guess.
        label: the column of the labels; "" if there is none.
        questions: the columns that hold labels; the label is one of them.
        facts: columns that are neither text nor label.
        sentences: what was read, and what was not.
        offered: a column of a model's labels, which are not read unless the user names it; "" if there is none.
    """

    tool: str
    table: Table
    text: str = ""
    label: str = ""
    questions: tuple[str, ...] = ()
    facts: frozenset[str] = frozenset()
    sentences: tuple[str, ...] = ()
    offered: str = ""

    def with_label(self, named: str) -> LabelExport:
        """The export with the label column that the user named."""
        return replace(self, label=named) if named in self.table.columns else self


@dataclass
class ExportRows:
    """The rows of an export while it is read; a column that first occurs late is empty before."""

    source: Table
    cells: dict[str, list[Cell]] = field(default_factory=dict)
    rows: list[int] = field(default_factory=list)

    def add(self, row: int, values: Mapping[str, Any]) -> None:
        """Add a row that comes from row number `row` of the source."""
        n = len(self.rows)
        for column, value in values.items():
            self.cells.setdefault(column, [None] * n).append(to_cell(value))
        self.rows.append(row)
        for cells in self.cells.values():
            if len(cells) == n:
                cells.append(None)

    def table(self, columns: Iterable[str] = ()) -> Table:
        """The rows as a table; `columns` are there in any case, and first."""
        cells = {name: self.cells.get(name, [None] * len(self.rows)) for name in columns} | self.cells
        lines = [self.source.line_numbers[row] for row in self.rows]
        parts, start = [], 0
        for part in self.source.parts:
            end = start + part.rows
            parts.append(replace(part, rows=sum(start <= row < end for row in self.rows)))
            start = end
        return replace(self.source, columns=tuple(cells), cells=cells, line_numbers=lines, parts=tuple(parts))


def records(cell: Cell) -> list[Mapping[str, Any]]:
    """The objects in a cell that holds a list of objects, or one object; else none."""
    value = parse_nested(cell)
    items = value if isinstance(value, list) else [value]
    return [item for item in items if isinstance(item, dict)]


def counted(n: int, one: str, several: str) -> str:
    """A number and what it counts, as in "1 task has" and "1,234 tasks have"."""
    return f"{n:,} {one if n == 1 else several}"


def choose_question(table: Table, questions: Sequence[str], named: str, labels: Sequence[str]) -> str:
    """As `best_question`, of the questions that are columns of a table."""
    if named in table.columns:
        return named
    answers = {
        question: Counter(name for cell in table.column(question) for name in parse_label_cell(cell).names)
        for question in questions
    }
    return best_question(answers, labels)


def best_question(answers: Mapping[str, Counter[str]], labels: Sequence[str]) -> str:
    """The question whose answers are the label: the one that asks for the task's labels, else the fullest.

    Args:
        answers: question -> its answers with their numbers; of equal ones the first counts.
        labels: the task's labels; empty if unknown.
    """
    matcher = LabelMatcher(labels)

    def rank(question: str) -> tuple[float, int]:
        counts = answers[question]
        known = sum(n for name, n in counts.items() if matcher.find(name))
        return (known / max(counts.total(), 1) if labels else 0.0), counts.total()

    return max(answers, key=rank, default="")


def question_sentence(questions: Sequence[str], label: str, what: str = "questions") -> str:
    """A sentence on the question that was chosen, if there are several."""
    others = [question for question in questions if question != label]
    if not label or not others:
        return ""
    return (
        f"It has the {what} {', '.join(map(repr, questions))}, and {label!r} is the label; another: --label {others[0]}"
    )
