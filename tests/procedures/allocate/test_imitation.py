"""The curve from the teacher's accuracy to the student's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.procedures.allocate.imitation import ImitationCurve, ImitationPoint
from potstill.procedures.allocate.learning_curves import N_DRAWS


def alone(n: float) -> np.ndarray:
    """A student of two labels whose error is a power of the labels."""
    return np.full(N_DRAWS, 1 - min(0.5, 0.9 * max(n, 1e-3) ** -0.3))


def curve(systematic: float, chance: float = 0.5) -> ImitationCurve:
    return ImitationCurve(alone, chance, np.full(N_DRAWS, systematic))


def middle(made: ImitationCurve, accuracy: float, texts: float, labels: float = 0) -> float:
    return float(np.median(made.student_accuracy(accuracy, texts, labels)))


@given(st.floats(0, 1), st.floats(0.5, 1), st.floats(0, 0.5), st.integers(1, 10**6))
def test_a_better_teacher_never_makes_a_worse_student(systematic: float, low: float, more: float, texts: int) -> None:
    high = min(low + more, 1.0)
    assert middle(curve(systematic), low, texts) <= middle(curve(systematic), high, texts) + 1e-9


@given(st.floats(0, 1), st.floats(0.5, 1), st.integers(1, 10**5), st.integers(0, 10**5))
def test_scores_are_between_chance_and_one(systematic: float, accuracy: float, texts: int, labels: int) -> None:
    assert 0.5 <= middle(curve(systematic), accuracy, texts, labels) <= 1


@pytest.mark.parametrize("systematic", [0.0, 0.5, 1.0])
def test_a_teacher_that_is_always_right_is_worth_true_labels(systematic: float) -> None:
    assert middle(curve(systematic), 1.0, 500) == pytest.approx(alone(500)[0], abs=1e-6)


def test_random_errors_average_out_and_systematic_ones_are_learnt() -> None:
    by_chance, by_habit = middle(curve(0.0), 0.7, 50_000), middle(curve(1.0), 0.7, 50_000)
    assert by_chance > 0.9  # far above its teacher
    assert 0.65 < by_habit <= 0.7


def test_a_measured_student_moves_the_curve_by_as_much_as_its_error_allows() -> None:
    seen = ImitationPoint(0.8, 0, 1000, 0.9)
    before = middle(curve(1.0), 0.8, 1000)
    sure, unsure = (middle(curve(1.0).fit([seen], doubt), 0.8, 1000) for doubt in (0.001, 0.2))
    assert unsure == pytest.approx(before, abs=0.01)
    assert sure == pytest.approx(0.9, abs=0.01)


def test_the_curve_names_its_source() -> None:
    assert curve(0.5).source == "prior"
    assert "80%" in curve(0.5).fit([ImitationPoint(0.8, 0, 1000, 0.9)], 0.02).source
