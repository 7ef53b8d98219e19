"""All that is said of a model that gives several labels a text: a `Judgement`, with its intervals.

Does not cover single labels (`metrics.judge`) or choosing thresholds (`fit_thresholds.py`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from potstill.evaluation.metrics import ClassScore, EvaluationResult, Score
from potstill.evaluation.multilabel_metrics import (
    BoolArray,
    Floats,
    as_bool,
    label_ranking_precision,
    macro_f1_from_counts,
    multilabel_ece,
    safe_ratio,
)


def compute_multilabel_metrics(
    gold: ArrayLike, probs: ArrayLike, chosen: ArrayLike, labels: Sequence[str], *, seed: int = 0, draws: int = 1000
) -> EvaluationResult:
    """Everything about N sets of labels. A row of NaN in `probs` is a text without an answer: the empty set.

    `accuracy` of the result is the share of texts whose whole set is right. Intervals are 95 % percentile bootstrap
    intervals over texts.

    Raises:
        ValueError: no texts, or shapes that do not fit.
    """
    g, p = as_bool(gold), np.asarray(probs, dtype=np.float64)
    if not len(g) or not g.shape == p.shape == np.shape(chosen) == (len(g), len(labels)):
        raise ValueError(f"gold {g.shape}, probabilities {p.shape}, chosen {np.shape(chosen)}, {len(labels)} labels")
    answered: BoolArray = np.asarray(np.isfinite(p).all(axis=1))
    c = as_bool(chosen) & answered[:, None]
    p = np.where(answered[:, None], p, 0.0)
    exact, ranked = (g == c).all(axis=1).astype(np.float64), label_ranking_precision(g, p)
    drawn = _drawn(g, c, np.stack([exact, ranked], axis=1), seed, draws)
    whole = _drawn(g, c, np.stack([exact, ranked], axis=1), seed, 0)

    def score(nth: int) -> Score:
        low, high = np.percentile(drawn[:, nth], [2.5, 97.5])
        return Score(float(whole[0, nth]), float(low), float(high))

    sure = p[answered]
    hits, support, given = (g & c).sum(0), g.sum(0), c.sum(0)
    f1s = [safe_ratio(2.0 * hit, float(has + got)) for hit, has, got in zip(hits, support, given, strict=True)]
    rows = zip(labels, hits, given, support, f1s, strict=True)
    log = -np.log(np.clip(np.where(g[answered], sure, 1 - sure), 1e-15, None))
    return EvaluationResult(
        n=len(g),
        accuracy=score(2),
        macro_f1=score(1),
        weighted_f1=float(np.average(f1s, weights=support)) if support.any() else 0.0,
        ece=multilabel_ece(g[answered], sure) if answered.any() else None,
        brier=float(((sure - g[answered]) ** 2).sum(1).mean()) if answered.any() else None,
        log_loss=float(log.sum(1).mean()) if answered.any() else None,
        per_class=tuple(
            ClassScore(label, safe_ratio(hit, got), safe_ratio(hit, has), f1, int(has), int(got))
            for label, hit, got, has, f1 in rows
        ),
        confusions=(),
        unanswered=int((~answered).sum()),
        n_resamples=draws,
        kind="multi",
        micro_f1=score(0),
        lrap=score(3),
    )


def _drawn(g: BoolArray, c: BoolArray, rows: Floats, seed: int, draws: int) -> Floats:
    """(draws, 4) micro F1, macro F1, then the means of the two `rows`; of the texts as they are with 0 draws."""
    n = len(g)
    hits, has, got = ((array).astype(np.float64) for array in (g & c, g, c))
    if not draws:
        return _figures(np.ones((1, n)), hits, has, got, rows)
    generator = np.random.default_rng(seed)
    found = []
    for at in range(0, draws, 100):
        several = min(100, draws - at)
        weights = np.stack([np.bincount(generator.integers(0, n, n), minlength=n) for _ in range(several)])
        found.append(_figures(weights.astype(np.float64), hits, has, got, rows))
    return np.concatenate(found)


def _figures(weights: Floats, hits: Floats, has: Floats, got: Floats, rows: Floats) -> Floats:
    hit, have, give = weights @ hits, weights @ has, weights @ got
    micro = 2 * hit.sum(1) / np.maximum((have + give).sum(1), 1e-12)
    means = weights @ rows / weights.sum(1, keepdims=True)
    return np.concatenate([micro[:, None], macro_f1_from_counts(hit, have, give)[:, None], means], axis=1)
