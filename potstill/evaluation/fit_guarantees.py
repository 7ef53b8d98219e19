"""Held-out texts with their labels -> what may be promised of a graph's scores."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from potstill.evaluation import metrics
from potstill.evaluation.calibration import Array, log_softmax
from potstill.evaluation.guarantees import (
    COVERAGE_LEVELS,
    SCOPE_QUANTILES,
    THRESHOLDS,
    CalibrationQuality,
    Guarantees,
    conformal_rank,
    energy_score,
)
from potstill.evaluation.scaling import select_scaling

N_RESAMPLES = 200  # resamples of an interval; their ends need no more than two digits


def fit_guarantees(
    logits: NDArray[np.floating], gold: NDArray[np.integer], graph: str = "", seed: int = 0
) -> Guarantees:
    """Everything that N labelled texts say about a graph's scores.

    The thresholds are counted on probabilities from a scaling that had not seen the text, the sets on unscaled
    ones: no promise rests on a number that was fitted on the text it is checked with.

    Args:
        logits: (N, K) of texts that the student did not learn from.
        gold: (N,) their right columns; N >= 50, or all of it is noise.
        graph: SHA-256 of the graph the logits come from.
        seed: draws folds and resamples.
    """
    right = np.asarray(gold, dtype=np.int64)
    chosen = select_scaling(logits, right, seed)
    raw = log_softmax(logits)
    wrong = chosen.probs.argmax(axis=1) != right
    reached = [chosen.probs.max(axis=1) >= threshold for threshold in THRESHOLDS]
    scores = np.sort(-raw[np.arange(len(right)), right])
    energies = np.sort(energy_score(logits))
    n = len(right)
    return Guarantees(
        graph=graph,
        n=n,
        scaling=chosen.scaling,
        log_loss=chosen.log_loss,
        calibration_quality=_quality(right, np.exp(raw), chosen.probs, seed),
        n_above=tuple(int(row.sum()) for row in reached),
        n_wrong_above=tuple(int((row & wrong).sum()) for row in reached),
        # Rounded up a little: a batch of another shape moves a logit in its seventh digit.
        conformal_scores=tuple(
            float(scores[rank - 1]) + 1e-5 if (rank := conformal_rank(level, n)) <= n else None
            for level in COVERAGE_LEVELS
        ),
        energy_quantiles=tuple(float(energies[min(conformal_rank(share, n), n) - 1]) for share in SCOPE_QUANTILES),
    )


def _quality(gold: NDArray[np.int64], before: Array, after: Array, seed: int) -> CalibrationQuality:
    def score(metric: metrics.Metric, probs: Array) -> metrics.Score:
        return metrics.bootstrap_interval(
            metric, gold, probs, seed=seed, draws=N_RESAMPLES, centred=metric is metrics.ece
        )

    return CalibrationQuality(
        ece_before=score(metrics.ece, before),
        ece_after=score(metrics.ece, after),
        brier_before=score(metrics.brier, before),
        brier_after=score(metrics.brier, after),
    )
