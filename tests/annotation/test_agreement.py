"""Agreement, consensus and label issues: against published figures, definitions, and simulations with known truth."""

from __future__ import annotations

from itertools import permutations
from math import isnan

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from potstill.annotation import agreement

# Krippendorff (2011), "Computing Krippendorff's alpha-reliability", example C: 4 observers, 12 units, nominal 0.743.
OBSERVERS = np.array(
    [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, 0, 0, 0],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, 0, 3],
        [0, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, 0],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, 0],
    ]
)


def test_alpha_is_the_one_of_the_paper() -> None:
    assert agreement.krippendorff_alpha(OBSERVERS.T - 1) == pytest.approx(0.743, abs=5e-4)


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(-1, 2), min_size=3, max_size=3), min_size=1, max_size=12))
def test_alpha_is_one_less_disagreement_over_what_chance_would_make(rows: list[list[int]]) -> None:
    units = [[label for label in row if label >= 0] for row in rows]
    units = [unit for unit in units if len(unit) > 1]
    values = [label for unit in units for label in unit]
    pairs = list(permutations(range(len(values)), 2))
    expected = np.mean([values[i] != values[j] for i, j in pairs]) if pairs else 0.0
    found = agreement.krippendorff_alpha(np.array(rows))
    if expected == 0:
        assert isnan(found)
        return
    observed = sum(sum(a != b for a, b in permutations(unit, 2)) / (len(unit) - 1) for unit in units) / len(values)
    assert found == pytest.approx(1 - observed / expected)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=2, max_size=30))
def test_kappa_is_scikit_learns(pairs: list[tuple[int, int]]) -> None:
    one, other = np.array(pairs).T
    found = agreement.cohen_kappa(one, other)
    if isnan(found):
        assert len({*one.tolist(), *other.tolist()}) == 1
    else:
        assert found == pytest.approx(cohen_kappa_score(one, other))


def test_texts_only_one_of_two_labelled_do_not_count() -> None:
    assert agreement.cohen_kappa([0, 1, 1, -1, 0], [0, 1, 1, 0, -1]) == 1.0
    assert isnan(agreement.cohen_kappa([0, -1], [-1, 1]))


def test_majority_takes_the_most_frequent_label_and_minus_one_if_unlabelled() -> None:
    labels = [[0, 0, 1], [1, -1, -1], [-1, -1, -1], [2, 1, -1]]
    assert agreement.majority(labels, 3).tolist() == [0, 1, -1, 1]


def simulate(n: int, confidence: float) -> tuple[np.ndarray, np.ndarray]:
    """True labels and model probabilities: the higher the confidence, the more accurate they are."""
    draw = np.random.default_rng(0)
    truth = draw.integers(0, 3, n)
    probs = draw.dirichlet(np.ones(3), n) * (1 - confidence) + confidence * np.eye(3)[truth]
    return truth, probs


def test_consensus_gives_random_annotators_low_quality_and_outvotes_them() -> None:
    truth, probs = simulate(400, 0.45)
    draw = np.random.default_rng(1)
    good = np.where(draw.random(400) < 0.95, truth, draw.integers(0, 3, 400))
    labels = np.stack([good, draw.integers(0, 3, 400), draw.integers(0, 3, 400), np.full(400, -1)], axis=1)
    found = agreement.consensus(labels, probs)
    assert found.annotator_quality[0] > max(found.annotator_quality[1:3]) + 0.1
    assert isnan(found.annotator_quality[3])
    right = (found.label == truth).mean()
    assert right > (agreement.majority(labels, 3) == truth).mean()
    assert found.quality[found.label == truth].mean() > found.quality[found.label != truth].mean()


def test_swapped_labels_are_the_first_issues() -> None:
    truth, probs = simulate(600, 0.65)
    wrong = np.random.default_rng(2).permutation(600)[:40]
    gold = truth.copy()
    gold[wrong] = (gold[wrong] + 1) % 3
    found = agreement.label_issues(gold, probs)
    caught = len(set(found.rows.tolist()) & set(wrong.tolist()))
    assert caught >= 30
    assert caught >= 0.9 * len(found.rows)
    assert (found.suggested_label == truth[found.rows]).mean() > 0.9
    assert (np.diff(found.quality) >= 0).all()
