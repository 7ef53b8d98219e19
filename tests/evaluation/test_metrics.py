"""metrics.py against scikit-learn, against simulation, and at its edges."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from potstill.evaluation import metrics
from potstill.evaluation.metrics import EvaluationResult, Score

LABELS = ("a", "b", "c", "d", "e")
K = len(LABELS)


@st.composite
def predictions(draw: st.DrawFn) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    n = draw(st.integers(1, 60))
    columns = st.lists(st.integers(0, K - 1), min_size=n, max_size=n)
    return np.array(draw(columns)), np.array(draw(columns))


@st.composite
def with_probs(draw: st.DrawFn) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    n, seed = draw(st.integers(1, 60)), draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    sharpness = draw(st.sampled_from([0.05, 0.5, 5.0]))
    return rng.integers(0, K, n), rng.dirichlet(np.full(K, sharpness), n)


# --- the oracle: scikit-learn ------------------------------------------------------------------------------


@settings(deadline=None)
@given(predictions())
def test_accuracy_and_both_f1_are_scikit_learns(case: tuple[NDArray[np.int64], NDArray[np.int64]]) -> None:
    from sklearn.metrics import accuracy_score, f1_score

    gold, predicted = case
    assert metrics.accuracy(gold, predicted) == pytest.approx(accuracy_score(gold, predicted))
    macro = f1_score(gold, predicted, average="macro", zero_division=0)
    assert metrics.macro_f1(gold, predicted) == pytest.approx(macro)
    weighted = f1_score(gold, predicted, average="weighted", zero_division=0)
    assert metrics.weighted_f1(gold, predicted) == pytest.approx(weighted)


@settings(deadline=None)
@given(predictions(), st.integers(0, 2**32 - 1))
def test_weights_count_as_scikit_learns_sample_weights(
    case: tuple[NDArray[np.int64], NDArray[np.int64]], seed: int
) -> None:
    from sklearn.metrics import f1_score

    gold, predicted = case
    weights = np.random.default_rng(seed).integers(1, 5, len(gold)).astype(float)
    repeated = np.repeat(np.arange(len(gold)), weights.astype(int))
    expected = f1_score(gold[repeated], predicted[repeated], average="macro", zero_division=0)
    assert metrics.macro_f1(gold, predicted, weights) == pytest.approx(expected)
    assert metrics.accuracy(gold, predicted, weights) == pytest.approx((gold == predicted)[repeated].mean())


@settings(deadline=None)
@given(predictions())
def test_the_class_table_and_the_confusion_matrix_are_scikit_learns(
    case: tuple[NDArray[np.int64], NDArray[np.int64]],
) -> None:
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    gold, predicted = case
    table = metrics.per_class(gold, predicted, LABELS)
    expected = precision_recall_fscore_support(gold, predicted, labels=range(K), zero_division=0)
    for nth, name in enumerate(("precision", "recall", "f1", "support")):
        assert [getattr(row, name) for row in table] == pytest.approx(expected[nth].tolist()), name
    matrix = metrics.confusion_matrix(gold, predicted, K)
    assert matrix.tolist() == confusion_matrix(gold, predicted, labels=range(K)).tolist()
    assert [row.predicted for row in table] == matrix.sum(axis=0).tolist()


@settings(deadline=None)
@given(with_probs())
def test_log_loss_and_brier_are_scikit_learns(case: tuple[NDArray[np.int64], NDArray[np.float64]]) -> None:
    from sklearn.metrics import brier_score_loss, log_loss

    gold, probs = case
    probs = np.maximum(probs, 1e-12)
    probs /= probs.sum(axis=1, keepdims=True)
    assert metrics.log_loss(gold, probs) == pytest.approx(log_loss(gold, probs, labels=range(K)), rel=1e-6)
    expected = brier_score_loss(gold, probs, labels=list(range(K)), scale_by_half=False)
    assert metrics.brier(gold, probs) == pytest.approx(expected)


@settings(deadline=None)
@given(with_probs(), st.integers(1, 20))
def test_ece_is_the_mean_gap_of_its_bins(case: tuple[NDArray[np.int64], NDArray[np.float64]], bins: int) -> None:
    gold, probs = case
    confidence, right = probs.max(axis=1), probs.argmax(axis=1) == gold
    expected = 0.0
    for nth in range(bins):
        inside = (confidence > nth / bins) & (confidence <= (nth + 1) / bins)
        if inside.any():
            expected += inside.mean() * abs(confidence[inside].mean() - right[inside].mean())
    assert metrics.ece(gold, probs, bins=bins) == pytest.approx(expected, abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 40))
def test_mcnemar_is_the_binomial_test_of_the_disagreements(only_a: int, only_b: int, both: int) -> None:
    from scipy.stats import binom, binomtest

    gold = np.zeros(only_a + only_b + both, dtype=int)
    a = np.r_[np.zeros(only_a), np.ones(only_b), np.zeros(both)]
    b = np.r_[np.ones(only_a), np.zeros(only_b), np.zeros(both)]
    test = metrics.mcnemar(gold, a, b)
    assert (test.only_a, test.only_b) == (only_a, only_b)
    differ = only_a + only_b
    exact = 1.0 if differ == 0 else binomtest(only_a, differ).pvalue
    assert test.p_exact == pytest.approx(exact)
    fewer = min(only_a, only_b)
    mid = 2 * binom.cdf(fewer, differ, 0.5) - binom.pmf(fewer, differ, 0.5)
    assert test.p_mid == pytest.approx(min(1.0, mid))
    assert 0 < test.p_mid <= test.p_exact <= 1


def test_mcnemar_does_not_underflow_on_thousands_of_disagreements() -> None:
    gold = np.zeros(6000, dtype=int)
    a = np.r_[np.zeros(3000, dtype=int), np.ones(3000, dtype=int)]
    assert metrics.mcnemar(gold, a, 1 - a).p_exact == 1.0
    even = metrics.mcnemar(gold, a, 1 - a).p_mid
    assert 0.9 < even <= 1.0


# --- intervals ---------------------------------------------------------------------------------------------


def test_an_interval_covers_the_true_value_about_as_often_as_stated() -> None:
    rng = np.random.default_rng(7)
    covered = {metrics.accuracy: 0, metrics.macro_f1: 0}
    truth, n, repeats = 0.8, 300, 200
    for repeat in range(repeats):
        gold = rng.integers(0, 3, n)
        predicted = np.where(rng.random(n) < truth, gold, (gold + rng.integers(1, 3, n)) % 3)
        for metric in covered:
            score = metrics.bootstrap_interval(metric, gold, predicted, seed=repeat, n_resamples=200)
            # Errors are symmetric over balanced classes, so the true macro F1 is the true accuracy.
            covered[metric] += score.low <= truth <= score.high
    for metric, times in covered.items():
        assert 0.89 <= times / repeats <= 0.99, metric.__name__


def test_an_interval_narrows_with_the_root_of_the_texts() -> None:
    rng = np.random.default_rng(3)
    widths = []
    for n in (200, 3200):
        gold = rng.integers(0, 2, n)
        predicted = np.where(rng.random(n) < 0.8, gold, 1 - gold)
        score = metrics.bootstrap_interval(metrics.accuracy, gold, predicted)
        widths.append(score.high - score.low)
    assert 3 < widths[0] / widths[1] < 5.5


def test_the_bootstrap_agrees_with_the_normal_approximation_for_every_mean_of_rows() -> None:
    rng = np.random.default_rng(5)
    probs = rng.dirichlet(np.ones(K), 2000)
    gold = rng.integers(0, K, 2000)
    score = metrics.bootstrap_interval(metrics.log_loss, gold, probs, n_resamples=2000)
    rows = -np.log(probs[np.arange(2000), gold])
    half = 1.96 * rows.std() / np.sqrt(2000)
    assert score.value == pytest.approx(rows.mean())
    assert score.high - score.low == pytest.approx(2 * half, rel=0.1)


def test_equal_seeds_give_equal_intervals_and_other_seeds_others() -> None:
    gold = np.arange(50) % 3
    predicted = np.where(np.arange(50) % 7 == 0, 0, gold)
    one = metrics.bootstrap_interval(metrics.accuracy, gold, predicted, seed=1)
    assert one == metrics.bootstrap_interval(metrics.accuracy, gold, predicted, seed=1)
    assert any(one != metrics.bootstrap_interval(metrics.accuracy, gold, predicted, seed=seed) for seed in range(2, 6))
    assert one.low <= one.value <= one.high


@pytest.mark.parametrize(("gold", "predicted"), [([], []), ([0, 1], [0])])
def test_an_interval_of_nothing_or_of_uneven_arrays_is_refused(gold: list[int], predicted: list[int]) -> None:
    with pytest.raises(ValueError, match="both must be the same number"):
        metrics.bootstrap_interval(metrics.accuracy, gold, predicted)


# --- edges -------------------------------------------------------------------------------------------------


def test_macro_f1_leaves_out_an_absent_class_and_counts_an_unpredicted_one_as_zero() -> None:
    assert metrics.macro_f1([0, 0, 3], [0, 0, 3]) == 1.0
    assert metrics.macro_f1([0, 0, 3], [0, 0, 0]) == pytest.approx((0.8 + 0) / 2)
    assert metrics.macro_f1([0, 0], [0, 2]) == pytest.approx((2 / 3 + 0) / 2)


def test_an_unanswered_text_is_wrong_and_changes_no_other_label() -> None:
    probs = np.array([[0.9, 0.1], [0.2, 0.8], [np.nan, np.nan]])
    result = metrics.compute_metrics([0, 1, 1], probs, ("a", "b"))
    assert result.unanswered == 1
    assert result.accuracy.value == pytest.approx(2 / 3)
    first, second = result.per_class
    assert (first.precision, first.recall) == (1.0, 1.0)
    assert (second.precision, second.recall, second.predicted) == (1.0, 0.5, 1)
    assert result.log_loss == pytest.approx(-(np.log(0.9) + np.log(0.8)) / 2)
    assert result.confusions == ()


def test_a_teacher_without_answers_has_accuracy_zero() -> None:
    result = metrics.compute_metrics([0, 1], np.full((2, 2), np.nan), ("a", "b"))
    assert result.accuracy == Score(0.0, 0.0, 0.0)
    assert result.macro_f1.value == 0.0
    assert result.ece is result.log_loss is result.brier is None


def test_confusions_are_sorted_by_count_and_leave_out_right_predictions() -> None:
    gold = [0, 0, 0, 1, 1, 2]
    predicted = np.array([1, 1, 0, 2, 1, 2])
    result = metrics.compute_metrics(gold, np.eye(3)[predicted], ("a", "b", "c"))
    assert [(c.gold, c.predicted, c.n) for c in result.confusions] == [("a", "b", 2), ("b", "c", 1)]


@pytest.mark.parametrize(
    ("gold", "probs"), [([], np.zeros((0, 2))), ([0], np.zeros((1, 3))), ([2], np.eye(2)[:1]), ([-1], np.eye(2)[:1])]
)
def test_arrays_that_do_not_fit_are_refused(gold: list[int], probs: NDArray[np.float64]) -> None:
    with pytest.raises(ValueError, match="gold"):
        metrics.compute_metrics(gold, probs, ("a", "b"))


@settings(max_examples=30, deadline=None)
@given(with_probs())
def test_a_result_survives_json(case: tuple[NDArray[np.int64], NDArray[np.float64]]) -> None:
    gold, probs = case
    result = metrics.compute_metrics(gold, probs, LABELS, n_resamples=20)
    assert EvaluationResult.from_json(json.loads(json.dumps(result.to_json()))) == result


def test_a_result_of_another_format_is_refused() -> None:
    record = metrics.compute_metrics([0, 1], np.eye(2), ("a", "b")).to_json()
    with pytest.raises(ValueError, match="format 1"):
        EvaluationResult.from_json({**record, "format": 1})


def test_a_centred_interval_of_the_calibration_error_holds_its_value() -> None:
    """The ECE of calibrated probabilities is noise, and each resample adds more."""
    rng = np.random.default_rng(0)
    probs = rng.dirichlet(np.ones(3), 400)
    gold = (probs.cumsum(axis=1) > rng.random((400, 1))).argmax(axis=1)
    plain, centred = (
        metrics.bootstrap_interval(metrics.ece, gold, probs, n_resamples=200, centred=choice)
        for choice in (False, True)
    )
    assert plain.value == centred.value
    assert centred.low <= centred.value <= centred.high
    assert 0 <= centred.low < plain.low
