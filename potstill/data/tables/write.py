"""Writes CSV, TSV, JSON Lines and Parquet files atomically: the whole file or nothing."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from potstill.data.atomic import atomic_file
from potstill.data.printable import guarded_cell
from potstill.data.tables.base import JsonText, OutputRow
from potstill.data.tables.parquet import write_parquet
from potstill.errors import BadData

WRITABLE = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")


def write_table(
    path: str | Path,
    columns: Sequence[str],
    rows: Iterable[OutputRow],
    *,
    schema_from: Path | None = None,
    guard_formulas: bool = False,
) -> int:
    """Write rows one by one to a temporary file, then rename it to `path`; returns how many.

    Args:
        path: the suffix selects the format: .csv, .tsv, .jsonl, .ndjson or .parquet.
        columns: the keys of the rows to write, in this order; a missing one is empty (JSON: null).
        rows: column -> value; numbers stay numbers in JSON Lines and Parquet.
        schema_from: the file the rows were read from; if both are Parquet, its columns keep their types.
        guard_formulas: in CSV and TSV, write a quote before what a spreadsheet would read as a formula.

    Raises:
        BadData: another suffix, or the folder does not exist. An error raised by `rows` propagates; no file is left.
        DiskError: the disk is full, or nothing may be written there.
        MissingExtra: a Parquet file without pyarrow.
    """
    path = Path(path).expanduser()
    if path.suffix.lower() not in WRITABLE:
        raise BadData(f"{path.name} cannot be written.", f"End its name in one of {', '.join(WRITABLE)}.")
    if not path.parent.is_dir():
        raise BadData(f"There is no folder {path.parent} to write {path.name} into.", "Create the folder first.")
    with atomic_file(path) as unfinished:
        if path.suffix.lower() == ".parquet":
            same_kind = schema_from is not None and schema_from.suffix.lower() == ".parquet"
            n = write_parquet(unfinished, columns, iter(rows), schema_from if same_kind else None)
        else:
            n = _write(unfinished, path.suffix.lower(), columns, iter(rows), guard_formulas)
        with unfinished.open("rb+") as handle:
            os.fsync(handle.fileno())
    return n


def _write(path: Path, suffix: str, columns: Sequence[str], rows: Iterator[OutputRow], guard: bool) -> int:
    n = 0
    # Half a character (a lone surrogate) has no UTF-8; it is written as "?" instead of stopping a long job.
    with path.open("w", encoding="utf-8", errors="replace", newline="") as handle:
        if suffix in (".jsonl", ".ndjson"):
            for row in rows:
                handle.write(json.dumps({c: _value(row.get(c)) for c in columns}, ensure_ascii=False) + "\n")
                n += 1
            return n
        # With "\r\n" the writer quotes cells with either character; readers take it as one line end.
        writer = csv.writer(handle, delimiter="\t" if suffix == ".tsv" else ",", lineterminator="\r\n")
        writer.writerow([guarded_cell(c) if guard else c for c in columns])
        for row in rows:
            cells = ("" if (cell := row.get(c)) is None else cell for c in columns)
            writer.writerow([guarded_cell(cell) for cell in cells] if guard else list(cells))
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
