"""Labels that are probably wrong are found in a data file."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from potstill.api import label_errors
from potstill.errors import BadData

WORDS = {"rain": "rain wind storm cloud", "goal": "match goal team player", "bank": "money loan shares invoice"}


def table(path: Path, n: int, wrong: int) -> set[str]:
    """Write n labelled texts, the first `wrong` of them with another label; returns the texts of those."""
    names = list(WORDS)
    swapped = set()
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["text", "label"])
        for i in range(n):
            name = names[i % 3]
            text = f"{WORDS[name].split()[i // 3 % 4]} and {WORDS[name].split()[i // 5 % 4]} number {i}"
            rows.writerow([text, names[(i + 1) % 3] if i < wrong else name])
            if i < wrong:
                swapped.add(text)
    return swapped


def test_swapped_labels_are_listed_with_their_line_and_a_suggestion(tmp_path: Path) -> None:
    swapped = table(tmp_path / "texts.csv", 300, 12)
    found = label_errors(tmp_path / "texts.csv", out=tmp_path / "out.csv")
    assert found.n_checked == 300
    caught = {row.text for row in found.rows} & swapped
    assert len(caught) >= 10
    assert len(caught) >= 0.8 * len(found.rows)
    assert all(row.suggested_label != row.label and row.location.startswith("texts.csv:") for row in found.rows)
    with (tmp_path / "out.csv").open(newline="", encoding="utf-8") as file:
        assert len(list(csv.DictReader(file))) == len(found.rows)
    assert "probably wrong" in found.to_text()
    assert found.to_json()["n_checked"] == 300


@pytest.mark.filterwarnings("error")
def test_a_label_of_one_row_prints_no_warning_of_a_library(tmp_path: Path) -> None:
    table(tmp_path / "texts.csv", 60, 0)
    with (tmp_path / "texts.csv").open("a", encoding="utf-8") as file:
        file.write("the only one of its kind,rare\n")
    assert label_errors(tmp_path / "texts.csv").n_checked == 61


def test_too_few_labels_are_refused(tmp_path: Path) -> None:
    table(tmp_path / "texts.csv", 12, 1)
    with pytest.raises(BadData, match="too few"):
        label_errors(tmp_path / "texts.csv")
