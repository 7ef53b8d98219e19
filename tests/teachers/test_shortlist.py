"""Which labels and examples are near a text, how well that is known, and how shortlists add up to one row of scores."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.data.task import LabelledText, Task
from potstill.errors import BadInput, UnknownName
from potstill.teachers.label_parsing import MIN_PROBABILITY
from potstill.teachers.shortlist import (
    ShortlistIndex,
    ShortlistScores,
    combine_shortlists,
    predicts_none,
    split_label_name,
)

TASK = Task(
    ("card_arrival", "CashWithdrawal", "exchange-rate", "top up"),
    descriptions={"exchange-rate": "what one currency is worth in another"},
)
GOLD = (
    LabelledText("when will my plastic come", "card_arrival"),
    LabelledText("has my plastic been sent", "card_arrival"),
    LabelledText("the machine gave me no notes", "CashWithdrawal"),
    LabelledText("how many euros for a dollar", "exchange-rate"),
)


def test_a_label_is_compared_by_its_words_and_its_description() -> None:
    assert [split_label_name(label) for label in TASK.labels] == [
        "card arrival",
        "Cash Withdrawal",
        "exchange rate",
        "top up",
    ]
    assert split_label_name("+++") == "+++"
    near = ShortlistIndex(TASK, ())
    for text, best in (("my card?", 0), ("a cash withdrawal", 1), ("which currency", 2), ("how do I top up", 3)):
        assert near.similarities(text).ranked_labels()[0] == best
        assert sorted(near.similarities(text).ranked_labels()) == [0, 1, 2, 3]


def test_gold_examples_raise_a_label_that_its_name_does_not() -> None:
    text = "no plastic in my letter box"
    assert ShortlistIndex(TASK, GOLD).similarities(text).ranked_labels()[0] == 0
    assert [each.label for each in ShortlistIndex(TASK, GOLD).similarities(text).nearest_examples(2)] == [
        "card_arrival",
        "card_arrival",
    ]


def test_the_nearest_example_comes_last_and_a_text_is_never_its_own_example() -> None:
    near = ShortlistIndex(TASK, (*GOLD, LabelledText(GOLD[0].text, "top up")))
    shown = near.similarities(GOLD[0].text).nearest_examples(9)
    assert GOLD[0].text not in {each.text for each in shown}
    assert shown[-1] == GOLD[1]
    assert len(shown) == 3
    assert near.similarities(GOLD[0].text).nearest_examples(0) == ()


def test_only_examples_of_the_labels_offered_are_shown() -> None:
    assert [each.label for each in ShortlistIndex(TASK, GOLD).similarities("plastic").nearest_examples(9, (1, 2))] == [
        "exchange-rate",
        "CashWithdrawal",
    ]


def test_recall_is_measured_with_each_text_left_out() -> None:
    near = ShortlistIndex(TASK, GOLD)
    assert str(near.recall(4)) == "shortlist recall at 4: 100% on 4 gold texts"
    recall = near.recall(1)
    assert recall is not None
    # Only the two about plastic have another of their label.
    assert recall.share == 0.5
    assert ShortlistIndex(TASK, ()).recall(2) is None


def test_a_text_that_shares_nothing_is_ranked_all_the_same() -> None:
    near = ShortlistIndex(TASK, GOLD)
    for text in ("", "\x00", "是", "x" * 100_000):
        assert sorted(near.similarities(text).ranked_labels()) == [0, 1, 2, 3]
        assert len(near.similarities(text).nearest_examples(2)) == 2


def test_static_vectors_embed_too(potion: Path) -> None:
    near = ShortlistIndex(TASK, GOLD, str(potion))
    assert near.similarities("money from the ATM").ranked_labels()[0] == 1
    assert near.identity == ShortlistIndex(TASK, (), str(potion)).identity != ShortlistIndex(TASK, GOLD).identity


def test_an_unknown_embedding_is_refused(minilm: Path) -> None:
    with pytest.raises(BadInput, match="static"):
        ShortlistIndex(TASK, GOLD, str(minilm))
    with pytest.raises(UnknownName):
        ShortlistIndex(TASK, GOLD, "tfidff")


# --- one shortlist after the other -------------------------------------------------------------------------------


def test_probability_of_none_is_shared_by_the_next_shortlist() -> None:
    first = ShortlistScores((0, 1), np.log([0.1, 0.1, 1e-9, 1e-9, 1e-9, 0.8]))
    second = ShortlistScores((2, 3), np.log([1e-9, 1e-9, 0.7, 0.1, 1e-9, 0.2]))
    assert predicts_none(first.scores)
    assert not predicts_none(second.scores)
    np.testing.assert_allclose(np.exp(combine_shortlists([first, second])), [0.1, 0.1, 0.56, 0.08, 0.16], atol=1e-5)


def test_labels_on_no_shortlist_share_the_remainder() -> None:
    only = ShortlistScores((0,), np.log([0.9, 1e-9, 1e-9, 0.1]))
    np.testing.assert_allclose(np.exp(combine_shortlists([only])), [0.9, 0.05, 0.05], atol=1e-5)


rows = st.lists(st.floats(-30, 0), min_size=7, max_size=7)


@given(st.lists(rows, min_size=1, max_size=3))
def test_joined_scores_are_log_probabilities_with_a_floor(rows: list[list[float]]) -> None:
    rounds = [ShortlistScores((2 * i, 2 * i + 1), row) for i, row in enumerate(rows)]
    scores = combine_shortlists(rounds)
    assert math.fsum(map(math.exp, scores)) == pytest.approx(1)
    assert min(scores) >= math.log(MIN_PROBABILITY / 2)
    # Within one shortlist the order stays.
    last = rounds[-1]
    a, b = last.columns
    assert (scores[a] >= scores[b] - 1e-9) or last.scores[a] <= last.scores[b]
