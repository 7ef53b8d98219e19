"""Frames of any library are read by the column the student was trained on; keys and column names are never texts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from potstill.bundle.bundle import Bundle
from potstill.bundle.export.export import export
from potstill.data.task import Task
from potstill.errors import BadData
from potstill.students.base import StudentConfig, TrainingData
from potstill.students.linear import LinearStudent
from potstill.testing import StudentContract

LESSON = StudentContract().training_data()
LABELS = StudentContract.labels
COLUMNS = {"id": [1, 2], "title": ["a goal", "a goal"], "body": ["the soup and the bread", "one loan or shares"]}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("frames") / "bundle"
    student = LinearStudent(StudentConfig(LABELS)).fit(TrainingData(list(LESSON.texts), LESSON.targets))

    def complete(made: Bundle) -> Any:
        return replace(made.record, text_columns=("body",))

    return export(student, folder, task=Task(LABELS), texts=LESSON.texts, complete=complete)


class HuggingFaceDataset:
    """The few attributes of a data set that are read."""

    def __init__(self, columns: dict[str, list[Any]]) -> None:
        self._columns = columns
        self.column_names = list(columns)

    def __getitem__(self, name: str) -> list[Any]:
        return self._columns[name]

    def __len__(self) -> int:
        return 2


def frame_of(library: str) -> Callable[[dict[str, list[Any]]], Any]:
    if library == "rows":
        return lambda columns: [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    if library == "iterator":
        return lambda columns: iter(frame_of("rows")(columns))
    if library == "dataset":
        return HuggingFaceDataset
    module = pytest.importorskip(library)
    return module.table if library == "pyarrow" else module.DataFrame


LIBRARIES = ("rows", "iterator", "dataset", "pandas", "polars", "pyarrow")


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_frame_is_read_by_the_column_it_was_trained_on(bundle: Bundle, library: str) -> None:
    frame = frame_of(library)
    expected = bundle.predict(COLUMNS["body"])
    assert bundle.predict(frame(COLUMNS)) == expected
    assert bundle.predict_proba(frame(COLUMNS)).shape == (2, len(LABELS))
    assert [each.label for each in bundle.iter_predictions(frame(COLUMNS))] == expected
    assert bundle.predict(frame({"other": COLUMNS["body"]})) == expected  # its only column


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_frame_without_that_column_is_refused_with_those_it_has(bundle: Bundle, library: str) -> None:
    with pytest.raises(BadData, match=r"no column 'body'.*it has 'id', 'title'"):
        bundle.predict(frame_of(library)({"id": COLUMNS["id"], "title": COLUMNS["title"]}))


def test_a_mapping_is_refused(bundle: Bundle) -> None:
    for mapping in ({"a": "b"}, {"test": HuggingFaceDataset(COLUMNS)}):
        for predict in (bundle.predict, bundle.predict_proba, lambda texts: list(bundle.iter_predictions(texts))):
            with pytest.raises(BadData, match="is a mapping"):
                predict(mapping)  # type: ignore[operator]


def test_a_missing_text_is_named_by_its_row(bundle: Bundle) -> None:
    with pytest.raises(BadData, match="Text 2 is NoneType"):
        bundle.predict([{"body": "a goal"}, {"title": "a goal"}])


@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow"])
def test_a_column_is_a_list_of_texts(bundle: Bundle, library: str) -> None:
    frame = frame_of(library)(COLUMNS)
    assert bundle.predict(frame["body"]) == bundle.predict(COLUMNS["body"])
