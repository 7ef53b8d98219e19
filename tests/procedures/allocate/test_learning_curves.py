"""Learning curves: expected scores at sizes beyond the pilot."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.errors import BadData
from potstill.procedures.allocate.learning_curves import FAMILIES, CurvePoint, LearningCurve, fit_learning_curve


def pilot(truth: object, sizes: tuple[int, ...] = (32, 64, 128, 256, 512), noise: float = 0.005) -> list[CurvePoint]:
    draw = np.random.default_rng(0)
    return [
        CurvePoint(n, tuple(float(np.clip(truth(n) + noise * draw.standard_normal(), 0, 1)) for _ in range(3)))  # type: ignore[operator]
        for n in sizes
    ]


TRUTHS = {
    "power": lambda n: 1 - (0.08 + 1.5 * n**-0.6),
    "exponential": lambda n: 1 - (0.2 + 0.4 * np.exp(-n / 200)),
    "piecewise": lambda n: 1 - np.exp(-0.05 * np.log(n) ** 2) if n < 128 else 1 - np.exp(-0.4852 * np.log(n) + 1.177),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_curve_of_each_family_is_found_again_within_its_interval(family: str) -> None:
    found = fit_learning_curve(pilot(TRUTHS[family]))
    for n in (1024, 2048):
        expected = found.predict(n, level=0.9)
        assert expected.low <= TRUTHS[family](n) <= expected.high
        assert abs(expected.value - TRUTHS[family](n)) < 0.05


def test_the_interval_widens_with_every_doubling() -> None:
    found = fit_learning_curve(pilot(TRUTHS["power"]))
    widths = [found.predict(n).high - found.predict(n).low for n in (512, 1024, 2048, 4096)]
    assert widths == sorted(widths)


def test_the_number_needed_grows_with_the_score_and_becomes_infinite() -> None:
    found = fit_learning_curve(pilot(TRUTHS["exponential"], noise=0.001))
    assert found.labels_for(0.70).value < found.labels_for(0.75).value
    assert found.labels_for(0.99).high == np.inf


def test_the_number_needed_for_an_expected_score_is_about_its_size() -> None:
    found = fit_learning_curve(pilot(TRUTHS["power"], noise=0.001))
    assert found.labels_for(found.predict(1000).value).value == pytest.approx(1000, rel=0.1)


def test_a_noisier_pilot_is_reliable_for_fewer_labels() -> None:
    quiet, loud = (fit_learning_curve(pilot(TRUTHS["power"], noise=noise)) for noise in (0.0005, 0.02))
    assert quiet.max_reliable_n(0.03) >= loud.max_reliable_n(0.03) >= loud.largest


def test_the_error_of_a_pilot_that_is_too_small_names_the_missing_sizes() -> None:
    with pytest.raises(BadData, match="has 2") as caught:
        fit_learning_curve(pilot(TRUTHS["power"], sizes=(32, 64)))
    assert "2 more" in caught.value.hint


@pytest.mark.parametrize(
    "points",
    [
        [
            CurvePoint(8, (0.5,)),
            CurvePoint(8, (0.6,)),
            CurvePoint(16, (0.6,)),
            CurvePoint(32, (0.7,)),
            CurvePoint(64, (0.7,)),
        ],
        [CurvePoint(8, (0.5,)), CurvePoint(16, ()), CurvePoint(32, (0.7,)), CurvePoint(64, (0.7,))],
        [CurvePoint(8, (50.0,)), CurvePoint(16, (0.6,)), CurvePoint(32, (0.7,)), CurvePoint(64, (0.7,))],
    ],
)
def test_invalid_points_are_refused(points: list[CurvePoint]) -> None:
    with pytest.raises(BadData):
        fit_learning_curve(points)


scores = st.floats(0, 1, allow_nan=False)


@given(
    st.lists(st.lists(scores, min_size=1, max_size=4), min_size=4, max_size=7),
    st.integers(1, 50),
    st.floats(1, 1e6),
)
def test_any_pilot_gives_scores_between_zero_and_one(seeds: list[list[float]], first: int, n: float) -> None:
    found: LearningCurve = fit_learning_curve([CurvePoint(first * 2**i, tuple(own)) for i, own in enumerate(seeds)])
    expected = found.predict(n)
    assert 0 <= expected.low <= expected.value <= expected.high <= 1
    assert sum(found.family_shares.values()) == pytest.approx(1)


def test_the_same_pilot_gives_the_same_curves() -> None:
    first, second = (fit_learning_curve(pilot(TRUTHS["power"]), seed=3) for _ in range(2))
    assert (first.draws(4000) == second.draws(4000)).all()
