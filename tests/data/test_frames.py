"""Frames of any library become the table of the file with the same rows; stand-ins speak the libraries' protocols."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from potstill.data.frames import frame_column, open_frame, read_frame
from potstill.data.pool import build_pool
from potstill.errors import BadData
from potstill.run.inputs import read_inputs

ROWS = [{"id": i, "message": f"the thing number {i} broke", "topic": ["billing", "delivery"][i % 2]} for i in range(40)]
COLUMNS = {name: [row[name] for row in ROWS] for name in ROWS[0]}


class Column:
    """A lazy column: it can only be iterated over."""

    def __init__(self, values: list[Any]) -> None:
        self._values = values

    def __iter__(self) -> Iterator[Any]:
        return iter(self._values)


class ClassLabel:
    """Hugging Face's feature of class numbers."""

    def __init__(self, names: list[str]) -> None:
        self.names = names


class ListOf:
    """Hugging Face's feature of lists."""

    def __init__(self, feature: Any) -> None:
        self.feature = feature


class Dataset:
    """The few attributes of a Hugging Face data set that are read."""

    def __init__(self, columns: dict[str, list[Any]], features: dict[str, Any] | None = None) -> None:
        self._columns, self.column_names = columns, list(columns)
        self.features = features or dict.fromkeys(columns)

    def __getitem__(self, name: str) -> Column:
        return Column(self._columns[name])

    def __len__(self) -> int:
        return len(next(iter(self._columns.values())))


class LazyFrame:
    """A frame that has to be computed first."""

    def __init__(self, frame: Any) -> None:
        self.collect = lambda: frame
        self.collect_schema = lambda: None


class Stream:
    """An object that does nothing but stream Arrow data, once."""

    def __init__(self, table: Any) -> None:
        self._table = table

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        table, self._table = self._table, None
        return table.__arrow_c_stream__(requested_schema)


def frame(library: str) -> Any:
    if library in ("pandas", "pandas-nullable"):
        made = pytest.importorskip("pandas").DataFrame(ROWS)
        return made if library == "pandas" else made.convert_dtypes().astype({"topic": "category"})
    if library in ("arrow", "arrow-dictionary", "arrow-batch", "arrow-reader", "arrow-stream"):
        pa = pytest.importorskip("pyarrow")
        table = pa.table(COLUMNS)
        if library == "arrow-dictionary":
            return table.set_column(2, "topic", table["topic"].dictionary_encode())
        made = {"arrow": table, "arrow-batch": table.to_batches()[0], "arrow-reader": table.to_reader()}
        return made.get(library, Stream(table))
    if library == "lazy":
        return LazyFrame(Dataset(COLUMNS))
    if library == "class-numbers":
        numbers = {**COLUMNS, "topic": [["billing", "delivery"].index(topic) for topic in COLUMNS["topic"]]}
        return Dataset(numbers, {"topic": ClassLabel(["billing", "delivery"]), "id": None, "message": None})
    return {"rows": ROWS, "tuple": tuple(ROWS), "dataset": Dataset(COLUMNS)}[library]


LIBRARIES = (
    *("rows", "tuple", "dataset", "class-numbers", "lazy", "pandas", "pandas-nullable"),
    *("arrow", "arrow-dictionary", "arrow-batch", "arrow-reader", "arrow-stream"),
)


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_frame_gives_the_pool_and_the_sentences_of_the_file_of_its_rows(library: str, tmp_path: Any) -> None:
    lines = ["id,message,topic", *(",".join(map(str, row.values())) for row in ROWS)]
    path = tmp_path / "data.csv"
    path.write_text("\n".join(lines), encoding="utf-8")
    from_file = build_pool(path)
    from_frame = build_pool(frame(library))
    assert from_frame.pool.key == from_file.pool.key
    renamed = [sentence.replace("data.csv", "data") for sentence in from_file.report.sentences()]
    assert from_frame.report.sentences() == renamed
    assert from_frame.report.sources[0].guesses == from_file.report.sources[0].guesses
    inputs = read_inputs(frame(library), None, {"budget": 1})
    assert (inputs.pool.key, inputs.columns["text"], inputs.columns["label"]) == (
        read_inputs(path, None, {"budget": 1}).pool.key,
        "message",
        "topic",
    )


def test_missing_values_of_any_library_are_none() -> None:
    pd = pytest.importorskip("pandas")
    columns = {
        "text": pd.array(["a", pd.NA, None], dtype="string"),
        "number": pd.array([1, None, 3], dtype="Int64"),
        "float": [1.0, float("nan"), 3.0],
        "half": [1.5, float("nan"), 3.0],
        "kind": pd.Categorical(["x", None, "y"]),
        "at": pd.to_datetime(["2024-02-29", None, "2024-03-01"]),
        "ok": pd.array([True, None, False], dtype="boolean"),
        "object": [None, pd.NA, pd.NaT],
    }
    table = read_frame(pd.DataFrame(columns), "data")
    assert dict(table.cells) == {
        "text": ["a", None, None],
        "number": ["1", None, "3"],
        "float": ["1", None, "3"],
        "half": ["1.5", None, "3.0"],
        "kind": ["x", None, "y"],
        "at": ["2024-02-29 00:00:00", None, "2024-03-01 00:00:00"],
        "ok": ["true", None, "false"],
        "object": [None, None, None],
    }


def test_arrays_and_sets_in_cells_are_lists() -> None:
    np = pytest.importorskip("numpy")
    rows = [{"tags": np.array(["a", "b"]), "n": np.int64(3), "x": np.float32(0.5), "s": {"b", "a"}, "t": np.str_("é")}]
    assert list(read_frame(rows, "data").rows()) == [
        {"tags": '["a", "b"]', "n": "3", "x": "0.5", "s": '["a", "b"]', "t": "é"}
    ]


def test_class_numbers_are_names_in_lists_too_and_minus_one_is_none() -> None:
    names = ClassLabel(["no", "yes"])
    features = {"label": names, "tags": ListOf(names), "old": [names], "n": None}
    columns = {"label": [1, -1, None], "tags": [[0, 1], [], None], "old": [[1], [0], []], "n": [1, -1, 2]}
    data = Dataset(columns, features)
    assert [frame_column(data, name) for name in columns] == [
        ["yes", None, None],
        [["no", "yes"], [], None],
        [["yes"], ["no"], []],
        [1, -1, 2],
    ]


def test_the_splits_of_a_mapping_of_data_sets_are_used() -> None:
    parts = {name: Dataset({key: values[10 * i :][:10] for key, values in COLUMNS.items()}) for i, name in enumerate(
        ("train", "dev", "test", "unsupervised")
    )}  # fmt: skip
    for data in (parts, {**parts, "train": ROWS[:10]}):
        pool = read_inputs(data, None, {"budget": 1}).pool
        assert {str(name): int((pool.split == name).sum()) for name in set(pool.split)} == {
            "train": 10, "validation": 10, "test": 10, "pool": 10
        }  # fmt: skip
    with pytest.raises(BadData, match="'sheet' is no split; the data have 'sheet'"):
        read_inputs({"sheet": ROWS}, None, {"budget": 1})
    with pytest.raises(BadData, match="is a mapping"):
        read_inputs(COLUMNS, None, {"budget": 1})


def test_what_is_no_frame_is_one_sentence() -> None:
    for value in (7, None, "text", (row for row in ROWS), ["a", 1]):
        with pytest.raises(BadData, match="neither a path nor a data frame"):
            read_frame(value, "data")
    unreadable = type("Remote", (), {"columns": ["text"], "__getitem__": lambda self, name: 7})()
    with pytest.raises(BadData, match="cannot be read value by value"):
        read_frame(unreadable, "data")
    streamed = Dataset(COLUMNS)
    del_len = type("Streamed", (), {"features": {}, "column_names": ["text"], "__iter__": lambda self: iter(ROWS)})()
    with pytest.raises(BadData, match="may have no end"):
        open_frame(del_len)
    assert open_frame(streamed) is streamed
    with pytest.raises(BadData, match="A str is among rows"):
        read_frame([*ROWS, "text"], "data")
