"""The exam: promises against what happened, and the curve of accuracy over coverage."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.scores import drawn

from potstill.evaluation.fit_guarantees import measure_trust
from potstill.evaluation.metrics import accuracy
from potstill.evaluation.reliability import Exam, examine, risk_coverage, share


def test_an_honest_student_passes() -> None:
    held, new = drawn(600, temperature=0.7), drawn(3000, temperature=0.7, seed=1)
    trust = measure_trust(held.logits, held.gold)
    exam = examine(new.gold, new.logits, trust.scaling.probs(new.logits), trust)
    assert (exam.n, exam.held_out) == (3000, 600)
    assert exam.threshold is not None
    assert exam.sure is not None
    assert exam.sure_accuracy is not None
    assert exam.covered is not None
    assert exam.sure_accuracy.value >= 0.95
    assert 0.3 < exam.sure < 1
    assert exam.covered.low < 0.92 < exam.covered.high + 0.03
    assert exam.set_size is not None
    assert 1 <= exam.set_size < 4
    assert exam.unusual == pytest.approx(0.05, abs=0.03)
    assert exam.ece.low <= exam.ece.value <= exam.ece.high < 0.06
    assert Exam.from_json(json.loads(json.dumps(exam.to_json()))) == exam


def test_without_held_out_texts_only_what_the_test_shows_is_told() -> None:
    scores = drawn(200)
    exam = examine(scores.gold, scores.logits, np.full((200, 4), 0.25), None)
    assert (exam.held_out, exam.threshold, exam.covered) == (0, None, None)
    assert len(exam.curve) == 1  # all equally confident
    assert Exam.from_json(json.loads(json.dumps(exam.to_json()))) == exam


@given(st.integers(1, 300), st.integers(0, 10_000))
def test_the_curve_is_the_accuracy_of_the_surest_and_ends_with_all(n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    probs = rng.dirichlet(np.ones(3), n).round(2)
    gold = rng.integers(0, 3, n)
    curve = risk_coverage(gold, probs, points=20)
    assert len(curve) <= 20
    assert curve[-1].coverage == 1
    assert [p.coverage for p in curve] == sorted({p.coverage for p in curve})
    confidence = probs.max(axis=1)
    for point in curve:
        surest = confidence >= np.sort(confidence)[::-1][round(point.coverage * n) - 1]
        assert surest.sum() == round(point.coverage * n)
        assert point.accuracy == pytest.approx(accuracy(gold[surest], probs[surest].argmax(axis=1)))
        assert point.low <= point.accuracy + 1e-12
        assert point.accuracy <= point.high + 1e-12


def test_a_share_of_few_is_wide_and_never_certain() -> None:
    assert share(10, 10).low == pytest.approx(0.722, abs=0.001)  # Wilson's table
    assert share(0, 10).high == pytest.approx(0.278, abs=0.001)
    assert share(500, 1000).low == pytest.approx(0.469, abs=0.001)
