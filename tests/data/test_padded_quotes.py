"""Blanks around quoted cells: found by the first lines, and taken out of each line."""

from __future__ import annotations

import csv

import pytest

from potstill.data.tables.padded_quotes import CellBlanks, padded_delimiter


@pytest.mark.parametrize(
    ("lines", "delimiter"),
    [
        (['"text" , "label"\n'], ","),
        (['"text" ,"label"\r\n'], ","),
        (['"text"; "label"\n'], ";"),
        (['"text" \t "label"\n'], "\t"),
        (["\n", '"a ""b"" , c" , "label"\n'], ","),
        (["text,label\n", '"a" , "b"\n'], ","),
        (['"text","label"\n', '"a","b"\n'], ""),
        (["text , label\n", "a , b\n"], ""),
        (['"text , label"\n', '"a"\n'], ""),
        (["text\n", '"Yes" , "No"\n'], ""),  # one column, and a text about two words
        (['"a" b , "c"\n'], ""),
        ([], ""),
    ],
)
def test_only_a_line_of_quoted_cells_with_blanks_around_says_so(lines: list[str], delimiter: str) -> None:
    assert padded_delimiter(lines) == delimiter


def test_blanks_inside_the_quotes_and_around_bare_cells_stay() -> None:
    blanks = CellBlanks(",")
    lines = ['  "a , ""b"" , ""c""" , "" , bare "x" ,"\n', ' , "" in a cell , \n', '" , "end"  \n', '"a" b , "c"']
    bare = [blanks.remove(line) for line in lines]
    assert bare[3] == '"a" b ,"c"'
    (row,) = csv.reader(bare[:3], strict=True)
    assert row == ['a , "b" , "c"', "", ' bare "x" ', '\n , " in a cell , \n', "end"]


def test_lines_without_such_blanks_stay_as_they_are() -> None:
    for line in ('"a","b ""c"", d"\n', "a , b\n", "\n", "", '"",""\r\n', '"never closed'):
        assert CellBlanks(",").remove(line) == line
