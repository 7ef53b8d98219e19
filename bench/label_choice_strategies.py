"""The strategies that `bench/label_choice.py` compares: which texts of a pool to buy labels of. Measures nothing.

A strategy takes a `Draw`, a number of texts and a seed, and returns distinct rows of the pool in the order they are
bought. Active strategies buy `BATCH` labels at a time, refit the product's head on all of them, and begin with its
classifier on the label names. Labels of rows that were not bought are never read.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from label_choice_data import Draw, Floats, Ints, fit

from potstill.procedures import coverage_sampling, query_strategies
from potstill.procedures.cold_start import lsa_features

BATCH = 10
Choose = Callable[[Draw, int, int], Ints]
NextBatch = Callable[[Draw, Any, Ints, int, np.random.Generator], Ints]


@dataclass(frozen=True)
class Strategy:
    """How texts are chosen; `nested`: the choice of few is the beginning of the choice of many."""

    choose: Choose
    nested: bool


def random_rows(given: Draw, n: int, seed: int) -> Ints:
    """Uniformly at random."""
    return np.random.default_rng((11, seed)).permutation(len(given.pool))[:n]


def lsa_typiclust(given: Draw, n: int, seed: int) -> Ints:
    """What the product did: the rows nearest to the centres of n clusters of LSA features."""
    return coverage_sampling.typiclust_sampling(lsa_features(given.texts), n, seed)


def lsa_herding(given: Draw, n: int, seed: int) -> Ints:
    """What the product does for a student without embeddings: max herding on LSA features."""
    return coverage_sampling.max_herding(lsa_features(given.texts), n)


def kmeans(given: Draw, n: int, seed: int) -> Ints:
    """The same on the student's vectors."""
    return coverage_sampling.typiclust_sampling(given.pool, n, seed)


def typiclust(given: Draw, n: int, seed: int) -> Ints:
    """TypiClust as published: of each of n clusters the row with the nearest 20 neighbours."""
    from sklearn.cluster import MiniBatchKMeans

    clusters = MiniBatchKMeans(n, n_init=1, random_state=seed, batch_size=1024).fit_predict(given.pool)
    picked = []
    for size, cluster in sorted(((clusters == c).sum(), c) for c in range(n))[::-1]:
        rows = np.flatnonzero(clusters == cluster)
        if not size:
            continue
        near = np.sort(given.pool[rows] @ given.pool[rows].T, axis=1)[:, ::-1][:, 1 : 1 + 20]
        picked.append(int(rows[near.mean(axis=1).argmax()]) if size > 1 else int(rows[0]))
    return _filled(picked, given, n, seed)


def _filled(picked: list[int], given: Draw, n: int, seed: int) -> Ints:
    rest = [row for row in random_rows(given, len(given.pool), seed).tolist() if row not in set(picked)]
    return np.array((picked + rest)[:n])


def probcover(given: Draw, n: int, seed: int, min_cosine: float = 0.6) -> Ints:
    """ProbCover: the row within whose radius most rows lie that no chosen row covers."""
    near = (given.pool @ given.pool.T) >= min_cosine
    left, picked = np.ones(len(near), dtype=bool), []
    for _ in range(n):
        counts = near[:, left].sum(axis=1)
        row = int(counts.argmax())
        if counts[row] == 0:
            break
        picked.append(row)
        left &= ~near[row]
    return _filled(picked, given, n, seed)


_KERNELS: dict[tuple[int, float], tuple[Floats, Floats]] = {}


def _kernel(pool: Floats, gamma: float) -> Floats:
    """(N, N) of the newest pool, computed once for all batches of a choice."""
    key = (id(pool), gamma)
    if key not in _KERNELS:
        _KERNELS.clear()
        _KERNELS[key] = pool, np.exp(np.float32(gamma) * (pool @ pool.T - 1))
    return _KERNELS[key][1]


def herd(
    pool: Floats, n: int, gamma: float, weights: Any = None, covered_by: Any = None, taken: Ints | None = None
) -> Ints:
    """Greedy maximum of sum_i w_i max_j exp(gamma (cos_ij - 1)), by lazy evaluation."""
    import heapq

    kernel = _kernel(pool, gamma)
    w = np.ones(len(pool), np.float32) if weights is None else np.asarray(weights, dtype=np.float32)
    best = np.zeros(len(pool), dtype=np.float32)
    if covered_by is not None and len(covered_by):
        best = np.exp(gamma * (pool @ covered_by.T - 1)).max(axis=1)
    gains = np.array([np.maximum(own - best, 0) @ w for own in kernel])
    if taken is not None:
        gains[taken] = -1
    heap = [(-gain, row) for row, gain in enumerate(gains.tolist())]
    heapq.heapify(heap)
    picked: list[int] = []
    while len(picked) < n:
        _, row = heapq.heappop(heap)
        gain = float(np.maximum(kernel[row] - best, 0) @ w)
        if heap and gain < -heap[0][0] - 1e-12:
            heapq.heappush(heap, (-gain, row))
            continue
        picked.append(row)
        best = np.maximum(best, kernel[row])
    return np.array(picked)


def uncertainty(probs: Any, how: str) -> Any:
    """(N,) in [0, 1]."""
    if how == "entropy":
        return -(probs * np.log(np.maximum(probs, 1e-12))).sum(axis=1) / np.log(probs.shape[1])
    best = np.sort(probs, axis=1)
    return 1 - (best[:, -1] - best[:, -2]) if how == "margin" else 1 - best[:, -1]


def herding(gamma: float, how: str = "", names: bool = False) -> Choose:
    """MaxHerding; with `how` UHerding by the names' classifier; `names`: the names count as chosen."""

    def choose(given: Draw, n: int, seed: int) -> Ints:
        weights = uncertainty(fit(given, np.zeros(0, int)).probs(given.pool), how) if how else None
        covered = given.names if names else None
        return coverage_sampling.max_herding(given.pool, n, weights=weights, covered_by=covered, gamma=gamma)

    return choose


def clue_rows(pool: Floats, weights: Any, n: int, seed: int) -> Ints:
    """CLUE: the rows nearest to the centres of n clusters weighted by uncertainty."""
    from sklearn.cluster import KMeans

    clusters = KMeans(n, n_init=1, random_state=seed, max_iter=50).fit(pool, sample_weight=np.maximum(weights, 1e-9))
    picked: dict[int, None] = {}
    for row_distances in clusters.transform(pool).T:
        for row in np.argsort(row_distances, kind="stable")[: n + 1].tolist():
            if row not in picked:
                picked[row] = None
                break
    return np.array(list(picked))


def clue(how: str) -> Choose:
    """CLUE with the names' classifier, at once."""

    def choose(given: Draw, n: int, seed: int) -> Ints:
        return clue_rows(given.pool, uncertainty(fit(given, np.zeros(0, int)).probs(given.pool), how), n, seed)

    return choose


def name_quota(given: Draw, n: int, seed: int) -> Ints:
    """As many texts of each label that the names' classifier predicts, nearest to cluster centres of them."""
    probs = fit(given, np.zeros(0, int)).probs(given.pool)
    predicted, counts = probs.argmax(axis=1), np.zeros(len(given.labels), dtype=int)
    sizes = np.bincount(predicted, minlength=len(counts))
    for _ in range(n):
        counts[np.lexsort((-sizes, counts + (counts >= sizes) * 10**6))[0]] += 1
    picked: list[int] = []
    for label in np.flatnonzero(counts):
        rows = np.flatnonzero(predicted == label)
        picked += rows[coverage_sampling.typiclust_sampling(given.pool[rows], counts[label], seed)].tolist()
    return _filled(picked, given, n, seed)


def name_badge(given: Draw, n: int, seed: int) -> Ints:
    """BADGE with the names' classifier, at once."""
    probs = fit(given, np.zeros(0, int)).probs(given.pool)
    return coverage_sampling.badge_sampling(probs, given.pool, n, np.random.default_rng(seed))


def active(batch: NextBatch, cold: Choose | None = None, n_cold: int = 0) -> Choose:
    """Batches of `BATCH` rows after the first `n_cold` (0: none) by another strategy."""

    def choose(given: Draw, n: int, seed: int) -> Ints:
        rng = np.random.default_rng((13, seed))
        rows = cold(given, min(n, n_cold), seed) if cold is not None and n_cold else np.zeros(0, dtype=int)
        while len(rows) < n:
            probs = fit(given, rows).probs(given.pool)
            new = batch(given, probs, rows, min(BATCH, n - len(rows)), rng)
            rows = np.concatenate([rows, new])
        return rows

    return choose


def _left(given: Draw, rows: Ints) -> Ints:
    return np.setdiff1d(np.arange(len(given.pool)), rows)


def margin(given: Draw, probs: Any, rows: Ints, n: int, rng: np.random.Generator) -> Ints:
    """The smallest margins."""
    left = _left(given, rows)
    return left[query_strategies.margin_sampling(probs[left], n)]


def entropy(given: Draw, probs: Any, rows: Ints, n: int, rng: np.random.Generator) -> Ints:
    """The highest entropies."""
    left = _left(given, rows)
    return left[query_strategies.entropy_sampling(probs[left], n)]


def badge(given: Draw, probs: Any, rows: Ints, n: int, rng: np.random.Generator) -> Ints:
    """BADGE."""
    left = _left(given, rows)
    return left[coverage_sampling.badge_sampling(probs[left], given.pool[left], n, rng)]


def clue_batch(how: str) -> NextBatch:
    """CLUE."""

    def batch(given: Draw, probs: Any, rows: Ints, n: int, rng: np.random.Generator) -> Ints:
        left = _left(given, rows)
        return left[clue_rows(given.pool[left], uncertainty(probs[left], how), n, int(rng.integers(1000)))]

    return batch


def herding_batch(gamma: float, how: str, names: bool = False) -> NextBatch:
    """UHerding: uncertainty-weighted coverage beyond the labelled rows."""

    def batch(given: Draw, probs: Any, rows: Ints, n: int, rng: np.random.Generator) -> Ints:
        chosen = given.pool[rows]
        covered = np.concatenate([chosen, given.names]) if names else chosen
        return herd(given.pool, n, gamma, uncertainty(probs, how) if how else None, covered, rows)

    return batch


def small_text(name: str) -> Choose:
    """A strategy of small-text."""

    def choose(given: Draw, n: int, seed: int) -> Ints:
        from rivals.small_text_choice import choose as choose_rows

        return choose_rows(
            name, given.pool, given.gold, lambda rows: fit(given, rows).probs(given.pool), n, seed, BATCH
        )

    return choose


GAMMA = coverage_sampling.KERNEL_GAMMA
SMALL_TEXT = (
    "BreakingTies",
    "PredictionEntropy",
    "ContrastiveActiveLearning",
    "EmbeddingKMeans",
    "LightweightCoreset",
    "BreakingTies+random",
)
NO_LABEL = "no label, the names alone"
STRATEGIES = {
    NO_LABEL: Strategy(lambda given, n, seed: np.zeros(0, dtype=np.int64), nested=True),
    "random": Strategy(random_rows, nested=True),
    "lsa k-means": Strategy(lsa_typiclust, nested=False),
    "lsa max herding": Strategy(lsa_herding, nested=True),
    "k-means": Strategy(kmeans, nested=False),
    "typiclust": Strategy(typiclust, nested=False),
    "probcover": Strategy(probcover, nested=True),
    "max herding": Strategy(herding(GAMMA), nested=True),
    "max herding, gamma 2": Strategy(herding(2.0), nested=True),
    "max herding, gamma 10": Strategy(herding(10.0), nested=True),
    "names max herding": Strategy(herding(GAMMA, names=True), nested=True),
    "names uncertainty herding": Strategy(herding(GAMMA, "margin"), nested=True),
    "names BADGE": Strategy(name_badge, nested=True),
    "names quota": Strategy(name_quota, nested=False),
    "active margin": Strategy(active(margin), nested=True),
    "active BADGE": Strategy(active(badge), nested=True),
    "active uncertainty herding": Strategy(active(herding_batch(GAMMA, "margin")), nested=True),
    "20 max herding, then margin": Strategy(active(margin, herding(GAMMA), 20), nested=True),
    **{
        f"small-text {name}": Strategy(small_text(name), nested=not name.startswith("Embedding")) for name in SMALL_TEXT
    },
}
