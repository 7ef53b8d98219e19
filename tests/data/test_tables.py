"""Reading and writing tables: round trips, and errors that name the line and a remedy."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.tables import put, refused

from potstill.data.tables import Row, Table, read_table, stream_rows, write_table
from potstill.errors import BadData

# Any text a file can hold: no lone surrogates (no UTF-8), no NUL (refused).
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)
AWKWARD = st.lists(st.sampled_from(['"', "'", ",", "\n", "\r", "\r\n", "\t", ";", "|", " ", "é", "\u2028", "\ufeff"]))
CELLS = TEXTS | AWKWARD.map("".join)
QUIET = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
@QUIET
@given(rows=st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=8))
def test_a_written_table_reads_back(tmp_path: Path, suffix: str, rows: list[tuple[str, str]]) -> None:
    path = tmp_path / f"rows{suffix}"
    written = [{"text": a, "label": b} for a, b in rows]
    assert write_table(path, ["text", "label"], written) == len(rows)
    table = read_table(path)
    assert table.columns == ("text", "label")
    assert list(table.rows()) == written
    assert [row for _, row in stream_rows(path)] == written


def test_rows_have_the_number_of_the_line_they_start_on(tmp_path: Path) -> None:
    path = put(tmp_path, "a.csv", 'text,label\n"two\nlines",x\n\nplain,y\n')
    table = read_table(path)
    assert list(table.line_numbers) == [2, 5]
    assert table.column("text") == ["two\nlines", "plain"]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_found(tmp_path: Path, delimiter: str) -> None:
    rows = [["text", "label"], ["one, and a half", "a"], ["no; not; really", "b"], ["x", "c"]]
    path = put(tmp_path, "a.csv", "\n".join(delimiter.join(f'"{c}"' for c in row) for row in rows))
    assert read_table(path).column("label") == ["a", "b", "c"]


def test_a_single_column_may_hold_unquoted_commas(tmp_path: Path) -> None:
    path = put(tmp_path, "a.csv", "text\nwell, hello\nbye\n")
    assert read_table(path).column("text") == ["well, hello", "bye"]


def test_a_tsv_without_quoting_keeps_its_quotes(tmp_path: Path) -> None:
    path = put(tmp_path, "a.tsv", 'text\tlabel\n"so" he said\ta\n"never closed\tb\n')
    assert read_table(path).column("text") == ['"so" he said', '"never closed']


def test_a_file_in_which_half_of_the_rows_have_a_stray_quote_keeps_all_rows(tmp_path: Path) -> None:
    texts = [f'"so {i} it was' if i % 2 == 0 else f'it is {i} 5"' for i in range(400)]
    path = put(tmp_path, "a.csv", "text,label\n" + "".join(f"{t},{'ab'[i % 3 % 2]}\n" for i, t in enumerate(texts)))
    table = read_table(path)
    assert table.column("text") == texts
    assert list(table.line_numbers) == list(range(2, 402))
    assert "200 rows of a.csv open a quote" in table.warnings[0]


def test_letters_of_several_lines_with_commas_stay_one_cell(tmp_path: Path) -> None:
    letter = "Dear {i},\nthe thing, it broke\nnot good, a\nbye"
    rows = [{"text": letter.format(i=i), "label": "ab"[i % 2]} for i in range(40)]
    write_table(tmp_path / "a.csv", ["text", "label"], rows)
    assert list(read_table(tmp_path / "a.csv").rows()) == rows


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_selects_the_encoding_and_is_not_text(tmp_path: Path, encoding: str) -> None:
    path = put(tmp_path, "a.csv", "text,label\ncafé,x\n".encode(encoding))
    table = read_table(path)
    assert table.columns == ("text", "label")
    assert table.column("text") == ["café"]


def test_bytes_that_are_not_utf8_are_named_with_their_line_and_a_guess(tmp_path: Path) -> None:
    path = put(tmp_path, "a.csv", b"text,label\nplain,x\n" + "un café très doux,y\n".encode("cp1252"))
    error = refused(path)
    assert "line 3 has the byte 0xe9" in error.message
    assert "--encoding cp1252" in error.hint
    assert read_table(path, encoding="cp1252").column("text")[1] == "un café très doux"


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("совсем неплохо", "cp1251"),
        ("这个产品非常好用", "gb18030"),
        ("とても良い製品です", "shift_jis"),
        ("這個產品非常好用", "big5"),
        ("Günaydın arkadaşlar, nasılsınız", "cp1254"),
        ("“Don’t” – die Straße ist schön … 5 €", "cp1252"),
    ],
)
def test_common_encodings_are_guessed(tmp_path: Path, text: str, encoding: str) -> None:
    path = put(tmp_path, "a.csv", ("text,label\n" + f"{text},x\n" * 20).encode(encoding))
    assert refused(path).hint.endswith(encoding)


def test_the_error_shows_what_the_line_reads_in_the_guessed_encoding(tmp_path: Path) -> None:
    path = put(tmp_path, "a.csv", ("text,label\n" + "un café très doux,y\n" * 20).encode("cp1252"))
    assert "In cp1252 this line reads 'un café très doux,y'" in refused(path).message


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".txt"])
def test_one_line_in_another_encoding_is_a_bad_row(tmp_path: Path, suffix: str) -> None:
    line = {".csv": "{},x\n", ".jsonl": '{{"text": "{}", "label": "x"}}\n', ".txt": "{}\n"}[suffix]
    good = line.format("très doux").encode()
    content = b"text,label\n" * (suffix == ".csv") + good * 3 + line.format("déjà").encode("cp1252") + good * 3
    path = put(tmp_path, f"a{suffix}", content)
    error = refused(path)
    assert f"1 bad row: line {5 if suffix == '.csv' else 4} has bytes that are not UTF-8" in error.message
    assert "--on-bad-row skip" in error.hint
    table = read_table(path, on_bad="skip")
    assert (table.column("text"), table.skipped) == (["très doux"] * 6, 1)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-8"])
def test_each_file_has_its_own_encoding_and_a_mark_wins_over_the_named_one(tmp_path: Path, encoding: str) -> None:
    path = put(tmp_path, "a.csv", "text,label\ncafé,x\n".encode(encoding))
    table = read_table(path, encoding="cp1252")
    assert (table.columns, table.column("text")) == (("text", "label"), ["café"])
    assert "and is read as that, not as cp1252" in table.warnings[0]
    other = put(tmp_path, "b.csv", "text,label\ncafé,x\n".encode("cp1252"))
    assert (read_table(other, encoding="cp1252").column("text"), read_table(other, encoding="cp1252").warnings) == (
        ["café"],
        (),
    )


def test_the_line_of_a_bad_byte_is_right_far_into_a_file(tmp_path: Path) -> None:
    path = put(tmp_path, "a.csv", b"text,label\n" + b"some words here,x\n" * 120_000 + b"caf\xe9 noir,y\n")
    assert "line 120,002 " in refused(path).message


def test_an_unknown_encoding_offers_the_nearest(tmp_path: Path) -> None:
    path = put(tmp_path, "a.csv", "text\nx\n")
    assert "latin-1" in refused(path, encoding="latn-1").hint
    assert refused(path, encoding="base64").hint


def test_utf16_without_its_mark_is_recognised(tmp_path: Path) -> None:
    path = put(tmp_path, "a.csv", "text,label\ncafé,x\n".encode("utf-16-le"))
    error = refused(path)
    assert "utf-16-le" in error.hint or "NUL" in error.message


def test_ragged_rows_are_named_by_their_lines(tmp_path: Path) -> None:
    path = put(tmp_path, "a.csv", 'text,label\nfine,x\nlonely\n"a\nb",y\none,two,three\n')
    error = refused(path)
    assert "2 bad rows" in error.message
    assert "line 3 has 1 cell where the header has 2" in error.message
    assert "line 6 has 3 cells" in error.message
    table = read_table(path, on_bad="skip")
    assert (len(table), table.skipped) == (2, 2)
    assert "line 3" in table.warnings[0]


def test_many_bad_rows_are_counted_and_only_a_few_named(tmp_path: Path) -> None:
    path = put(tmp_path, "a.csv", "text,label\nfine,x\n" + "lonely\n" * 2 + "fine,x\n" * 90 + "lonely\n" * 18)
    error = refused(path)
    assert "20 bad rows" in error.message
    assert "and 15 more" in error.message


def test_a_nul_byte_is_reported_with_its_line(tmp_path: Path) -> None:
    assert "line 3 has a NUL byte" in refused(put(tmp_path, "a.csv", b"text,label\na,x\nb\0c,y\n")).message
    assert "line 1 has a NUL byte" in refused(put(tmp_path, "a.jsonl", b'{"text": "a\0b"}\n')).message


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".txt"])
def test_a_cell_of_fifty_megabytes_is_refused_with_its_line(tmp_path: Path, suffix: str) -> None:
    huge = "x" * 50_000_000
    line = {".csv": f"{huge},b\n", ".jsonl": f'{{"text": "{huge}", "label": "b"}}\n', ".txt": f"{huge}\n"}[suffix]
    start = {".csv": "text,label\nok,a\n", ".jsonl": '{"text": "ok"}\n\n', ".txt": "ok\n\n"}[suffix]
    path = put(tmp_path, f"a{suffix}", start + line)
    assert "line 3 " in refused(path).message
    assert "10 MB" in refused(path).message
    assert len(read_table(path, max_cell_mb=60)) == 2


def test_a_quote_that_is_never_closed_is_named_by_the_row_it_opens_in(tmp_path: Path) -> None:
    path = put(tmp_path, "a.csv", 'text,label\nfine,x\n"open,y\nmore,z\n')
    error = refused(path)
    assert "line 3" in error.message
    assert "never closed" in error.message


@pytest.mark.parametrize("content", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".json", ".txt"])
def test_an_empty_file_is_called_empty(tmp_path: Path, suffix: str, content: bytes) -> None:
    assert "is empty" in refused(put(tmp_path, f"a{suffix}", content)).message


def test_a_header_alone_is_refused(tmp_path: Path) -> None:
    path = put(tmp_path, "a.csv", "text,label\n")
    assert "header and no rows" in refused(path).message
    with pytest.raises(BadData, match="no rows"):
        list(stream_rows(path))


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    assert "columns 1 and 3" in refused(put(tmp_path, "a.csv", "text,label,text\na,b,c\n")).message


def test_the_error_of_a_missing_file_offers_similar_names(tmp_path: Path) -> None:
    put(tmp_path, "reviews.csv", "text\nx\n")
    assert "reviews.csv" in refused(tmp_path / "review.csv").hint
    assert "no folder" in refused(tmp_path / "nowhere" / "a.csv").message


def test_a_folder_and_an_unknown_suffix_are_refused(tmp_path: Path) -> None:
    put(tmp_path, "reviews.csv", "text\nx\n")
    assert "reviews.csv" in refused(tmp_path).hint
    assert ".csv" in refused(put(tmp_path, "a.docx", "PK")).hint
    assert "no workbook" in refused(put(tmp_path, "a.xlsx", "PK")).message


def test_lines_that_are_not_json_objects_are_reported(tmp_path: Path) -> None:
    path = put(tmp_path, "a.jsonl", '{"text": "a"}\n{"text": \n["a"]\n')
    error = refused(path)
    assert "line 2 is not JSON" in error.message
    assert "line 3 is not an object" in error.message


def test_a_key_that_is_missing_in_a_row_is_none(tmp_path: Path) -> None:
    path = put(tmp_path, "a.jsonl", '{"text": "a"}\n{"text": "b", "label": 1.50}\n{"label": null, "text": "c"}\n')
    table = read_table(path)
    assert table.columns == ("text", "label")
    assert table.column("label") == [None, "1.50", None]


def test_a_json_array_reads_like_json_lines_with_line_numbers(tmp_path: Path) -> None:
    path = put(tmp_path, "a.json", '[\n  {"text": "a"},\n\n  {"text": "b]"}\n]\n')
    table = read_table(path)
    assert list(table.line_numbers) == [2, 4]
    assert table.column("text") == ["a", "b]"]
    assert "Line 3" in refused(put(tmp_path, "b.json", '[\n  {"text": "a"},\n  {"text": }\n]')).message


def test_a_json_array_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    for content in ('[{"text": "a"}', '[{"text": "a"},', "[", '[{"text": "a"} {"text": "b"}]'):
        assert "not JSON" in refused(put(tmp_path, "a.json", content)).message


def test_a_lone_surrogate_is_replaced(tmp_path: Path) -> None:
    path = put(tmp_path, "a.jsonl", '{"text": "a\\ud800b"}\n')
    assert read_table(path).column("text") == ["a\ufffdb"]


def test_a_file_that_is_not_parquet_is_refused(tmp_path: Path) -> None:
    assert "Parquet" in refused(put(tmp_path, "a.parquet", "text,label\n")).message


def test_integers_with_missing_values_stay_integers_in_parquet(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    write_table(path, ["text", "label"], [{"text": "a", "label": 1.0}, {"text": "b", "label": None}])
    assert read_table(path).column("label") == ["1", None]


def test_a_stream_ends_at_the_first_bad_row(tmp_path: Path) -> None:
    rows = stream_rows(put(tmp_path, "a.csv", "text,label\na,b\nc\n"))
    assert next(rows) == (2, {"text": "a", "label": "b"})
    with pytest.raises(BadData, match="line 3"):
        next(rows)


def test_a_failed_write_leaves_only_the_old_file(tmp_path: Path) -> None:
    path = put(tmp_path, "a.csv", "old")

    def rows() -> Iterator[Row]:
        yield {"text": "a"}
        raise RuntimeError("the model died")

    with pytest.raises(RuntimeError):
        write_table(path, ["text"], rows())
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.csv"]


def test_numbers_stay_numbers_in_json_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    write_table(path, ["text", "p"], [{"text": "a", "p": 0.5}])
    assert json.loads(path.read_text()) == {"text": "a", "p": 0.5}


def test_a_table_from_memory_turns_values_into_text() -> None:
    table = Table.from_columns({"text": ["a", None], "label": [1, float("nan")], "ok": [True, {"x": 1}]})
    assert list(table.rows()) == [
        {"text": "a", "label": "1", "ok": "true"},
        {"text": None, "label": None, "ok": '{"x": 1}'},
    ]
    with pytest.raises(BadData, match="equally long"):
        Table.from_columns({"text": ["a"], "label": []})


def test_the_error_of_a_missing_column_lists_the_columns() -> None:
    with pytest.raises(BadData, match="it has 'text', 'label'") as caught:
        Table.from_columns({"text": ["a"], "label": ["b"]}).column("lable")
    assert caught.value.hint == "Did you mean 'label'?"


def test_odd_json_values_are_cells_and_deep_ones_are_bad_rows(tmp_path: Path) -> None:
    path = tmp_path / "odd.jsonl"
    long = "9" * 5000
    lines = [
        f'{{"a": {long}, "b": [{long}, 1.5, "2"]}}',
        '{"a": NaN, "b": true}',
        '{"a": ' + "[" * 900 + "]" * 900 + "}",
    ]
    path.write_text("\n".join(lines), encoding="utf-8")
    bad: list[str] = []
    rows = [row for _, row in stream_rows(path, on_bad=bad.append)]
    assert rows[0] == {"a": long, "b": f'["{long}", 1.5, "2"]'}
    assert rows[1] == {"a": None, "b": "true"}
    assert len(rows) + len(bad) == 3
    write_table(tmp_path / "out.jsonl", ["a", "b"], rows)
    assert json.loads((tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()[0])["a"] == long


def test_rows_of_a_json_array_on_one_line_are_numbered(tmp_path: Path) -> None:
    path = put(tmp_path, "a.json", ' [{"text": "a"}, {"text": "b"},{"text": "c"}]\n')
    assert read_table(path).ids() == ["a.json:1", "a.json:2", "a.json:3"]
    path = put(tmp_path, "b.json", '[{"text": "a"}, 5, {"text": "c"}]')
    assert "row 2 is not an object" in refused(path).message
    assert [row for row, _ in stream_rows(path, on_bad=lambda bad: None)] == [1, 3]
