"""Cross-validation: the splits of k folds."""

from __future__ import annotations

import numpy as np
import pytest

from potstill.evaluation.cross_validation import fold_splits, random_folds


@pytest.mark.parametrize("n", [1, 3, 5, 23])
def test_each_row_is_held_out_once_and_trained_on_in_every_other_fold(n: int) -> None:
    splits = list(fold_splits(random_folds(n, 5, seed=3)))
    assert len(splits) == min(n, 5)
    assert sorted(row for _, held_out in splits for row in held_out) == list(range(n))
    for train, held_out in splits:
        assert sorted([*train, *held_out]) == list(range(n))


def test_folds_drawn_at_random_differ_by_at_most_one_row() -> None:
    sizes = np.bincount(random_folds(23, 5, seed=0))
    assert sizes.max() - sizes.min() == 1
    np.testing.assert_array_equal(random_folds(23, 5, seed=0), random_folds(23, 5, seed=0))
    assert (random_folds(23, 5, seed=0) != random_folds(23, 5, seed=1)).any()
