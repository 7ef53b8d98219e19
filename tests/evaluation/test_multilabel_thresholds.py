"""Multi-label tasks: metrics against scikit-learn, scaling, thresholds, and records that survive JSON."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from potstill.evaluation.calibration import log_sigmoid, sigmoid
from potstill.evaluation.fit_thresholds import fit_multilabel_guarantees, select_thresholds
from potstill.evaluation.metrics import EvaluationResult
from potstill.evaluation.multilabel_evaluation import compute_multilabel_metrics
from potstill.evaluation.multilabel_metrics import (
    label_ranking_precision,
    multilabel_ece,
    multilabel_macro_f1,
    multilabel_micro_f1,
)
from potstill.evaluation.multilabel_thresholds import LabelThresholds, MultilabelGuarantees

LABELS = ("a", "b", "c", "d")


def simulate(n: int, seed: int = 0, overconfidence: float = 3.0) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Logits scaled by `overconfidence`, and labels drawn from the unscaled ones; the last label is rare."""
    draw = np.random.default_rng(seed)
    true_logits = draw.normal([-0.5, -1.0, -1.0, -3.0], 1.5, (n, 4))
    return true_logits * overconfidence, draw.random((n, 4)) < sigmoid(true_logits)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 30))
def test_the_metrics_are_scikit_learns(seed: int, n: int) -> None:
    from sklearn.metrics import f1_score, label_ranking_average_precision_score

    draw = np.random.default_rng(seed)
    gold, chosen = draw.random((n, 4)) < 0.4, draw.random((n, 4)) < 0.4
    scores = draw.integers(0, 5, (n, 4)) / 4  # with ties
    assert multilabel_micro_f1(gold, chosen) == pytest.approx(f1_score(gold, chosen, average="micro", zero_division=0))
    seen = np.flatnonzero((gold | chosen).any(axis=0))
    each = f1_score(gold, chosen, average=None, zero_division=0)
    assert multilabel_macro_f1(gold, chosen) == pytest.approx(each[seen].mean() if len(seen) else 0.0)
    ours = label_ranking_precision(gold, scores).mean()
    assert ours == pytest.approx(label_ranking_average_precision_score(gold, scores))
    result = compute_multilabel_metrics(gold, scores, chosen, LABELS, n_resamples=20)
    assert result.accuracy.value == pytest.approx((gold == chosen).all(axis=1).mean())
    assert result.micro_f1 is not None
    assert result.main_score == result.micro_f1
    assert [row.f1 for row in result.per_class] == pytest.approx(each.tolist())


def test_a_multilabel_result_survives_json() -> None:
    logits, gold = simulate(60)
    result = compute_multilabel_metrics(gold, sigmoid(logits), logits > 0, LABELS, n_resamples=50)
    assert EvaluationResult.from_json(json.loads(json.dumps(result.to_json()))) == result
    assert result.micro_f1 is not None
    assert result.micro_f1.low <= result.micro_f1.value <= result.micro_f1.high


def test_an_unanswered_text_has_the_empty_set() -> None:
    gold = np.array([[1, 0], [0, 1]], dtype=bool)
    probs = np.array([[0.9, 0.1], [np.nan, np.nan]])
    result = compute_multilabel_metrics(gold, probs, np.ones((2, 2), dtype=bool), ("a", "b"), n_resamples=5)
    assert result.unanswered == 1
    assert result.per_class[1].predicted == 1


def test_overconfident_scores_are_calibrated_and_get_thresholds() -> None:
    logits, gold = simulate(1500)
    guarantees = fit_multilabel_guarantees(logits, gold)
    assert guarantees.scaling.method != "none"
    assert guarantees.ece_after.value < guarantees.ece_before.value / 2
    fresh, truth = simulate(3000, seed=1)
    probs = guarantees.scaling.apply(fresh)
    assert multilabel_ece(truth, probs) < 0.03
    tuned, half = guarantees.label_thresholds.apply(probs), sigmoid(fresh) >= 0.5
    assert multilabel_micro_f1(truth, tuned) + multilabel_macro_f1(truth, tuned) > multilabel_micro_f1(
        truth, half
    ) + multilabel_macro_f1(truth, half)


def test_thresholds_a_label_are_selected_if_labels_differ() -> None:
    draw = np.random.default_rng(3)
    gold = draw.random((1200, 4)) < [0.5, 0.3, 0.05, 0.05]
    logits = gold * 2.0 + draw.normal(0, 1, gold.shape)
    shifted = logits + np.array([0, -4, 4, 0])
    fold = np.arange(1200) % 5
    selected, f1 = select_thresholds(sigmoid(shifted), gold, fold, False)
    assert len(selected.thresholds) == 4
    assert f1["per label"] > f1["global"]
    alike = draw.random((60, 4)) < 0.5
    on_few, _ = select_thresholds(draw.random((60, 4)), alike, np.arange(60) % 5, False)
    assert len(on_few.thresholds) in (1, 4)


def test_a_rare_label_takes_the_common_threshold() -> None:
    logits, gold = simulate(200)
    gold[:, 3] = False
    gold[:3, 3] = True
    guarantees = fit_multilabel_guarantees(logits, gold)
    if len(guarantees.label_thresholds.thresholds) == 4:
        from potstill.evaluation.fit_thresholds import fit_global_threshold

        assert 0 < guarantees.label_thresholds.thresholds[3] < 1
        assert fit_global_threshold(sigmoid(logits), gold, False).thresholds[0] > 0
    assert np.isfinite(guarantees.scaling.apply(logits)).all()


def test_every_text_gets_a_label_if_every_held_out_text_has_one() -> None:
    probs = np.array([[0.1, 0.3], [0.9, 0.2], [0.8, 0.9]])
    assert LabelThresholds((0.5,), never_empty=True).apply(probs).tolist() == [
        [False, True],
        [True, False],
        [True, True],
    ]
    assert not LabelThresholds((0.5,)).apply(probs)[0].any()
    assert LabelThresholds((0.5,), never_empty=True).apply(np.zeros((0, 2))).shape == (0, 2)


def test_multilabel_guarantees_survive_json() -> None:
    guarantees = fit_multilabel_guarantees(*simulate(100), graph="abc")
    again = MultilabelGuarantees.from_json(json.loads(json.dumps(guarantees.to_json())))
    assert again == guarantees
    with pytest.raises((KeyError, TypeError, ValueError)):
        MultilabelGuarantees.from_json({"graph": "abc", "n": 3})


def test_the_sigmoid_does_not_overflow() -> None:
    values = np.array([-1e4, -30.0, 0.0, 30.0, 1e4])
    with np.errstate(over="raise"):
        assert sigmoid(values).tolist() == pytest.approx([0, 0, 0.5, 1, 1], abs=1e-9)
        assert np.isfinite(log_sigmoid(values)).all()
