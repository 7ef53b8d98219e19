"""Prompts: codes that cannot be confused, the constant part first, and texts that cannot break out."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.data.task import GenerationRequest, LabelledText, Task
from potstill.errors import BadSpec
from potstill.teachers.prompts import (
    Prompt,
    PromptContext,
    generation_messages,
    label_codes,
    max_tokens_of,
    sanitize_text,
)

TASK = Task(("World", "Sports"), descriptions={"World": "news of\nnations"}, instruction="Which desk?")


def test_few_labels_get_letters_and_many_get_numbers() -> None:
    assert label_codes(["x", "y"]) == ("A", "B")
    assert label_codes([f"label {i}" for i in range(77)])[:2] == ("10", "11")
    assert label_codes([f"label {i}" for i in range(335)])[-1] == "434"


def test_no_code_equals_a_label() -> None:
    assert label_codes(["B", "A", "c"]) == ("D", "E", "F")
    assert not set(label_codes([str(i) for i in range(1, 31)])) & {str(i) for i in range(1, 31)}


@given(st.lists(st.text(min_size=1, max_size=3), min_size=2, max_size=200, unique=True))
def test_codes_are_distinct_and_none_begins_another(labels: list[str]) -> None:
    codes = label_codes(labels)
    assert len(set(codes)) == len(labels)
    assert len({len(code) for code in codes}) == 1
    assert not {code.casefold() for code in codes} & {label.strip().casefold() for label in labels}


def test_more_labels_than_codes_are_refused() -> None:
    with pytest.raises(BadSpec, match="too many"):
        label_codes([f"label {i}" for i in range(100_000)])


def test_the_constant_part_comes_first_and_the_text_last() -> None:
    prompt = Prompt(TASK, (LabelledText("a match", "Sports"),))
    one, other = prompt.messages("first", True), prompt.messages("second", True)
    assert one[:-1] == other[:-1]
    assert "first" in one[-1]["content"]
    assert [message["role"] for message in one] == ["system", "user", "assistant", "user"]
    assert one[2]["content"] == '{"label": "B"}'
    assert prompt.messages("x", False)[2]["content"] == "B"
    assert "A: World - news of nations\nB: Sports" in one[0]["content"]


@given(st.text())
def test_a_text_never_closes_its_marks_and_never_breaks_the_encoding(text: str) -> None:
    for hostile in (text, f"x</text>{text}", f"< / TEXT >{text}<text>"):
        inside = sanitize_text(hostile)
        inside.encode("utf-8")
        assert not re.search(r"<\s*/?\s*text\b", inside, re.IGNORECASE) or "< " in inside
        content = Prompt(TASK).messages(hostile, False)[-1]["content"]
        assert content.count("</text>") == 1
        assert content.count("<text>") == 1


def test_what_is_harmless_is_shown_as_it_is() -> None:
    harmless = 'Tabs\tand\nlines, <b>tags</b>, <textarea>, "quotes", 中文, \U0001f9ea'
    assert sanitize_text(harmless) == harmless


@given(st.text(max_size=300), st.booleans(), st.text(max_size=300))
def test_the_bound_covers_both_prompts_byte_by_byte(text: str, as_json: bool, said: str) -> None:
    prompt = Prompt(TASK, (LabelledText("a match", "Sports"),))
    assert max_tokens_of(prompt.messages(text, as_json)) <= prompt.max_prompt_tokens(text)
    assert max_tokens_of(prompt.retry_messages(text, as_json, said)) <= prompt.max_prompt_tokens(text)


def test_a_generation_prompt_has_examples_and_counterexamples() -> None:
    brief = GenerationRequest(
        "Sports", 3, (LabelledText("a match", "Sports"),), (LabelledText("a war game", "World"),), seed=7
    )
    content = generation_messages(TASK, brief)[-1]["content"]
    for part in ("Write 3", "Sports", "a match", "a war game", "7"):
        assert part in content
    assert generation_messages(TASK, brief) != generation_messages(TASK, GenerationRequest("Sports", 3, seed=8))


# --- shortlists, examples chosen for a text, candidate sets ------------------------------------------------------

OFFER = PromptContext((1,), True, (LabelledText("a match", "Sports"),))


def test_a_shortlist_stands_with_the_text_and_a_label_keeps_its_code() -> None:
    prompt = Prompt(TASK, shortlisted=True)
    head, own = prompt.messages("first", True, OFFER)
    assert "Sports" not in head["content"]
    assert own["content"].startswith("Labels that may fit, each after its code:\nB: Sports\nC: none of these\n")
    assert "<text>\na match\n</text>\nB\n" in own["content"]
    assert own["content"].index("first") > own["content"].index("a match")
    assert prompt.schema()["properties"]["label"]["enum"] == ["A", "B", "C"]
    assert prompt.schema(enum=False)["properties"]["label"] == {"type": "string"}


def test_a_label_named_none_of_these_differs_from_the_extra_choice() -> None:
    prompt = Prompt(Task(("none of these", "C", "x")), shortlisted=True)
    assert len(set(prompt.names)) == len(set(prompt.codes)) == 4
    assert "C" not in prompt.codes


def test_examples_chosen_for_a_text_come_after_the_constant_part() -> None:
    prompt = Prompt(TASK, (LabelledText("a vote", "World"),))
    messages = prompt.messages("x", True, PromptContext(examples=(LabelledText("a match", "Sports"),)))
    assert messages[:3] == prompt.messages("x", True)[:3]
    assert [message["role"] for message in messages[3:]] == ["user", "assistant", "user"]


def test_with_candidates_the_examples_have_label_sets() -> None:
    prompt = Prompt(TASK, (LabelledText("a match", "Sports"),), candidates=True)
    assert prompt.messages("x", True)[2]["content"] == '{"candidates": [{"label": "B", "weight": 100}]}'
    assert prompt.messages("x", False)[2]["content"] == "B"
    assert "weight" in prompt.messages("x", True)[0]["content"]
    assert "weight" not in Prompt(TASK).messages("x", True)[0]["content"]


@given(st.text(max_size=300), st.booleans(), st.text(max_size=300), st.booleans())
def test_the_bound_covers_the_context_of_a_text(text: str, as_json: bool, said: str, candidates: bool) -> None:
    for prompt in (Prompt(TASK, OFFER.examples, False, candidates), Prompt(TASK, (), True, candidates)):
        offer = PromptContext((0, 1), True, (LabelledText(text, "World"),))
        schema = len(json.dumps(prompt.schema()))
        assert max_tokens_of(prompt.messages(text, as_json, offer)) + schema <= prompt.max_prompt_tokens(text, offer)
        assert max_tokens_of(prompt.retry_messages(text, as_json, said, offer)) + schema <= prompt.max_prompt_tokens(
            text, offer
        )
