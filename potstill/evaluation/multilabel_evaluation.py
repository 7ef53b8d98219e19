"""All metrics of a multi-label model, with bootstrap intervals.

Single-label tasks are in `metrics.py`; thresholds are fitted in `fit_thresholds.py`.
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
    gold: ArrayLike,
    probs: ArrayLike,
    predicted: ArrayLike,
    labels: Sequence[str],
    *,
    seed: int = 0,
    n_resamples: int = 1000,
) -> EvaluationResult:
    """All metrics of N predicted sets of labels; `accuracy` is the share of texts whose set is exactly right.

    Args:
        gold: (N, K) bool, the texts' labels.
        probs: (N, K) probabilities of each label; a row of NaN is unanswered and counts as the empty set.
        predicted: (N, K) bool, the predicted labels.
        labels: the K label names.
        seed: draws the resamples.
        n_resamples: resamples of the 95 % percentile bootstrap intervals over texts.

    Raises:
        ValueError: no texts, or shapes that do not fit.
    """
    g, p = as_bool(gold), np.asarray(probs, dtype=np.float64)
    if not len(g) or not g.shape == p.shape == np.shape(predicted) == (len(g), len(labels)):
        raise ValueError(
            f"gold {g.shape}, probabilities {p.shape}, predicted {np.shape(predicted)}, {len(labels)} labels"
        )
    answered: BoolArray = np.asarray(np.isfinite(p).all(axis=1))
    c = as_bool(predicted) & answered[:, None]
    p = np.where(answered[:, None], p, 0.0)
    exact, lrap = (g == c).all(axis=1).astype(np.float64), label_ranking_precision(g, p)
    per_text = np.stack([exact, lrap], axis=1)
    resampled = _resampled_scores(g, c, per_text, seed, n_resamples)
    observed = _resampled_scores(g, c, per_text, seed, 0)

    def score(nth: int) -> Score:
        low, high = np.percentile(resampled[:, nth], [2.5, 97.5])
        return Score(float(observed[0, nth]), float(low), float(high))

    classes = _class_scores(g, c, labels)
    support = [each.support for each in classes]
    g_answered, p_answered = g[answered], p[answered]
    losses = -np.log(np.clip(np.where(g_answered, p_answered, 1 - p_answered), 1e-15, None))
    return EvaluationResult(
        n=len(g),
        accuracy=score(2),
        macro_f1=score(1),
        weighted_f1=float(np.average([each.f1 for each in classes], weights=support)) if any(support) else 0.0,
        ece=multilabel_ece(g_answered, p_answered) if answered.any() else None,
        brier=float(((p_answered - g_answered) ** 2).sum(1).mean()) if answered.any() else None,
        log_loss=float(losses.sum(1).mean()) if answered.any() else None,
        per_class=classes,
        confusions=(),
        unanswered=int((~answered).sum()),
        n_resamples=n_resamples,
        kind="multi",
        micro_f1=score(0),
        lrap=score(3),
    )


def _class_scores(g: BoolArray, c: BoolArray, labels: Sequence[str]) -> tuple[ClassScore, ...]:
    """Precision, recall, F1 and counts of each label."""
    counts = zip((g & c).sum(0), g.sum(0), c.sum(0), strict=True)
    return tuple(
        ClassScore(
            label=label,
            precision=safe_ratio(correct, n_predicted),
            recall=safe_ratio(correct, support),
            f1=safe_ratio(2.0 * correct, float(support + n_predicted)),
            support=int(support),
            predicted=int(n_predicted),
        )
        for label, (correct, support, n_predicted) in zip(labels, counts, strict=True)
    )


def _resampled_scores(g: BoolArray, c: BoolArray, per_text: Floats, seed: int, n_resamples: int) -> Floats:
    """(n_resamples, 4) micro F1, macro F1 and the means of the (N, 2) `per_text`; one unweighted row if 0."""
    n = len(g)
    correct, support, n_predicted = (array.astype(np.float64) for array in (g & c, g, c))
    if not n_resamples:
        return _weighted_scores(np.ones((1, n)), correct, support, n_predicted, per_text)
    generator = np.random.default_rng(seed)
    scores = []
    for start in range(0, n_resamples, 100):
        size = min(100, n_resamples - start)
        weights = np.stack([np.bincount(generator.integers(0, n, n), minlength=n) for _ in range(size)])
        scores.append(_weighted_scores(weights.astype(np.float64), correct, support, n_predicted, per_text))
    return np.concatenate(scores)


def _weighted_scores(
    weights: Floats, correct: Floats, support: Floats, n_predicted: Floats, per_text: Floats
) -> Floats:
    """(R, N) weights of R resamples -> (R, 4) scores."""
    hit, have, give = weights @ correct, weights @ support, weights @ n_predicted
    micro = 2 * hit.sum(1) / np.maximum((have + give).sum(1), 1e-12)
    means = weights @ per_text / weights.sum(1, keepdims=True)
    return np.concatenate([micro[:, None], macro_f1_from_counts(hit, have, give)[:, None], means], axis=1)
