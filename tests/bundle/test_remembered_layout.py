"""A file that can be read like the training file only is read so, and it is said; what is named comes first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.tables import workbook

import potstill
from potstill.data.tables import Layout
from potstill.errors import BadData, BadInput

WORDS = {"Küche": "die Suppe mit Gemüse", "Sport": "das Spiel über den Fluß"}
LINES = [(f"{WORDS[label]} Nr. {i}", label) for i in range(20) for label in WORDS]
FAST: dict[str, Any] = {"student": "linear", "procedure": "finetune", "budget": 1}


def lines(header: str = "", *, n: int = 40) -> str:
    return header + "".join(f"{text};{label}\n" for text, label in LINES[:n])


CASES = {
    "no header": ("a.csv", lines().encode(), {"no_header": True}, "header False"),
    "lines above": ("a.csv", lines("Ein Export\nvom Mai\ntext;label\n").encode(), {"skip_rows": 2}, "skip rows 2"),
    "encoding": ("a.csv", lines("text;label\n").encode("cp1252"), {"encoding": "cp1252"}, "encoding 'cp1252'"),
    "sheet": (
        "a.xlsx",
        workbook({"Notes": [["note"], ["x"]], "Data": [["text", "label"], *map(list, LINES)]}),
        {"sheet": "Data"},
        "sheet 'Data'",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_file_is_read_like_the_training_file_where_it_must_be(case: str, tmp_path: Path) -> None:
    name, content, options, said = CASES[case]
    path = tmp_path / name
    path.write_bytes(content)
    potstill.distill(path, out=tmp_path / "run", **FAST, **options)
    done = potstill.predict(tmp_path / "run", path, out=tmp_path / "out.csv")
    assert done.files[0].n == len(LINES)
    (note,) = [each for each in done.files[0].notes if "like the file that the student was trained on" in each]
    assert said in note
    named = potstill.predict(tmp_path / "run", path, out=tmp_path / "named.csv", **options)
    assert not [each for each in named.files[0].notes if "like the file" in each]
    assert (tmp_path / "out.csv").read_bytes() == (tmp_path / "named.csv").read_bytes()


def test_a_usual_file_is_read_by_itself(tmp_path: Path) -> None:
    path, usual = tmp_path / "a.csv", tmp_path / "usual.csv"
    path.write_text(lines(), encoding="utf-8")
    usual.write_text("column_1,other\n" + "die Suppe,x\n" * 3, encoding="utf-8")
    potstill.distill(path, out=tmp_path / "run", no_header=True, **FAST)
    done = potstill.predict(tmp_path / "run", usual, out=tmp_path / "out.csv")
    assert (done.files[0].n, [each for each in done.files[0].notes if "like the file" in each]) == (3, [])
    assert potstill.load(tmp_path / "run").record.layout.header is False


def test_a_layout_of_another_kind_is_a_damaged_record() -> None:
    assert Layout.from_json(Layout(header=False, skip_rows=2, delimiter=";").to_json()) == Layout(
        header=False, skip_rows=2, delimiter=";"
    )
    assert Layout.from_json({"later": 1}) == Layout()
    for record in ({"header": "no"}, {"skip_rows": True}, {"sheet": 1}):
        with pytest.raises(ValueError, match="layout"):
            Layout.from_json(record)


def test_a_file_that_is_unlike_both_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(lines(), encoding="utf-8")
    potstill.distill(path, out=tmp_path / "run", no_header=True, **FAST)
    other = tmp_path / "b.csv"
    other.write_text("x,y\n1,2\n", encoding="utf-8")
    with pytest.raises((BadData, BadInput), match="column_1"):
        potstill.predict(tmp_path / "run", other, text="column_17", out=tmp_path / "out.csv")
