"""A labelled file beside a task: its labels are read like those of data, and found among the task's.

For files of known labels (a simulated teacher's) and of people's (`annotation/`). A pool's own files are read in
`read_sources.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from potstill.data.label_columns import LabelColumn, read_label_column, renamed
from potstill.data.label_values import LabelMatcher
from potstill.data.pool.find_columns import label_cells, recognise_columns, row_texts
from potstill.data.pool.options import PoolOptions
from potstill.data.tables import Table
from potstill.errors import BadData, did_you_mean


@dataclass(frozen=True)
class LabelFile:
    """N rows of a labelled file.

    Attributes:
        table: the file, or what an export became.
        texts: N texts, "" if a row has none.
        names: N tuples of labels, as the task spells them; () if no label fits, None if unlabelled.
        one_label_a_row: no cell holds several labels.
        sentences: what was recognised, changed and left out.
    """

    table: Table
    texts: Sequence[str]
    names: Sequence[tuple[str, ...] | None]
    one_label_a_row: bool
    sentences: tuple[str, ...]

    def place(self, row: int) -> str:
        """Where a row is: "a.csv, line 7"."""
        return f"{self.table.name}, line {self.table.line_numbers[row]:,}"


def read_label_file(table: Table, labels: Sequence[str], options: PoolOptions) -> LabelFile:
    """Read the labels of a table.

    Args:
        table: as read from the file.
        labels: the task's.
        options: the columns that the user named, the kind of the task, and the separator.

    Raises:
        BadData: no column of labels, or a cell that cannot be read.
    """
    table, columns, recognised = recognise_columns("data", table, options, None, labels)
    if not columns.label:
        raise BadData(
            f"No column of {table.name} looks like a label; it has {', '.join(map(repr, table.columns))}.",
            "Name it: --label COLUMN",
        )
    cells, cleaned = label_cells(table, columns, options, labels, advise=False)
    column = read_label_column(cells, kind=options.kind, separator=options.label_separator, named=labels)
    _check_problems(table, column)
    matcher = LabelMatcher(labels)
    column = renamed(column, matcher.found)
    sentences = (*recognised, *cleaned, *matcher.sentences(table.name))
    plain = not (column.separator or column.n_lists or column.scale)
    return LabelFile(table, row_texts(table, columns), column.names, plain, sentences)


def _check_problems(table: Table, column: LabelColumn) -> None:
    for row, problem in sorted(column.problems.items())[:1]:
        raise BadData(f"{table.name}, line {table.line_numbers[row]:,}: {problem}.", "Correct this cell.")


def unknown_label_error(place: str, label: str, labels: Sequence[str]) -> BadData:
    """The error of a label that the task does not have."""
    return BadData(f"{place}: {label!r} is not a label of the task.", did_you_mean(label, labels))
