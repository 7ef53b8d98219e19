"""Label propagation: brute force agrees, rows stay probabilities, and a single error among neighbours is corrected."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from potstill.procedures.label_propagation import BLOCK_ROWS, nearest_neighbors, spread_labels


def unit(n: int, d: int, seed: int = 0) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_the_nearest_are_those_of_brute_force_across_blocks() -> None:
    vectors = unit(BLOCK_ROWS + 50, 8)
    cosines = vectors @ vectors.T
    np.fill_diagonal(cosines, -np.inf)
    found = nearest_neighbors(vectors, 4)
    for row in (0, 17, BLOCK_ROWS - 1, BLOCK_ROWS, BLOCK_ROWS + 49):
        assert set(found.indices[row]) == set(np.argsort(-cosines[row])[:4])
        assert row not in found.indices[row]
    assert (found.weights > 0).all()
    assert (found.weights <= 1).all()


def test_a_nearer_row_weighs_more() -> None:
    vectors = np.array([[1, 0], [0.99, 0.14], [0.8, 0.6], [-1, 0]], dtype=np.float32)
    found = nearest_neighbors(vectors, 2)
    by_row = dict(zip(found.indices[0], found.weights[0], strict=True))
    assert set(by_row) == {1, 2}
    assert by_row[1] > by_row[2]


def test_the_affinity_matrix_is_symmetric_and_normalised() -> None:
    hub = np.concatenate([np.eye(8, dtype=np.float32), np.full((1, 8), 8**-0.5, dtype=np.float32)])
    found = nearest_neighbors(hub, 1)
    assert set(found.indices[:8, 0]) == {8}
    graph = found.affinity_matrix().toarray()
    np.testing.assert_allclose(graph, graph.T, rtol=1e-6)
    np.testing.assert_allclose(np.linalg.eigvalsh(graph)[-1], 1, rtol=1e-5)
    assert graph[1, 8] < 0.5 < graph[8].sum()


def test_one_wrong_label_among_many_neighbours_is_corrected() -> None:
    vectors = np.concatenate([unit(1, 6, 1).repeat(10, 0), -unit(1, 6, 1).repeat(10, 0)]) + unit(20, 6, 2) * 0.05
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    probs = np.eye(2, dtype=np.float32)[[0] * 10 + [1] * 10]
    probs[3] = [0.1, 0.9]
    spread = spread_labels(probs, nearest_neighbors(vectors.astype(np.float32), 5))
    assert spread.argmax(axis=1).tolist() == [0] * 10 + [1] * 10


@settings(max_examples=30, deadline=None)
@given(n=st.integers(1, 30), k=st.integers(1, 12), seed=st.integers(0, 9), own=st.floats(0, 1))
def test_rows_stay_probabilities(n: int, k: int, seed: int, own: float) -> None:
    probs = np.random.default_rng(seed).dirichlet(np.ones(3), n).astype(np.float32)
    spread = spread_labels(probs, nearest_neighbors(unit(n, 4, seed), k), self_weight=own)
    assert spread.shape == probs.shape
    assert (spread >= 0).all()
    np.testing.assert_allclose(spread.sum(axis=1), 1, atol=1e-5)


def test_fixed_labels_spread_and_stay_fixed() -> None:
    line = np.array([[np.cos(a), np.sin(a)] for a in np.linspace(0, np.pi, 21)], dtype=np.float32)
    probs = np.full((21, 2), 0.5, dtype=np.float32)
    probs[0], probs[20] = [1, 0], [0, 1]
    fixed = np.arange(21) % 20 == 0
    spread = spread_labels(probs, nearest_neighbors(line, 2), fixed, self_weight=0.05, n_iter=40)
    np.testing.assert_array_equal(spread[fixed], probs[fixed])
    assert spread[1:10].argmax(axis=1).tolist() == [0] * 9
    assert spread[11:20].argmax(axis=1).tolist() == [1] * 9
    assert spread[1, 0] > spread[5, 0] > spread[9, 0]


def test_a_self_weight_of_one_changes_nothing() -> None:
    probs = np.random.default_rng(0).dirichlet(np.ones(4), 12).astype(np.float32)
    np.testing.assert_allclose(
        spread_labels(probs, nearest_neighbors(unit(12, 5), 3), self_weight=1.0), probs, atol=1e-6
    )
