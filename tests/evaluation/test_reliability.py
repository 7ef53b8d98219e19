"""Reliability on the test set: guarantees against results, and the risk-coverage curve."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.scores import drawn

from potstill.evaluation.fit_guarantees import fit_guarantees
from potstill.evaluation.metrics import accuracy
from potstill.evaluation.reliability import Reliability, measure_reliability, risk_coverage, wilson_score


def test_a_calibrated_student_keeps_its_guarantees() -> None:
    held, new = drawn(600, temperature=0.7), drawn(3000, temperature=0.7, seed=1)
    guarantees = fit_guarantees(held.logits, held.gold)
    reliability = measure_reliability(new.gold, new.logits, guarantees.scaling.apply(new.logits), guarantees)
    assert (reliability.n, reliability.n_held_out) == (3000, 600)
    assert reliability.threshold is not None
    assert reliability.confident_share is not None
    assert reliability.confident_accuracy is not None
    assert reliability.set_coverage is not None
    assert reliability.confident_accuracy.value >= 0.95
    assert 0.3 < reliability.confident_share < 1
    assert reliability.set_coverage.low < 0.92 < reliability.set_coverage.high + 0.03
    assert reliability.mean_set_size is not None
    assert 1 <= reliability.mean_set_size < 4
    assert reliability.out_of_scope == pytest.approx(0.05, abs=0.03)
    assert reliability.ece.low <= reliability.ece.value <= reliability.ece.high < 0.06
    assert Reliability.from_json(json.loads(json.dumps(reliability.to_json()))) == reliability


def test_without_held_out_texts_only_the_test_sets_metrics_are_reported() -> None:
    scores = drawn(200)
    reliability = measure_reliability(scores.gold, scores.logits, np.full((200, 4), 0.25), None)
    assert (reliability.n_held_out, reliability.threshold, reliability.set_coverage) == (0, None, None)
    assert len(reliability.curve) == 1  # all equally confident
    assert Reliability.from_json(json.loads(json.dumps(reliability.to_json()))) == reliability


@given(st.integers(1, 300), st.integers(0, 10_000))
def test_the_curve_is_the_accuracy_of_the_most_confident_and_ends_with_all(n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    probs = rng.dirichlet(np.ones(3), n).round(2)
    gold = rng.integers(0, 3, n)
    curve = risk_coverage(gold, probs, points=20)
    assert len(curve) <= 20
    assert curve[-1].coverage == 1
    assert [p.coverage for p in curve] == sorted({p.coverage for p in curve})
    confidence = probs.max(axis=1)
    for point in curve:
        most_confident = confidence >= np.sort(confidence)[::-1][round(point.coverage * n) - 1]
        assert most_confident.sum() == round(point.coverage * n)
        assert point.accuracy == pytest.approx(accuracy(gold[most_confident], probs[most_confident].argmax(axis=1)))
        assert point.low <= point.accuracy + 1e-12
        assert point.accuracy <= point.high + 1e-12


def test_the_wilson_interval_of_few_is_wide() -> None:
    assert wilson_score(10, 10).low == pytest.approx(0.722, abs=0.001)  # Wilson's table
    assert wilson_score(0, 10).high == pytest.approx(0.278, abs=0.001)
    assert wilson_score(500, 1000).low == pytest.approx(0.469, abs=0.001)
