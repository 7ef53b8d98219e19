"""Texts that llama.cpp writes: the prompt, the grammar, what is read of a reply, and SmolLM2 (where fetched)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from potstill.data.task import GenerationRequest, LabelledText, Task
from potstill.errors import MissingExtra
from potstill.teachers import llamacpp
from potstill.teachers.base import TeacherSetup
from potstill.teachers.llamacpp import lines_grammar, parse_lines, single_label_messages
from potstill.teachers.local import LocalTeacher, open_teacher

TASK = Task(("world", "card", "card_fee"))
EXAMPLES = (
    LabelledText("news of the world", "world"),
    LabelledText("the card", "card"),
    LabelledText("late fee", "card_fee"),
)
MOODS = Task(("negative", "positive"))
SHOWN = (
    LabelledText("A dull and lifeless film.", "negative"),
    LabelledText("A warm, funny, wonderful film.", "positive"),
)


def writer(weights: Path) -> LocalTeacher:
    return open_teacher(TeacherSetup(MOODS, str(weights), SHOWN, {"threads": 1}))


def test_only_complete_distinct_lines_are_parsed() -> None:
    reply = "- one text\n- another text\nno mark\n-\n- one text\n- third text\n- cut off in the mid"
    assert parse_lines(reply, 5) == ["one text", "another text", "third text"]
    assert parse_lines(reply, 2) == ["one text", "another text"]
    assert parse_lines("", 2) == []


def test_the_prompt_names_one_label_and_texts_of_it() -> None:
    task = replace(TASK, descriptions={"card_fee": "about a price"})
    brief = GenerationRequest("card_fee", 3, EXAMPLES, counterexamples=[LabelledText("the\ncard", "card")])
    told = single_label_messages(task, brief, 3)[0]["content"]
    assert '"card fee"' in told
    assert "about a price" in told
    assert "- late fee\n" in told
    assert "news of the world" not in told
    assert "- the card (card)" in told


def test_the_grammar_has_as_many_lines_as_requested() -> None:
    assert lines_grammar(3, 16).splitlines()[0] == "root ::= (line line line)"
    assert "{7,64}" in lines_grammar(3, 16)


def test_a_missing_llama_cpp_names_its_install_line(smollm2: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(llamacpp, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"potstill\[local\]"):
        writer(smollm2).generate(GenerationRequest("card", 1))


def test_smollm2_generates_for_a_request_and_is_repeatable_by_seed(smollm2: Path) -> None:
    brief = GenerationRequest("negative", 3, SHOWN, seed=4)
    smol = writer(smollm2)
    bound = smol.max_generation_usage(brief)
    draft = smol.generate(brief)
    assert 1 <= len(draft.texts) <= 3
    assert all(each.label == "negative" and len(each.text) > 7 and "\n" not in each.text for each in draft.texts)
    assert not {each.text for each in draft.texts} & {each.text for each in SHOWN}
    assert 0 < draft.usage.seconds <= bound.seconds
    assert smol.generate(brief).texts == draft.texts
    assert smol.generate(replace(brief, seed=5)).texts != draft.texts
