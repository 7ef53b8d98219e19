"""Which words stand for a label, and how its score is read from their tokens."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from potstill.errors import BadSpec
from potstill.students.verbalizer import (
    VerbalizerSpec,
    causal_verbalizer,
    default_label_words,
    find_label_tokens,
    first_token_collisions,
    label_phrase,
    masked_verbalizer,
    resolve_collisions,
    salient_words,
)

END = 99
WORDS = st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=4), min_size=2, max_size=8, unique_by=tuple)


@pytest.mark.parametrize(
    ("label", "words"), [("card_arrival", "card arrival"), ("cardArrival", "card Arrival"), ("Sci/Tech", "Sci/Tech")]
)
def test_a_label_name_becomes_words(label: str, words: str) -> None:
    assert label_phrase(label) == words


def test_one_or_several_words_may_be_set_for_a_label() -> None:
    given_words = {"good": ["great", "fine"], "bad": "awful"}
    assert default_label_words(("good", "bad", "so_so"), given_words) == (("great", "fine"), ("awful",), ("so so",))


def test_salient_words_are_those_that_no_other_description_has() -> None:
    described = {"LOC": "asks for a place, such as a city", "HUM": "asks for a person, such as a city's mayor"}
    place, person = salient_words(("LOC", "HUM"), described)
    assert place[0] in ("loc", "place")
    assert "city" not in place[:2]
    assert person[:2] == ["hum", "person"]


def test_names_with_the_same_first_token_get_a_word_of_their_description() -> None:
    tokens = {"card arrival": [1, 2], "card fee": [1, 3], "top up": [4], "delivery": [5], "charge": [6]}
    labels = ("card arrival", "card fee", "top up")
    described = {"card arrival": "about delivery", "card fee": "about a charge", "top up": "about delivery"}
    found = resolve_collisions(
        default_label_words(labels, {}), labels, described, lambda word: tokens.get(word, [7, 8])
    )
    assert found[1:] == (("charge",), ("top up",))
    assert found[0] == ("delivery",)
    assert first_token_collisions([[[1, 2]], [[1, 3]], [[4]]]) == [0, 1]


def test_single_tokens_need_no_normalisation() -> None:
    reading = causal_verbalizer([[[1]], [[2], [3]]], "sum", END)
    assert not reading.normalised
    assert reading.tokens == ()
    assert reading.edge_weights.T.tolist() == [[1, 0, 0], [0, 0.5, 0.5]]


def test_a_prefix_of_another_word_gets_an_end_token() -> None:
    reading = causal_verbalizer([[[1]], [[1, 2]]], "sum", END)
    assert (1, END) in reading.edges
    assert reading.normalised


@settings(max_examples=60, deadline=None)
@given(WORDS, st.sampled_from(["sum", "mean", "blend"]))
def test_every_token_of_a_word_counts_once(words: list[list[int]], several: str) -> None:
    labels = [[word] for word in words]
    try:
        reading = causal_verbalizer(labels, several, END)  # type: ignore[arg-type]
    except BadSpec:
        assert several == "blend"  # which knows no order: "a b" and "b a" may be the same
        return
    ends = any(a == b[: len(a)] for a in words for b in words if len(a) < len(b)) and several != "blend"
    for label, word in enumerate(words):
        mass = float(reading.edge_weights[:, label].sum())
        assert mass == pytest.approx(len(word) + ends if several == "sum" else 1.0, rel=1e-5)
    assert reading.n_positions <= 1 + len(reading.tokens)
    assert all(parent < node for node, parent in enumerate(reading.parents))


@given(WORDS)
def test_a_verbalizer_survives_json(words: list[list[int]]) -> None:
    reading = causal_verbalizer([[word] for word in words], "sum", END)
    again = VerbalizerSpec.from_json(reading.to_json())
    assert (again.tokens, again.parents, again.edges) == (reading.tokens, reading.parents, reading.edges)
    assert np.array_equal(again.edge_weights, reading.edge_weights)


def test_labels_with_the_same_tokens_are_refused() -> None:
    with pytest.raises(BadSpec, match="same"):
        masked_verbalizer([[[1, 2]], [[1, 2]]], "mean")
    with pytest.raises(BadSpec, match="no word"):
        masked_verbalizer([[[1]], [[]]], "mean")


def test_tokens_that_separate_labels_are_found_and_forbidden_ones_are_not() -> None:
    draw = np.random.default_rng(0)
    gold = np.repeat([0, 1, 2], 8)
    scores = draw.normal(-8, 0.1, (24, 50))
    for label, token in enumerate((7, 21, 40)):
        scores[gold == label, token] += 3
    scores[gold == 1, 33] += 5
    allowed = np.ones(50, dtype=bool)
    allowed[33] = False  # no word
    found = find_label_tokens(scores, gold, 3, allowed)
    assert [choices[0] for choices in found] == [7, 21, 40]
