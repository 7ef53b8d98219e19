"""Workbooks: which sheet, which rows, and what the cells become."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest
from support.tables import workbook

from potstill.data.tables import Layout, read_table, stream_rows
from potstill.data.tables.workbook import read_cell
from potstill.errors import BadData

HEADER = ["text", "label"]
ROWS = [HEADER, ["it broke", "a"], ["it is late", "b"]]


def put(folder: Path, content: bytes, name: str = "book.xlsx") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def refused(path: Path, layout: Layout = Layout()) -> BadData:  # noqa: B008
    with pytest.raises(BadData) as caught:
        read_table(path, layout=layout)
    assert caught.value.hint
    return caught.value


def test_the_first_sheet_with_rows_is_read_and_said(tmp_path: Path) -> None:
    path = put(tmp_path, workbook({"Empty": [], "Tickets": ROWS, "Notes": [["text"], ["x"]]}))
    table = read_table(path)
    assert (table.column("text"), table.layout.sheet) == (["it broke", "it is late"], "Tickets")
    assert table.warnings == (
        "book.xlsx: sheet 'Tickets', the first one with rows; the others are 'Empty', 'Notes'; --sheet overrules this.",
    )
    for sheet in ("Notes", "3"):
        assert read_table(path, layout=Layout(sheet=sheet)).column("text") == ["x"]
    assert "it has 'Empty', 'Tickets', 'Notes'" in refused(path, Layout(sheet="Tickts")).message
    assert read_table(put(tmp_path, workbook({"One": ROWS}))).warnings == ()


def test_a_sheet_that_is_named_for_no_workbook_is_said(tmp_path: Path) -> None:
    table = read_table(put(tmp_path, b"text,label\na,b\n", "t.csv"), layout=Layout(sheet="2"))
    assert "t.csv is no workbook: --sheet 2 is not used for it." in table.warnings


def test_rows_have_their_number_in_the_sheet_and_empty_ones_are_none(tmp_path: Path) -> None:
    path = put(tmp_path, workbook({"s": [[], HEADER, ["x", "a"], [], [None, None], ["y", None]]}))
    table = read_table(path)
    assert (list(table.line_numbers), table.column("text"), table.column("label")) == ([3, 6], ["x", "y"], ["a", None])
    assert list(stream_rows(path)) == [(3, {"text": "x", "label": "a"}), (6, {"text": "y", "label": None})]


def test_columns_without_name_and_value_are_none(tmp_path: Path) -> None:
    rows = [[None, "text", None, "label"], [None, "x", "n", "a"], [None, "y", None, "b"]]
    assert read_table(put(tmp_path, workbook({"s": rows}))).columns == ("text", "column_2", "label")


def test_a_title_above_the_header_is_doubted_and_skipped_by_the_flag(tmp_path: Path) -> None:
    path = put(tmp_path, workbook({"s": [["Export of May"], [], *ROWS]}))
    assert "(--skip-rows 2)" in read_table(path).header_doubt
    table = read_table(path, layout=Layout(skip_rows=2))
    assert (table.columns, table.header_doubt, len(table)) == (("text", "label"), "", 2)
    assert read_table(put(tmp_path, workbook({"s": ROWS}))).header_doubt == ""


def test_a_title_is_doubted_above_a_column_of_empty_labels(tmp_path: Path) -> None:
    rows = [["Export of May"], HEADER, *(["it broke", None] for _ in range(5))]
    assert "(--skip-rows 1)" in read_table(put(tmp_path, workbook({"s": rows}))).header_doubt
    assert read_table(put(tmp_path, workbook({"s": rows[1:]}))).header_doubt == ""


def test_a_sheet_without_a_header(tmp_path: Path) -> None:
    path = put(tmp_path, workbook({"s": [["it broke", "a"], ["it is late", "b"], ["it hums", "a"], ["so it is", "a"]]}))
    assert "'a' is the value of its column" in read_table(path).header_doubt
    assert read_table(path, layout=Layout(header=False)).column("column_2") == ["a", "b", "a", "a"]


def test_a_repeated_header_and_two_columns_of_one_name(tmp_path: Path) -> None:
    table = read_table(put(tmp_path, workbook({"s": [*ROWS, HEADER, ["z", "a"]]})))
    assert (len(table), table.warnings) == (3, ("1 row of book.xlsx left out: the header, repeated.",))
    assert (
        "two columns called 'text'" in refused(put(tmp_path, workbook({"s": [["text", "text"], ["x", "y"]]}))).message
    )


def test_a_cell_that_is_merged_over_rows_has_its_value_in_each(tmp_path: Path) -> None:
    rows = [HEADER, ["one", "a"], ["two", None], ["three", None], ["four", "b"]]
    table = read_table(put(tmp_path, workbook({"s": rows}, merged=["B2:B4"])))
    assert table.column("label") == ["a", "a", "a", "b"]
    assert table.warnings == ("2 cells of book.xlsx that are merged over rows have their value in each row.",)


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        (1.0, "1"),
        (-3.0, "-3"),
        (1.5, "1.5"),
        (1e20, "1e+20"),
        (True, "true"),
        ("0012", "0012"),
        ("", None),
        ("=1+1", "=1+1"),
        (dt.date(2024, 2, 29), "2024-02-29"),
        (dt.datetime(2024, 2, 29), "2024-02-29"),
        (dt.datetime(2024, 2, 29, 12, 30), "2024-02-29 12:30:00"),
        (dt.time(9, 5), "09:05:00"),
        (dt.timedelta(hours=30, minutes=1), "30:01:00"),
    ],
)
def test_what_the_cells_become(value: object, cell: str | None) -> None:
    assert read_cell(value) == cell


def test_numbers_and_truths_are_read(tmp_path: Path) -> None:
    table = read_table(put(tmp_path, workbook({"s": [["text", "stars", "ok"], ["x", 5, True], ["y", 4.5, False]]})))
    assert (table.column("stars"), table.column("ok")) == (["5", "4.5"], ["true", "false"])


@pytest.mark.parametrize("content", [b"PK\x03\x04junk", b"\xd0\xcf\x11\xe0" + b"\0" * 600, b"\0\1\2", b"some text"])
def test_what_is_no_workbook_is_one_sentence(tmp_path: Path, content: bytes) -> None:
    assert "book.xlsx" in refused(put(tmp_path, content)).message


def test_a_workbook_that_unpacks_to_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("potstill.data.tables.unpack.MAX_UNPACKED", 100_000)
    path = put(tmp_path, workbook({"s": [HEADER, ["x" * 2_000_000, "a"]]}))
    assert "unpacks to 2 MB, more than the" in refused(path).message


def test_a_workbook_without_rows(tmp_path: Path) -> None:
    assert "no sheet with rows" in refused(put(tmp_path, workbook({"a": [], "b": []}))).message
    assert "a header and no rows" in refused(put(tmp_path, workbook({"a": [HEADER]}))).message


@pytest.mark.parametrize(
    ("name", "content"), [("a.xls", b"text\tlabel\nx\ta\ny\tb\n"), ("a.csv", workbook({"s": ROWS}))]
)
def test_the_bytes_say_what_a_file_is_and_it_is_said(tmp_path: Path, name: str, content: bytes) -> None:
    table = read_table(put(tmp_path, content, name))
    assert table.columns == ("text", "label")
    assert "--format overrules this" in table.warnings[0]
