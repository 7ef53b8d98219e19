"""Words that a teacher names, found in a text: several places, word borders, case, overlaps, and what has no place."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.data.answer_records import answer_form
from potstill.data.entities.answers import (
    NO_TYPE,
    NOT_IN_TEXT,
    OVERLAPPING,
    EntityAnswer,
    NamedEntity,
    check_entity_answer,
    locate_entities,
    read_entity_answer,
)
from potstill.data.task import Answer, Task
from potstill.evaluation.text2text.entities import Entity

TYPES = ("Amount", "Reagent")


def located(text: str, *named: tuple[str, str]) -> list[str]:
    found = locate_entities(text, [NamedEntity(*each) for each in named], TYPES)
    return [f"{each.start} {text[each.start : each.end]} {each.type}" for each in found.entities]


def test_words_are_found_in_the_order_they_are_named_and_as_whole_words_first() -> None:
    text = "Mix in 5 ml, then in 5 ml salt"
    assert located(text, ("5 ml", "Amount"), ("5 ml", "Amount")) == ["7 5 ml Amount", "21 5 ml Amount"]
    assert located(text, ("salt", "Reagent"), ("5 ml", "Amount")) == ["7 5 ml Amount", "26 salt Reagent"]
    # "in" within "mixing" is taken only where no word is "in".
    assert located("mixing in", ("in", "Amount")) == ["7 in Amount"]
    assert located("mixing", ("in", "Amount")) == ["3 in Amount"]
    # The second "salt" is behind the entity before it.
    text = "salt with 5 ml salt"
    assert located(text, ("5 ml", "Amount"), ("salt", "Reagent")) == ["10 5 ml Amount", "15 salt Reagent"]


def test_case_and_white_space_count_only_where_the_words_stand_as_they_are() -> None:
    assert located("Add NaCl and nacl", ("nacl", "Reagent")) == ["13 nacl Reagent"]
    assert located("Add NaCl\n  buffer", ("nacl buffer", "Reagent")) == ["4 NaCl\n  buffer Reagent"]
    assert located("5 ml", (" 5 ml ", "Amount")) == ["0 5 ml Amount"]
    assert located("水を5 ml加える", ("5 ml", "Amount"), ("水", "Reagent")) == ["0 水 Reagent", "2 5 ml Amount"]


def test_what_has_no_place_or_no_type_is_counted_with_the_reason() -> None:
    named = [
        NamedEntity("5 ml", "Amount"),
        NamedEntity("ml", "Reagent"),
        NamedEntity("water", "Reagent"),
        NamedEntity("", "Reagent"),
        NamedEntity("5 ml", "Time"),
        NamedEntity("5 ml", "Amount"),
    ]
    found = locate_entities("Add 5 ml", named, TYPES)
    assert found.entities == (Entity(4, 8, "Amount"),)
    assert found.dropped == {OVERLAPPING: 1, NOT_IN_TEXT: 2, NO_TYPE: 1}
    assert found.n_dropped == 4


def test_a_known_place_is_taken_if_the_words_are_there() -> None:
    named = [NamedEntity("a", "Amount", 4), NamedEntity("a", "Reagent", 1)]
    assert locate_entities("a b a", named, TYPES).entities == (Entity(0, 1, "Reagent"), Entity(4, 5, "Amount"))


@given(st.text("ab 5ml", max_size=12), st.lists(st.tuples(st.text("ab 5ml", max_size=3), st.sampled_from("XY"))))
def test_places_are_within_the_text_without_overlaps_and_nothing_is_lost(
    text: str, named: list[tuple[str, str]]
) -> None:
    found = locate_entities(text, [NamedEntity(*each) for each in named], ("X", "Y"))
    at = 0
    for entity in found.entities:
        assert at <= entity.start < entity.end <= len(text)
        at = entity.end
    assert len(found.entities) + found.n_dropped <= len(named)
    texts = {text[each.start : each.end].casefold().split()[0] for each in found.entities}
    assert texts <= {words.casefold().split()[0] for words, _ in named if words.strip()}


def test_an_answer_is_json_and_a_damaged_one_is_none() -> None:
    answer = EntityAnswer("ok", raw="...", named=(NamedEntity("5 ml", "Amount"), NamedEntity("a", "Reagent", 3)))
    stored = json.loads(json.dumps(answer.to_json()))
    assert read_entity_answer(stored) == answer
    for damage in ({"state": "fine"}, {"named": [["a"]]}, {"named": [[1, "b", None]]}, {"raw": 3}, {"more": 1}):
        assert read_entity_answer({**stored, **damage}) is None
    assert read_entity_answer({**stored, "state": "refused"}) is None
    assert read_entity_answer(Answer("ok", (0.0, -1.0)).to_json()) is None


@pytest.mark.parametrize(
    ("given_answer", "state"),
    [(Answer("refused", raw="no"), "refused"), (Answer("ok", (0.0, -1.0)), "failed"), (EntityAnswer("ok"), "ok")],
)
def test_what_cannot_be_stored_for_a_task_of_entities_is_replaced(given_answer: Answer, state: str) -> None:
    form = answer_form(Task(TYPES, kind="text2text"))
    checked = form.check(given_answer)
    assert checked == check_entity_answer(given_answer)
    assert checked.state == state
    assert form.read(checked.to_json()) == checked
    labels = answer_form(Task(TYPES))
    scored = Answer("ok", (0.0, -1.0))
    assert labels.read(json.loads(json.dumps(scored.to_json()))) == scored
    assert labels.read(EntityAnswer("ok").to_json()) is None
