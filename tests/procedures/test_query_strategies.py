"""Rows that are chosen, against what the words say; sums and order for any numbers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.procedures import query_strategies as choose
from potstill.procedures.query_strategies import (
    entropy_sampling,
    hard_negatives,
    margin_sampling,
    random_sampling,
    sample_correct,
    sample_incorrect,
)
from potstill.teachers.generation_quotas import allocate_by_error

GOLD = np.array([0, 0, 1, 1, 2, 2])
PROBS = np.array(
    [
        [0.8, 0.1, 0.1],  # right
        [0.05, 0.9, 0.05],  # wrong, very sure
        [0.4, 0.35, 0.25],  # wrong, hardly
        [0.2, 0.5, 0.3],  # right
        [0.7, 0.2, 0.1],  # wrong, sure
        [0.34, 0.32, 0.34],  # wrong by the tie: the first label is taken
    ]
)


def draw() -> np.random.Generator:
    return np.random.default_rng(0)


def test_hard_negatives_are_the_wrong_ones_the_surest_first() -> None:
    assert hard_negatives(GOLD, PROBS, 2).tolist() == [1, 4]
    assert hard_negatives(GOLD, PROBS, 99).tolist() == [1, 4, 2, 5]
    assert hard_negatives(GOLD[[0, 3]], PROBS[[0, 3]], 5).tolist() == []


def test_correct_and_incorrect_share_the_rows_between_them() -> None:
    assert sorted(sample_correct(GOLD, PROBS, 99, draw())) == [0, 3]
    assert sorted(sample_incorrect(GOLD, PROBS, 99, draw())) == [1, 2, 4, 5]
    assert len(sample_incorrect(GOLD, PROBS, 2, draw())) == 2


def test_the_least_certain_come_first() -> None:
    assert margin_sampling(PROBS, 2).tolist() == [5, 2]
    assert entropy_sampling(PROBS, 2).tolist() == [5, 2]
    assert entropy_sampling(np.array([[1.0, 0.0], [0.5, 0.5]]), 1).tolist() == [1]


def test_a_draw_repeats_with_its_seed_and_takes_no_row_twice() -> None:
    rows = np.arange(100)
    first = random_sampling(rows, 30, draw())
    assert first.tolist() == random_sampling(rows, 30, draw()).tolist()
    assert first.tolist() != random_sampling(rows, 30, np.random.default_rng(1)).tolist()
    assert len(set(first.tolist())) == 30
    assert random_sampling([], 3, draw()).tolist() == []


@given(
    st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1e6)), min_size=1, max_size=300).filter(
        lambda rows: sum(prior for _, prior in rows) > 0
    ),
    st.integers(0, 200),
    st.integers(0, 5),
)
def test_every_text_is_given_to_some_label_and_none_gets_what_it_does_not_need(
    rows: list[tuple[float, float]], n: int, seed: int
) -> None:
    f1, prior = (np.array(column) for column in zip(*rows, strict=True))
    counts = allocate_by_error(f1, prior, n, np.random.default_rng(seed))
    assert counts.sum() == n
    assert counts.min() >= 0
    need = (1 - f1) * prior
    if need.sum() > 0:
        assert np.abs(counts - n * need / need.sum()).max() < 1 + 1e-6


def test_what_is_missing_and_common_gets_most() -> None:
    counts = allocate_by_error([1.0, 0.5, 0.0], [10, 10, 5], 20, draw())
    assert counts.tolist() == [0, 10, 10]
    many = sum(allocate_by_error(np.zeros(335), np.ones(335), 32, np.random.default_rng(seed)) for seed in range(300))
    assert isinstance(many, np.ndarray)
    assert many.min() > 10  # a rare label gets a text now and then
    assert allocate_by_error([1.0, 1.0], [3, 1], 4, draw()).tolist() == [3, 1]


def test_no_rows_select_nothing() -> None:
    nothing = np.empty((0, 3))
    assert hard_negatives([], nothing, 4).tolist() == []
    assert margin_sampling(nothing, 4).tolist() == []
    with pytest.raises(ValueError):
        margin_sampling(np.ones((3, 1)), 1)


def test_the_most_confused_labels_come_in_pairs() -> None:
    probs = [[0.9, 0.1, 0.0, 0.0], [0.4, 0.6, 0.0, 0.0], [0.0, 0.0, 0.8, 0.2], [0.0, 0.0, 0.1, 0.9]]
    assert choose.most_confused_labels([0, 1, 2, 3], probs, 2).tolist() == [0, 1]
    assert choose.most_confused_labels([0, 1, 2, 3], probs, 4).tolist() == [0, 1, 2, 3]
    assert choose.most_confused_labels([0, 1, 2, 3], probs, 9).tolist() == [0, 1, 2, 3]


def test_each_anchor_has_its_turn_with_its_nearest_row() -> None:
    rows = [[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.1, 0.9], [-1.0, -1.0]]
    assert choose.nearest_to_anchors(rows, [[2.0, 0.0], [0.0, 5.0]], 3).tolist() == [0, 2, 1]
    assert choose.nearest_to_anchors(rows, np.zeros((0, 2)), 3).tolist() == []
    assert len(choose.nearest_to_anchors(rows, [[1.0, 1.0]], 9)) == 5
