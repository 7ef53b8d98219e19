"""Label cells: words that mean "no label" are counted and empty, and equal labels are one."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

import pytest

from potstill.data.label_values import MISSING_MARKERS, clean_cells, normalise_label, whole_numbers
from potstill.data.pool import PoolBuild, PoolOptions, build_pool
from potstill.data.tables import Table
from potstill.errors import BadSpec
from potstill.run.inputs import spec_overrides
from potstill.run.spec import Spec


def build(labels: Sequence[str | None], named: Sequence[str] = (), **options: object) -> PoolBuild:
    texts = [f"a text that says number {i} and more" for i in range(len(labels))]
    table = Table.from_columns({"text": texts, "label": labels}, "a.csv")
    return build_pool(table, labels=named, options=PoolOptions(**options))  # type: ignore[arg-type]


def said(built: PoolBuild) -> str:
    return " ".join(built.report.sentences())


@pytest.mark.parametrize("marker", MISSING_MARKERS)
def test_a_word_for_a_missing_label_is_no_class_and_is_counted(marker: str) -> None:
    built = build(["billing", "delivery"] * 20 + [marker, f" {marker} "])
    assert built.pool.labels == ("billing", "delivery")
    assert built.report.counts["pool"] == {"unlabelled": 2}
    assert f"2 rows of a.csv count as unlabelled, because the label is {marker!r} (2)" in said(built)
    assert "--missing" in said(built)


def test_the_words_for_a_missing_label_can_be_named() -> None:
    labels = ["a", "b"] * 20 + ["?", "todo", "nan"]
    built = build(labels, missing=("todo", "?"))
    assert built.pool.labels == ("a", "b", "nan")
    assert "2 rows of a.csv count as unlabelled as you named it" in said(built)
    assert build(labels, missing=()).pool.labels == ("?", "a", "b", "nan", "todo")


def test_a_named_label_is_always_a_label() -> None:
    built = build(["a", "None"] * 20, named=["a", "None"])
    assert built.pool.labels == ("a", "None")
    assert "unlabelled" not in " ".join(built.report.warnings)


def test_minus_one_is_missing_beside_words_and_a_number_beside_numbers() -> None:
    assert build(["a", "b"] * 20 + ["-1"]).pool.labels == ("a", "b")
    scale = build(["-1", "0", "1"] * 20)
    assert scale.pool.labels == ("-1", "0", "1")
    assert "--missing=-1" in said(scale)


def test_a_class_called_none_stays_one_and_is_pointed_out() -> None:
    built = build(["none", "spam"] * 20)
    assert built.pool.labels == ("none", "spam")
    assert "'none' (20), read as a label like the others" in said(built)


def test_markers_are_no_labels_where_a_cell_holds_several() -> None:
    built = build(["a|b", "a", "b"] * 10 + ["nan", "None"])
    assert (built.pool.kind, built.pool.labels) == ("multi", ("a", "b"))
    assert built.report.counts["pool"] == {"unlabelled": 2}


def test_missing_labels_of_a_test_set_are_left_out_and_counted() -> None:
    rows = {"text": [f"words of {i}" for i in range(40)], "label": ["a", "b", "a", "N/A"] * 10}
    built = build_pool(
        {
            "train": Table.from_columns({**rows, "label": ["a", "b"] * 20}),
            "test": Table.from_columns({"text": [f"other words of {i}" for i in range(40)], "label": rows["label"]}),
        }
    )
    assert built.report.unlabelled_dropped == 10


@pytest.mark.parametrize(
    "other",
    [
        "cafe\u0301",
        "caf\u00e9\u200b",
        "\ufeffcaf\u00e9",
        "ca\u00adf\u00e9",
        "caf\u00e9\u2060",
        " caf\u00e9\u00a0",
        "\u200ecaf\u00e9",
    ],
)
def test_labels_that_look_equal_are_one(other: str) -> None:
    built = build(["caf\u00e9", "bar"] * 20 + [other])
    assert built.pool.labels == ("bar", "caf\u00e9")
    if other.strip() != "caf\u00e9":
        assert "1 row of a.csv had a label with invisible characters" in said(built)


@pytest.mark.parametrize(
    "label",
    ["\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", "\U0001f468\u200d\U0001f469\u200d\U0001f467", "a b", "x"],
)
def test_joiners_inside_a_word_are_part_of_it(label: str) -> None:
    assert normalise_label(label) == unicodedata.normalize("NFC", label)


def test_one_number_in_two_forms_is_one_label_across_files() -> None:
    parts = {
        "train": Table.from_columns({"text": [f"words of {i}" for i in range(40)], "label": ["1", "2"] * 20}),
        "test": Table.from_columns({"text": [f"others of {i}" for i in range(40)], "label": ["1.0", "2.0"] * 20}),
    }
    built = build_pool(parts)
    assert built.pool.labels == ("1", "2")
    assert "'1.0' as '1'" in said(built)
    assert build(["1.0", "2.0"] * 20).pool.labels == ("1.0", "2.0")
    assert build(["1", "1.0", "2"] * 20, named=["1.0", "2"]).pool.labels == ("1.0", "2")
    assert whole_numbers(["01", "1", "1.5", "-3.00", "-3"]) == {"-3.00": "-3"}


def test_named_labels_are_read_like_those_of_the_data() -> None:
    built = build(["caf\u00e9", "b"] * 20, named=["cafe\u0301", "b"])
    assert built.pool.labels == ("caf\u00e9", "b")
    assert clean_cells(["x", None, " "], "a").cells == ["x", "", ""]


def test_the_command_line_and_the_file_name_the_same_words() -> None:
    given = spec_overrides(None, None, 1, {"missing": "?, nan"})
    assert Spec.from_dict(given).data.missing == ("?", "nan")
    assert Spec.from_dict(spec_overrides(None, None, 1, {"missing": ""})).data.missing == ()
    with pytest.raises(BadSpec):
        Spec.from_dict({"budget": 1, "data": {"missing": 3}})
