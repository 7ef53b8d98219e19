"""The options of every command that reads a table, declared once: how the file is read, and its columns and labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, TypedDict

if TYPE_CHECKING:
    from potstill.data.tables import ReadOptions

SEVERAL = "several"  # in the annotation of an argument: one or more files


class FileOptions(TypedDict, total=False):
    """How a file is read; what is not given is guessed. An error that names one of these flags is mended by it."""

    format: Annotated[str, "csv, tsv, jsonl, json, parquet, excel or txt (one text a line); else by bytes and name."]
    sheet: Annotated[str, "The sheet of a workbook, by name or number; else the first one with rows."]
    encoding: Annotated[str, "The files' encoding, if it is not UTF-8."]
    delimiter: Annotated[str, "The character between the cells of a CSV file, or: tab; else guessed."]
    quotes: Annotated[str, "cells: a quote opens a cell that may run over lines; text: quotes are text; else guessed."]
    escape: Annotated[str, "The character before a quote that is part of a cell; else guessed; '' for none."]
    no_header: Annotated[bool, "The file has no header; its columns are column_1, column_2, ..."]
    skip_rows: Annotated[int, "Lines above the header that are left out."]
    on_bad_row: Annotated[str, "A row that cannot be read: error, or skip (left out and counted)."]


class TableOptions(FileOptions, total=False):
    """Which columns are read, and what their cells mean; what is not given is guessed."""

    text: Annotated[str, "The column with the text; else guessed."]
    text_b: Annotated[str, "The column with the second text, in a pair task; else guessed."]
    label: Annotated[str, "The column with the label, or several of 0 and 1 (A,B,C); else guessed."]
    label_separator: Annotated[
        str, "What separates several labels in a cell, as in: | ; , or json (a list); else guessed."
    ]
    kind: Annotated[str, "single, pair (two texts compared) or multi (several labels); else guessed."]
    split: Annotated[str, "The column that says train, validation, test or pool; else guessed; - for none."]
    answer: Annotated[str, "Prodigy's column with accept, reject or ignore; else guessed; - for none."]
    labels: Annotated[str | list[str], "The label names, separated by commas; else those found in the data."]
    missing: Annotated[str, "Words in a label cell that mean: no label (nan, N/A, null, None, - and the like)."]
    on_leak: Annotated[str, "A training text that is also in test: drop (default), error or allow."]
    on_conflict: Annotated[str, "One text with two labels in a task of one: drop (default), first or error."]
    on_duplicate: Annotated[str, "One text twice: first (default) or keep."]


def file_reading(options: Mapping[str, object]) -> ReadOptions:
    """The `FileOptions` among the options of a command, checked.

    Raises:
        BadSpec: an invalid value.
    """
    from potstill.data.tables import ReadOptions

    given = {name: options[name] for name in FileOptions.__annotations__ if options.get(name) is not None}
    if not given:
        return ReadOptions()
    from potstill.data.pool import PoolOptions
    from potstill.run.inputs import spec_overrides
    from potstill.run.spec import Spec

    data = Spec.from_dict(spec_overrides(None, None, 1, given)).data.model_dump(exclude_none=True)
    return ReadOptions(data.get("encoding"), PoolOptions(**data).layout, data.get("on_bad_row"))
