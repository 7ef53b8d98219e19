"""Calibration of scores: softmax, prior, temperature."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import log_softmax as scipy_log_softmax

from potstill.evaluation.calibration import (
    Calibration,
    MultilabelCalibration,
    choose_prior,
    choose_rates,
    fit_temperature,
    log_sigmoid,
    log_softmax,
    logits_of,
    match_prior,
    match_rates,
    one_hot,
    sigmoid,
    smoothed_prior,
    softmax,
    temperature_for_accuracy,
)

scores = arrays(np.float64, st.tuples(st.integers(5, 40), st.integers(2, 6)), elements=st.floats(-20, 20))


@given(scores)
def test_log_softmax_is_scipys(values):
    np.testing.assert_allclose(log_softmax(values), scipy_log_softmax(values, axis=1), atol=1e-12)


@given(scores, st.integers(0, 1000))
def test_matching_a_prior_makes_it_the_mean_prediction(values, seed):
    prior = np.random.default_rng(seed).dirichlet(np.full(values.shape[1], 5.0)) * 0.9 + 0.1 / values.shape[1]
    offsets = match_prior(values, prior, rounds=20_000)
    np.testing.assert_allclose(softmax(values + offsets).mean(axis=0), prior, atol=1e-3)


def test_matching_the_prior_corrects_a_biased_teacher():
    rng = np.random.default_rng(0)
    gold = rng.integers(0, 3, 600)
    values = rng.normal(size=(600, 3)) + 2.5 * one_hot(gold, 3)
    biased = values + np.array([4.0, 0.0, -2.0])
    before = (biased.argmax(1) == gold).mean()
    after = ((biased + match_prior(biased, np.full(3, 1 / 3))).argmax(1) == gold).mean()
    assert before < 0.6
    assert abs(after - (values.argmax(1) == gold).mean()) < 0.02


def test_the_temperature_of_simulated_labels_is_recovered():
    rng = np.random.default_rng(1)
    values = rng.normal(scale=3, size=(20_000, 4))
    probs = softmax(values, 2.5)
    gold = (probs.cumsum(axis=1) > rng.random((len(probs), 1))).argmax(axis=1)
    assert abs(fit_temperature(values, gold) - 2.5) < 0.1


def test_a_smoothed_prior_has_no_zero():
    prior = smoothed_prior(np.array([0, 0, 0, 1]), 3)
    assert prior[2] > 0
    assert prior[0] > prior[1] > prior[2]
    np.testing.assert_allclose(prior.sum(), 1)
    np.testing.assert_allclose(smoothed_prior(np.array([], dtype=int), 4), 0.25)


def test_a_calibration_adds_offsets_divides_by_temperature_and_normalises():
    values = np.array([[0.0, 1.0]])
    expected = softmax(np.array([[2.0, 1.0]]) / 0.5)
    np.testing.assert_allclose(Calibration((2.0, 0.0), 0.5).apply(values), expected)


@given(scores, st.integers(0, 1000))
def test_matching_rates_makes_them_the_mean_of_each_label(values, seed):
    rates = np.random.default_rng(seed).uniform(0.02, 0.98, values.shape[1])
    np.testing.assert_allclose(sigmoid(values + match_rates(values, rates)).mean(axis=0), rates, atol=1e-6)


@given(scores, st.floats(0.05, 0.95))
def test_the_mean_confidence_equals_the_accuracy_or_is_as_near_as_a_temperature_gets(values, share):
    k = values.shape[1]
    accuracy = 1 / k + share * (1 - 1 / k)
    sure = softmax(values, temperature_for_accuracy(values, accuracy)).max(axis=1).mean()
    nearest = [softmax(values, temperature).max(axis=1).mean() for temperature in (20.0, 0.05)]
    assert abs(sure - np.clip(accuracy, *nearest)) < 1e-3


def _biased_scores(n: int, bias: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(n, 2) scores of texts with the label given, of which half are of each label, and a bias for the first."""
    rng = np.random.default_rng(seed)
    gold = np.arange(n) % 2
    scores = np.stack([1 - gold, gold], axis=1) * 2.0 + rng.normal(0, 0.5, (n, 2))
    return scores + np.array([bias, 0.0]), gold


@pytest.mark.parametrize("default", [True, False])
def test_a_prior_is_matched_where_gold_shows_that_it_helps(default: bool) -> None:
    scores, gold = _biased_scores(100, bias=4.0)
    chosen = choose_prior(scores, np.array([0.5, 0.5]), scores[:40], gold[:40], default=default)
    assert chosen.matched
    assert chosen.n_gold == 40
    assert chosen.matched_loss < chosen.raw_loss
    assert "is matched" in chosen.sentence("it")


@pytest.mark.parametrize("default", [True, False])
def test_a_prior_that_is_wrong_of_the_texts_is_not_matched_where_gold_shows_it(default: bool) -> None:
    scores, gold = _biased_scores(200, bias=0.0)
    chosen = choose_prior(scores, np.array([0.97, 0.03]), scores[:60], gold[:60], default=default)
    assert not chosen.matched
    assert chosen.offsets == (0.0, 0.0)
    assert "stays as it is" in chosen.sentence("it")


@pytest.mark.parametrize("default", [True, False])
def test_the_rule_holds_where_gold_is_scarce_or_says_nothing(default: bool) -> None:
    scores, gold = _biased_scores(100, bias=4.0)
    few = choose_prior(scores, np.array([0.5, 0.5]), scores[:15], gold[:15], default=default)
    assert few.matched is default
    assert few.n_gold == 0
    assert any(few.offsets) is default
    even, gold = _biased_scores(100, bias=0.0)
    same = choose_prior(even, np.full(2, 0.5), even[:40], gold[:40], default=default)
    assert abs(same.raw_loss - same.matched_loss) < 0.05


@pytest.mark.parametrize(("bias", "helps"), [(3.0, True), (0.0, True)])
def test_rates_of_several_labels_are_matched_unless_gold_shows_harm(bias: float, helps: bool) -> None:
    rng = np.random.default_rng(0)
    gold = (rng.random((120, 3)) < [0.5, 0.1, 0.3]).astype(int)
    log_probs = log_sigmoid(3.0 * (2 * gold - 1) + rng.normal(0, 1, gold.shape) + bias)
    chosen = choose_rates(log_probs, gold.mean(0), log_probs[:60], gold[:60])
    assert chosen.matched is helps
    calibrated = MultilabelCalibration(chosen.offsets).apply(log_probs)
    np.testing.assert_allclose(calibrated.mean(0), gold.mean(0), atol=1e-6)
    wrong = choose_rates(log_probs, np.full(3, 0.99), log_probs[:60], gold[:60])
    assert not wrong.matched
    np.testing.assert_allclose(MultilabelCalibration(wrong.offsets).apply(log_probs), np.exp(log_probs))
    assert choose_rates(log_probs, gold.mean(0), log_probs[:3], gold[:3]).n_gold == 0


def test_log_probabilities_become_finite_logits() -> None:
    assert np.isfinite(logits_of(np.array([0.0, -1e-300, -1e9, -np.inf]))).all()
    logits = np.array([-30.0, -1.0, 0.0, 2.0, 20.0])
    np.testing.assert_allclose(logits_of(log_sigmoid(logits)), logits, rtol=1e-3)
