"""Control characters are printed as escapes, and cells that a spreadsheet would run are quoted."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.data.printable import (
    FORMULA_PREFIXES,
    escape_controls,
    guarded_cell,
    printable_json,
    with_formula,
    without_formula,
)
from potstill.data.tables import write_table

any_text = st.text(max_size=40) | st.text("\x1b[]0123;m\x9b\x07\r\n\t \u202e\u2028\udc80x")


def is_harmless(text: str) -> bool:
    """Whether a terminal prints the text and does nothing else."""
    text.encode()
    return not any((ord(c) < 32 and c not in "\n\t") or 127 <= ord(c) < 160 for c in text)


@given(any_text)
def test_no_text_reaches_a_terminal_as_a_command(text: str) -> None:
    assert is_harmless(escape_controls(text))
    coloured = escape_controls(f"\x1b[1;31m{text}\x1b[0m", colours=True)
    assert coloured.startswith("\x1b[1;31m")
    assert is_harmless(re.sub(r"\x1b\[[\d;]*m", "", coloured))


@given(st.recursive(any_text, lambda inner: st.lists(inner) | st.dictionaries(any_text, inner)))
def test_printed_json_says_the_same_without_control_characters(value: object) -> None:
    printed = printable_json(value)
    assert is_harmless(printed)
    assert json.loads(printed) == value


@pytest.mark.parametrize(
    "cell",
    ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "\uff1d1", "\uff0b1", "-", "=", "--1"],
)
def test_a_formula_gets_a_quote_that_is_taken_away_again(cell: str) -> None:
    assert guarded_cell(cell) == without_formula(cell) == f"'{cell}"
    assert with_formula(f"'{cell}") == cell


@pytest.mark.parametrize("cell", ["", "a", "'a", "-1.5", "+4917012345", "-1e-5", "-3%", "12", -4, -0.5, None, True])
def test_numbers_and_words_stay_as_they_are(cell: object) -> None:
    assert guarded_cell(cell) == cell


@given(st.text(max_size=20))
def test_a_cell_survives_the_quote(cell: str) -> None:
    assert not str(guarded_cell(cell)).startswith(FORMULA_PREFIXES) or guarded_cell(cell) == cell
    if not cell.startswith("'"):
        assert with_formula(without_formula(cell)) == cell


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl"])
def test_a_table_is_guarded_on_request_and_only_where_spreadsheets_read_it(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out{suffix}"
    write_table(path, ["=head", "n"], [{"=head": "@x", "n": "-1"}], guard_formulas=True)
    if suffix == ".jsonl":
        assert json.loads(path.read_text(encoding="utf-8")) == {"=head": "@x", "n": "-1"}
        return
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file, delimiter="\t" if suffix == ".tsv" else ","))
    assert rows == [["'=head", "n"], ["'@x", "-1"]]
