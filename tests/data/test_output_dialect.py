"""A written CSV or TSV file is like its source: delimiter, quotes, line ends, byte-order mark, encoding."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from potstill.data.tables import Layout, dialect_like, read_table, stream_rows, write_table

BOM = b"\xef\xbb\xbf"
CELLS = st.text(st.sampled_from("a b,;|\t\"'\n\r\u00e9\\"), max_size=8)


def copy(source: Path, out: Path, added: tuple[str, ...] = ("x",), **named: object) -> bytes:
    """The bytes of a copy with one more column."""
    layouts: list[Layout] = []
    layout = Layout(**named)  # type: ignore[arg-type]
    rows = [row for _, row in stream_rows(source, layout=layout, on_layout=layouts.append)]
    dialect = dialect_like(source, layouts[0], out.suffix, added)
    write_table(out, [*rows[0], "new"], [{**row, "new": added[0]} for row in rows], dialect=dialect)
    return out.read_bytes()


@pytest.mark.parametrize(
    ("content", "written"),
    [
        (b"a;b\n1,5;2\n", b"a;b;new\n1,5;2;x\n"),
        (b"a;b\r\n1,5;2\r\n", b"a;b;new\r\n1,5;2;x\r\n"),
        (b"a,b\r1,2\r", b"a,b,new\r1,2,x\r"),
        (b"a|b\n1|2\n", b"a|b|new\n1|2|x\n"),
        (b"a\tb\n1\t2\n", b"a\tb\tnew\n1\t2\tx\n"),
        (BOM + b"a;b\n1;2\n", BOM + b"a;b;new\n1;2;x\n"),
        ("a;b\nä;2\n".encode("utf-16"), "a;b;new\nä;2;x\n".encode("utf-16")),
        (b'sep=;\r\na;b\r\n1;"2;3"\r\n', b'sep=;\r\na;b;new\r\n1;"2;3";x\r\n'),
        (b'"a";"b"\n"1";"2"\n', b'"a";"b";"new"\n"1";"2";"x"\n'),
        (b'"a","b"\n"one",2\n', b"a,b,new\none,2,x\n"),
        (b'a,b\n"say ""no""",2\n', b'a,b,new\n"say ""no""",2,x\n'),
        (b'a,b\n"say \\"no\\"",2\n"\\"a\\"",3\n', b'"a","b","new"\n"say \\"no\\"","2","x"\n"\\"a\\"","3","x"\n'),
        (b"text\none\n", b"text,new\none,x\n"),
    ],
)
def test_a_copy_is_written_as_its_source(tmp_path: Path, content: bytes, written: bytes) -> None:
    (tmp_path / "in.csv").write_bytes(content)
    assert copy(tmp_path / "in.csv", tmp_path / "out.csv") == written


def test_an_encoding_is_kept_unless_it_lacks_what_is_added(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_bytes("a;b\nschön;2\n".encode("cp1252"))
    out = tmp_path / "out.csv"
    assert copy(tmp_path / "in.csv", out, encoding="cp1252") == "a;b;new\nschön;2;x\n".encode("cp1252")
    assert copy(tmp_path / "in.csv", out, ("\u732b",), encoding="cp1252").decode("utf-8-sig") == "a;b;new\nschön;2;猫\n"
    note = dialect_like(tmp_path / "in.csv", Layout(format="csv", encoding="cp1252"), ".csv", ["\u732b"]).note
    assert note == "Written as UTF-8, because labels have characters that CP1252 lacks."


def test_quotes_that_are_text_stay_so(tmp_path: Path) -> None:
    (tmp_path / "in.tsv").write_bytes(b'a\tb\n"5 inch\t2\nno" way\t3\n')
    assert (
        copy(tmp_path / "in.tsv", tmp_path / "out.tsv", quotes="text") == b'a\tb\tnew\n"5 inch\t2\tx\nno" way\t3\tx\n'
    )
    assert b'"a\tb"' in copy(tmp_path / "in.tsv", tmp_path / "out.tsv", ("a\tb",), quotes="text")


def test_the_suffix_of_the_output_decides_between_tabs_and_commas(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_bytes(b"a;b\n1;2\n")
    (tmp_path / "in.tsv").write_bytes(b"a\tb\n1\t2\n")
    assert copy(tmp_path / "in.csv", tmp_path / "out.tsv") == b"a\tb\tnew\n1\t2\tx\n"
    assert copy(tmp_path / "in.tsv", tmp_path / "out.csv") == b"a,b,new\n1,2,x\n"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(
    rows=st.lists(st.tuples(CELLS, CELLS), min_size=2, max_size=6),
    delimiter=st.sampled_from(",;|\t"),
    escape=st.sampled_from(["", "\\"]),
)
def test_a_copy_reads_back_whatever_its_cells_hold(
    tmp_path: Path, rows: list[tuple[str, str]], delimiter: str, escape: str
) -> None:
    layout = Layout(format="csv", delimiter=delimiter, quotes="cells", escape=escape, encoding="utf-8", header=True)
    (tmp_path / "in.csv").write_text("text,label\n", encoding="utf-8")
    dialect = dialect_like(tmp_path / "in.csv", layout, ".csv", [])
    written = [{"text": a, "label": b} for a, b in rows]
    write_table(tmp_path / "out.csv", ["text", "label"], written, dialect=dialect)
    read = read_table(tmp_path / "out.csv", layout=layout)
    assert list(read.rows()) == written
