"""Rows -> a CSV, TSV, JSON Lines or Parquet file that is either written as a whole or not at all."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from glob import escape
from pathlib import Path
from typing import Any

from potstill.data.tables.base import JsonText
from potstill.data.tables.parquet import write_parquet
from potstill.errors import BadData

_WRITABLE = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")


def write_table(
    path: str | Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]], *, schema_from: Path | None = None
) -> int:
    """Write rows one by one into a temporary file, then move it to `path`; return how many.

    Args:
        path: the suffix decides the kind: .csv, .tsv, .jsonl, .ndjson or .parquet.
        columns: which keys of the rows are written, in this order; a missing one is empty (JSON: null).
        rows: column -> value; numbers stay numbers in JSON Lines and Parquet.
        like: the file the rows were read from; if both are Parquet, its columns keep their types.

    Raises:
        BadData: another suffix, or a folder that is not there. Whatever `rows` raises passes through; no file is left.
        MissingExtra: a Parquet file without pyarrow.
    """
    path = Path(path).expanduser()
    if path.suffix.lower() not in _WRITABLE:
        raise BadData(f"{path.name} cannot be written.", f"End its name in one of {', '.join(_WRITABLE)}.")
    if not path.parent.is_dir():
        raise BadData(f"There is no folder {path.parent} to write {path.name} into.", "Make the folder first.")
    _sweep(path)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
    try:
        n = _written(unfinished, path.suffix.lower(), columns, iter(rows), schema_from)
        with unfinished.open("rb+") as handle:
            os.fsync(handle.fileno())
        os.replace(unfinished, path)  # noqa: PTH105
    finally:
        unfinished.unlink(missing_ok=True)
    return n


def _sweep(path: Path) -> None:
    """Remove what a process that was killed left of the same file; one that is still writing keeps its own."""
    if os.name != "posix":  # elsewhere there is no asking whether a process lives
        return
    for left in path.parent.glob(f".{escape(path.name)}.*.unfinished"):
        writer = left.name.split(".")[-2]
        try:
            os.kill(int(writer), 0)
        except ProcessLookupError:
            left.unlink(missing_ok=True)
        except (ValueError, OSError):
            continue


def _written(
    path: Path, suffix: str, columns: Sequence[str], rows: Iterator[Mapping[str, Any]], schema_from: Path | None
) -> int:
    if suffix == ".parquet":
        return write_parquet(
            path, columns, rows, schema_from if schema_from and schema_from.suffix.lower() == ".parquet" else None
        )
    n = 0
    # Half a character (a lone surrogate) has no UTF-8; it becomes "?" rather than the end of a long job.
    with path.open("w", encoding="utf-8", errors="replace", newline="") as handle:
        if suffix in (".jsonl", ".ndjson"):
            for row in rows:
                handle.write(json.dumps({c: _value(row.get(c)) for c in columns}, ensure_ascii=False) + "\n")
                n += 1
            return n
        # "\r\n" makes the writer quote cells with either of the two; a reader takes it as one line end
        writer = csv.writer(handle, delimiter="\t" if suffix == ".tsv" else ",", lineterminator="\r\n")
        writer.writerow(columns)
        for row in rows:
            writer.writerow(["" if (cell := row.get(c)) is None else cell for c in columns])
            n += 1
    return n


def _value(cell: Any) -> Any:
    """What the cell was before it became text; what is no JSON (infinity) stays text."""
    if not isinstance(cell, JsonText):
        return cell
    try:
        return json.loads(cell, parse_constant=lambda name: name)
    except ValueError:
        return str(cell)
