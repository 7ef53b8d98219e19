"""Parquet: the types of columns, bytes that are no text, and what a copy cannot keep."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from potstill.data.tables import BytesText, Table, columns_as_text, read_table, stream_rows, write_table
from potstill.errors import BadData

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

PNG = b"\x89PNG\r\n\x1a\n\x00"
COLUMNS = {
    "text": pa.array(["a", None, "c"]),
    "i": pa.array([1, None, 2**60], pa.int64()),
    "small": pa.array([1, 2, 3], pa.int8()),
    "x": pa.array([0.1, 2.0, None], pa.float32()),
    "ok": pa.array([True, None, False]),
    "day": pa.array([dt.date(2024, 2, 29), None, dt.date(1999, 1, 1)]),
    "at": pa.array([dt.datetime(2024, 2, 29, 12, 30, 1, 5), None, dt.datetime(1999, 1, 1)], pa.timestamp("us")),
    "tags": pa.array([["p", 'q"'], None, []], pa.list_(pa.string())),
    "vector": pa.array([[0.1, 1e300], [], None], pa.list_(pa.float64())),
    "record": pa.array([{"a": 1, "b": "x"}, None, {"a": None, "b": ""}]),
    "image": pa.array([PNG, None, b""], pa.binary()),
    "large": pa.array([b"plain", PNG, None], pa.large_binary()),
    "digest": pa.array([b"\xff\x00", b"ab", None], pa.binary(2)),
    "none": pa.array([None, None, None], pa.binary()),
}


def write(path: Path, columns: dict[str, Any]) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


def copy(source: Path, out: Path) -> Any:
    rows = [row | {"new": 0.5} for _, row in stream_rows(source)]
    names = pq.read_schema(source).names
    write_table(out, [*names, "new"], rows, schema_from=source, new_columns=["new"])
    return pq.read_table(out)


def test_a_copy_keeps_the_types_of_its_source(tmp_path: Path) -> None:
    source = write(tmp_path / "in.parquet", COLUMNS)
    written = copy(source, tmp_path / "out.parquet")
    for name, values in COLUMNS.items():
        assert written[name].type == values.type, name
        assert written[name].to_pylist() == values.to_pylist(), name
    assert written["new"].to_pylist() == [0.5] * 3
    assert columns_as_text(source) == []


def test_types_that_a_copy_has_as_text_are_named(tmp_path: Path) -> None:
    columns = {
        "price": pa.array([Decimal("1.50")]),
        "zoned": pa.array([dt.datetime(2024, 1, 1)], pa.timestamp("us", tz="UTC")),
        "images": pa.array([[PNG]], pa.list_(pa.binary())),
    }
    source = write(tmp_path / "in.parquet", columns)
    assert [each.partition(" ")[0] for each in columns_as_text(source)] == ["'price'", "'zoned'", "'images'"]
    assert copy(source, tmp_path / "out.parquet")["price"].to_pylist() == ["1.50"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(values=st.lists(st.none() | st.binary(max_size=12), min_size=1, max_size=6))
def test_bytes_pass_through_whatever_they_are(tmp_path: Path, values: list[bytes | None]) -> None:
    source = write(tmp_path / "in.parquet", {"data": pa.array(values, pa.binary())})
    assert copy(source, tmp_path / "out.parquet")["data"].to_pylist() == values


def test_a_column_of_bytes_is_no_text_and_is_named(tmp_path: Path) -> None:
    columns = {"image": pa.array([PNG * 50, PNG * 60]), "text": pa.array([b"one", "zwei ä".encode()])}
    for table in (
        read_table(write(tmp_path / "in.parquet", columns)),
        Table.from_columns({n: c.to_pylist() for n, c in columns.items()}),
    ):
        assert table.columns == ("text",)
        assert list(table.column("text")) == ["one", "zwei ä"]
        assert table.warnings == (f"The column 'image' of {table.name} holds bytes, not text; it is left out.",)
        with pytest.raises(BadData, match="holds bytes, not text") as caught:
            table.column("image")
        assert "it has 'text'" in caught.value.hint


def test_the_text_of_bytes_is_base64(tmp_path: Path) -> None:
    (row,) = (row for _, row in stream_rows(write(tmp_path / "in.parquet", {"image": pa.array([PNG])})))
    assert isinstance(row["image"], BytesText)
    assert row["image"] == "iVBORw0KGgoA"
    assert row["image"].to_bytes() == PNG
