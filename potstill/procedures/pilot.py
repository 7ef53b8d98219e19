"""The pilot of `allocate`: scores at a few sizes, measured on validation texts, and the outlook they give.

Everything here is learnt through the run, so it costs what it costs and is done once. Buys nothing from anybody else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from potstill import choose, cover
from potstill.curves import FEWEST_SIZES, Point, fit_curves
from potstill.outlooks import Measured, Piloted
from potstill.pool import Part
from potstill.procedures.market import Market, Owned, beside
from potstill.strategies import Costs
from potstill.students.base import Student

PILOT_TEXTS = 1000  # unlabelled texts that a pilot distils at most
LOOKED_AT = 5000  # unlabelled texts that a choice is made from
DIMS = 64  # of what texts look like, before any student has learnt


@dataclass(frozen=True)
class Survey:
    """What was measured with the labels there are.

    Attributes:
        outlook, costs: for `strategies.weigh`.
        now: the score of the student that learnt all the labels.
        points: the learning curve. distilled: what distilling brought.
    """

    outlook: Piloted
    costs: Costs
    now: float
    points: tuple[Point, ...]
    distilled: tuple[Measured, ...]


def survey(market: Market, owned: Owned, check: Part, pool: Sequence[str]) -> Survey:
    """Measure the student at nested sizes of the labels, and once or twice with a large teacher.

    Args:
        owned: the labels there are.
        check: labelled texts to measure on, which nobody learns.
        pool: unlabelled texts.
    """
    run = market.run
    points = _curve(market, owned, check)
    large = market.teach_large(owned) if market.large is not None and len(pool) else None
    distilled = () if large is None else _distilled(market, owned, check, pool, large)
    answered = _answered(market, owned, check, pool) if market.llm is not None and len(pool) else ()
    doubt = float(np.sqrt(0.25 / max(len(check), 1)) / 2)  # the same texts for all: about half of it is shared
    outlook = Piloted(fit_curves(points, seed=run.spec.seed), distilled, answered, doubt=doubt, seed=run.spec.seed)
    return Survey(outlook, market.costs(large, owned, pool), points[-1].mean, tuple(points), tuple(distilled))


def _curve(market: Market, owned: Owned, check: Part) -> list[Point]:
    """Scores at an eighth, a quarter, a half and all of the labels; each seed draws its own nested subsets."""
    run, seeds = market.run, market.options.seeds
    sizes = sorted({max(2, len(owned) >> shift) for shift in range(FEWEST_SIZES)})
    scores: dict[int, list[float]] = {size: [] for size in sizes}
    for seed in range(seeds):
        order = np.random.default_rng((run.spec.seed, seed)).permutation(len(owned))
        for size in sizes:
            if size == len(owned) and seed:
                continue  # all of them are all of them
            some = owned.at(order[:size])
            student = run.learn(some.texts, some.targets, student=market.proxy, purpose="plan")
            scores[size].append(run.judge(student, check, f"pilot, {size} labels").accuracy.value)
    return [Point(size, tuple(found)) for size, found in scores.items()]


def _distilled(market: Market, owned: Owned, check: Part, pool: Sequence[str], large: Student) -> tuple[Measured, ...]:
    run = market.run
    texts = list(pool[:PILOT_TEXTS])
    said = run.ask(market.large_teacher(large), texts, purpose="plan", leave_micros=run.training_reserve)
    there = np.flatnonzero(said.answered)
    probs = np.exp(said.scores[there])
    probs /= probs.sum(axis=1, keepdims=True)
    found = []
    for n in sorted({len(there) // 4, len(there)}):
        if n:
            lesson = beside(owned, [said.texts[row] for row in there[:n]], probs[:n])
            student = run.learn(
                lesson.texts, lesson.targets, weights=lesson.weights, student=market.proxy, purpose="plan"
            )
            score = run.judge(student, check, f"pilot, {n} distilled").accuracy.value
            found.append(Measured(len(owned), n, score))
    return tuple(found)


def _answered(market: Market, owned: Owned, check: Part, pool: Sequence[str]) -> tuple[tuple[int, float], ...]:
    run = market.run
    texts = list(pool[: max(100, len(owned))])
    said, reading = market.answered(texts, owned)
    there = np.flatnonzero(said.answered)
    found = []
    for n in sorted({len(there) // 2, len(there)}):
        if n:
            lesson = beside(owned, [said.texts[row] for row in there[:n]], reading.probs(said.scores[there[:n]]))
            student = run.learn(
                lesson.texts, lesson.targets, weights=lesson.weights, student=market.proxy, purpose="plan"
            )
            found.append((n, run.judge(student, check, f"pilot, {n} answers").accuracy.value))
    return tuple(found)


def chosen(market: Market, owned: Owned, pool: Sequence[str], n: int) -> list[int]:
    """Which of the pool people are asked about next; typical ones where nobody labelled anything yet."""
    run, how = market.run, market.options.choose
    draw = np.random.default_rng((run.spec.seed, len(owned)))
    rows = draw.permutation(len(pool))[:LOOKED_AT]
    texts = [pool[row] for row in rows]
    if how == "random" or not len(texts):
        return list(rows[:n].tolist())
    if len(set(owned.gold.tolist())) < 2:
        return list(rows[cover.typical(looks(texts), n, run.spec.seed)].tolist())
    student = run.learn(owned.texts, owned.targets, student=market.proxy, purpose="plan")
    probs = student.predict_proba(texts)
    if how == "margin":
        picked = choose.by_margin(probs, n)
    elif how == "entropy":
        picked = choose.by_entropy(probs, n)
    elif how == "diverse":
        both = student.embed([*texts, *owned.texts])
        picked = cover.by_coverage(both, n, taken=np.arange(len(texts), len(both)))
    else:
        picked = cover.by_gradient(probs, student.embed(texts), n, draw)
    return list(rows[picked].tolist())


def looks(texts: Sequence[str]) -> np.ndarray:
    """(N, D) what texts look like before anything was learnt: their words, reduced (latent semantic analysis)."""
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.preprocessing import normalize

    words = TfidfVectorizer(sublinear_tf=True, min_df=1, max_features=20_000).fit_transform(texts)
    dims = min(DIMS, min(words.shape) - 1)
    if dims < 1:
        return np.asarray(words.todense())
    return np.asarray(normalize(TruncatedSVD(dims, random_state=0).fit_transform(words)))
