"""People's answers: what is stored of them, what is refused, and which of several counts."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.data.form_annotations import (
    MAX_ANSWER_CHARACTERS,
    check_annotation,
    find_consensus,
    form_annotations,
    is_stored_answer,
)
from potstill.data.task import Output, Task
from potstill.errors import BadData

ENTITIES = form_annotations(Task(("Amount", "Reagent"), kind="text2text", output=Output("entities")))
FREE = form_annotations(Task((), kind="text2text", output=Output("free")))
TEXT = "Add 5 ml water."


def test_marks_are_stored_as_sorted_spans_and_read_again_from_a_cell() -> None:
    stored = ENTITIES.read(TEXT, '[[9, 14, "Reagent"], [4, 8, "Amount"]]')
    assert stored == '[[4, 8, "Amount"], [9, 14, "Reagent"]]'
    cell = ENTITIES.cell(TEXT, stored)
    assert json.loads(cell)[0] == {"start": 4, "end": 8, "type": "Amount", "text": "5 ml"}
    assert ENTITIES.read_cell(TEXT, cell) == stored
    assert ENTITIES.shown(TEXT, stored) == "5 ml [Amount], water [Reagent]"
    assert is_stored_answer(ENTITIES, TEXT, stored)
    assert ENTITIES.read(TEXT, "[]") == "[]"
    assert ENTITIES.shown(TEXT, "[]") == "nothing in it"
    assert ENTITIES.read_cell(TEXT, '[{"text": "water", "type": "reagent"}]') == '[[9, 14, "Reagent"]]'
    assert "'reagent' as 'Reagent' (1)" in ENTITIES.sentences("in.csv")[0]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ('[[4, 8, "Amount"], [6, 14, "Reagent"]]', "two entities that overlap, '5 ml' .Amount. and 'ml water'"),
        ('[[4, 80, "Amount"]]', "an entity from 4 to 80, and the text has 15 characters"),
        ('[[-1, 3, "Amount"]]', "an entity from -1 to 3"),
        ('[[4, 4, "Amount"]]', "an entity from 4 to 4"),
        ('[[3, 4, "Amount"]]', "that is blank"),
        ('[[4, 8, "Time"]]', "an entity of the type 'Time', and the task's are 'Amount', 'Reagent'"),
        ('[[4, 8.5, "Amount"]]', "a mark that is no entity"),
        ('[{"start": 4, "end": 8, "type": "Amount", "text": "water"}]', "the text there is '5 ml'"),
        ("5 ml", "marks that are no list of entities"),
        ("", "marks that are no list of entities"),
        ("{}", "marks that are no list of entities"),
    ],
)
def test_marks_that_are_no_entities_of_the_text_are_refused_in_one_sentence(given: str, message: str) -> None:
    with pytest.raises(BadData, match=f"The text has .*{message}") as refused:
        check_annotation(ENTITIES, TEXT, given)
    assert refused.value.hint == "Correct the marks."
    assert not is_stored_answer(ENTITIES, TEXT, given)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (" \n ", "an answer without words"),
        ("x" * (MAX_ANSWER_CHARACTERS + 1), "an answer of 10,001 characters, and 10,000 are the most"),
        ("a \ud83d b", "half a character"),
    ],
)
def test_an_answer_that_is_empty_or_too_long_is_refused(given: str, message: str) -> None:
    with pytest.raises(BadData, match=message):
        check_annotation(FREE, TEXT, given)


@given(st.text(min_size=1).filter(lambda t: t.strip()) | st.sampled_from(["?", '["a"]', "[1, 2]", "{'a': 1}", "=1+1"]))
def test_any_answer_comes_back_from_its_cell(answer: str) -> None:
    answer = answer.encode("utf-8", "replace").decode("utf-8")
    stored = FREE.read(TEXT, answer)
    assert is_stored_answer(FREE, TEXT, stored)
    assert FREE.read_cell(TEXT, FREE.cell(TEXT, stored)) == stored


def test_a_list_of_one_answer_is_that_answer_and_of_two_is_refused() -> None:
    assert FREE.read_cell(TEXT, '["water"]') == "water"
    with pytest.raises(ValueError, match="has 2 answers, and one is expected"):
        FREE.read_cell(TEXT, '["water", "ice"]')


def test_the_answer_that_most_people_gave_counts_and_of_several_such_the_first() -> None:
    assert find_consensus(FREE, ["ice", "water", "Water "]).answer == "water"
    tied = find_consensus(FREE, ["ice", "water"])
    assert (tied.answer, tied.n_same, tied.n_answers, tied.is_most) == ("ice", 1, 2, False)
    assert find_consensus(FREE, ["a", "b", "c", "b", "c"]).answer == "b"
    one, other = '[[4, 8, "Amount"]]', "[]"
    assert find_consensus(ENTITIES, [one, other, other]).answer == other
    assert find_consensus(ENTITIES, [one, one]).is_most


def test_two_answers_are_as_similar_as_their_f1() -> None:
    one, other = '[[4, 8, "Amount"], [9, 14, "Reagent"]]', '[[4, 8, "Amount"]]'
    assert ENTITIES.similarity(one, other) == pytest.approx(2 / 3)
    assert ENTITIES.similarity("[]", "[]") == 1
    assert ENTITIES.similarity("[]", other) == 0
    assert FREE.similarity("cold water", "water") == pytest.approx(2 / 3)
