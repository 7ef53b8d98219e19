"""Lines that look like rows: below a quote that opens no cell, and below a title above the header.

A quote at the start of a cell opens one that ends at the next quote before a delimiter, be it thousands of lines below.
No CSV parser can know whether that was meant; the lines in between show it.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from potstill.data.tables.header import has_header_word

_DELIMITERS = (",", "\t", ";", "|")
_MAX_SAMPLE, _MAX_ABOVE = 200, 20  # lines that are looked at for a title, and those that may be above a header
# Of the lines of a cell so many must look like rows: with a label that other rows have, or without.
_MIN_SHARE, _MIN_SHARE_WITHOUT, _MIN_LINES_WITHOUT = 0.6, 0.9, 4
_LETTERS = re.compile(r"\w")
_MIN_ROWS = 5  # of a sample, to know its labels


@dataclass(frozen=True)
class RowPattern:
    """What a line with one row looks like.

    Attributes:
        delimiter: between the cells.
        width: number of cells.
        labels: column number -> the values that several rows of the sample have, of columns with few values.
    """

    delimiter: str
    width: int
    labels: Mapping[int, frozenset[str]]

    @classmethod
    def of_sample(cls, lines: Sequence[str], delimiter: str, width: int) -> RowPattern:
        """The pattern of the lines below a header."""
        rows = [row for line in lines if len(row := split_line(line, delimiter)) == width]
        labels = {}
        for column in range(width):
            values = [value for row in rows if (value := row[column]) == value.strip() != "" and '"' not in value]
            counts = Counter(values)
            if len(values) >= _MIN_ROWS and len(counts) <= 0.5 * len(values):
                labels[column] = frozenset(value for value, n in counts.items() if n > 1)
        return cls(delimiter, width, labels)

    def fits(self, lines: Sequence[str]) -> bool:
        """Whether the lines of one row look like rows of their own.

        Rows of one column look like lines of text.
        """
        if len(lines) < 2 or self.width < 2:
            return False
        labelled = [self._is_labelled(line) for line in lines]
        if labelled[0] and labelled[-1] and sum(labelled) >= _MIN_SHARE * len(lines):
            return True
        n = sum(is_row(line, self.delimiter, self.width) for line in lines)
        return len(lines) >= _MIN_LINES_WITHOUT and n >= _MIN_SHARE_WITHOUT * len(lines)

    def _is_labelled(self, line: str) -> bool:
        cells = split_line(line, self.delimiter)
        if len(cells) != self.width:
            return False
        labels = {column for column, values in self.labels.items() if cells[column] in values}
        return bool(labels) and any(_LETTERS.search(cell) for n, cell in enumerate(cells) if n not in labels)


def split_line(line: str, delimiter: str) -> list[str]:
    """The cells of a line: as a row of its own or, where its quotes do not allow that, with the quotes as text."""
    line = line.rstrip("\r\n")
    try:
        return next(csv.reader([line], delimiter=delimiter, strict=True), [])
    except csv.Error:
        return line.split(delimiter)


def is_row(line: str, delimiter: str, width: int) -> bool:
    """Whether a line has `width` cells, none empty and none but the first with a blank at its start.

    A comma in a sentence is followed by a blank.
    """
    cells = split_line(line, delimiter)
    return len(cells) == width and all(cells) and not any(cell[0].isspace() for cell in cells[1:])


def lines_above_header(sample: str) -> int:
    """Number of lines at the start of a sample that have fewer cells than all that follow; 0 if there are none."""
    numbered = [(n, line) for n, line in enumerate(sample.splitlines()[:_MAX_SAMPLE]) if line.strip()]
    lines = [line for _, line in numbered]
    for delimiter in _DELIMITERS:
        widths = [len(_cells(line, delimiter)) for line in lines]
        if widths and widths[0] > 1 and all(is_row(line, delimiter, widths[0]) for line in lines):
            return 0  # the first line has as many cells as all others
        n = next(
            (
                i
                for i, width in enumerate(widths[:_MAX_ABOVE])
                if {*widths[i:]} == {width} and width > max([1, *widths[:i]])
            ),
            0,
        )
        rows = lines[n:]
        if n and len(rows) > 2 and sum(is_row(row, delimiter, widths[n]) for row in rows) >= _MIN_SHARE * len(rows):
            return numbered[n][0]
    return 0


def _cells(line: str, delimiter: str) -> list[str]:
    return next(csv.reader([line.rstrip("\r\n")], delimiter=delimiter), [])


def rows_above_header(rows: Sequence[Sequence[str]]) -> int:
    """Number of rows of cells at the start of a sheet that have at most half the cells of those below; 0 if none.

    The first row below has a cell in each column, and the others have, too, or its cells are words of a header.
    """
    filled = [sum(map(bool, row)) for row in rows]
    most = max(filled[:_MAX_ABOVE], default=0)
    n = next((i for i, count in enumerate(filled[:_MAX_ABOVE]) if count == most), 0)
    below = filled[n:]
    full = sum(2 * count > most for count in below)
    likely = full >= _MIN_SHARE * len(below) or (n > 0 and has_header_word(rows[n]))
    return n if n and most > 1 and max(filled[:n]) * 2 <= most and likely else 0
