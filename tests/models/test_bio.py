"""Entities of BIO labels, and their confidence."""

from __future__ import annotations

import numpy as np
import pytest

from potstill.models.bio import read_bio


def test_the_confidence_of_an_entity_is_the_geometric_mean_of_its_units_probabilities() -> None:
    probs = np.array([[0.1, 0.8, 0.1], [0.3, 0.2, 0.5], [0.9, 0.05, 0.05]])  # O, B, I of one type
    starts, ends = np.array([0, 4, 9]), np.array([3, 8, 12])
    found = read_bio(np.array([1, 2, 0]), np.log(probs), starts, ends, ("dish",))
    assert [(each.start, each.end, each.type) for each in found.entities] == [(0, 8, "dish")]
    assert found.confidences == (pytest.approx((0.8 * 0.5) ** 0.5),)
