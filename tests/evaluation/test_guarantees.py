"""Thresholds, label sets and typicality keep their guarantees, over many draws of held-out texts."""

from __future__ import annotations

import json
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom
from support.scores import drawn

from potstill.evaluation.fit_guarantees import fit_guarantees
from potstill.evaluation.guarantees import COVERAGE_LEVELS, THRESHOLDS, Guarantees, binomial_tail, energy_score

SETS = (0.5, 0.8, 0.9, 0.95)


@cache
def simulations(n: int = 150, k: int = 4, count: int = 60) -> tuple[tuple[Guarantees, int], ...]:
    """`count` draws of n held-out texts: the guarantees fitted on each, and its seed."""
    made = []
    for seed in range(count):
        scores = drawn(n, k, temperature=0.7, seed=seed)
        made.append((fit_guarantees(scores.logits, scores.gold), seed))
    return tuple(made)


def test_the_binomial_tail_of_a_certain_outcome_needs_no_logarithm() -> None:
    for p in (0.0, 1.0, 1 - 5e-324):
        assert binomial_tail(3, 30, p) == binom.cdf(3, 30, p)


@given(st.integers(0, 60), st.integers(0, 400), st.floats(0.001, 0.999))
def test_the_binomial_tail_is_scipys(k: int, n: int, p: float) -> None:
    assert binomial_tail(k, n, p) == pytest.approx(binom.cdf(k, n, p), abs=1e-9)


def test_a_threshold_misses_its_precision_in_at_most_one_draw_of_ten() -> None:
    new = drawn(40_000, temperature=0.7, seed=999)
    broken = given_out = 0
    for guarantees, _ in simulations():
        threshold = guarantees.threshold(0.8)
        if threshold is None:
            continue
        given_out += 1
        probs = guarantees.scaling.apply(new.logits)
        sure = probs.max(axis=1) >= threshold
        broken += (probs.argmax(axis=1) == new.gold)[sure].mean() < 0.8
    assert given_out > len(simulations()) / 2
    # Six of sixty are allowed on average; eleven or more would come with a chance of 3 %.
    assert broken <= 10


def test_a_random_student_has_no_threshold_and_a_perfect_one_the_lowest() -> None:
    rng = np.random.default_rng(0)
    logits, gold = rng.normal(size=(300, 4)), rng.integers(0, 4, 300)
    assert fit_guarantees(logits, gold).threshold(0.9) is None
    right = np.eye(4)[gold] * 8
    assert fit_guarantees(right, gold).threshold(0.9) == 0.0


@pytest.mark.parametrize("coverage", SETS)
def test_sets_hold_the_right_label_with_the_target_coverage(coverage: float) -> None:
    """On average over draws; the mean of 60 draws of 150 texts has a standard error of 0.4 points at 0.9."""
    new = drawn(4000, temperature=0.7, seed=999)
    rows = np.arange(len(new.gold))
    got = [guarantees.prediction_sets(new.logits, coverage)[rows, new.gold].mean() for guarantees, _ in simulations()]
    assert np.mean(got) >= coverage - 0.012
    if coverage >= 0.9:  # below, the most probable label, which is always in, covers more
        assert np.mean(got) <= coverage + 0.02


def test_sets_grow_with_coverage_and_hold_the_predicted_label() -> None:
    guarantees, _ = simulations()[0]
    logits = drawn(300, seed=7).logits
    sets = [guarantees.prediction_sets(logits, coverage) for coverage in (0.5, 0.8, 0.9, 0.99, 0.999)]
    for smaller, larger in pairwise(sets):
        assert (larger | ~smaller).all()
    assert all(some[np.arange(300), guarantees.scaling.argmax(logits)].all() for some in sets)
    assert sets[-1].all()  # more than 150 texts can vouch for: every label


def test_sets_equal_mapies() -> None:
    classification = pytest.importorskip("mapie.classification")
    from sklearn.linear_model import LogisticRegression

    held, new = drawn(400, temperature=0.7), drawn(500, temperature=0.7, seed=3)
    model = LogisticRegression().fit(held.logits, held.gold)
    model.coef_, model.intercept_ = np.eye(4), np.zeros(4)
    theirs = classification.SplitConformalClassifier(model, confidence_level=0.9, conformity_score="lac", prefit=True)
    theirs.conformalize(held.logits, held.gold)
    expected = theirs.predict_set(new.logits)[1][:, :, 0]
    ours = fit_guarantees(held.logits, held.gold).prediction_sets(new.logits, 0.9)
    ours_bare = ours & (expected.any(axis=1)[:, None])  # theirs may be empty; ours holds the most probable label then
    np.testing.assert_array_equal(ours_bare, expected)


def test_one_typical_text_in_twenty_is_out_of_scope() -> None:
    new = drawn(4000, temperature=0.7, seed=999)
    shares = [(guarantees.typicality(new.logits) <= 0.05).mean() for guarantees, _ in simulations()]
    assert 0.02 < np.mean(shares) <= 0.055


def test_flat_scores_are_out_of_scope() -> None:
    guarantees, _ = simulations()[0]
    flat = np.random.default_rng(0).normal(scale=0.2, size=(200, 4))
    assert (guarantees.typicality(flat) <= 0.05).mean() > 0.9
    assert energy_score(np.array([[5.0, 0.0]])) > energy_score(np.array([[1.0, 0.0]]))
    np.testing.assert_allclose(energy_score(np.array([[5.0, 0.0]])), energy_score(np.array([[105.0, 100.0]])))


def test_calibration_quality_is_cross_validated_and_has_intervals() -> None:
    scores = drawn(400, temperature=3.0)
    quality = fit_guarantees(scores.logits, scores.gold).calibration_quality
    assert quality.ece_after.value < quality.ece_before.value
    assert quality.brier_after.value < quality.brier_before.value
    for score in (quality.ece_before, quality.brier_after):
        assert score.low < score.high
    assert quality.brier_after.low <= quality.brier_after.value <= quality.brier_after.high


def test_guarantees_survive_json_and_a_list_of_wrong_length_is_refused() -> None:
    guarantees, _ = simulations()[0]
    assert Guarantees.from_json(json.loads(json.dumps(guarantees.to_json()))) == guarantees
    with pytest.raises(ValueError, match="lengths"):
        Guarantees.from_json({**guarantees.to_json(), "n_above": [1, 2]})


def test_a_precision_or_coverage_outside_0_and_1_is_refused() -> None:
    guarantees, _ = simulations()[0]
    for wrong in (0, 1, -0.1, 1.5):
        with pytest.raises(ValueError, match="between"):
            guarantees.threshold(wrong)
        with pytest.raises(ValueError, match="between"):
            guarantees.prediction_sets(np.zeros((1, 4)), wrong)


def test_the_share_above_a_threshold_is_that_of_the_held_out_texts() -> None:
    guarantees, _ = simulations()[0]
    assert guarantees.coverage_above(THRESHOLDS[0]) == 1.0
    assert guarantees.coverage_above(0.9) == guarantees.n_above[90] / guarantees.n
    assert len(guarantees.conformal_scores) == len(COVERAGE_LEVELS)
