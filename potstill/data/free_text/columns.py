"""Finds the texts and the answers of a table, and reads a cell of answers: one text, or a list of references."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

from potstill.data.column_guess import ColumnNames, guess_columns
from potstill.data.label_cells import parse_nested
from potstill.data.pool.clean import format_rows
from potstill.data.pool.options import PoolOptions
from potstill.data.tables import Guess, Table
from potstill.data.tables.base import Cell
from potstill.data.text2text_rows import FormColumns, UnreadableAnswerError
from potstill.errors import BadData

# Names of columns of answers, the likeliest first.
_ANSWER_NAMES = (
    "answer answers reference references target targets output response completion reply summary translation "
    "paraphrase rewrite gold label labels"
).split()
_LISTS = ("text", "answers", "answer", "references")  # of an object such as SQuAD's {"text": [...], ...}
MAX_SHOWN = 40  # characters of a cell in a message


def find_answer_columns(role: str, table: Table, options: PoolOptions) -> FormColumns:
    """The texts and answers of a table.

    Args:
        role: of the table among the sources of a pool.
        table: as read.
        options: the columns that the user named; several columns of answers are separated by commas.

    Raises:
        BadData: a named column is missing; no column is called like answers, and the role needs some.
    """
    answers = _find_answers(table, options)
    if not answers and role not in ("pool", "data"):
        present = ", ".join(map(repr, table.columns))
        raise BadData(
            f"No column of {table.name} ({role}) is called like answers; it has {present}.",
            "Name it with --label COLUMN.",
        )
    others = replace(table, columns=tuple(name for name in table.columns if name not in answers))
    split = options.split if role == "data" else ""
    plain = guess_columns(others, ColumnNames(options.text, "", "", split), unlabelled=True, pairs=False)
    guesses = tuple(guess for guess in plain.guesses if role == "data" or guess.key != "split")
    if not options.label:
        why = "called like answers" if answers else "no column is called like answers"
        guesses += (Guess("label", ",".join(answers), why),)
    cells = [table.column(name) for name in answers]
    missing = frozenset(options.missing or ())

    def read(row: int, text: str) -> str:
        found = [each for column in cells for each in read_references(column[row], missing)]
        return encode_references(found)

    n_empty = sum(not any((column[row] or "").strip() for column in cells) for row in range(len(table)))
    said = (f"{format_rows(n_empty)} of {table.name} without an answer join the unlabelled texts.",)
    sentences = said if answers and n_empty and role in ("data", "train") else ()
    chosen_split = (plain.split or "") if role == "data" else ""
    return FormColumns(table, plain.text, ",".join(answers), chosen_split, read, guesses, sentences)


def _find_answers(table: Table, options: PoolOptions) -> tuple[str, ...]:
    """The columns of the answers."""
    if options.label:
        named = (options.label,) if options.label in table.columns else tuple(map(str.strip, options.label.split(",")))
        for name in named:
            table.column(name)
        return named
    taken = {options.text, options.split, options.text_b}
    found = (name for wanted in _ANSWER_NAMES for name in table.columns if name.casefold() == wanted)
    return tuple(name for name in found if name not in taken)[:1]


def read_references(cell: Cell, missing: frozenset[str] = frozenset()) -> list[str]:
    """The answers of a cell: the text itself, a list in JSON or Python spelling, or an object with such a list.

    Blank answers, and words that mean that there is none, are left out.

    Raises:
        UnreadableAnswerError: a list with something else than texts and numbers.
    """
    if cell is None or not cell.strip():
        return []
    value = parse_nested(cell)
    if isinstance(value, dict):
        value = next((value[name] for name in _LISTS if isinstance(value.get(name), list)), None)
        if value is None:
            raise UnreadableAnswerError(f"has an object without a list of answers: {cell[:MAX_SHOWN]!r}")
    given: Sequence[object] = value if isinstance(value, list) else [cell]
    if not all(each is None or (isinstance(each, str | int | float) and not isinstance(each, bool)) for each in given):
        raise UnreadableAnswerError(f"has a list of answers that are no texts: {cell[:MAX_SHOWN]!r}")
    texts = [str(each).strip() for each in given if each is not None]
    return [text for text in texts if text and text not in missing]


def encode_references(references: Sequence[str]) -> str:
    """The different references as JSON, which `decode_references` reads; "" for none."""
    return json.dumps(list(dict.fromkeys(references)), ensure_ascii=False) if references else ""


def decode_references(encoded: str) -> tuple[str, ...] | None:
    """What `encode_references` wrote; None for the empty string."""
    return tuple(json.loads(encoded)) if encoded else None
