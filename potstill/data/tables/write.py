"""Writes CSV, TSV, JSON Lines and Parquet files atomically: the whole file or nothing."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from potstill.data.atomic import atomic_file
from potstill.data.paths import as_path
from potstill.data.printable import guarded_cell
from potstill.data.tables.base import JsonText, OutputRow
from potstill.data.tables.output_dialect import OutputDialect, dialect_for
from potstill.data.tables.parquet import write_parquet
from potstill.errors import BadData

WRITABLE = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")


def write_table(
    path: str | Path,
    columns: Sequence[str],
    rows: Iterable[OutputRow],
    *,
    schema_from: Path | None = None,
    new_columns: Collection[str] = (),
    dialect: OutputDialect | None = None,
    guard_formulas: bool = False,
) -> int:
    """Write rows one by one to a temporary file, then rename it to `path`; returns how many.

    Args:
        path: the suffix selects the format: .csv, .tsv, .jsonl, .ndjson or .parquet.
        columns: the keys of the rows to write, in this order; a missing one is empty (JSON: null).
        rows: column -> value; numbers stay numbers in JSON Lines and Parquet.
        schema_from: the file the rows were read from; if both are Parquet, its columns keep their types.
        new_columns: those that the file of `schema_from` has not, or has with other values.
        dialect: of CSV and TSV; None takes commas, or tabs in TSV, and UTF-8.
        guard_formulas: in CSV and TSV, write a quote before what a spreadsheet would read as a formula.

    Raises:
        BadData: another suffix, or the folder does not exist. An error raised by `rows` propagates; no file is left.
        DiskError: the disk is full, or nothing may be written there.
        MissingExtra: a Parquet file without pyarrow.
    """
    path = as_path(path)
    if path.suffix.lower() not in WRITABLE:
        raise BadData(f"{path.name} cannot be written.", f"End its name in one of {', '.join(WRITABLE)}.")
    if not path.parent.is_dir():
        raise BadData(f"There is no folder {path.parent} to write {path.name} into.", "Create the folder first.")
    with atomic_file(path) as unfinished:
        if path.suffix.lower() == ".parquet":
            same_kind = schema_from is not None and schema_from.suffix.lower() == ".parquet"
            n = write_parquet(unfinished, columns, iter(rows), schema_from if same_kind else None, new_columns)
        else:
            form = dialect or dialect_for(path.suffix)
            n = _write(unfinished, columns, iter(rows), form if _is_delimited(path) else None, guard_formulas)
        with unfinished.open("rb+") as handle:
            os.fsync(handle.fileno())
    return n


def _is_delimited(path: Path) -> bool:
    return path.suffix.lower() in (".csv", ".tsv")


def _write(
    path: Path, columns: Sequence[str], rows: Iterator[OutputRow], dialect: OutputDialect | None, guard: bool
) -> int:
    n = 0
    # Half a character (a lone surrogate) has no encoding; it is written as "?" instead of stopping a long job.
    encoding = dialect.encoding if dialect else "utf-8"
    with path.open("w", encoding=encoding, errors="replace", newline="") as handle:
        if dialect is None:
            for row in rows:
                handle.write(json.dumps({c: _value(row.get(c)) for c in columns}, ensure_ascii=False) + "\n")
                n += 1
            return n
        write_row = dialect.row_writer(handle)
        write_row([guarded_cell(c) if guard else c for c in columns])
        for row in rows:
            cells = ("" if (cell := row.get(c)) is None else cell for c in columns)
            write_row([guarded_cell(cell) for cell in cells] if guard else list(cells))
            n += 1
    return n


def _value(cell: Any) -> Any:
    """The value the cell had before it became text; a value that JSON lacks (infinity) stays text."""
    if not isinstance(cell, JsonText):
        return cell
    try:
        return json.loads(cell, parse_constant=lambda name: name)
    except ValueError:
        return str(cell)
