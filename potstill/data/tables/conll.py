"""Reads tagged words: a word and its tag a line, an empty line between sentences (CoNLL 2003 and its relatives).

A sentence becomes a row: its words joined by blanks (`text`), and the lists of `tokens` and `tags`. The word is the
first column and the tag the last one. Left out are `-DOCSTART-` lines and comments.
"""

from __future__ import annotations

from collections.abc import Iterator

from potstill.data.entities.tags import is_tag
from potstill.data.tables.base import NumberedRow, oversized_cell_error, to_cell
from potstill.data.tables.decode import TextFile

_DOCUMENT = "-DOCSTART-"


def read_conll(file: TextFile) -> Iterator[NumberedRow]:
    """The sentences with the numbers of their first lines; one with a line that is no word and tag is a problem."""
    words: list[str] = []
    tags: list[str] = []
    start, problem = 0, ""
    for n, line in enumerate(file.lines(), 1):
        cells = line.split("\t") if "\t" in line else line.split()
        cells = [cell.strip() for cell in cells]
        if not any(cells):
            if words or problem:
                yield start, problem or _row(words, tags, file.max_cell)
            words, tags, problem = [], [], ""
            continue
        if cells[0] == _DOCUMENT or _is_comment(cells):
            continue
        if not words and not problem:
            start = n
        if "\0" in line:
            problem = "has a NUL byte"
        elif len(cells) < 2 or not cells[0] or not is_tag(cells[-1]):
            problem = problem or f"begins a sentence with {line.strip()[:40]!r}, which is no word and tag (line {n:,})"
        words.append(cells[0])
        tags.append(cells[-1])
    if words or problem:
        yield start, problem or _row(words, tags, file.max_cell)


def _is_comment(cells: list[str]) -> bool:
    """Whether a line is a comment, and not the word "#" with its tag."""
    return cells[0].startswith("#") and not (len(cells) > 1 and is_tag(cells[-1]))


def _row(words: list[str], tags: list[str], max_cell: int) -> dict[str, str | None] | str:
    row = {"text": " ".join(words), "tokens": to_cell(words), "tags": to_cell(tags)}
    return oversized_cell_error(row, max_cell) or row
