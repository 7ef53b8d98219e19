"""Reading replies strictly, and turning log-probabilities, votes and bare labels into soft labels."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.teachers.label_parsing import (
    LabelParser,
    TokenLogprobs,
    locate_code,
    parse_texts,
    scores_from_label,
    scores_from_logprobs,
    scores_from_votes,
    scores_from_weights,
)
from potstill.teachers.prompts import label_codes

LABELS = ("World", "Sports news", "card_arrival")
CODES = ("A", "B", "C")


def column(reply: str, **aliases: str) -> int | None:
    found = LabelParser(LABELS, CODES, aliases).parse(reply)
    return None if found is None else found.column


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("B", 1),
        (" B\n", 1),
        ("B.", 1),
        ('"B"', 1),
        ("`B`", 1),
        ("**B**", 1),
        ("b", 1),
        ('{"label": "B"}', 1),
        ('```json\n{"label": "B"}\n```', 1),
        ("Sports news", 1),
        ("sports NEWS", 1),
        ('{"label": "Sports news"}', 1),
        ("card arrival", 2),
        ("B: Sports news", 1),
        ("B) sports news", 1),
    ],
)
def test_codes_labels_and_their_simple_variants_are_parsed(reply: str, expected: int) -> None:
    assert column(reply) == expected


THINKING = "<think>A or B? World fits less.\n</think>\n\n"


@pytest.mark.parametrize(
    "reply",
    [
        THINKING + "B",
        "It may be A.</think>B",
        "<thinking>A</thinking> **B**",
        "<|channel|>analysis<|message|>A?<|end|><|start|>assistant<|channel|>final<|message|>B",
        "B<eos>",
        "B</s>",
        "B <|im_end|>",
        "B<end_of_turn>\n<eos>",
        "Answer: B",
        "**Answer:** B",
        "The answer is B.",
        "The correct answer is: **B**",
        "Final answer: Sports news",
        "Label: B: Sports news",
        "label = 'B'",
        "[B]",
        "(B)",
        "<B>",
        "[B] Sports news",
        "(B) Sports news",
        "\\boxed{B}",
        "$\\boxed{\\text{B}}$",
        'Answer: {"label": "B"}',
        '{"label": "B", "confidence": 0.9}',
        '{"confidence": 0.9, "label": "Sports news", "reason": "about a match"}',
        '{"code": "B", "label": "Sports news"}',
        '{"Answer": "B"}',
        '{"category": "sports news", "scores": [0.1, 0.9]}',
        THINKING + '```json\n{"label": "B", "confidence": 0.9}\n```',
        THINKING + "Answer: [B]<|im_end|>",
    ],
)
def test_thinking_and_common_frames_are_left_out(reply: str) -> None:
    assert column(reply) == 1


@pytest.mark.parametrize(
    "reply",
    [
        "<think>B",
        "<think>B</think>",
        "B</think>",
        "Answer:",
        "Answer: A or B",
        "Answer: B: World",
        "The answer is not B",
        "answer B",
        "[A, B]",
        "[A] Sports news",
        "(B",
        "[[[[[B]]]]]",
        "A\nB",
        "B<eos>A",
        '{"label": "A", "second": "B"}',
        '{"label": "B", "labels": ["A", "B"]}',
        '{"label": "A", "answer": "B"}',
        '{"label": "A", "label": "B"}',
        '{"label": "B", "scores": {"A": 0.4, "B": 0.6}}',
        '{"A": 0.1, "B": 0.9}',
        '{"confidence": 0.9}',
        '{"label": 1, "confidence": 0.9}',
        '{"name": "B"}',
    ],
)
def test_a_frame_around_more_than_one_label_is_no_answer(reply: str) -> None:
    assert column(reply) is None


@pytest.mark.parametrize(
    "reply", [THINKING + "B", "Answer: B<eos>", "[B]", '{"label": "B", "confidence": 0.9}', "(B) Sports news"]
)
def test_the_code_within_a_frame_is_found_among_the_tokens(reply: str) -> None:
    found = LabelParser(LABELS, CODES).parse(reply)
    assert found is not None
    assert found.code_offset == reply.rindex("B")


@pytest.mark.parametrize(
    "part", ["<think>", "</think>", "<", "[", "(", " ", "\n", "Answer: ", '"', "<eos>", "\\boxed{", "{", "A "]
)
def test_a_long_reply_of_one_piece_is_read_at_once(part: str) -> None:
    reading = LabelParser(LABELS, CODES)
    assert reading.parse(part * (10**6 // len(part))) is None


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "D",
        "AB",
        "A B",
        "A, B",
        "A or B",
        "I think B",
        "B: World",
        "Sport",
        "World Sports news",
        '{"label": "D"}',
        '{"label": ["B"]}',
        '{"label": "A", "label2": "B"}',
        '{"label": "B"',
        "null",
        "[" * 100_000,
        '{"label":' * 10_000,
    ],
)
def test_anything_else_is_unparsable(reply: str) -> None:
    assert column(reply) is None


def test_an_alias_is_parsed_and_the_label_itself_wins() -> None:
    assert column("planet", planet="World") == 0
    assert LabelParser(("a", "b"), ("A1", "B1"), {"a": "b"}).parse("a").column == 0  # type: ignore[union-attr]


def test_labels_that_differ_only_in_case_are_never_mixed_up() -> None:
    reading = LabelParser(("polish", "Polish"), CODES[:2])
    assert reading.parse("Polish").column == 1  # type: ignore[union-attr]
    assert reading.parse("POLISH") is None


@given(st.text(max_size=30))
def test_a_reply_is_parsed_only_if_it_names_one_label(reply: str) -> None:
    found = LabelParser(LABELS, CODES).parse(reply)
    if found is not None:
        named = reply.casefold().replace("_", " ").replace("-", " ")
        names = (CODES[found.column].casefold(), LABELS[found.column].casefold().replace("_", " "))
        assert any(name in " ".join(named.split()) for name in names)


@given(st.lists(st.text(min_size=1, max_size=12).filter(str.strip), min_size=2, max_size=60, unique=True), st.data())
def test_every_code_and_every_label_parses_as_itself(labels: list[str], data: st.DataObject) -> None:
    codes = label_codes(labels)
    reading = LabelParser(labels, codes)
    number = data.draw(st.integers(0, len(labels) - 1))
    assert reading.parse(codes[number]).column == number  # type: ignore[union-attr]
    assert reading.parse(json.dumps({"label": codes[number]})).column == number  # type: ignore[union-attr]
    assert reading.parse(json.dumps({"label": labels[number]})).column == number  # type: ignore[union-attr]


# --- soft labels -------------------------------------------------------------------------------------------


def probabilities(scores: tuple[float, ...] | None) -> list[float]:
    assert scores is not None
    assert math.isclose(sum(math.exp(score) for score in scores), 1.0, abs_tol=1e-3)
    return [math.exp(score) for score in scores]


def top(**listed: float) -> dict[str, float]:
    return {token: math.log(p) for token, p in listed.items()}


def test_log_probabilities_are_scaled_to_the_codes() -> None:
    steps = [TokenLogprobs("B", top(A=0.2, B=0.6, The=0.2))]
    assert probabilities(scores_from_logprobs(steps, 0, ("A", "B"))) == pytest.approx([0.25, 0.75])


def test_the_answer_is_found_inside_json() -> None:
    sure = {"x": 0.0}
    steps = [
        TokenLogprobs('{"', sure),
        TokenLogprobs("label", sure),
        TokenLogprobs('":', sure),
        TokenLogprobs(' "B', {' "B': -0.1, ' "A': -2.4}),
    ]
    steps.append(TokenLogprobs('"}', sure))
    reply = "".join(step.token for step in steps)
    found = LabelParser(LABELS, CODES).parse(reply)
    assert found is not None
    assert found.code_offset is not None
    got = probabilities(scores_from_logprobs(steps, found.code_offset, CODES))
    assert got[1] / got[0] == pytest.approx(math.exp(2.3), rel=1e-3)


@pytest.mark.parametrize(
    ("tokens", "reply", "at"),
    [
        (["A"], "A", 0),
        (["\n", '{"label": "', "A", '"}', "\n"], '{"label": "A"}', 12),  # blanks left out
        (["```", "json\n", '{"label": "', "A", '"}', "\n```"], '{"label": "A"}', 19),  # a fence left out
        (["<think>", "A or B?", "</think>", "B"], "B", 22),  # thinking left out; the last one counts
        (["A", "\ufffd", "\ufffd"], "A\u00e9", 0),  # half characters after the code
        (["B", " it is"], "A", None),
        ([], "A", None),
    ],
)
def test_a_code_is_found_among_the_tokens_of_a_server_that_tidies_its_replies(
    tokens: list[str], reply: str, at: int | None
) -> None:
    steps = [TokenLogprobs(token, {token: 0.0}) for token in tokens]
    assert locate_code(steps, reply, max(reply.find("A"), reply.find("B")), 1) == at


def test_variants_of_one_code_are_added_up() -> None:
    steps = [TokenLogprobs("A", {"A": math.log(0.3), " A": math.log(0.3), "B": math.log(0.4)})]
    assert probabilities(scores_from_logprobs(steps, 0, ("A", "B"))) == pytest.approx([0.6, 0.4])


def test_a_code_of_several_tokens_is_followed_and_branches_are_shared() -> None:
    codes = ("10", "11", "20", "21")
    steps = [TokenLogprobs("1", top(**{"1": 0.8, "2": 0.2})), TokenLogprobs("0", top(**{"0": 0.75, "1": 0.25}))]
    assert probabilities(scores_from_logprobs(steps, 0, codes)) == pytest.approx([0.6, 0.2, 0.1, 0.1])


def test_a_code_that_was_not_listed_is_unlikely_and_never_impossible() -> None:
    got = probabilities(scores_from_logprobs([TokenLogprobs("A", top(A=0.9, B=0.06))], 0, ("A", "B", "C", "D")))
    assert got[2] == got[3] == pytest.approx(0.02, rel=0.05)
    certain = probabilities(scores_from_logprobs([TokenLogprobs("A", top(A=1.0))], 0, ("A", "B")))
    assert 0 < certain[1] < 1e-5


def test_the_floor_of_a_provider_does_not_break_the_scores() -> None:
    got = scores_from_logprobs([TokenLogprobs("A", {"A": 0.0, "B": -9999.0})], 0, ("A", "B"))
    assert got is not None
    assert all(math.isfinite(score) for score in got)


@pytest.mark.parametrize("steps", [[], [TokenLogprobs("The", top(The=1.0))], [TokenLogprobs("A", {})]])
def test_tokens_without_codes_give_no_soft_label(steps: list[TokenLogprobs]) -> None:
    assert scores_from_logprobs(steps, 0, ("A", "B")) is None


@given(st.lists(st.integers(0, 4), min_size=1, max_size=40))
def test_votes_become_probabilities_with_the_most_voted_on_top(columns: list[int]) -> None:
    got = probabilities(scores_from_votes(columns, 5))
    assert min(got) > 0
    assert columns.count(int(np.argmax(got))) == max(columns.count(c) for c in columns)


def test_a_single_label_gets_the_given_confidence() -> None:
    assert probabilities(scores_from_label(1, 3, 0.9)) == pytest.approx([0.05, 0.9, 0.05])


shares = st.lists(st.floats(0.5, 1e5), min_size=2, max_size=4)


@given(shares, st.permutations(range(4)))
def test_a_label_set_parses_as_shares_that_sum_to_one(weights: list[float], order: list[int]) -> None:
    task = tuple(f"label {i}" for i in range(4))
    reading = LabelParser(task, label_codes(task), candidates=True)
    named = [label_codes(task)[i] for i in order[: len(weights)]]
    rows = [{"label": name, "weight": weight} for name, weight in zip(named, weights, strict=True)]
    found = reading.parse(json.dumps({"candidates": rows}))
    assert found is not None
    assert math.fsum(found.weights.values()) == pytest.approx(1)
    assert found.weights[found.column] == max(found.weights.values())
    got = probabilities(scores_from_weights(found.weights, 4, 0.9))
    named_mass = math.fsum(got[i] for i in order[: len(weights)])
    assert named_mass == pytest.approx(0.9 if len(weights) < 4 else 1.0, abs=1e-4)


def test_a_set_is_read_bare_fenced_and_by_the_names_of_labels() -> None:
    reading = LabelParser(LABELS, CODES, candidates=True)
    for reply in ("A=75, B = 25", "World=75%, Sports news=25%", "```\nA=75, B=25\n```", "A=75,B=25.", '"A"=75, "B"=25'):
        found = reading.parse(reply)
        assert found is not None, reply
        assert found.weights == {0: 0.75, 1: 0.25}
    single = reading.parse("A=40")
    assert single is not None
    assert (single.column, single.weights) == (0, {})
    assert LabelParser(LABELS, CODES).parse("A=75, B=25") is None


@given(st.text(alphabet='AB=,0123456789.% "{}[]:labelcndtswigh', max_size=60) | st.text(max_size=30))
def test_no_reply_breaks_the_parsing_of_sets(reply: str) -> None:
    found = LabelParser(LABELS, CODES, candidates=True).parse(reply)
    if found is not None and found.weights:
        assert math.fsum(found.weights.values()) == pytest.approx(1)
        assert all(weight > 0 for weight in found.weights.values())


# --- written texts -----------------------------------------------------------------------------------------


def test_generated_texts_are_stripped_distinct_and_at_most_as_many_as_requested() -> None:
    assert parse_texts('{"texts": [" a ", "b", "a", "", "c"]}', 2) == ("a", "b")
    assert parse_texts('```json\n["a"]\n```', 5) == ("a",)


@pytest.mark.parametrize("reply", ["", "a\nb", "{}", '{"texts": "a"}', '["a", 1]', '["a"', "[" * 100_000])
def test_what_is_not_a_list_of_texts_is_not_parsed_as_one(reply: str) -> None:
    assert parse_texts(reply, 5) is None
