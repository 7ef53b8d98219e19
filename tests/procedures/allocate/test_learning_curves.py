"""Learning curves: what a pilot says of sizes that were not tried."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.errors import BadData
from potstill.procedures.allocate.learning_curves import FAMILIES, Curves, Point, fit_curves


def pilot(truth: object, sizes: tuple[int, ...] = (32, 64, 128, 256, 512), noise: float = 0.005) -> list[Point]:
    draw = np.random.default_rng(0)
    return [
        Point(n, tuple(float(np.clip(truth(n) + noise * draw.standard_normal(), 0, 1)) for _ in range(3)))  # type: ignore[operator]
        for n in sizes
    ]


TRUTHS = {
    "power": lambda n: 1 - (0.08 + 1.5 * n**-0.6),
    "exponential": lambda n: 1 - (0.2 + 0.4 * np.exp(-n / 200)),
    "piecewise": lambda n: 1 - np.exp(-0.05 * np.log(n) ** 2) if n < 128 else 1 - np.exp(-0.4852 * np.log(n) + 1.177),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_curve_of_each_family_is_found_again_within_its_interval(family: str) -> None:
    found = fit_curves(pilot(TRUTHS[family]))
    for n in (1024, 2048):
        expected = found.at(n, level=0.9)
        assert expected.low <= TRUTHS[family](n) <= expected.high
        assert abs(expected.value - TRUTHS[family](n)) < 0.05


def test_the_interval_widens_with_every_doubling() -> None:
    found = fit_curves(pilot(TRUTHS["power"]))
    widths = [found.at(n).high - found.at(n).low for n in (512, 1024, 2048, 4096)]
    assert widths == sorted(widths)


def test_how_many_are_needed_goes_up_with_the_score_and_ends_in_never() -> None:
    found = fit_curves(pilot(TRUTHS["exponential"], noise=0.001))
    assert found.needed(0.70).value < found.needed(0.75).value
    assert found.needed(0.99).high == np.inf


def test_what_is_needed_for_an_expected_score_is_about_that_many() -> None:
    found = fit_curves(pilot(TRUTHS["power"], noise=0.001))
    assert found.needed(found.at(1000).value).value == pytest.approx(1000, rel=0.1)


def test_a_noisier_pilot_is_trusted_less_far() -> None:
    quiet, loud = (fit_curves(pilot(TRUTHS["power"], noise=noise)) for noise in (0.0005, 0.02))
    assert quiet.trusted(0.03) >= loud.trusted(0.03) >= loud.largest


def test_a_pilot_that_is_too_small_is_told_how_many_sizes_are_missing() -> None:
    with pytest.raises(BadData, match="has 2") as caught:
        fit_curves(pilot(TRUTHS["power"], sizes=(32, 64)))
    assert "2 more" in caught.value.mend


@pytest.mark.parametrize(
    "points",
    [
        [Point(8, (0.5,)), Point(8, (0.6,)), Point(16, (0.6,)), Point(32, (0.7,)), Point(64, (0.7,))],
        [Point(8, (0.5,)), Point(16, ()), Point(32, (0.7,)), Point(64, (0.7,))],
        [Point(8, (50.0,)), Point(16, (0.6,)), Point(32, (0.7,)), Point(64, (0.7,))],
    ],
)
def test_points_that_cannot_be_are_refused(points: list[Point]) -> None:
    with pytest.raises(BadData):
        fit_curves(points)


scores = st.floats(0, 1, allow_nan=False)


@given(
    st.lists(st.lists(scores, min_size=1, max_size=4), min_size=4, max_size=7),
    st.integers(1, 50),
    st.floats(1, 1e6),
)
def test_any_pilot_gives_scores_between_nought_and_one(seeds: list[list[float]], first: int, n: float) -> None:
    found: Curves = fit_curves([Point(first * 2**i, tuple(own)) for i, own in enumerate(seeds)])
    expected = found.at(n)
    assert 0 <= expected.low <= expected.value <= expected.high <= 1
    assert sum(found.shares.values()) == pytest.approx(1)


def test_the_same_pilot_gives_the_same_curves() -> None:
    first, second = (fit_curves(pilot(TRUTHS["power"]), seed=3) for _ in range(2))
    assert (first.draws(4000) == second.draws(4000)).all()
