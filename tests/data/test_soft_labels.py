"""Soft labels: scores that sum to one are what a student is trained on, and the highest is the label."""

from __future__ import annotations

import numpy as np

from potstill.data.pool import Pool, PoolOptions, build_pool
from potstill.data.tables import Table


def pool_of(labels: list[object]) -> Pool:
    texts = [f"a text that says number {i} and more" for i in range(len(labels))]
    source = Table.from_columns({"text": texts, "label": labels})
    return build_pool(source, options=PoolOptions(test_share=0, validation_share=0)).pool


def test_scores_that_sum_to_one_are_the_targets_and_the_highest_is_the_gold() -> None:
    pool = pool_of([{"a": 0.9, "b": 0.1}, {"a": 0.3, "b": 0.7}] * 10 + ["b"])
    train = pool.subset("train")
    assert np.allclose(train.targets(2)[:2], [[0.9, 0.1], [0.3, 0.7]])
    assert train.targets(2)[-1].tolist() == [0, 1]
    assert train.gold.tolist() == [0, 1] * 10 + [1]
    assert pool.labelled("train").soft is not None


def test_a_pool_with_soft_labels_is_another_one() -> None:
    soft, hard = pool_of([{"a": 0.9, "b": 0.1}, {"a": 0.3, "b": 0.7}] * 10), pool_of(["a", "b"] * 10)
    assert hard.soft is None
    assert soft.key != hard.key
    assert soft.gold.tolist() == hard.gold.tolist()


def test_an_unlabelled_row_has_no_shares_and_a_label_of_no_row_adds_none() -> None:
    pool = pool_of([{"a": 0.9, "b": 0.1}, {"a": 0.2, "b": 0.8}, None] * 10)
    assert pool.soft is not None
    assert (pool.soft[pool.split == "pool"] == 0).all()
    assert np.allclose(pool.soft[pool.split == "train"].sum(axis=1), 1)


def test_names_with_scores_in_one_cell_are_soft_labels_and_a_flag_overrules_that() -> None:
    for one, other in (("a:0.7;b:0.3", "a:0.2; b:0.8"), ("a=70%|b=30%", "a=20%|b=80%"), ("a: .7, b: .3", "b: 1")):
        pool = pool_of([one, other] * 10)
        assert pool.soft is not None, one
        assert pool.gold.tolist() == [0, 1] * 10
    source = Table.from_columns({"text": [f"text number {i}" for i in range(20)], "label": ["a:0.7;b:0.3", "b:1"] * 10})
    built = build_pool(source, options=PoolOptions(test_share=0, validation_share=0))
    assert any("--label-separator" in sentence for sentence in built.report.sentences())
    split = build_pool(source, options=PoolOptions(test_share=0, validation_share=0, label_separator=";"))
    assert set(split.pool.labels) == {"a:0.7", "b:0.3", "b:1"}


def test_names_that_only_look_like_scores_stay_names() -> None:
    for names in (["John 3:16", "Mark 1:2"], ["ratio 3:1", "a:0.7;b:0.3"], ["x:1;y", "z:2"], ["10:30", "11:45"]):
        assert pool_of(names * 10).soft is None, names
