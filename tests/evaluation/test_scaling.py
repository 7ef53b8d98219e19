"""Temperature and vector scaling: recovered on simulated labels, and not overfitted to few."""

from __future__ import annotations

import numpy as np
import pytest
from support.scores import drawn

from potstill.evaluation import metrics
from potstill.evaluation.guarantees import Scaling
from potstill.evaluation.scaling import no_scaling, select_scaling, temperature_scaling, vector_scaling


def test_a_calibrated_student_is_not_scaled() -> None:
    scores = drawn(2000)
    chosen = select_scaling(scores.logits, scores.gold)
    assert chosen.scaling == Scaling()
    np.testing.assert_allclose(chosen.probs, Scaling().apply(scores.logits))


def test_one_temperature_is_selected_if_it_is_enough() -> None:
    scores = drawn(2000, temperature=2.5)
    chosen = select_scaling(scores.logits, scores.gold)
    assert chosen.scaling.method == "temperature"
    assert 1 / chosen.scaling.scale[0] == pytest.approx(2.5, rel=0.1)
    assert chosen.log_loss["temperature"] < chosen.log_loss["none"]


def test_vector_scaling_is_selected_with_enough_texts() -> None:
    shift = np.array([2.0, -2.0, 0.0, 0.0])
    scores, new = drawn(3000, temperature=2.0, shift=shift), drawn(3000, temperature=2.0, shift=shift, seed=1)
    chosen = select_scaling(scores.logits, scores.gold)
    assert chosen.scaling.method == "vector"
    np.testing.assert_allclose(chosen.scaling.shift, shift, atol=0.5)  # the pull takes a little off
    before, after = (fit(scores.logits, scores.gold).apply(new.logits) for fit in (temperature_scaling, vector_scaling))
    assert metrics.log_loss(new.gold, after) < metrics.log_loss(new.gold, before)
    assert metrics.ece(new.gold, after) < 0.03


@pytest.mark.parametrize("seed", range(3))
def test_few_texts_of_many_labels_are_scaled_by_one_temperature(seed: int) -> None:
    few = drawn(50, k=30, temperature=2.0, seed=seed)
    assert select_scaling(few.logits, few.gold).scaling.method == "temperature"


def test_the_penalty_keeps_labels_with_few_texts_near_the_one_temperature() -> None:
    scores = drawn(50, k=30, temperature=2.0)
    scaling, middle = vector_scaling(scores.logits, scores.gold), temperature_scaling(scores.logits, scores.gold)
    assert np.abs(np.log(np.array(scaling.scale) / middle.scale[0])).max() < 0.5
    assert np.abs(scaling.shift).max() < 0.5


def test_a_constant_in_a_texts_logits_changes_no_temperature() -> None:
    scores = drawn(400, temperature=2.0)
    moved = scores.logits + np.random.default_rng(5).normal(scale=50, size=(400, 1))
    here, there = (temperature_scaling(logits, scores.gold) for logits in (scores.logits, moved))
    assert here.scale == pytest.approx(there.scale)


@pytest.mark.parametrize("constant", [0.0, 5.0, 50.0])
def test_a_scaling_is_as_good_as_selected_on_logits_with_a_constant_in_each_text(constant: float) -> None:
    """A language model's log-probabilities of the labels are of this kind: all low for an unlikely text."""
    shift = np.array([2.0, -2.0, 0.0, 0.0])
    scores, new = drawn(3000, temperature=2.0, shift=shift), drawn(3000, temperature=2.0, shift=shift, seed=1)
    draw = np.random.default_rng(5)
    known, others = (each.logits - constant * draw.uniform(1, 2, size=(3000, 1)) for each in (scores, new))
    chosen = select_scaling(known, scores.gold)
    found = metrics.log_loss(new.gold, chosen.scaling.apply(others))
    assert found == pytest.approx(chosen.log_loss[chosen.scaling.method], abs=0.03)
    assert found < metrics.log_loss(new.gold, temperature_scaling(known, scores.gold).apply(others))


def test_temperature_scaling_is_scikit_learns() -> None:
    """CalibratedClassifierCV(method="temperature") on a frozen classifier, scikit-learn >= 1.8."""
    pytest.importorskip("sklearn", minversion="1.8")
    from sklearn import calibration
    from sklearn.frozen import FrozenEstimator
    from sklearn.linear_model import LogisticRegression

    scores = drawn(1500, temperature=2.0)
    # A classifier whose decision function is the logits themselves.
    model = LogisticRegression().fit(scores.logits, scores.gold)
    model.coef_, model.intercept_ = np.eye(4), np.zeros(4)
    wrapped = calibration.CalibratedClassifierCV(FrozenEstimator(model), method="temperature")
    expected = wrapped.fit(scores.logits, scores.gold).predict_proba(scores.logits)
    ours = temperature_scaling(scores.logits, scores.gold).apply(scores.logits)
    np.testing.assert_allclose(ours, expected, atol=2e-3)


def test_argmax_is_the_label_of_the_highest_probability() -> None:
    scores = drawn(500, shift=np.array([2.0, -2.0, 0.0, 0.0]))
    for fit in (no_scaling, temperature_scaling, vector_scaling):
        scaling = fit(scores.logits, scores.gold)
        np.testing.assert_array_equal(scaling.argmax(scores.logits), scaling.apply(scores.logits).argmax(axis=1))
