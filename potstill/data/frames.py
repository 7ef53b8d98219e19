"""Data frames (pandas, polars), Arrow tables, Hugging Face datasets and lists of dictionaries, read by their columns.

They are known by their attributes, so that none of these libraries is imported or needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from potstill.data.tables import Table
from potstill.errors import BadData

_MISSING = {"NAType", "NaTType"}  # what pandas has for a missing value


def frame_columns(value: Any) -> tuple[str, ...] | None:
    """The names of the columns; None if the value is no frame.

    Raises:
        BadData: a mapping, or two columns of the same name.
    """
    if isinstance(value, Mapping):
        raise BadData(
            f"A {type(value).__name__} is a mapping, and texts are a list or a column.",
            "Give one of its values, as in mapping['text'].",
        )
    if isinstance(value, list | tuple):
        rows = bool(value) and isinstance(value[0], Mapping)
        return tuple(dict.fromkeys(str(name) for row in value for name in _row(row))) if rows else None
    names = getattr(value, "column_names", None)  # Arrow, Hugging Face
    names = getattr(value, "columns", None) if names is None or callable(names) else names
    if names is None or callable(names) or not hasattr(value, "__getitem__"):
        return None
    columns = tuple(map(str, names))
    twice = next((name for name in columns if columns.count(name) > 1), None)
    if twice is not None:
        raise BadData(f"The data frame has two columns called {twice!r}.", "Rename one of them.")
    return columns


def frame_column(value: Any, name: str) -> list[Any]:
    """The values of a column, None where one is missing."""
    if isinstance(value, list | tuple):
        return [_row(row).get(name) for row in value]
    original = next(each for each in _names(value) if str(each) == name)
    return plain_list(value[original])


def read_frame(value: Any, name: str) -> Table:
    """A frame as a table called `name`.

    Raises:
        BadData: it is no frame, or has two columns of the same name.
    """
    if isinstance(value, Table):
        return value
    columns = frame_columns(value)
    if columns is None:
        raise BadData(
            f"A {type(value).__name__} is neither a path nor a data frame.",
            "Give a path, a data frame, or a list of dictionaries.",
        )
    return Table.from_columns({each: frame_column(value, each) for each in columns}, name)


def plain_list(values: Any) -> list[Any]:
    """The values of a series, an array or an Arrow column as a list of plain values."""
    for convert in ("to_pylist", "to_list", "tolist"):
        if hasattr(values, convert):
            values = getattr(values, convert)()
            break
    return [None if type(each).__name__ in _MISSING else each for each in values]


def _names(value: Any) -> Any:
    names = getattr(value, "column_names", None)
    return value.columns if names is None or callable(names) else names


def _row(row: Any) -> Mapping[Any, Any]:
    if not isinstance(row, Mapping):
        raise BadData(f"A {type(row).__name__} is among rows that are dictionaries.", "Give dictionaries alone.")
    return row
