"""Fits conformal prediction sets, the abstention threshold and the energy quantiles of a graph on held-out texts."""

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

N_RESAMPLES = 200  # of an interval; its ends need no more than two digits


def fit_guarantees(
    logits: NDArray[np.floating], gold: NDArray[np.integer], graph: str = "", seed: int = 0
) -> Guarantees:
    """Scaling, abstention thresholds, conformal sets and scope of a graph, from N held-out texts.

    The thresholds use probabilities from a scaling that was fitted without the text (cross-validation), the conformal
    sets unscaled ones: no guarantee depends on a number that was fitted on the text it is checked with.

    Args:
        logits: (N, K) logits of texts that the student did not learn from.
        gold: (N,) gold columns; N >= 50, fewer give only noise.
        graph: SHA-256 of the graph the logits come from.
        seed: draws folds and resamples.
    """
    gold_ = np.asarray(gold, dtype=np.int64)
    selected = select_scaling(logits, gold_, seed)
    log_probs = log_softmax(logits)
    wrong = selected.probs.argmax(axis=1) != gold_
    above = [selected.probs.max(axis=1) >= threshold for threshold in THRESHOLDS]
    scores = np.sort(-log_probs[np.arange(len(gold_)), gold_])
    energies = np.sort(energy_score(logits))
    n = len(gold_)
    return Guarantees(
        graph=graph,
        n=n,
        scaling=selected.scaling,
        log_loss=selected.log_loss,
        calibration_quality=_calibration_quality(gold_, np.exp(log_probs), selected.probs, seed),
        n_above=tuple(int(row.sum()) for row in above),
        n_wrong_above=tuple(int((row & wrong).sum()) for row in above),
        # With a margin: a batch of another shape changes a logit in its seventh digit.
        conformal_scores=tuple(
            float(scores[rank - 1]) + 1e-5 if (rank := conformal_rank(level, n)) <= n else None
            for level in COVERAGE_LEVELS
        ),
        energy_quantiles=tuple(float(energies[min(conformal_rank(share, n), n) - 1]) for share in SCOPE_QUANTILES),
    )


def _calibration_quality(gold: NDArray[np.int64], before: Array, after: Array, seed: int) -> CalibrationQuality:
    def score(metric: metrics.Metric, probs: Array) -> metrics.Score:
        return metrics.bootstrap_interval(
            metric, gold, probs, seed=seed, n_resamples=N_RESAMPLES, centred=metric is metrics.ece
        )

    return CalibrationQuality(
        ece_before=score(metrics.ece, before),
        ece_after=score(metrics.ece, after),
        brier_before=score(metrics.brier, before),
        brier_after=score(metrics.brier, after),
    )
