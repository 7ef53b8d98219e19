"""Marks and tags of one text, read as entities, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.data.entities.label_studio import marked_task, read_marked_tasks
from potstill.data.entities.marks import UnreadableMarksError, is_marks, read_marks
from potstill.data.entities.tags import is_tag, read_tags
from potstill.data.tables import Table
from potstill.evaluation.text2text.entities import Entity

TEXT = "Add 5 ml water, then 5 ml acid"
AMOUNT, WATER, SECOND = Entity(4, 8, "Amount"), Entity(9, 14, "Reagent"), Entity(21, 25, "Amount")


@pytest.mark.parametrize(
    "value",
    [
        [[4, 8, "Amount"], [9, 14, "Reagent"]],
        [{"start": 9, "end": 14, "type": "Reagent"}, {"start": 4, "end": 8, "type": "Amount"}],
        [{"start": 4, "end": 8, "label": "Amount", "text": "5 ml"}, {"start": 9, "end": 14, "label": "Reagent"}],
        [
            *[{"start_offset": 4, "end_offset": 8, "label": "Amount"}, {"start": 8, "end": 15, "label": "Reagent"}][:1],
            {"start": 8, "end": 14, "labels": ["Reagent"]},
        ],  # a blank in front is no part of an entity
        [{"text": "5 ml", "type": "Amount"}, {"text": "water", "type": "Reagent"}],
        {"entities": [[4, 8, "Amount"], [9, 14, "Reagent"]]},
        {"Amount": ["5 ml"], "Reagent": ["water"]},
        [
            {"type": "labels", "value": {"start": 4, "end": 8, "text": "5 ml", "labels": ["Amount"]}},
            {"type": "labels", "value": {"start": 9, "end": 14, "text": "water", "labels": ["Reagent"]}},
        ],
        [[4, 8, "Amount"], [9, 14, "Reagent"], [4, 8, "Amount"]],
    ],
)
def test_marks_are_read_in_every_form(value: Any) -> None:
    assert read_marks(TEXT, json.loads(json.dumps(value))) == (AMOUNT, WATER)


def test_words_without_a_place_are_the_first_that_no_other_mark_has() -> None:
    assert read_marks(TEXT, [{"text": "5 ml", "type": "Amount"}] * 2) == (AMOUNT, SECOND)
    assert read_marks(TEXT, []) == ()


@pytest.mark.parametrize(
    ("value", "what"),
    [
        ([[4, 80, "Amount"]], "from 4 to 80, and the text has 30 characters"),
        ([[8, 4, "Amount"]], "from 8 to 4"),
        ([[-2, 4, "Amount"]], "from -2 to 4"),
        ([[8, 9, "Amount"]], "blank"),
        ([[4, 8, " "]], "without a type"),
        ([[4, 8, "Amount"], [6, 14, "Reagent"]], "overlap, '5 ml' \\(Amount\\) and 'ml water' \\(Reagent\\)"),
        ([[4, 8, "Amount"], [4, 8, "Reagent"]], "overlap"),
        ([{"start": 4, "end": 8, "type": "Amount", "text": "acid"}], "'acid' at 4 to 8, and the text there is '5 ml'"),
        ([{"text": "salt", "type": "Reagent"}], "'salt', which is not in the text"),
        ([{"text": "water", "type": "Reagent"}] * 2, "'water', which is not in the text"),
        ([{"start": 4, "end": 8}], "no entity"),
        ([4, 8], "no entity"),
        ("water", "no list"),
        (None, "no list"),
    ],
)
def test_marks_that_are_no_entities_of_the_text_are_refused(value: Any, what: str) -> None:
    with pytest.raises(UnreadableMarksError, match=what):
        read_marks(TEXT, value)


def test_a_list_of_labels_is_no_list_of_marks() -> None:
    assert not is_marks(["billing", "delivery"])
    assert not is_marks({"billing": 0.9})
    assert is_marks([])


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("O B-Amount I-Amount B-Reagent", [("5 ml", "Amount"), ("water", "Reagent")]),
        ("O I-Amount I-Amount I-Reagent", [("5 ml", "Amount"), ("water", "Reagent")]),
        ("O B-Amount E-Amount S-Reagent", [("5 ml", "Amount"), ("water", "Reagent")]),
        ("O B-Amount L-Amount U-Reagent", [("5 ml", "Amount"), ("water", "Reagent")]),
        ("O B-Amount B-Amount O", [("5", "Amount"), ("ml", "Amount")]),
        ("B-Mixing-Action O O O", [("Add", "Mixing-Action")]),
        ("O O O O", []),
    ],
)
def test_tags_of_all_dialects_mark_the_same_entities(tags: str, expected: list[tuple[str, str]]) -> None:
    text, entities = read_tags("Add 5 ml water".split(), tags.split())
    assert [(text[each.start : each.end], each.type) for each in entities] == expected


def test_tags_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="2 words and 1 tags"):
        read_tags(["a", "b"], ["O"])
    with pytest.raises(ValueError, match="'water' is no tag"):
        read_tags(["a"], ["water"])
    assert [is_tag(each) for each in ("O", "B-x", "I-", "b-x", "billing", "-")] == [
        True,
        True,
        False,
        False,
        False,
        False,
    ]


words = st.lists(st.text(st.characters(exclude_categories=("Z", "C")), min_size=1, max_size=6), min_size=1, max_size=12)


@given(words, st.data())
def test_what_tags_mark_is_read_again_from_every_form_of_marks(tokens: list[str], data: st.DataObject) -> None:
    tags = data.draw(
        st.lists(st.sampled_from(["O", "B-X", "I-X", "B-Y", "I-Y"]), min_size=len(tokens), max_size=len(tokens))
    )
    text, entities = read_tags(tokens, tags)
    assert all(text[each.start : each.end].strip() for each in entities)
    assert read_marks(text, [[each.start, each.end, each.type] for each in entities]) == entities
    studio = json.loads(json.dumps(marked_task(1, text, entities, [0.5] * len(entities), "m")))
    assert read_marks(text, studio["predictions"][0]["result"]) == entities


def test_label_studios_tasks_are_read_as_rows_with_marks() -> None:
    def task(text: str, *annotations: dict[str, Any]) -> dict[str, Any]:
        return {"id": 1, "data": {"text": text}, "annotations": list(annotations), "predictions": [{"result": []}]}

    mark = {
        "from_name": "l",
        "to_name": "text",
        "type": "labels",
        "value": {"start": 2, "end": 6, "text": "acid", "labels": ["R"]},
    }
    choice = {"from_name": "c", "to_name": "text", "type": "choices", "value": {"choices": ["ok"]}}
    tasks = [
        task("😀acid", {"result": [mark, choice]}),  # Label Studio counts UTF-16 units: the face is two
        task("nothing", {"result": []}),
        task("skipped", {"result": [], "was_cancelled": True}),
        task("open"),
    ]
    table, sentences = read_marked_tasks(
        Table.from_columns({key: [row[key] for row in tasks] for key in tasks[0]}, "t.json")
    )
    assert list(table.column("text")) == ["😀acid", "nothing", "skipped", "open"]
    cells = list(table.column("entities"))
    assert read_marks("😀acid", json.loads(cells[0] or "")) == (Entity(1, 5, "R"),)
    assert cells[1:] == ["[]", None, None]
    assert any("1 annotation was skipped" in each for each in sentences)
    assert any("1 result is no marks" in each for each in sentences)
