"""Compressed files, standard input, several files, and paths that lead nowhere."""

from __future__ import annotations

import gzip
import io
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from support.tables import archive, pack, packed_table, put, refused, workbook

from potstill import cli
from potstill.api.init import init
from potstill.data.tables import Layout, Row, Table, read_table, stream_rows
from potstill.errors import BadData, BadSpec, MissingExtra
from potstill.run.inputs import read_inputs

ROWS = [{"text": f"the thing, number {i}, broke", "label": "ab"[i % 2]} for i in range(6)]
CSV = packed_table("a.csv", ROWS)


@pytest.fixture
def standard_input(monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    return lambda data: monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))


# --- compressed files --------------------------------------------------------------------------------------


@pytest.mark.parametrize("packed", ["", ".gz", ".bz2", ".xz", ".zst"])
@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.json", "A.CSV"])
def test_a_compressed_file_reads_like_the_file_in_it(tmp_path: Path, name: str, packed: str) -> None:
    path = put(tmp_path, name + packed, packed_table(name.lower() + packed, ROWS))
    table = read_table(path)
    assert list(table.rows()) == ROWS
    assert table.layout.compression == {".gz": "gzip", ".bz2": "bzip2", ".xz": "xz", ".zst": "zstd"}.get(packed, "")
    assert table.warnings == ()
    assert [row for _, row in stream_rows(path)] == ROWS


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "cp1252"])
def test_a_compressed_file_has_an_encoding_like_any_other(tmp_path: Path, encoding: str) -> None:
    text = "text,label\n" + "Une très belle journée à vous,x\n" * 30
    path = put(tmp_path, "a.csv.gz", gzip.compress(text.encode(encoding)))
    if encoding == "cp1252":
        assert "--encoding cp1252" in refused(path).hint
    named = encoding if encoding == "cp1252" else None
    assert read_table(path, encoding=named).column("text")[0] == "Une très belle journée à vous"


def test_a_parquet_file_may_be_compressed_again(tmp_path: Path) -> None:
    from potstill.data.tables import write_table

    write_table(tmp_path / "a.parquet", ["text", "label"], ROWS)
    path = put(tmp_path, "a.parquet.gz", gzip.compress((tmp_path / "a.parquet").read_bytes()))
    assert list(read_table(path).rows()) == ROWS


def test_the_bytes_say_whether_a_file_is_compressed_and_the_name_does_not(tmp_path: Path) -> None:
    for name, content in (("a.csv.gz", CSV), ("a.csv", gzip.compress(CSV))):
        table = read_table(put(tmp_path, name, content))
        assert list(table.rows()) == ROWS
        assert "by its first bytes" in table.warnings[0]


def test_a_zip_archive_with_one_table_is_that_table(tmp_path: Path) -> None:
    files = {"__MACOSX/._t.csv": b"x", "data/.hidden.csv": b"y", "README.txt": b"about", "data/t.csv": CSV}
    table = read_table(put(tmp_path, "a.zip", archive(files)))
    assert list(table.rows()) == ROWS
    assert table.warnings == ("a.zip: the table data/t.csv in it is read.",)
    assert (
        list(read_table(put(tmp_path, "b.csv.zip", archive({"t.jsonl": packed_table("t.jsonl", ROWS)}))).rows()) == ROWS
    )


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"a.csv": CSV, "b.csv": CSV}, r"holds 2 tables: a\.csv, b\.csv"),
        ({"a.docx": CSV}, r"holds no table, but a\.docx"),
        ({}, "holds no table, but nothing"),
    ],
)
def test_a_zip_archive_without_one_table_is_refused(tmp_path: Path, files: dict[str, bytes], reason: str) -> None:
    with pytest.raises(BadData, match=reason):
        read_table(put(tmp_path, "a.zip", archive(files)))


@pytest.mark.parametrize("packed", [".gz", ".bz2", ".xz", ".zst", ".zip"])
def test_a_damaged_file_is_one_sentence(tmp_path: Path, packed: str) -> None:
    whole = pack(CSV * 50, "a.csv" + packed)
    for content in (whole[:-12], whole[: len(whole) // 2], whole[:20] + b"\xff" * 30 + whole[50:]):
        error = refused(put(tmp_path, "a.csv" + packed, content))
        assert "unpacked" in error.message or "bad row" in error.message or "not UTF-8" in error.message


@pytest.mark.parametrize("packed", [".gz", ".bz2", ".xz", ".zst", ".zip"])
@pytest.mark.parametrize("content", [b"\0", b"text,label\nx,y\n"])
def test_a_file_that_unpacks_to_too_much_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, packed: str, content: bytes
) -> None:
    monkeypatch.setattr("potstill.data.tables.unpack.MAX_UNPACKED", 200_000)
    path = put(tmp_path, "a.csv" + packed, pack(content * (1_000_000 // len(content)), "a.csv" + packed))
    error = refused(path)
    assert "a.csv" in error.message
    assert "unpacks to more than" in error.message or "longer than" in error.message
    with pytest.raises(BadData):
        list(stream_rows(path))


def test_an_archive_of_files_and_documents_are_refused_by_their_bytes(tmp_path: Path) -> None:
    import tarfile

    put(tmp_path, "t.csv", CSV)
    with tarfile.open(tmp_path / "t.tar.gz", "w:gz") as opened:
        opened.add(tmp_path / "t.csv", "t.csv")
    assert "is an archive (tar)" in refused(tmp_path / "t.tar.gz").message
    assert "is a web page" in refused(put(tmp_path, "w.csv", "<!DOCTYPE html>\n<html>")).message
    assert "is a PDF document" in refused(put(tmp_path, "p.csv", "%PDF-1.7\n")).message
    assert "has no suffix" in refused(put(tmp_path, "notes", "text")).message


def test_a_missing_library_is_named_with_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for library in ("compression", "backports", "python_calamine"):
        monkeypatch.setitem(sys.modules, library, None)
    for name, content in (("a.csv.zst", b"\x28\xb5\x2f\xfd" + CSV), ("a.xlsx", workbook({"s": [["text"], ["x"]]}))):
        with pytest.raises(MissingExtra) as caught:
            read_table(put(tmp_path, name, content))
        assert "potstill[" in caught.value.hint


# --- the format --------------------------------------------------------------------------------------------


def test_the_format_may_be_named(tmp_path: Path) -> None:
    path = put(tmp_path, "a.dat", CSV)
    assert "--format csv" in refused(path).hint
    assert list(read_table(path, layout=Layout(format="csv")).rows()) == ROWS
    with pytest.raises(BadSpec, match="no format 'cvs'"):
        read_table(path, layout=Layout(format="cvs"))  # type: ignore[arg-type]


def test_a_txt_file_of_cells_between_tabs_is_a_table(tmp_path: Path) -> None:
    path = put(tmp_path, "a.txt", "ham\tsee you\nspam\twin now\nham\tok\n")
    table = read_table(path, layout=Layout(header=False))
    assert table.column("column_2") == ["see you", "win now", "ok"]
    assert "tabs divide each line into 2 cells; txt is one text a line; --format overrules this" in table.warnings[0]
    texts = read_table(path, layout=Layout(format="txt"))
    assert texts.column("text") == ["ham\tsee you", "spam\twin now", "ham\tok"]


# --- standard input ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "rows"),
    [
        (CSV, ROWS),
        (packed_table("a.tsv", ROWS), ROWS),
        (b'text,label\n"one\n\ntwo, three",a\n', [{"text": "one\n\ntwo, three", "label": "a"}]),
        (packed_table("a.jsonl", ROWS), ROWS),
        (packed_table("a.json", ROWS), ROWS),
        (packed_table("a.csv.gz", ROWS), ROWS),
        (packed_table("a.xlsx", ROWS), ROWS),
        (
            b"a text, and more\nanother one\n\n[x] a third, it is\n",
            ["a text, and more", "another one", "[x] a third, it is"],
        ),
        (b"well, this\nwell, that\n", ["well, this", "well, that"]),
        ("ein schöner Tag\n".encode("utf-16"), ["ein schöner Tag"]),
    ],
)
def test_standard_input_is_known_by_its_content(standard_input, data: bytes, rows: list[Row] | list[str]) -> None:  # type: ignore[no-untyped-def]
    expected = [row if isinstance(row, dict) else {"text": row} for row in rows]
    standard_input(data)
    table = read_table("-")
    assert (table.name, list(table.rows())) == ("standard input", expected)
    assert any("--format overrules this" in warning for warning in table.warnings)
    standard_input(data)
    assert [row for _, row in stream_rows("-")] == expected


def test_the_format_of_standard_input_may_be_named_and_nothing_is_refused(standard_input) -> None:  # type: ignore[no-untyped-def]
    standard_input(b"a,b\nc,d\n")
    assert read_table("-", layout=Layout(format="txt")).column("text") == ["a,b", "c,d"]
    standard_input(b"")
    with pytest.raises(BadData, match="Standard input is empty"):
        read_table("-")


# --- several files -----------------------------------------------------------------------------------------


def test_several_files_are_one_table_whose_rows_know_their_file(tmp_path: Path) -> None:
    first, second = put(tmp_path, "a.csv", CSV), put(tmp_path, "b.jsonl", packed_table("b.jsonl", ROWS[:2]))
    table = read_table([first, second])
    assert list(table.rows()) == [*ROWS, *ROWS[:2]]
    assert (table.name, table.ids()[5:7]) == ("a.csv and b.jsonl", ["a.csv:7", "b.jsonl:1"])


def test_several_files_need_the_same_columns(tmp_path: Path) -> None:
    first, second = put(tmp_path, "a.csv", "text,label\nx,y\n"), put(tmp_path, "b.csv", "label,body\nx,y\n")
    with pytest.raises(BadData, match=r"b\.csv has the columns 'label', 'body', and a\.csv has 'text', 'label'"):
        read_table([first, second])
    swapped = put(tmp_path, "c.csv", "label,text\nz,w\n")
    assert list(read_table([first, swapped]).rows()) == [{"text": "x", "label": "y"}, {"text": "w", "label": "z"}]
    with pytest.raises(BadData, match="given twice"):
        read_table([first, first])


def test_files_of_one_name_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    table = read_table([put(tmp_path, "a.csv", CSV), put(tmp_path / "b", "a.csv", CSV)])
    assert len(set(table.ids())) == 12


def test_joined_tables_keep_only_what_they_share() -> None:
    first = Table("a", ("t",), {"t": ["x"]}, [1], layout=Layout(delimiter=";", encoding="utf-8"))
    second = Table("b", ("t",), {"t": ["y"]}, [1], layout=Layout(delimiter=",", encoding="utf-8"))
    assert Table.joined([first, second]).layout == Layout(encoding="utf-8")


@pytest.mark.parametrize("names", [("a.csv", "b.csv"), ("a.csv.gz", "b.jsonl")])
def test_several_files_are_learnt_from_and_named_in_a_toml_file(tmp_path: Path, names: tuple[str, ...]) -> None:
    rows = [{"text": f"the thing {i} broke", "label": "ab"[i % 2]} for i in range(40)]
    files = [put(tmp_path, name, packed_table(name, rows[n * 20 :][:20])) for n, name in enumerate(names)]
    inputs = read_inputs(files, None, {"budget": 1})
    assert (len(inputs.pool), inputs.name) == (40, "a")
    written = init(files)
    again = read_inputs(written.file, None, {})
    assert (again.pool.key, again.pool.ids) == (inputs.pool.key, inputs.pool.ids)
    with pytest.raises(BadSpec, match="beside data files"):
        read_inputs([files[0], written.file], None, {"budget": 1})


def test_an_option_may_name_several_files(tmp_path: Path) -> None:
    texts = [f"the thing {i} broke" for i in range(30)]
    data = put(
        tmp_path, "a.csv", packed_table("a.csv", [{"text": t, "label": "ab"[i % 2]} for i, t in enumerate(texts)])
    )
    pools = [put(tmp_path, f"{name}.txt", f"{name} was late\n{name} was odd\n") for name in ("one", "two")]
    command = ["plan", str(data), "--pool", str(pools[0]), "--pool", str(pools[1]), "--procedure", "finetune"]
    result = CliRunner().invoke(cli.app, [*command, "--budget", "1"])
    assert result.exit_code == 0, result.exception
    inputs = read_inputs(data, pools, {"budget": 1})
    assert [each for each in inputs.pool.ids if ".txt" in each] == ["one.txt:1", "one.txt:2", "two.txt:1", "two.txt:2"]


def test_standard_input_is_data_once(standard_input) -> None:  # type: ignore[no-untyped-def]
    standard_input(packed_table("a.csv", [{"text": f"thing {i} broke", "label": "ab"[i % 2]} for i in range(20)]))
    inputs = read_inputs("-", None, {"budget": 1})
    assert (len(inputs.pool), inputs.name, inputs.source) == (20, "standard-input", "-")
    with pytest.raises(BadSpec, match="named twice"):
        read_inputs("-", "-", {"budget": 1})
    with pytest.raises(BadSpec, match="standard input"):
        init("-")


# --- paths that lead nowhere -------------------------------------------------------------------------------


def test_a_missing_file_names_tables_of_similar_names_only(tmp_path: Path) -> None:
    for name in ("constraints.txt", "reviews.csv.gz", "reviews.py", "other.csv"):
        put(tmp_path, name, "text\nx\n")
    assert refused(tmp_path / "tickets.csv").hint == "Check the path."
    assert refused(tmp_path / "review.csv").hint == "Did you mean reviews.csv.gz?"
    assert refused(tmp_path / "reviews.xlsx").hint == "Did you mean reviews.csv.gz?"
    assert refused(tmp_path / "other.cvs").hint == "Did you mean other.csv?"


def test_a_missing_folder_names_folders_of_similar_names(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    assert str(tmp_path / "data") in refused(tmp_path / "dta" / "deep" / "a.csv").hint


def test_a_pattern_that_the_shell_did_not_expand_says_what_to_do(tmp_path: Path) -> None:
    for name in ("a1.csv", "a2.csv"):
        put(tmp_path, name, CSV)
    error = refused(tmp_path / "a*.csv")
    assert "a1.csv" in error.message
    assert "without quotes" in error.hint
    assert "No file fits the pattern" in refused(tmp_path / "b?.csv").message
    assert len(read_table(put(tmp_path, "odd[1].csv", CSV))) == 6
