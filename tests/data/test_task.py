"""Tasks, answers and content keys."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.data.task import Answer, Task, content_key
from potstill.errors import BadSpec


@pytest.mark.parametrize("labels", [(), ("one",), ("a", "a"), ("a", " ")])
def test_a_task_needs_two_labels_with_different_names(labels):
    with pytest.raises(BadSpec) as refused:
        Task(labels)
    assert refused.value.hint


def test_only_labels_can_be_described():
    with pytest.raises(BadSpec, match="'c' is described"):
        Task(("a", "b"), descriptions={"c": "the third"})


def test_a_tasks_key_depends_on_its_content_and_not_its_name():
    task = Task(("a", "b"), name="one")
    assert task.key == Task(("a", "b"), name="two").key
    assert task.key != Task(("b", "a")).key
    assert task.key != Task(("a", "b"), descriptions={"a": "first"}).key


def test_tasks_and_answers_survive_json():
    task = Task(("a", "b"), "name", {"a": "first"}, "Decide.", "pair")
    assert Task.from_json(task.to_json()) == task
    for answer in (Answer("ok", (-0.5, -1.25), "votes", "B"), Answer("refused")):
        assert Answer.from_json(answer.to_json()) == answer


@given(st.text(), st.text())
def test_equal_content_has_equal_keys_and_other_content_another(a, b):
    assert (content_key(a) == content_key(b)) == (a == b)
    assert content_key(a, b) != content_key(a + b)
