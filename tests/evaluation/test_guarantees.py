"""Thresholds, label sets and usualness keep their promises, over many draws of held-out texts."""

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
def worlds(n: int = 150, k: int = 4, count: int = 60) -> tuple[tuple[Guarantees, int], ...]:
    """Many draws of n held-out texts, each with what was measured on it."""
    made = []
    for seed in range(count):
        scores = drawn(n, k, temperature=0.7, seed=seed)
        made.append((fit_guarantees(scores.logits, scores.gold), seed))
    return tuple(made)


@given(st.integers(0, 60), st.integers(0, 400), st.floats(0.001, 0.999))
def test_the_binomial_tail_is_scipys(k: int, n: int, p: float) -> None:
    assert binomial_tail(k, n, p) == pytest.approx(binom.cdf(k, n, p), abs=1e-9)


def test_a_threshold_breaks_its_promise_in_at_most_one_draw_of_ten() -> None:
    new = drawn(40_000, temperature=0.7, seed=999)
    broken = given_out = 0
    for trust, _ in worlds():
        threshold = trust.threshold(0.8)
        if threshold is None:
            continue
        given_out += 1
        probs = trust.scaling.apply(new.logits)
        sure = probs.max(axis=1) >= threshold
        broken += (probs.argmax(axis=1) == new.gold)[sure].mean() < 0.8
    assert given_out > len(worlds()) / 2
    # Six of sixty are allowed on average; eleven or more would come with a chance of 3 %.
    assert broken <= 10


def test_a_student_that_guesses_gets_no_threshold_and_a_perfect_one_needs_none() -> None:
    rng = np.random.default_rng(0)
    logits, gold = rng.normal(size=(300, 4)), rng.integers(0, 4, 300)
    assert fit_guarantees(logits, gold).threshold(0.9) is None
    right = np.eye(4)[gold] * 8
    assert fit_guarantees(right, gold).threshold(0.9) == 0.0


@pytest.mark.parametrize("coverage", SETS)
def test_sets_hold_the_right_label_as_often_as_promised(coverage: float) -> None:
    """On average over draws; the mean of 60 draws of 150 texts has a standard error of 0.4 points at 0.9."""
    new = drawn(4000, temperature=0.7, seed=999)
    rows = np.arange(len(new.gold))
    got = [trust.prediction_sets(new.logits, coverage)[rows, new.gold].mean() for trust, _ in worlds()]
    assert np.mean(got) >= coverage - 0.012
    if coverage >= 0.9:  # below, the likeliest label, which is always in, covers more
        assert np.mean(got) <= coverage + 0.02


def test_sets_grow_with_coverage_and_hold_the_predicted_label() -> None:
    trust, _ = worlds()[0]
    logits = drawn(300, seed=7).logits
    sets = [trust.prediction_sets(logits, coverage) for coverage in (0.5, 0.8, 0.9, 0.99, 0.999)]
    for smaller, larger in pairwise(sets):
        assert (larger | ~smaller).all()
    assert all(some[np.arange(300), trust.scaling.argmax(logits)].all() for some in sets)
    assert sets[-1].all()  # more than 150 texts can vouch for: every label


def test_sets_are_mapies_where_mapie_is_installed() -> None:
    classification = pytest.importorskip("mapie.classification")
    from sklearn.linear_model import LogisticRegression

    held, new = drawn(400, temperature=0.7), drawn(500, temperature=0.7, seed=3)
    model = LogisticRegression().fit(held.logits, held.gold)
    model.coef_, model.intercept_ = np.eye(4), np.zeros(4)
    theirs = classification.SplitConformalClassifier(model, confidence_level=0.9, conformity_score="lac", prefit=True)
    theirs.conformalize(held.logits, held.gold)
    expected = theirs.predict_set(new.logits)[1][:, :, 0]
    ours = fit_guarantees(held.logits, held.gold).prediction_sets(new.logits, 0.9)
    ours_bare = ours & (expected.any(axis=1)[:, None])  # theirs may be empty; ours holds the likeliest label then
    np.testing.assert_array_equal(ours_bare, expected)


def test_one_text_in_twenty_of_the_students_own_kind_looks_unusual_and_no_more() -> None:
    new = drawn(4000, temperature=0.7, seed=999)
    shares = [(trust.typicality(new.logits) <= 0.05).mean() for trust, _ in worlds()]
    assert 0.02 < np.mean(shares) <= 0.055


def test_flat_scores_are_unusual() -> None:
    trust, _ = worlds()[0]
    flat = np.random.default_rng(0).normal(scale=0.2, size=(200, 4))
    assert (trust.typicality(flat) <= 0.05).mean() > 0.9
    assert energy_score(np.array([[5.0, 0.0]])) > energy_score(np.array([[1.0, 0.0]]))
    np.testing.assert_allclose(energy_score(np.array([[5.0, 0.0]])), energy_score(np.array([[105.0, 100.0]])))


def test_calibration_is_reported_with_intervals_on_texts_its_own_scaling_had_not_seen() -> None:
    scores = drawn(400, temperature=3.0)
    quality = fit_guarantees(scores.logits, scores.gold).calibration_quality
    assert quality.ece_after.value < quality.ece_before.value
    assert quality.brier_after.value < quality.brier_before.value
    for score in (quality.ece_before, quality.brier_after):
        assert score.low < score.high
    assert quality.brier_after.low <= quality.brier_after.value <= quality.brier_after.high


def test_what_is_written_is_read_back() -> None:
    trust, _ = worlds()[0]
    assert Guarantees.from_json(json.loads(json.dumps(trust.to_json()))) == trust
    with pytest.raises(ValueError, match="lengths"):
        Guarantees.from_json({**trust.to_json(), "n_above": [1, 2]})


def test_impossible_wishes_are_refused() -> None:
    trust, _ = worlds()[0]
    for wrong in (0, 1, -0.1, 1.5):
        with pytest.raises(ValueError, match="between"):
            trust.threshold(wrong)
        with pytest.raises(ValueError, match="between"):
            trust.prediction_sets(np.zeros((1, 4)), wrong)


def test_the_share_above_a_threshold_is_that_of_the_held_out_texts() -> None:
    trust, _ = worlds()[0]
    assert trust.coverage_above(THRESHOLDS[0]) == 1.0
    assert trust.coverage_above(0.9) == trust.n_above[90] / trust.n
    assert len(trust.conformal_scores) == len(COVERAGE_LEVELS)
