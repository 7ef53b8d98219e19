"""Rows that cover what there is, beside small-text where that is installed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.procedures import query_strategies as choose
from potstill.procedures.coverage_sampling import badge_sampling, coreset_sampling, max_herding, typiclust_sampling


def world(seed: int = 0, n: int = 120, k: int = 5) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    return draw.dirichlet(np.full(k, 0.4), n), draw.standard_normal((n, 8))


def test_coverage_takes_one_of_each_clump_first() -> None:
    clumps = np.repeat(np.array([[0.0, 0], [10, 0], [0, 10], [10, 10]]), 25, axis=0)
    vectors = clumps + 0.01 * np.random.default_rng(0).standard_normal(clumps.shape)
    assert {row // 25 for row in coreset_sampling(vectors, 4).tolist()} == {0, 1, 2, 3}
    assert {row // 25 for row in coreset_sampling(vectors, 3, selected=[0]).tolist()} == {1, 2, 3}


def test_typical_rows_are_one_of_each_clump() -> None:
    clumps = np.repeat(np.array([[0.0, 0], [10, 0], [0, 10], [10, 10]]), 25, axis=0)
    vectors = clumps + 0.01 * np.random.default_rng(0).standard_normal(clumps.shape)
    assert {row // 25 for row in typiclust_sampling(vectors, 4, seed=0).tolist()} == {0, 1, 2, 3}


def test_herding_is_the_greedy_covering() -> None:
    vectors, weights = np.random.default_rng(3).standard_normal((2, 40, 6))
    weights = np.abs(weights[:, 0])
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    kernel = np.exp(5 * (unit @ unit.T - 1))
    covered, picked = np.exp(5 * (unit @ unit[7] - 1)), []
    for _ in range(10):
        gains = np.maximum(kernel - covered, 0) @ weights
        picked.append(int(gains.argmax()))
        covered = np.maximum(covered, kernel[picked[-1]])
    assert max_herding(vectors, 10, weights=weights, covered_by=vectors[7:8], gamma=5.0).tolist() == picked
    assert max_herding(vectors, 4, weights=weights, covered_by=vectors[7:8], gamma=5.0).tolist() == picked[:4]


def test_gradients_prefer_what_the_student_is_unsure_of() -> None:
    probs = np.full((100, 2), [0.999, 0.001])
    probs[:10] = [0.55, 0.45]
    vectors = np.random.default_rng(0).standard_normal((100, 4))
    picked = badge_sampling(probs, vectors, 5, np.random.default_rng(0))
    assert (picked < 10).all()


def test_gradient_distances_are_those_of_the_gradients() -> None:
    probs, vectors = world(n=30, k=3)
    left = probs.copy()
    left[np.arange(30), probs.argmax(axis=1)] -= 1
    gradients = np.einsum("nk,nd->nkd", left, vectors).reshape(30, -1)
    draw = np.random.default_rng(7)
    length = (gradients**2).sum(axis=1)
    first = int(draw.choice(30, p=length / length.sum()))
    nearest = np.minimum(length, ((gradients - gradients[first]) ** 2).sum(axis=1))
    nearest[first] = 0
    second = int(draw.choice(30, p=nearest / nearest.sum()))
    assert badge_sampling(probs, vectors, 2, np.random.default_rng(7)).tolist() == [first, second]


@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 5))
def test_rows_are_distinct_and_as_many_as_can_be(n: int, wanted: int, seed: int) -> None:
    draw = np.random.default_rng(seed)
    probs, vectors = draw.dirichlet(np.ones(3), n), np.round(draw.standard_normal((n, 2)))
    for picked in (
        coreset_sampling(vectors, wanted),
        badge_sampling(probs, vectors, wanted, draw) if n else np.zeros(0, dtype=int),
        typiclust_sampling(vectors, wanted, seed),
        max_herding(vectors, wanted),
    ):
        assert len(set(picked.tolist())) == len(picked) == min(n, wanted)


class Proba:
    """A classifier as small-text wants it: it knows its probabilities."""

    def __init__(self, probs: np.ndarray) -> None:
        self.probs = probs

    def predict_proba(self, dataset: np.ndarray) -> np.ndarray:
        return self.probs[np.asarray(dataset)]


@pytest.mark.parametrize(
    ("theirs", "ours"), [("BreakingTies", choose.margin_sampling), ("PredictionEntropy", choose.entropy_sampling)]
)
def test_uncertain_rows_are_those_of_small_text(theirs: str, ours: object) -> None:
    strategies = pytest.importorskip("small_text.query_strategies")
    probs, _ = world(3)
    rows = np.arange(len(probs))
    picked = getattr(strategies, theirs)().query(Proba(probs), rows, rows, np.array([], dtype=int), np.array([]), n=15)
    assert set(picked.tolist()) == set(ours(probs, 15).tolist())  # type: ignore[operator]


def test_coverage_is_that_of_small_text() -> None:
    coresets = pytest.importorskip("small_text.query_strategies.coresets")
    _, vectors = world(4)
    # Theirs counts what it picked among the unlabelled rows and looks it up among all: the same where those come first.
    left, taken = np.arange(115), np.arange(115, 120)
    picked = coresets.greedy_coreset(vectors, left, taken, 10, distance_metric="euclidean")
    assert picked.tolist() == coreset_sampling(vectors, 10, selected=taken).tolist()
