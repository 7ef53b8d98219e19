"""Data frames (pandas, polars), Arrow tables, Hugging Face data sets and lists of dictionaries, read by their columns.

They are known by their attributes, so that none of these libraries is imported or needed; what has no columns and
streams Arrow data (`__arrow_c_stream__`: record batch readers, relations of DuckDB) is read with pyarrow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from potstill.data.tables import Table, arrow_table
from potstill.errors import BadData

_MISSING = {"NAType", "NaTType"}  # what pandas has for a missing value
_UNLABELLED = -1  # in a column of class numbers


def frame_columns(value: Any) -> tuple[str, ...] | None:
    """The names of the columns of an open frame; None if the value is no frame.

    Raises:
        BadData: a mapping, or two columns of the same name.
    """
    if isinstance(value, Mapping):
        raise BadData(
            f"A {type(value).__name__} is a mapping, and texts are a list or a column.",
            f"Give one of its values, as in mapping[{next(iter(value), 'text')!r}].",
        )
    if isinstance(value, list | tuple):
        rows = bool(value) and isinstance(value[0], Mapping)
        return tuple(dict.fromkeys(str(name) for row in value for name in _row(row))) if rows else None
    names = _names(value)
    if names is None or callable(names) or not hasattr(value, "__getitem__"):
        return None
    columns = tuple(map(str, names))
    twice = next((name for name in columns if columns.count(name) > 1), None)
    if twice is not None:
        raise BadData(f"The data frame has two columns called {twice!r}.", "Rename one of them.")
    return columns


def frame_column(value: Any, name: str) -> list[Any]:
    """The values of a column of an open frame, None where one is missing.

    Class numbers of a Hugging Face data set become the names of the classes.
    """
    if isinstance(value, list | tuple):
        return [_plain(_row(row).get(name)) for row in value]
    original = next(each for each in _names(value) if str(each) == name)
    values = plain_list(value[original])
    features = getattr(value, "features", None)
    feature = features.get(original) if isinstance(features, Mapping) else None
    names = _class_names(feature)
    if names is None:
        return values
    return [_named(each, names) for each in values]


def read_frame(value: Any, name: str) -> Table:
    """A frame as a table called `name`. Whole floats with missing values are integers, as in a Parquet file.

    Raises:
        BadData: it is no frame, or has two columns of the same name.
    """
    if isinstance(value, Table):
        return value
    value = open_frame(value)
    columns = frame_columns(value)
    if columns is None:
        raise BadData(
            f"A {type(value).__name__} is neither a path nor a data frame.",
            "Give a path, a data frame, or a list of dictionaries.",
        )
    return Table.from_columns({each: _whole(frame_column(value, each)) for each in columns}, name)


def plain_list(values: Any) -> list[Any]:
    """The values of a series, an array or an Arrow column as a list of plain values."""
    for convert in ("to_pylist", "to_list", "tolist"):
        if hasattr(values, convert):
            values = getattr(values, convert)()
            break
    try:
        return [_plain(each) for each in values]
    except TypeError:
        raise BadData(
            f"A {type(values).__name__} cannot be read value by value.",
            "Give a list, or a data frame of pandas (toPandas(), to_pandas(), compute()).",
        ) from None


def _plain(value: Any) -> Any:
    """A value without its library: None if it is missing, lists for arrays, numbers for NumPy's."""
    if value is None or type(value) in (str, int, float, bool):
        return value
    if type(value).__name__ in _MISSING:
        return None
    if hasattr(value, "tolist"):  # NumPy's scalars and arrays
        return value.tolist()
    return sorted(value, key=str) if isinstance(value, set | frozenset) else value


def _whole(values: list[Any]) -> list[Any]:
    numbers = [each for each in values if each is not None and each == each]
    if numbers and all(type(each) is float and each.is_integer() for each in numbers):
        return [int(each) if each is not None and each == each else None for each in values]
    return values


def _class_names(feature: Any) -> Sequence[str] | None:
    """The names of the classes of a Hugging Face `ClassLabel`, or of a list of them."""
    inner = getattr(feature, "feature", feature[0] if isinstance(feature, list) and feature else feature)
    names = getattr(inner, "names", None)
    return names if isinstance(names, list | tuple) else None


def _named(value: Any, names: Sequence[str]) -> Any:
    if isinstance(value, list):
        return [_named(each, names) for each in value]
    if value is None or value == _UNLABELLED:
        return None
    return names[value] if isinstance(value, int) and 0 <= value < len(names) else value


def open_frame(value: Any) -> Any:
    """A lazy frame as it is when it is computed, and a stream of Arrow data as a table; all else as it is.

    Raises:
        BadData: a data set that is streamed.
        MissingExtra: a stream of Arrow data without pyarrow.
    """
    if isinstance(value, str | list | tuple | Mapping):
        return value
    if hasattr(value, "features") and hasattr(value, "column_names") and not hasattr(value, "__len__"):
        raise BadData(f"This {type(value).__name__} may have no end.", "Give rows of it: list(data.take(10_000)).")
    if hasattr(value, "collect") and hasattr(value, "collect_schema"):  # polars' lazy frames
        return value.collect()
    names = _names(value)
    is_column = hasattr(value, "dtype") or hasattr(value, "type")
    if (names is None or callable(names)) and not is_column and hasattr(value, "__arrow_c_stream__"):
        return arrow_table(value)
    return value


def _names(value: Any) -> Any:
    names = getattr(value, "column_names", None)
    return getattr(value, "columns", None) if names is None or callable(names) else names


def _row(row: Any) -> Mapping[Any, Any]:
    if not isinstance(row, Mapping):
        raise BadData(f"A {type(row).__name__} is among rows that are dictionaries.", "Give dictionaries alone.")
    return row
