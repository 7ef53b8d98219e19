"""A label cell is a name, a list or scores in any usual spelling; what is none of these is named."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.data.label_cells import parse_label_cell
from potstill.data.label_columns import read_label_column, without_missing
from potstill.data.label_sets import guess_separator
from potstill.data.label_values import LabelMatcher
from potstill.data.pool import PoolBuild, PoolOptions, build_pool
from potstill.data.tables import Table
from potstill.errors import BadData

A_B = ("a", "b")


@pytest.mark.parametrize(
    "cell",
    [
        '["a", "b"]',
        "['a', 'b']",
        "['a' 'b']",
        "['a'\n 'b']",
        "('a', 'b')",
        "{'a', 'b'}",
        "frozenset({'a', 'b'})",
        "array(['a', 'b'], dtype=object)",
        '[" a ", "b", "a", null]',
        '{"choices": ["a", "b"]}',
        '{"labels": ["a", "b"]}',
        '[{"label": "a"}, {"label": "b"}]',
        '[{"label": "a", "user": 1}, {"label": "b", "user": 1}]',
        '[["a"], ["b"]]',
        '["a\\u200b", "b"]',
    ],
)
def test_every_spelling_of_a_list_is_one(cell: str) -> None:
    found = parse_label_cell(cell)
    assert (found.form, found.names) == ("list", A_B)


@pytest.mark.parametrize(
    ("cell", "scores"),
    [
        ('{"a": 1.0, "b": 0.0}', {"a": 1, "b": 0}),
        ("{'a': True, 'b': False}", {"a": 1, "b": 0}),
        ('{"a": "yes", "b": "no"}', {"a": 1, "b": 0}),
        ('{"a": "0.5", "b": null}', {"a": 0.5, "b": 0}),
        ('{"a": "75%", "b": "25%"}', {"a": 0.75, "b": 0.25}),
        ('{"cats": {"a": 1, "b": 0}}', {"a": 1, "b": 0}),
        ('[{"label": "a", "score": 0.9}, {"label": "b", "score": 0.1}]', {"a": 0.9, "b": 0.1}),
        ('[["a", 0.9], ["b", 0.1]]', {"a": 0.9, "b": 0.1}),
        ('{"sequence": "x", "labels": ["a", "b"], "scores": [0.9, 0.1]}', {"a": 0.9, "b": 0.1}),
    ],
)
def test_every_spelling_of_scores_is_read(cell: str, scores: dict[str, float]) -> None:
    found = parse_label_cell(cell)
    assert (found.form, found.scores) == ("scores", scores)


@pytest.mark.parametrize("cell", ["a b", "(other)", "[1] intro", "<18", "18-25", "a, b", "C#", "{", "not [really]"])
def test_a_name_stays_one(cell: str) -> None:
    assert parse_label_cell(cell).names == (cell,)
    assert read_label_column([cell, "x"]).names[0] == (cell,)


@pytest.mark.parametrize(
    ("cell", "problem"),
    [
        ('["a", "b', "neither JSON nor a Python list"),
        ("{'a': 1, 'b'", "neither JSON nor a Python list"),
        ('[[0, 5, "PER"]]', "parts of a text"),
        ('[{"start": 0, "end": 5, "label": "PER"}]', "parts of a text"),
        ('{"a": -1.5, "b": 2}', "scores are numbers of zero or more"),
        ('{"topic": ["a"], "tone": ["b"]}', "an object without a label"),
        ("[" * 5000 + "]" * 5000, "nested too deeply"),
    ],
)
def test_what_cannot_be_read_says_why(cell: str, problem: str) -> None:
    found = parse_label_cell(cell)
    assert found.form == "broken"
    assert problem in found.problem


@given(st.text() | st.text("[]{}()<>'\",: ab01.\\\n").map(lambda text: f"[{text}"))
def test_any_cell_is_read_or_named(cell: str) -> None:
    found = parse_label_cell(cell)
    assert bool(found.problem) == (found.form == "broken")
    assert all(found.names)
    read_label_column([cell, "a", "b"])


@given(st.lists(st.text("abc é[]'\",{}|", min_size=1).map(str.strip).filter(bool), unique=True))
def test_a_list_is_read_in_json_and_in_python(labels: list[str]) -> None:
    for cell in (json.dumps(labels), repr(labels)):
        assert parse_label_cell(cell).names == tuple(labels)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.sampled_from(["label", "labels", "score", "scores", "name", "choices", "a"]), inner)
        | st.dictionaries(st.integers() | st.none() | st.booleans(), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(VALUES)
def test_any_value_is_read_or_named_in_json_and_in_python(value: object) -> None:
    for cell in (repr(value), json.dumps(value, default=str)):
        found = parse_label_cell(cell)
        assert bool(found.problem) == (found.form == "broken")
        assert all(isinstance(name, str) and name for name in found.names)
        read_label_column([cell, "a"])


def test_an_object_with_a_name_is_that_name() -> None:
    assert read_label_column(['{"id": 3, "name": "a"}', '{"label": "b", "score": 0.9}']).names == (("a",), ("b",))


def test_a_record_with_one_text_is_that_text() -> None:
    cells = ['[{"intent": "a", "confidence": 0.9}]', '{"intent": "b", "certainty": 0.8}']
    assert read_label_column(cells).names == (("a",), ("b",))


def test_names_with_a_separator_beside_lists_are_several() -> None:
    assert read_label_column(["a|b", '["c"]', "b", "a"]).names == (A_B, ("c",), ("b",), ("a",))
    assert read_label_column(["a|b", '["c"]', "b", "a"], kind="single").names[0] == ("a|b",)


def test_places_of_zeros_and_ones_take_the_named_labels() -> None:
    column = read_label_column(["[1. 0.]", "[0, 1]"], named=["a", "b"])
    assert (column.names, column.scale) == ((("a",), ("b",)), "flags")
    with pytest.raises(BadData, match="lists of 2 zeros and ones without names"):
        read_label_column(["[1, 0]", "[0, 1]"])


def test_words_for_a_missing_label_inside_lists_are_none() -> None:
    column = read_label_column(['["a", "nan"]', '["None"]', "[null]", "[]"])
    assert without_missing(column, {"nan", "None"}).names == (("a",), None, None, ())


def test_names_in_brackets_are_lists_if_all_cells_are_or_their_names_are_labels() -> None:
    assert read_label_column(["[a, b]", "[b]"]).names == (A_B, ("b",))
    assert read_label_column(["{a,b}", "{b}"]).names == (A_B, ("b",))
    assert read_label_column(["<a><b>", "<b>"]).names == (A_B, ("b",))
    assert read_label_column(["[a, b]", "a", "b"]).names == (A_B, ("a",), ("b",))
    assert read_label_column(["[spam]", "ham"]).names == (("[spam]",), ("ham",))


def test_scores_are_flags_shares_counts_or_independent() -> None:
    def scale(*cells: str) -> str:
        return read_label_column(cells).scale

    assert scale('{"a": 1, "b": 0}', '{"a": 1, "b": 1}') == "flags"
    assert scale('{"a": 0.4, "b": 0.6}', '{"a": 1, "b": 0}') == "shares"
    assert scale('{"a": 40.5, "b": 59.5}') == "shares"
    assert scale('{"a": 3, "b": 0}') == "votes"
    assert scale('{"a": 0.4, "b": 0.7}') == "independent"
    assert scale("a", "b") == ""


@pytest.mark.parametrize(
    ("cells", "separator"),
    [
        (["a#b", "a", "b"], "#"),
        (["a#b", "b#c", "a#c"], "#"),
        (["a\nb", "a", "b"], "\n"),
        (["a, b", "a", "b"], ","),
        (["a, b", "b, c", "a, c", "c"], ","),
        (["a/b", "b/c", "a", "b", "c"], "/"),
        (["a b", "b c", "a", "b", "c"], " "),
        (["C", "C#", "C++"], None),
        (["spam", "not spam"], None),
        (["Health", "Beauty", "Health & Beauty"], None),
        (["Card, fees", "Card, loss", "Loan, fees", "Loan, loss"], None),
    ],
)
def test_a_separator_is_one_if_the_other_cells_show_it(cells: list[str], separator: str | None) -> None:
    assert guess_separator(cells * 5) == separator


@pytest.mark.parametrize(
    ("cell", "label"),
    [
        ("delivery ", "delivery"),
        ("DELIVERY", "delivery"),
        ("de\u200blivery", "delivery"),
        ("cafe\u0301", "caf\u00e9"),
        ("TRUE", "True"),
        ("1", "01"),
        ("1.0", "01"),
        ("mail / delivery", "delivery"),
        ("two  words", "two words"),
        ("spam", None),
        ("BOTH", None),
    ],
)
def test_another_spelling_of_a_label_is_found_if_it_is_the_only_one(cell: str, label: str | None) -> None:
    matcher = LabelMatcher(["delivery", "caf\u00e9", "True", "01", "two words", "Both", "both"])
    assert matcher.find(cell) == label
    assert matcher.find("both") == "both"
    said = " ".join(matcher.sentences("a.csv"))
    assert (f"{cell.strip()!r} as {label!r} (1)" in said) == (label is not None and cell.strip() != label)


def flags(**columns: list[str]) -> PoolBuild:
    n = len(next(iter(columns.values())))
    table = Table.from_columns({"text": [f"a text of number {i}" for i in range(n)], **columns}, "flags.csv")
    return build_pool(table, options=PoolOptions(test_share=0, validation_share=0))


def test_flags_of_1_and_minus_1_are_read_and_said() -> None:
    built = flags(food=["1", "-1", "1"] * 8, sport=["-1", "1", "1"] * 8)
    assert (built.pool.kind, built.pool.labels) == ("multi", ("food", "sport"))
    assert built.pool.gold[:3].tolist() == [[1, 0], [0, 1], [1, 1]]
    assert any("-1 read as 0" in each and "--label COLUMN" in each for each in built.report.sentences())


def test_minus_1_beside_0_and_1_is_not_guessed_and_the_flag_that_reads_it_is_named() -> None:
    columns = {"food": ["1", "-1", "1"] * 8, "sport": ["-1", "0", "1"] * 8}
    said = flags(**columns).report.sentences()
    assert any("hold -1, 0 and 1" in each and "--label food,sport" in each for each in said)
    table = Table.from_columns({"text": [f"a text of number {i}" for i in range(24)], **columns}, "flags.csv")
    read = build_pool(table, options=PoolOptions(label="food,sport", test_share=0, validation_share=0)).pool
    assert read.gold[:3].tolist() == [[1, 0], [0, 0], [1, 1]]
