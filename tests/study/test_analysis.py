"""Means, fronts, crossings and advice on made-up results whose answers are known."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.study_results import QUALITY, made_study, predict

from potstill.evaluation.metrics import mcc
from potstill.study.advice import recommend, recommend_by_size
from potstill.study.analysis import (
    GridPoint,
    crossing_size,
    crossovers,
    joint_front,
    pareto,
    point_scores,
    smallest_near_best,
    undominated,
)
from potstill.study.records import Cell, CellResult
from potstill.study.sentences import advice_sentences, analysis_sentences, crossover_sentence


def test_a_mean_lies_in_its_interval_and_costs_what_its_cells_cost() -> None:
    mean = point_scores(made_study(), "d")[GridPoint("ft", "big", 64)]
    assert mean.score.value == pytest.approx(0.85)
    assert mean.score.low < 0.85 < mean.score.high
    assert mean.cost.total_usd == pytest.approx(6.4 + 0.001)
    assert mean.seeds == 3


def test_intervals_contain_the_variance_over_seeds_and_texts() -> None:
    steady = point_scores(made_study({("ft", "big"): {64: 0.8}}), "d")[GridPoint("ft", "big", 64)]
    study = made_study({("ft", "big"): {64: 0.8}})
    for seed, value in enumerate((0.6, 0.8, 1.0)):
        cell = Cell("d", 64, seed, "ft", "big")
        study.results[cell] = CellResult("done", predictions=predict(value, seed, "x"))  # type: ignore[index]
    shaken = point_scores(study, "d")[GridPoint("ft", "big", 64)]
    assert shaken.score.high - shaken.score.low > 3 * (steady.score.high - steady.score.low)


def test_p_stops_beating_ft_between_the_sizes_where_the_lead_changes() -> None:
    found = {each.ft: each for each in crossovers(point_scores(made_study(), "d"))}
    assert 8 < found["big"].n < 64
    assert 64 < found["small"].n < 512
    assert found["big"].low <= found["big"].n <= found["big"].high
    assert found["big"].lead_share > 0.99
    assert "below about" in crossover_sentence(found["big"])


def test_the_joint_front_leaves_out_what_another_beats_in_compute_labels_and_quality() -> None:
    quality = np.array([0.8, 0.8, 0.9, 0.7, 0.8])
    costs = np.array([[1.0, 10], [2.0, 10], [2.0, 20], [1.0, 10], [1.0, 10]])
    assert undominated(quality, costs) == [0, 2, 4]  # 1 costs more than 0, 3 is worse; 0 and 4 are equal
    study = made_study()
    front = joint_front(point_scores(study, "d"))
    flops = [mean.footprint.flops for mean in point_scores(study, "d").values() if mean.point.n]
    assert front.points
    assert all(mean.footprint.flops is not None for mean in front.points)
    best = max(mean.score.value for mean in point_scores(study, "d").values() if mean.footprint.flops is not None)
    assert best in [mean.score.value for mean in front.points]
    assert max(front.shares.values()) == 1
    assert len(front.points) < len(flops)
    assert any("On the joint front" in sentence for sentence in analysis_sentences(study, "d"))
    assert joint_front({}).points == ()


@pytest.mark.parametrize(
    ("gaps", "n"),
    [([1, 0.5, 0.1], math.inf), ([-1, 2, 3], 0.0), ([1, -1, 5], 8.0), ([2, 1, -1], 32.0), ([0, 1, 1], 0.0)],
)
def test_a_crossing_is_the_first_and_log_linear(gaps: list[float], n: float) -> None:
    assert crossing_size([4, 16, 64], gaps) == pytest.approx(n)


def test_a_lead_that_never_ends_or_never_begins_has_a_sentence() -> None:
    never = made_study({("p", "lm"): {8: 0.5, 64: 0.5}, ("ft", "big"): {8: 0.8, 64: 0.9}})
    assert "does not beat" in analysis_sentences(never, "d")[0]
    always = made_study({("p", "lm"): {8: 0.9, 64: 0.95}, ("ft", "big"): {8: 0.6, 64: 0.7}})
    assert "at every size up to 64" in analysis_sentences(always, "d")[0]
    assert "interval: beyond 64." in analysis_sentences(always, "d")[0]


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0.01, 100)), min_size=1, max_size=30))
def test_no_point_of_the_front_is_dominated_and_every_other_is(rows: list[tuple[float, float]]) -> None:
    quality, cost = ([row[i] for row in rows] for i in (0, 1))
    front = pareto(quality, cost)
    for i in range(len(rows)):
        beaten = any(
            quality[j] >= quality[i] and cost[j] <= cost[i] and (quality[j] > quality[i] or cost[j] < cost[i])
            for j in range(len(rows))
        )
        if i in front:
            assert not beaten
        else:
            assert beaten or any((quality[j], cost[j]) == (quality[i], cost[i]) for j in front)


def test_the_smallest_within_a_point_is_smaller_than_the_best() -> None:
    found = smallest_near_best(point_scores(made_study(), "d"), 512)
    assert found is not None
    best, small = found
    assert (best.point.backbone, small.point.backbone) == ("big", "small")


def test_the_recommendation_is_the_cheapest_that_is_nearly_the_best() -> None:
    quality = {**QUALITY, ("p+kd", "small"): {8: 0.90, 64: 0.90, 512: 0.90}}
    found = recommend(point_scores(made_study(quality), "d"))
    assert found is not None
    assert found.choice.point == GridPoint("p+kd", "small", 8)
    assert found.best.point == GridPoint("ft", "big", 512)
    assert 0 < found.stability <= 1
    assert found.held_out == pytest.approx(0.9, abs=0.03)
    assert "Take P+KD small on 8 labels" in advice_sentences(made_study(quality), "d")[0]


def test_the_recommendation_depends_on_the_tolerance() -> None:
    quality = {("ft", "big"): {512: 0.90}, ("ft", "small"): {8: 0.885}}
    found = recommend(point_scores(made_study(quality), "d"))
    assert found is not None
    assert found.choice.point.n == 512
    assert [other.point.n for other in found.alternatives] == [8]
    assert "2 points" in found.alternatives[0].condition


def test_for_each_number_of_labels_the_quickest_within_a_point_is_named() -> None:
    rows = {row.n: row for row in recommend_by_size(point_scores(made_study(), "d"))}
    assert rows[8].best.point.procedure == "p"
    assert rows[8].choice.point == GridPoint("p+kd", "small", 8)


def test_an_empty_study_has_no_recommendation() -> None:
    assert recommend({}) is None
    assert analysis_sentences(made_study({}), "d") == []


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=2, max_size=60))
def test_mcc_is_that_of_scikit_learn(rows: list[tuple[int, int]]) -> None:
    from sklearn.metrics import matthews_corrcoef

    gold, predicted = (np.array(column) for column in zip(*rows, strict=True))
    with warnings.catch_warnings(action="ignore"):
        theirs = matthews_corrcoef(gold, predicted)
    assert mcc(gold, predicted) == pytest.approx(theirs, abs=1e-9)
