"""Reads and writes Parquet with pyarrow, and reads streams of Arrow data. The only file that imports pyarrow."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Any

from potstill.data.tables.base import (
    BytesText,
    Cell,
    NumberedRow,
    OutputRow,
    Row,
    column_names,
    oversized_cell_error,
    to_cell,
)
from potstill.data.tables.layout import Guess, Layout
from potstill.data.tables.unpack import Source
from potstill.errors import BadData, missing_extra

_BATCH = 4096


@dataclass
class ParquetFile:
    """A Parquet file; its attributes are those of the other open files."""

    source: Source
    layout: Layout
    guesses: list[Guess] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    header_doubt: str = ""


def read_parquet(file: ParquetFile, max_cell: int) -> Iterator[NumberedRow]:
    """The rows of a Parquet file, numbered from 1. A column of whole floats is read as integers with missing values.

    Raises:
        MissingExtra: pyarrow is not installed.
        BadData: the file is not a Parquet file.
    """
    path = file.source.path
    pa, parquet = _pyarrow(f"{path.name} (Parquet)")
    n = 0
    try:
        with parquet.ParquetFile(BytesIO(file.source.read_all()) if file.source.compression else path) as opened:
            columns = column_names(path.name, opened.schema_arrow.names)
            for batch in opened.iter_batches(batch_size=_BATCH):
                cells = [_to_cells(batch.column(i).to_pylist()) for i in range(batch.num_columns)]
                for values in zip(*cells, strict=True):
                    n += 1
                    row: Row = dict(zip(columns, values, strict=True))
                    yield n, oversized_cell_error(row, max_cell) or row
    except (pa.ArrowException, OSError) as error:
        raise BadData(f"{path.name} cannot be read as Parquet: {error}", "Write the file again.") from None


def _to_cells(values: list[Any]) -> list[Cell]:
    whole = all(v is None or (isinstance(v, float) and (v != v or v.is_integer())) for v in values)
    return [to_cell(int(v) if whole and v is not None and v == v else v) for v in values]


def write_parquet(
    path: Path,
    columns: Sequence[str],
    rows: Iterator[OutputRow],
    schema_from: Path | None = None,
    new_columns: Collection[str] = (),
) -> int:
    """Write the rows; returns how many.

    A column has the type of its first values, or its type in the Parquet file `schema_from` if cells of that type are
    read back exactly (see `columns_as_text`) and it is not one of the `new_columns`.

    Raises:
        MissingExtra: pyarrow is not installed.
    """
    pa, parquet = _pyarrow(f"{path.name} (Parquet)")
    kept = {} if schema_from is None else {f.name: f.type for f in parquet.read_schema(schema_from)}
    kept = {name: kind for name, kind in kept.items() if name not in new_columns and _is_exact(pa, kind)}
    values = {c: _value_of(pa, kept[c]) for c in columns if c in kept and _is_exact(pa, kept[c], nested=True)}
    n = 0
    writer: Any = None
    schema: Any = None
    try:
        while (
            batch := [{c: values.get(c, _same)(row.get(c)) for c in columns} for row in islice(rows, _BATCH)]
        ) or writer is None:
            if schema is None:
                inferred = pa.Table.from_pylist(batch).schema if batch else pa.schema([])
                types = {f.name: pa.string() if pa.types.is_null(f.type) else f.type for f in inferred}
                types |= {c: kept[c] for c in values}
                first = pa.schema([(c, types.get(c, pa.string())) for c in columns])
                schema = pa.schema([(f.name, kept.get(f.name, f.type)) for f in first])
                writer = parquet.ParquetWriter(path, schema, compression="zstd")
            writer.write_table(pa.Table.from_pylist(batch, schema=first).cast(schema))
            n += len(batch)
    finally:
        if writer is not None:
            writer.close()
    return n


def columns_as_text(path: Path) -> list[str]:
    """The columns of a Parquet file, with their types, that a copy has as text.

    Kept are text, bytes, integers, floats, booleans, dates, times without a zone, and lists and records of text,
    integers, floats and booleans.
    """
    pa, parquet = _pyarrow(f"{path.name} (Parquet)")
    fields = [field for field in parquet.read_schema(path) if not _is_exact(pa, field.type)]
    return [f"{field.name!r} ({field.type})" for field in fields if not pa.types.is_null(field.type)]


def _same(cell: Any) -> Any:
    return cell


def _value_of(pa: Any, kind: Any) -> Callable[[Any], Any]:
    """What turns a cell into a value of a type that is kept: bytes, lists and records."""

    def to_bytes(cell: Any) -> Any:
        if isinstance(cell, BytesText):
            return cell.to_bytes()
        return cell.encode("utf-8", "replace") if isinstance(cell, str) else cell

    def from_json(cell: Any) -> Any:
        return json.loads(cell) if isinstance(cell, str) else cell

    return from_json if pa.types.is_nested(kind) else to_bytes


def _is_exact(pa: Any, kind: Any, *, nested: bool = False) -> bool:
    """Whether cells of a type are read back exactly; with `nested` only types whose cells `_value_of` converts."""
    types = pa.types
    if any(of(kind) for of in (types.is_binary, types.is_large_binary, types.is_fixed_size_binary)):
        return True
    if types.is_list(kind) or types.is_large_list(kind):
        return _is_json(pa, kind.value_type)
    if types.is_struct(kind):
        return all(_is_json(pa, kind.field(i).type) for i in range(kind.num_fields))
    if nested:
        return False
    if types.is_timestamp(kind):
        return kind.tz is None and kind.unit in ("s", "us")
    return any(
        of(kind)
        for of in (types.is_string, types.is_large_string, types.is_integer, types.is_float32, types.is_float64)
    ) or any(of(kind) for of in (types.is_boolean, types.is_date32))


def _is_json(pa: Any, kind: Any) -> bool:
    """Whether values of a type, and those in them, are the same after they were JSON."""
    types = pa.types
    if types.is_nested(kind):
        return _is_exact(pa, kind, nested=True)
    scalars = (types.is_string, types.is_large_string, types.is_integer, types.is_float64, types.is_boolean)
    return any(of(kind) for of in scalars)


def arrow_table(stream: Any) -> Any:
    """The pyarrow table of an object that streams Arrow data (`__arrow_c_stream__`).

    Raises:
        MissingExtra: pyarrow is not installed.
    """
    return _pyarrow(f"A {type(stream).__name__}")[0].table(stream)


def _pyarrow(what: str) -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise missing_extra("pyarrow", "parquet", what) from None
    return pyarrow, pyarrow.parquet
