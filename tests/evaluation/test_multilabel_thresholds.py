"""Several labels a text: the figures against scikit-learn, the thresholds, what is kept and read again."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from potstill.evaluation.calibration import log_sigmoid, sigmoid
from potstill.evaluation.fit_thresholds import fit_multilabel_guarantees
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


def made_up(n: int, seed: int = 0, loud: float = 3.0) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Logits that are `loud` times too sure, and sets drawn as the quiet ones say; the last label is rare."""
    draw = np.random.default_rng(seed)
    quiet = draw.normal([-0.5, -1.0, -1.0, -3.0], 1.5, (n, 4))
    return quiet * loud, draw.random((n, 4)) < sigmoid(quiet)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 30))
def test_the_figures_are_those_of_scikit_learn(seed: int, n: int) -> None:
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
    judged = compute_multilabel_metrics(gold, scores, chosen, LABELS, draws=20)
    assert judged.accuracy.value == pytest.approx((gold == chosen).all(axis=1).mean())
    assert judged.micro_f1 is not None
    assert judged.main_score == judged.micro_f1
    assert [row.f1 for row in judged.per_class] == pytest.approx(each.tolist())


def test_a_judgement_of_sets_is_read_as_it_was_written() -> None:
    logits, gold = made_up(60)
    judged = compute_multilabel_metrics(gold, sigmoid(logits), logits > 0, LABELS, draws=50)
    assert EvaluationResult.from_json(json.loads(json.dumps(judged.to_json()))) == judged
    assert judged.micro_f1 is not None
    assert judged.micro_f1.low <= judged.micro_f1.value <= judged.micro_f1.high


def test_a_text_without_an_answer_has_the_empty_set() -> None:
    gold = np.array([[1, 0], [0, 1]], dtype=bool)
    probs = np.array([[0.9, 0.1], [np.nan, np.nan]])
    judged = compute_multilabel_metrics(gold, probs, np.ones((2, 2), dtype=bool), ("a", "b"), draws=5)
    assert judged.unanswered == 1
    assert judged.per_class[1].predicted == 1


def test_too_sure_scores_are_calibrated_and_their_thresholds_chosen() -> None:
    logits, gold = made_up(1500)
    trust = fit_multilabel_guarantees(logits, gold)
    assert trust.scaling.method != "none"
    assert trust.ece_after.value < trust.ece_before.value / 2
    fresh, truth = made_up(3000, seed=1)
    probs = trust.scaling.apply(fresh)
    assert multilabel_ece(truth, probs) < 0.03
    tuned, half = trust.label_thresholds.apply(probs), sigmoid(fresh) >= 0.5
    assert multilabel_micro_f1(truth, tuned) + multilabel_macro_f1(truth, tuned) > multilabel_micro_f1(
        truth, half
    ) + multilabel_macro_f1(truth, half)


def test_thresholds_of_their_own_win_where_labels_differ_and_not_elsewhere() -> None:
    draw = np.random.default_rng(3)
    gold = draw.random((1200, 4)) < [0.5, 0.3, 0.05, 0.05]
    told = gold * 2.0 + draw.normal(0, 1, gold.shape)
    shifted = told + np.array([0, -4, 4, 0])  # probabilities as they come
    from potstill.evaluation.fit_thresholds import _choose_cut

    fold = np.arange(1200) % 5
    cut, reached = _choose_cut(sigmoid(shifted), gold, fold, False)
    assert len(cut.thresholds) == 4
    assert reached["per label"] > reached["global"]
    alike = draw.random((60, 4)) < 0.5
    few, _ = _choose_cut(draw.random((60, 4)), alike, np.arange(60) % 5, False)
    assert len(few.thresholds) in (1, 4)


def test_a_label_too_rare_takes_the_common_threshold() -> None:
    logits, gold = made_up(200)
    gold[:, 3] = False
    gold[:3, 3] = True
    trust = fit_multilabel_guarantees(logits, gold)
    if len(trust.label_thresholds.thresholds) == 4:
        from potstill.evaluation.fit_thresholds import fit_global_threshold

        assert 0 < trust.label_thresholds.thresholds[3] < 1
        assert fit_global_threshold(sigmoid(logits), gold, False).thresholds[0] > 0
    assert np.isfinite(trust.scaling.apply(logits)).all()


def test_no_text_is_left_without_label_where_none_was() -> None:
    probs = np.array([[0.1, 0.3], [0.9, 0.2], [0.8, 0.9]])
    assert LabelThresholds((0.5,), never_empty=True).apply(probs).tolist() == [
        [False, True],
        [True, False],
        [True, True],
    ]
    assert not LabelThresholds((0.5,)).apply(probs)[0].any()
    assert LabelThresholds((0.5,), never_empty=True).apply(np.zeros((0, 2))).shape == (0, 2)


def test_what_was_measured_is_read_as_it_was_written() -> None:
    trust = fit_multilabel_guarantees(*made_up(100), graph="abc")
    again = MultilabelGuarantees.from_json(json.loads(json.dumps(trust.to_json())))
    assert again == trust
    with pytest.raises((KeyError, TypeError, ValueError)):
        MultilabelGuarantees.from_json({"graph": "abc", "n": 3})


def test_the_sigmoid_does_not_overflow() -> None:
    values = np.array([-1e4, -30.0, 0.0, 30.0, 1e4])
    with np.errstate(over="raise"):
        assert sigmoid(values).tolist() == pytest.approx([0, 0, 0.5, 1, 1], abs=1e-9)
        assert np.isfinite(log_sigmoid(values)).all()
