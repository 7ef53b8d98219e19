"""Finds the columns of a table: a labelling tool's export and flag columns first, then by name and content."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from potstill.data.column_guess import ColumnGuess, ColumnNames, guess_columns, is_label_name
from potstill.data.label_exports import LabelExport, read_export
from potstill.data.label_flags import join_flag_columns, shown_columns
from potstill.data.label_values import clean_cells
from potstill.data.pairs import join_pair
from potstill.data.pool.options import PoolOptions
from potstill.data.pool.prodigy_answers import apply_answers, find_answer_column
from potstill.data.tables import Guess, Table
from potstill.errors import BadData, BadSpec


def recognise_columns(
    role: str, table: Table, options: PoolOptions, first: ColumnGuess | None, named: Sequence[str]
) -> tuple[Table, ColumnGuess, tuple[str, ...]]:
    """The table as plain columns, with one column of labels; its columns; and what was recognised, in sentences.

    Args:
        role: of the table among the sources of a pool; "data" for a file by itself.
        table: as read.
        options: the columns that the user named.
        first: the columns of the first source, which are preferred; None if this is it.
        named: the task's labels; empty if unknown.

    Raises:
        BadData: a column that was named is missing, or no column looks like a text.
        BadSpec: one column was named twice.
    """
    export = read_export(table, options.label, named)
    if export is not None:
        table = export.table
    flags = join_flag_columns(
        table,
        (options.label or (first.label if first else "") or "") or (export.label if export else ""),
        is_label_name,
        (options.text, options.text_b, options.split, options.answer),
    )
    columns = _find_columns(role, flags.table, options, first, export, flags.name)
    sentences, guess = (export.sentences if export else ()), None
    if flags.doubt and not options.label:
        sentences = (*sentences, flags.doubt)
    if flags.found and columns.label == flags.name:
        guess = Guess("label", flags.name, flags.found)
        sentences = (
            *sentences,
            f"{table.name} has {flags.found}: {shown_columns(flags.name)}; --label COLUMN takes another one, and "
            "--label COLUMN,COLUMN some of these.",
        )
    elif export is not None and not options.label and columns.label == export.label:
        guess = Guess("label", export.label, f"as {export.tool} exports it")
    if guess is not None:
        columns = replace(columns, guesses=(*columns.guesses, guess))
    if export is not None and not options.label:
        columns = replace(columns, offered=export.offered)
    return flags.table, columns, sentences


def label_cells(
    table: Table, columns: ColumnGuess, options: PoolOptions, named: Sequence[str], *, advise: bool = True
) -> tuple[list[str], tuple[str, ...]]:
    """The N cells of the label column, cleaned, after Prodigy's answers; and sentences on what was changed.

    With `advise` they name the flags that decide otherwise.
    """
    labels = clean_cells(
        table.column(columns.label) if columns.label else [None] * len(table),
        table.name,
        missing=options.missing,
        named=named,
        advise=advise,
    )
    if answer := find_answer_column(table, options.answer):
        answered = apply_answers(labels.cells, table, answer)
        labels = replace(labels, cells=answered.cells, sentences=(*labels.sentences, *answered.sentences))
    return labels.cells, labels.sentences


def row_texts(table: Table, columns: ColumnGuess) -> list[str]:
    """N texts, trimmed; those of a pair as `pairs.join_pair` joins them, "" if one is missing."""
    texts = [(t or "").strip() for t in table.column(columns.text)]
    if not columns.text_b:
        return texts
    seconds = [(t or "").strip() for t in table.column(columns.text_b)]
    return [join_pair(a, b) if a and b else "" for a, b in zip(texts, seconds, strict=True)]


def _find_columns(
    role: str, table: Table, options: PoolOptions, first: ColumnGuess | None, export: LabelExport | None, flags: str
) -> ColumnGuess:
    present = set(table.columns)

    def like_first(name: str | None) -> str:
        return name if name in present and name else ""

    text = options.text or (like_first(first.text) if first else "") or (export.text if export else "")
    text_b = options.text_b or (like_first(first.text_b) if first else "")
    label = flags or options.label or (like_first(first.label) if first else "") or (export.label if export else "")
    if role == "pool" and label not in present:
        label = ""  # a pool needs no labels
    split = options.split if role == "data" else ""
    named = ColumnNames(text, text_b, label, split)
    _check_different(named, table)
    left_out = {find_answer_column(table, options.answer), *(export.facts if export else ())}
    left_out |= {question for question in (export.questions if export else ()) if question != label}
    left_out -= {text, text_b, label, split}
    if left_out - {""}:
        table = replace(table, columns=tuple(column for column in table.columns if column not in left_out))
    guess = guess_columns(table, named, unlabelled=role == "pool", pairs=options.kind in ("", "pair"))
    if role not in {"pool", "data"} and not guess.label:
        columns = ", ".join(map(repr, table.columns))
        raise BadData(
            f"No column of {table.name} ({role}) looks like a label; it has {columns}.", "Name it: --label COLUMN"
        )
    return guess


def _check_different(named: ColumnNames, table: Table) -> None:
    """Raise BadSpec if one column was named as two parts of a row."""
    parts = {"text": named.text, "second text": named.text_b, "label": named.label, "split": named.split}
    for part, column in parts.items():
        twice = next((other for other in parts if other != part and column and parts[other] == column), None)
        if twice:
            columns = ", ".join(map(repr, table.columns))
            raise BadSpec(
                f"The column {column!r} of {table.name} is named as the {part} and as the {twice}.",
                f"Name two columns, as in --text COLUMN --label COLUMN; there are {columns}.",
            )
