"""Finds the texts and the marks of a table: a labelling tool's export, lists of spans, words with tags, tag strings.

What is found is said, with the flag that decides otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from potstill.data.column_guess import ColumnNames, guess_columns
from potstill.data.entities.label_studio import are_marked_tasks, read_marked_tasks
from potstill.data.entities.marks import UnreadableMarksError, is_marks, read_marks
from potstill.data.entities.tags import is_tag, tagged_words
from potstill.data.label_cells import parse_nested
from potstill.data.pool.options import PoolOptions
from potstill.data.tables import Guess, Table
from potstill.data.tables.base import Cell
from potstill.errors import BadData
from potstill.evaluation.text2text.entities import Entities, Entity

# Names of columns of marks and of tags, the likeliest first; any other column is looked at after them.
_MARK_NAMES = "entities spans ner marks annotations label labels ner_tags tags tag answer".split()
_TOKEN_NAMES = "tokens words token word".split()
_SAMPLE = 200  # cells that are looked at
_WORD = re.compile(r"\S+")
CellReader = Callable[[str, Cell], Entities]


@dataclass(frozen=True)
class EntityColumns:
    """A table with its texts and marks.

    Attributes:
        table: its columns as they are read; texts that were joined from words are a column of it.
        text: the column of the texts.
        marks: the column of the marks; "" without any.
        split: the column of the splits; "" without any.
        read: a text and its cell of marks -> its entities; raises UnreadableMarksError.
        guesses: the columns that the user did not name.
        sentences: what was recognised.
    """

    table: Table
    text: str
    marks: str
    split: str
    read: CellReader
    guesses: tuple[Guess, ...] = ()
    sentences: tuple[str, ...] = ()


def find_entity_columns(role: str, table: Table, options: PoolOptions) -> EntityColumns:
    """The texts and marks of a table.

    Args:
        role: of the table among the sources of a pool.
        table: as read.
        options: the columns that the user named.

    Raises:
        BadData: a named column is missing or holds no marks; no column holds marks, and the role needs some.
    """
    table, sentences = read_marked_tasks(table)
    table, joined = _join_words(table, options)
    sentences += joined
    marks, why = _find_marks(table, options)
    if not marks and role not in ("pool", "data"):
        present = ", ".join(map(repr, table.columns))
        raise BadData(
            f"No column of {table.name} ({role}) holds marks of entities; it has {present}.",
            "Name it with --label COLUMN; its cells are lists such as "
            '[{"start": 0, "end": 4, "type": "Time"}], or tags such as "B-Time O".',
        )
    others = replace(table, columns=tuple(name for name in table.columns if name not in (marks, *_TOKEN_NAMES)))
    split = options.split if role == "data" else ""
    plain = guess_columns(others, ColumnNames(options.text, "", "", split), unlabelled=True, pairs=False)
    guesses = tuple(guess for guess in plain.guesses if role == "data" or guess.key != "split")
    if not options.label:
        guesses += (Guess("label", marks, why or "no column holds marks of entities"),)
    read = _read_tag_cell if marks and _holds_tags(table, marks) else _read_mark_cell
    chosen_split = (plain.split or "") if role == "data" else ""
    return EntityColumns(table, plain.text, marks, chosen_split, read, guesses, sentences)


def holds_entities(table: Table) -> bool:
    """Whether a table is one of entities by its form alone: tagged words, or lists of spans beside a text.

    A table with a column that is called like a label and holds none of these is one of labels.
    """
    if table.layout.format == "conll":
        return True
    if are_marked_tasks(table) or _tag_lists(table):
        return True
    return any(_holds_marks(table, name) for name in ("entities", "spans") if name in table.cells) and not (
        {"label", "labels", "cats", "accept"} & table.cells.keys()
    )


def _find_marks(table: Table, options: PoolOptions) -> tuple[str, str]:
    """The column of the marks, and why."""
    if options.label:
        table.column(options.label)
        if not (_holds_marks(table, options.label) or _holds_tags(table, options.label)):
            cell = next((cell for cell in table.column(options.label) if cell), "")
            raise BadData(
                f"The column {options.label!r} of {table.name} holds no marks of entities, but {str(cell)[:60]!r}.",
                'Its cells should be lists such as [{"start": 0, "end": 4, "type": "Time"}], or tags such as '
                '"B-Time O"; for one label a text: --kind single',
            )
        return options.label, ""
    named = [name for wanted in _MARK_NAMES for name in table.columns if name.casefold() == wanted]
    for name in dict.fromkeys([*named, *table.columns]):
        if name in (options.text, options.split):
            continue
        if _holds_marks(table, name):
            return name, "its cells are lists of spans with a type"
        if _holds_tags(table, name):
            return name, "its cells are a tag a word"
    return "", ""


def _sample(table: Table, name: str) -> list[str]:
    return [cell for cell in table.column(name) if cell and cell.strip()][:_SAMPLE]


def _holds_marks(table: Table, name: str) -> bool:
    """Whether a column holds marks: a list or an object in every cell, and in one at least an entity."""
    values = [parse_nested(cell) for cell in _sample(table, name)]
    return bool(values) and all(isinstance(each, list | dict) and is_marks(each) for each in values) and any(values)


def _holds_tags(table: Table, name: str) -> bool:
    """Whether a column holds tags, in a list or divided by blanks, and in one cell at least more than O."""
    rows = [_tags(cell) for cell in _sample(table, name)]
    return bool(rows) and all(row and all(map(is_tag, row)) for row in rows) and any(len(set(row)) > 1 for row in rows)


def _tags(cell: Cell) -> list[str]:
    value = parse_nested(cell)
    return [str(each) for each in value] if isinstance(value, list) else (cell or "").split()


def _tag_lists(table: Table) -> list[tuple[str, str]]:
    """The pairs of a column of lists of words and one of lists of tags."""
    tokens = next((name for name in table.columns if name.casefold() in _TOKEN_NAMES), None)
    if tokens is None:
        return []
    listed = [
        name for name in table.columns if name != tokens and _sample(table, name)[:1] and _holds_tags(table, name)
    ]
    return [(tokens, name) for name in listed if all(isinstance(parse_nested(c), list) for c in _sample(table, name))]


def _join_words(table: Table, options: PoolOptions) -> tuple[Table, tuple[str, ...]]:
    """The table with a text joined from its words, if it has lists of words with tags."""
    pairs = [pair for pair in _tag_lists(table) if options.label in ("", pair[1])]
    if not pairs or options.text:
        return table, ()
    tokens, _ = pairs[0]
    words = [parse_nested(cell) for cell in table.column(tokens)]
    texts = [" ".join(map(str, each)) if isinstance(each, list) else None for each in words]
    cells = {**table.cells, "text": texts}
    columns = table.columns if "text" in table.cells else ("text", *table.columns)
    replaced = "text" in table.cells and list(table.cells["text"]) != texts
    said = f"The texts of {table.name} are the words of {tokens!r}, joined by blanks."
    return replace(table, columns=columns, cells=cells), (said,) if replaced or "text" not in table.cells else ()


def _read_mark_cell(text: str, cell: Cell) -> Entities:
    value = parse_nested(cell)
    if value is None:
        raise UnreadableMarksError(f"has marks that are no list: {str(cell)[:40]!r}")
    return read_marks(text, value)


def _read_tag_cell(text: str, cell: Cell) -> Entities:
    """The entities of a text of words that blanks divide, by a tag a word."""
    tags, places = _tags(cell), [found.span() for found in _WORD.finditer(text)]
    if len(tags) != len(places):
        raise UnreadableMarksError(f"has {len(places):,} words and {len(tags):,} tags")
    try:
        return tuple(Entity(places[first][0], places[end - 1][1], name) for first, end, name in tagged_words(tags))
    except ValueError as error:
        raise UnreadableMarksError(f"has a tag that cannot be read: {error}") from None
