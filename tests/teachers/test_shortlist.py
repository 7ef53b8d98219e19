"""Which labels and examples are near a text, how well that is known, and how shortlists add up to one row of scores."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.data.task import Task, Written
from potstill.errors import BadInput, UnknownName
from potstill.teachers.parse import LEAST
from potstill.teachers.shortlist import Heard, Near, is_none, joined, spoken

TASK = Task(
    ("card_arrival", "CashWithdrawal", "exchange-rate", "top up"),
    descriptions={"exchange-rate": "what one currency is worth in another"},
)
GOLD = (
    Written("when will my plastic come", "card_arrival"),
    Written("has my plastic been sent", "card_arrival"),
    Written("the machine gave me no notes", "CashWithdrawal"),
    Written("how many euros for a dollar", "exchange-rate"),
)


def test_a_label_is_compared_by_its_words_and_its_description() -> None:
    assert [spoken(label) for label in TASK.labels] == ["card arrival", "Cash Withdrawal", "exchange rate", "top up"]
    assert spoken("+++") == "+++"
    near = Near(TASK, ())
    for text, best in (("my card?", 0), ("a cash withdrawal", 1), ("which currency", 2), ("how do I top up", 3)):
        assert near.look(text).labels()[0] == best
        assert sorted(near.look(text).labels()) == [0, 1, 2, 3]


def test_gold_examples_bring_a_label_near_that_its_name_does_not() -> None:
    text = "no plastic in my letter box"
    assert Near(TASK, GOLD).look(text).labels()[0] == 0
    assert [each.label for each in Near(TASK, GOLD).look(text).examples(2)] == ["card_arrival", "card_arrival"]


def test_the_nearest_example_comes_last_and_a_text_is_never_its_own_example() -> None:
    near = Near(TASK, (*GOLD, Written(GOLD[0].text, "top up")))
    shown = near.look(GOLD[0].text).examples(9)
    assert GOLD[0].text not in {each.text for each in shown}
    assert shown[-1] == GOLD[1]
    assert len(shown) == 3
    assert near.look(GOLD[0].text).examples(0) == ()


def test_only_examples_of_the_labels_offered_are_shown() -> None:
    assert [each.label for each in Near(TASK, GOLD).look("plastic").examples(9, (1, 2))] == [
        "exchange-rate",
        "CashWithdrawal",
    ]


def test_recall_is_measured_with_each_text_left_out() -> None:
    near = Near(TASK, GOLD)
    assert str(near.recall(4)) == "shortlist recall at 4: 100% on 4 gold texts"
    recall = near.recall(1)
    assert recall is not None
    # Only the two about plastic have another of their label.
    assert recall.share == 0.5
    assert Near(TASK, ()).recall(2) is None


def test_a_text_that_shares_nothing_is_ranked_all_the_same() -> None:
    near = Near(TASK, GOLD)
    for text in ("", "\x00", "是", "x" * 100_000):
        assert sorted(near.look(text).labels()) == [0, 1, 2, 3]
        assert len(near.look(text).examples(2)) == 2


def test_static_vectors_embed_too(potion: Path) -> None:
    near = Near(TASK, GOLD, str(potion))
    assert near.look("money from the ATM").labels()[0] == 1
    assert near.identity == Near(TASK, (), str(potion)).identity != Near(TASK, GOLD).identity


def test_an_embedding_that_is_none_is_refused(minilm: Path) -> None:
    with pytest.raises(BadInput, match="static"):
        Near(TASK, GOLD, str(minilm))
    with pytest.raises(UnknownName):
        Near(TASK, GOLD, "tfidff")


# --- one shortlist after the other -------------------------------------------------------------------------------


def test_what_one_shortlist_gives_to_none_is_shared_by_the_next() -> None:
    first = Heard((0, 1), np.log([0.1, 0.1, 1e-9, 1e-9, 1e-9, 0.8]))
    second = Heard((2, 3), np.log([1e-9, 1e-9, 0.7, 0.1, 1e-9, 0.2]))
    assert is_none(first.scores)
    assert not is_none(second.scores)
    np.testing.assert_allclose(np.exp(joined([first, second])), [0.1, 0.1, 0.56, 0.08, 0.16], atol=1e-5)


def test_labels_nobody_was_offered_share_the_floor() -> None:
    only = Heard((0,), np.log([0.9, 1e-9, 1e-9, 0.1]))
    np.testing.assert_allclose(np.exp(joined([only])), [0.9, 0.05, 0.05], atol=1e-5)


rows = st.lists(st.floats(-30, 0), min_size=7, max_size=7)


@given(st.lists(rows, min_size=1, max_size=3))
def test_joined_scores_are_log_probabilities_with_a_floor(rows: list[list[float]]) -> None:
    rounds = [Heard((2 * i, 2 * i + 1), row) for i, row in enumerate(rows)]
    scores = joined(rounds)
    assert math.fsum(map(math.exp, scores)) == pytest.approx(1)
    assert min(scores) >= math.log(LEAST / 2)
    # Within one shortlist the order stays.
    last = rounds[-1]
    a, b = last.columns
    assert (scores[a] >= scores[b] - 1e-9) or last.scores[a] <= last.scores[b]
