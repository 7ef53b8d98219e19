"""Functions that read texts of strangers take time in proportion to their length.

The texts are long runs of each sort of character and of mixes of them. No time is asserted: a function whose time is
quadratic would need many minutes here, and the timeout ends it.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from potstill.data.column_guess import guess_columns
from potstill.data.label_cells import parse_label_cell
from potstill.data.label_values import normalise_label
from potstill.data.near_duplicates import find_near_duplicates, normalise
from potstill.data.printable import escape_controls
from potstill.data.tables import Table, read_table
from potstill.data.unicode_forms import normalise_unicode
from potstill.models.features.ngrams import normalize_text
from potstill.reports.text import nonbreaking, strip_control_characters
from potstill.teachers.label_parsing import LabelParser, parse_texts
from potstill.teachers.label_set_parsing import LabelSetParser
from potstill.teachers.prompts import sanitize_text
from potstill.teachers.redact import redact

pytestmark = pytest.mark.timeout(20)

SORTS = {
    "blanks": " ",
    "tabs": "\t",
    "line ends": "\n",
    "letters": "a",
    "digits": "0",
    "points": "1.",
    "signs": "-",
    "underlines": "_",
    "quotes": '"',
    "backslashes": "\\",
    "brackets": "[",
    "braces": "{",
    "marks": "<",
    "fences": "```\n",
    "equals": "a=5, ",
    "equal blanks": "a= ",
    "colons": "a: ",
    "addresses": "a@a.",
    "controls": "\x1b",
    "directions": "\u202e",
    "accents": "\u0315\u0300",
    "vowels": "\u0f74\u0f71",
    "syllables": "\u1100\u1161",
    "ideographs": "漢",
    "emoji": "👩\u200d👧",
    "other digits": "１٣",
}
PARSER = LabelParser(["one", "two"], ["A", "B"], candidates=True)
SET_PARSER = LabelSetParser(["one", "two"], ["A", "B"])
# Reader -> the function, and how many characters of each sort it is given.
READERS: dict[str, tuple[Callable[[str], object], int]] = {
    "prompt": (sanitize_text, 200_000),
    "terminal": (escape_controls, 200_000),
    "page": (lambda text: nonbreaking(strip_control_characters(text)), 200_000),
    "near duplicates": (lambda text: find_near_duplicates([text], [text, f"{text}x"]), 200_000),
    "features": (normalize_text, 200_000),
    "reply": (PARSER.parse, 100_000),
    "labels": (SET_PARSER.parse, 100_000),
    "generated texts": (lambda text: parse_texts(text, 5), 100_000),
    "redaction": (redact, 4_000),
    "label cell": (lambda text: [parse_label_cell(f"{bracket}{text}") for bracket in ("[", "{'", "array([")], 100_000),
}


def run(sort: str, length: int) -> str:
    """A run of one sort of character."""
    return (SORTS[sort] * length)[:length]


@pytest.mark.parametrize("reader", READERS)
def test_long_runs_of_each_sort_of_character_are_read(reader: str) -> None:
    read, length = READERS[reader]
    read("".join(f"<{run(sort, length)}x" for sort in SORTS))
    if reader in ("reply", "labels"):
        for sort in SORTS:
            read(f"A{run(sort, length)}!")


@pytest.mark.parametrize("sort", ["accents", "vowels", "syllables", "other digits"])
def test_a_hundred_thousand_characters_of_a_sort_are_one_label_and_one_key(sort: str) -> None:
    text = run(sort, 100_000)
    same = normalise_label(text) == normalise_label(f" {text} "), normalise(text) == normalise(f"{text}.")
    assert same == (True, True)  # pytest compares two strings in quadratic time


def test_cells_of_a_long_run_are_no_obstacle_to_reading_a_table(tmp_path: Path) -> None:
    path = tmp_path / "odd.jsonl"
    rows = [{"text": run(sort, 100_000), "label": "ab"[row % 2]} for row, sort in enumerate(SORTS)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    table = read_table(path)
    assert len(table) == len(SORTS)
    digits = Table.from_columns({"one": [f"{run('digits', 200_000)}x"] * 2, "two": ["a", "b"]})
    for each in (table, digits):
        guess_columns(each, unlabelled=True)


@pytest.mark.parametrize("form", ["NFC", "NFKC"])
def test_normal_forms_in_parts_are_those_of_the_whole(form: str) -> None:
    letters = "aeé 漢ﬁ가\u1100\u1161\u11a8\u0915\u093c\uff76\uff9e１ßﷺ\u0301\u0323\u0bc6\u0bbe\n"
    for seed in range(50):
        text = "".join(np.random.default_rng(seed).choice(list(letters), 600))
        assert normalise_unicode(form, text) == unicodedata.normalize(form, text)  # type: ignore[arg-type]
