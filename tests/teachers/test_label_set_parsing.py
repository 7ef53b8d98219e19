"""A chat teacher that says several labels a text: asked so, read strictly, scored label by label, paid for in full."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.chat_server import FakeServer, Fault
from support.chat_teacher import PRICES, teacher_at

from potstill.api import distill
from potstill.data.label_sets import encode_label_set
from potstill.data.task import Answer, LabelledText, Task
from potstill.errors import BadSpec
from potstill.teachers import anthropic
from potstill.teachers.base import TeacherSetup
from potstill.teachers.chat import ChatTeacher
from potstill.teachers.label_set_parsing import (
    LabelSetParser,
    none_word,
    scores_from_label_set,
    scores_from_label_set_votes,
)
from potstill.teachers.messages import ChatOptions, max_reply_tokens
from potstill.teachers.openai import open_teacher
from potstill.teachers.price_options import PriceOptions
from potstill.teachers.prompts import Prompt, label_codes

TASK = Task(("world", "sports", "business"), kind="multi")
READ = LabelSetParser(TASK.labels, label_codes(TASK.labels), {"economy": "business"})
column_sets = st.lists(st.frozensets(st.integers(0, 5)), min_size=1, max_size=9)


@pytest.mark.parametrize(
    ("reply", "columns"),
    [
        ('{"labels": ["A", "C"]}', {0, 2}),
        ('```json\n{"labels": ["B"]}\n```', {1}),
        ('["A", "sports"]', {0, 1}),
        ('{"labels": []}', set()),
        ("[]", set()),
        ("NONE", set()),
        ("None.", set()),
        ("A, C", {0, 2}),
        ("A: world, C: business", {0, 2}),
        ("A\nB", {0, 1}),
        ("world; economy", {0, 2}),
        ("b", {1}),
        ("", None),
        ("A, D", None),
        ("A, A", None),
        ("A, world", None),
        ("A, NONE", None),
        ("A and C", None),
        ("A: sports", None),
        ('{"labels": ["A", "D"]}', None),
        ('{"labels": "A"}', None),
        ('{"labels": ["A", 2]}', None),
        ('{"label": "A"}', None),
        ('{"labels": ["A"], "why": "so"}', {0}),
        ('{"labels": ["A"', None),
        ("[" * 5000, None),
    ],
)
def test_a_set_is_parsed_completely_or_not_at_all(reply: str, columns: set[int] | None) -> None:
    found = READ.parse(reply)
    assert (None if found is None else found.columns) == columns


@given(st.text())
def test_any_reply_is_a_label_set_or_unparsable(reply: str) -> None:
    found = READ.parse(reply)
    assert found is None or (found.columns is not None and found.columns <= {0, 1, 2})


@given(st.sets(st.sampled_from(TASK.labels)))
def test_a_set_parses_in_every_format(labels: set[str]) -> None:
    expected = {TASK.index(label) for label in labels}
    for reply in (json.dumps({"labels": list(labels)}), ", ".join(labels) or "NONE", json.dumps(list(labels))):
        found = READ.parse(reply)
        assert found is not None
        assert found.columns == expected


def test_a_label_called_none_is_a_label() -> None:
    labels = ("none", "some", "a, b")
    assert none_word(labels) == "NOTHING"
    reading = LabelSetParser(labels, label_codes(labels))
    assert [reading.parse(reply).columns for reply in ("none", "NOTHING", "a, b")] == [{0}, set(), {2}]  # type: ignore[union-attr]


@given(st.frozensets(st.integers(0, 5)), st.floats(0.51, 0.99))
def test_the_scores_of_a_set_expect_as_many_labels_as_it_has(columns: frozenset[int], confidence: float) -> None:
    likely = np.exp(scores_from_label_set(columns, 6, confidence))
    assert {i for i in range(6) if likely[i] > 0.5} == columns
    if 0 < len(columns) <= 3:
        assert likely.sum() == pytest.approx(len(columns))


@given(column_sets)
def test_the_scores_of_several_sets_are_their_shares(sets: list[frozenset[int]]) -> None:
    likely = np.exp(scores_from_label_set_votes(sets, 6))
    counts = np.array([sum(column in own for own in sets) for column in range(6)])
    assert ((likely > 0) & (likely < 1)).all()
    assert likely.sum() == pytest.approx(counts.sum() / len(sets), abs=1e-4)
    assert (np.argsort(likely, kind="stable") == np.argsort(counts, kind="stable")).all()


def at(server: FakeServer, task: Task = TASK, **options: Any) -> ChatTeacher:
    return teacher_at(server, options.pop("examples_shown", ()), task, **options)


def answered(teacher: ChatTeacher, text: str) -> Answer:
    bound, reply = teacher.max_usage([text]), teacher.answer([text])
    assert teacher.price.cost_micros(reply.usage) <= teacher.price.cost_micros(bound)
    return reply.answers[0]


def named(answer: Answer) -> set[int]:
    assert answer.scores is not None, answer
    return {column for column, score in enumerate(answer.scores) if math.exp(score) > 0.5}


@pytest.mark.parametrize("as_json", [True, False])
@pytest.mark.parametrize(("text", "columns"), [("sports business", {1, 2}), ("world", {0}), ("nothing such", set())])
def test_a_chat_teacher_gives_all_labels_of_a_text(as_json: bool, text: str, columns: set[int]) -> None:
    with FakeServer(ignores=frozenset() if as_json else frozenset({"response_format"})) as server:
        answer = answered(at(server), text)
    assert named(answer) == columns
    assert answer.how == "one-hot"


def test_the_schema_lists_the_codes_and_a_set_of_them_is_wanted() -> None:
    with FakeServer() as server:
        answered(at(server), "sports")
    sent = server.seen[0]
    schema = sent["response_format"]["json_schema"]["schema"]
    assert schema["properties"]["labels"] == {"type": "array", "items": {"type": "string", "enum": ["A", "B", "C"]}}
    assert "one, several, or none" in sent["messages"][0]["content"]
    assert "logprobs" not in sent


def test_an_unparsable_set_is_requested_a_second_time() -> None:
    wrong = Fault("said", said="A, Z")
    with FakeServer(by_word={"sports": wrong}) as server:
        assert answered(at(server), "sports").state == "unparsable"
        assert len(server.seen) == 2
    with FakeServer(by_number={0: wrong}) as server:
        assert named(answered(at(server), "sports business")) == {1, 2}


def test_several_samples_are_votes_for_each_label() -> None:
    with FakeServer() as server:
        answer = answered(at(server, samples=4, temperature=1.0), "sports business")
    assert answer.how == "votes"
    assert answer.scores is not None
    assert answer.scores[1] > answer.scores[2] > answer.scores[0]
    assert math.exp(answer.scores[1]) > 0.8


def test_the_anthropic_teacher_gives_label_sets_too() -> None:
    with FakeServer() as server:
        teacher = anthropic.open_teacher(
            TeacherSetup(TASK, "m", (), {"base_url": server.url}, PriceOptions.parse(PRICES))
        )
        assert named(answered(teacher, "sports business")) == {1, 2}
        assert "labels" in json.dumps(server.seen[0]["response_format"])


def test_examples_show_whole_sets() -> None:
    shown = (
        LabelledText("a match for money", encode_label_set(["sports", "business"])),
        LabelledText("rain", encode_label_set([])),
    )
    for as_json, said in ((True, ['{"labels": ["B", "C"]}', '{"labels": []}']), (False, ["B, C", "NONE"])):
        replies = [
            each["content"] for each in Prompt(TASK, shown).messages("x", as_json) if each["role"] == "assistant"
        ]
        assert replies == said


@pytest.mark.parametrize("options", [{"shortlist": 2}, {"examples": "nearest"}, {"candidates": True}])
def test_options_that_choose_by_one_label_are_refused_for_several(options: dict[str, Any]) -> None:
    with pytest.raises(BadSpec):
        open_teacher(
            TeacherSetup(TASK, "m", (), {"base_url": "http://127.0.0.1:1/v1", **options}, PriceOptions.parse(PRICES))
        )


@given(st.integers(2, 500))
def test_what_a_reply_may_cost_grows_with_the_labels_up_to_a_limit(n: int) -> None:
    options = ChatOptions()
    several = [Task(tuple(f"l{i}" for i in range(k)), kind="multi") for k in (n, n + 1)]
    bounds = [max_reply_tokens(options, 32, task) for task in several]
    assert 32 < bounds[0] <= bounds[1] <= 32 + 6 * 40
    assert max_reply_tokens(options, 32, Task(several[0].labels)) == 32
    assert max_reply_tokens(ChatOptions(max_tokens=7), 32, several[0]) == 7


def test_a_student_is_trained_on_label_sets_of_a_chat_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POTSTILL_CACHE", str(tmp_path / "cache"))
    words = {"world": "embassy", "sports": "match", "business": "shares"}
    rows = [[], ["world"], ["sports"], ["business"], ["world", "sports"], ["sports", "business"], ["world", "business"]]
    texts = [
        (" ".join(f"the {words[name]} and {name}" for name in names) + f" on day {i}", names)
        for i in range(20)
        for names in rows
    ]
    gold = ["text,label", *(f"{text},{'|'.join(names) or '|'}" for text, names in texts[:56])]
    (tmp_path / "gold.csv").write_text("\n".join(gold), encoding="utf-8")
    (tmp_path / "pool.csv").write_text("\n".join(["text", *(text for text, _ in texts[56:])]), encoding="utf-8")
    (tmp_path / "spec.toml").write_text(
        f'budget = 1.0\nstudent = "linear"\n[data]\ntrain = "{tmp_path}/gold.csv"\npool = "{tmp_path}/pool.csv"\n'
        '[task]\nkind = "multi"\n[teacher]\nname = "openai:m"\nbase_url = "URL"\n[procedure]\nname = "kd"\n'
        "gold_weight = 0\n"
        "[prices.m]\nusd_per_million_input = 1\nusd_per_million_output = 2\n",
        encoding="utf-8",
    )
    with FakeServer() as server:
        spec = (tmp_path / "spec.toml").read_text(encoding="utf-8").replace("URL", server.url)
        (tmp_path / "spec.toml").write_text(spec, encoding="utf-8")
        outcome = distill(tmp_path / "spec.toml", out=tmp_path / "run")
    assert server.seen
    assert outcome is not None
    from potstill.bundle.bundle import load

    said = load(tmp_path / "run").predict(["the match and sports, the shares and business", "the embassy and world"])
    assert [set(names) for names in said] == [{"sports", "business"}, {"world"}]
