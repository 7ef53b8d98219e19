"""What looks like a path is never a text: it is read, or refused with a mend; standard input and pipes are read."""

from __future__ import annotations

import csv
import gzip
import io
import os
import threading
from pathlib import Path

import pytest
from support.tables import packed_table

from potstill import predict
from potstill.bundle.arguments import find_files
from potstill.bundle.bundle import load
from potstill.bundle.export.export import export
from potstill.bundle.record import read_record, write_record
from potstill.data.tables import stream_rows
from potstill.data.task import Task
from potstill.errors import BadData, BadInput
from potstill.students.base import StudentConfig, TrainingData
from potstill.students.linear import LinearStudent
from potstill.testing import StudentContract

LESSON = StudentContract().training_data()
LABELS = StudentContract.labels
CSV = "id,text\n1,the soup and the bread\n2,a goal in the stadium\n"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from dataclasses import replace

    folder = tmp_path_factory.mktemp("arguments") / "bundle"
    student = LinearStudent(StudentConfig(LABELS)).fit(TrainingData(list(LESSON.texts), LESSON.targets))
    export(student, folder, task=Task(LABELS), texts=LESSON.texts)
    write_record(folder, replace(read_record(folder), text_columns=("text",)))
    return folder


@pytest.fixture
def standard_input(monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    return lambda data: monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data.encode())))


@pytest.mark.parametrize(
    ("name", "mend"),
    [
        ("x.xlsx", "Save it again as .xlsx or CSV"),
        ("x.csv.gz", "copy or write it again"),
        ("x.numbers", "Save it as one of"),
        ("folder", "Name a file"),
        ("missing.csv", "Did you mean|Check the path"),
        ("gone/missing.dat", "Check the path"),
        ("*.csv", "without quotes"),
        ("*.tsv", "Check the folder"),
        ("notes", "Save it as one of"),
        ("x" * 300 + ".csv", "Check the path"),
        ("circle.csv", "Check the path"),
    ],
)
def test_a_path_that_cannot_be_read_is_refused_with_a_mend(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, mend: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for made in ("x.xlsx", "x.numbers", "notes", "y.csv"):
        Path(made).write_bytes(b"PK\x03\x04" if made == "x.xlsx" else b"text")
    Path("x.csv.gz").write_bytes(gzip.compress(CSV.encode())[:-9])
    Path("folder").mkdir()
    Path("circle.csv").symlink_to("circle.csv")
    for out in (None, Path("out.csv")):
        with pytest.raises(BadData) as refused:
            predict(model, name, out=out)
        import re

        assert re.search(mend, refused.value.hint), refused.value
    assert not Path("out.csv").exists()


@pytest.mark.parametrize(
    "text", ["and/or", "Please open report.csv", "https://a.example/x.html", "...", "", "7/8.5", "a\nb.csv", "v" * 5000]
)
def test_a_text_stays_a_text(model: Path, text: str) -> None:
    assert len(predict(model, text).predictions) == 1
    assert find_files([text], out=None) == ()


def test_an_output_is_of_files_and_files_are_not_mixed_with_texts(model: Path, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(CSV, encoding="utf-8")
    with pytest.raises(BadInput, match="There is no file 'a text'"):
        predict(model, "a text", out=tmp_path / "out.csv")
    with pytest.raises(BadInput, match="There is no file 'a text'"):
        predict(model, str(tmp_path / "a.csv"), "a text")


@pytest.mark.parametrize("name", ["a.csv.gz", "a.xlsx", "a.tab", "a.json.bz2", "a.zip"])
def test_compressed_files_and_workbooks_are_labelled_into_a_format_that_is_written(
    model: Path, tmp_path: Path, name: str
) -> None:
    rows = list(csv.DictReader(CSV.splitlines()))
    (tmp_path / name).write_bytes(packed_table(name, rows))
    (done,) = predict(model, tmp_path / name).files
    assert done.file.name == {"a.tab": "a.labelled.tsv", "a.json.bz2": "a.labelled.jsonl"}.get(name, "a.labelled.csv")
    written = [row for _, row in stream_rows(done.file)]
    assert [row["text"] for row in written] == [row["text"] for row in rows]
    assert all(row["predicted"] in LABELS for row in written)


def test_two_files_with_one_output_are_refused(model: Path, tmp_path: Path) -> None:
    for name in ("a.csv", "a.csv.gz"):
        (tmp_path / name).write_bytes(packed_table(name, list(csv.DictReader(CSV.splitlines()))))
    with pytest.raises(BadInput, match=r"Two files would be written as .*a\.labelled\.csv"):
        predict(model, tmp_path / "a.csv", tmp_path / "a.csv.gz")


def test_several_files_are_labelled_one_after_the_other(model: Path, tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("a.csv", "b.csv")]
    for file in files:
        file.write_text(CSV, encoding="utf-8")
    done = predict(model, *map(str, files))
    assert [each.file.name for each in done.files] == ["a.labelled.csv", "b.labelled.csv"]
    assert len(done.to_text().splitlines()) == 2
    (tmp_path / "into").mkdir()
    predict(model, *map(str, files), out=tmp_path / "into")
    assert sorted(each.name for each in (tmp_path / "into").iterdir()) == ["a.labelled.csv", "b.labelled.csv"]
    with pytest.raises(BadInput, match="2 files cannot be written into"):
        predict(model, *map(str, files), out=tmp_path / "one.csv")
    with pytest.raises(BadData, match="There is no file"):
        predict(model, str(files[0]), str(tmp_path / "none.csv"), out=tmp_path / "into")


@pytest.mark.parametrize(
    "data",
    [
        "the soup and the bread\na goal in the stadium\n",
        CSV,
        CSV.replace(",", "\t"),
        '{"text": "the soup and the bread"}\n{"text": "a goal in the stadium"}\n',
    ],
)
def test_standard_input_is_read_as_lines_or_as_a_table(model: Path, tmp_path: Path, standard_input, data: str) -> None:  # type: ignore[no-untyped-def]
    standard_input(data)
    found = predict(model, "-")
    assert found.texts == ("the soup and the bread", "a goal in the stadium")
    assert list(found.labels) == load(model).predict(found.texts)
    standard_input(data)
    done = predict(model, "-", out=tmp_path / "out.csv")
    assert done.files[0].n == 2


@pytest.mark.parametrize(("data", "reason"), [("", "is empty"), ("id,comment\n1,a\n", "like a table without 'text'")])
def test_standard_input_without_texts_is_refused(model: Path, standard_input, data: str, reason: str) -> None:  # type: ignore[no-untyped-def]
    standard_input(data)
    with pytest.raises(BadData, match=reason):
        predict(model, "-")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
def test_a_pipe_is_read_like_standard_input(model: Path, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=(CSV,))
    writer.start()
    assert len(predict(model, str(pipe)).predictions) == 2
    writer.join()


def test_control_characters_are_printed_as_escapes(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hostile = "a goal \x1b]52;c;cm0gLXJm\x07 \x9b31m \u202e"
    found = predict(model, hostile)
    assert found.texts == (hostile,)  # as it is, for programs
    assert r"a goal \x1b]52;c;cm0gLXJm\x07 \x9b31m \u202e" in found.to_text()
    from potstill.reports.console import ConsoleReporter

    ConsoleReporter().info("the server said \x1b[2J")
    assert capsys.readouterr().err == "the server said \\x1b[2J\n"


def test_an_error_is_printed_without_control_characters(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from potstill import cli

    def fail(**_: object) -> None:
        raise BadData("the server said \x1b]0;owned\x07", "Look at \x1b[2J.")

    monkeypatch.setattr(cli, "app", fail)
    with pytest.raises(SystemExit):
        cli.main()
    assert capsys.readouterr().err == "potstill: the server said \\x1b]0;owned\\x07\n  Look at \\x1b[2J.\n"
