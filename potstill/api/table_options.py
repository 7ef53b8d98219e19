"""The options of every command that reads a table, declared once: how the file is read, and its columns and labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, TypedDict

if TYPE_CHECKING:
    from potstill.data.tables import ReadOptions

# A string in an annotation that begins with "=" says what to write for the value.
COLUMN = "=COLUMN"
SEVERAL = "several"  # in the annotation of an argument: one or more files


class FileOptions(TypedDict, total=False):
    """How a file is read; what is not given is guessed. An error that names one of these flags is mended by it."""

    format: Annotated[
        str, "csv, tsv, jsonl, json, parquet, excel, conll or txt; else by its bytes and name.", "=FORMAT"
    ]
    sheet: Annotated[str, "The sheet of a workbook, by name or number; else the first one with rows."]
    encoding: Annotated[str, "Of a text file that is not UTF-8, such as cp1252."]
    delimiter: Annotated[str, "Between the cells of a CSV file: a character, or tab; else guessed.", "=CHARACTER"]
    quotes: Annotated[str, "Whether a quote opens a cell that may run over lines; else guessed.", "=cells|text"]
    escape: Annotated[str, "Before a quote that is part of a cell; else guessed; '' for none.", "=CHARACTER"]
    no_header: Annotated[bool, "The file has no header; its columns are column_1, column_2, ..."]
    skip_rows: Annotated[int, "Lines above the header that are left out."]
    on_bad_row: Annotated[str, "For a row that cannot be read; skip leaves it out and counts it.", "=error|skip"]


class TableOptions(FileOptions, total=False):
    """Which columns are read, and what their cells mean; what is not given is guessed."""

    text: Annotated[str, "The column with the text; else guessed.", COLUMN]
    text_b: Annotated[str, "The column with the second text, in a pair task; else guessed.", COLUMN]
    label: Annotated[str, "The column with the label, marks or answer, or several (A,B,C); else guessed.", COLUMN]
    label_separator: Annotated[str, "Between the labels in a cell, as in | ; , or json (a list); else guessed."]
    kind: Annotated[
        str,
        "One label, two texts compared, several labels, or text2text; else guessed.",
        "=single|pair|multi|text2text",
    ]
    form: Annotated[str, "Of the answers in a text2text task: spans, or words; else guessed.", "=entities|free"]
    metric: Annotated[str, "Of answers in words: token_f1, exact_match, rouge_l, bleu and others.", "=METRIC"]
    max_tokens: Annotated[int, "Of an answer in words at most; else that of the longest one."]
    split: Annotated[str, "The column with train, validation, test or pool; else guessed; - for none.", COLUMN]
    answer: Annotated[str, "Prodigy's column with accept, reject or ignore; else guessed; - for none.", COLUMN]
    labels: Annotated[str | list[str], "All labels; else those found in the data.", "=A,B,C"]
    missing: Annotated[str, "What means no label; else nan, N/A, null, None, - and the like.", "=WORD,WORD"]
    on_leak: Annotated[str, "For a training text that is also in test (drop).", "=drop|error|allow"]
    on_conflict: Annotated[str, "For a text with two labels in a task of one (drop).", "=drop|first|error"]
    on_duplicate: Annotated[str, "For a text that is there twice (first).", "=first|keep"]


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
