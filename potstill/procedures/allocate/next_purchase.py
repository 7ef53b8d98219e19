"""The planning step of `allocate`: compare all strategies for the money left, and buy a part of the best one.

Buys nothing itself, except for what the pilot measures.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from potstill.ledger.prices import micros_to_usd
from potstill.procedures.allocate.decisions import (
    BuyAnswers,
    BuyLabels,
    CurveSources,
    Decision,
    DecisionBasis,
    GenerateTexts,
    Stop,
    StrategySummary,
)
from potstill.procedures.allocate.label_sources import AllocationState, LabelSources
from potstill.procedures.allocate.pilot import (
    DISTILLATION_STRATEGIES,
    MIN_ANSWERS,
    Pilot,
    PilotFindings,
    PilotResult,
)
from potstill.procedures.allocate.select_texts import select_texts
from potstill.procedures.allocate.strategies import (
    BudgetComparison,
    Strategy,
    StrategyEstimate,
    compare_strategies,
    expected_lead,
)
from potstill.run.open_teacher import training_reserve

MIN_PURCHASE = 10  # labels
SMALL_REMAINDER = 0.25  # share of the labels: a smaller remainder is bought at once
MIN_NEW_ANSWERS_SHARE = 0.125  # share of the answers: fewer new ones do not change the student
ACTION_TITLES = {
    "buy_labels": "Buying human labels",
    "buy_answers": "Buying answers of the language model",
    "generate_texts": "Generating texts",
    "stop": "Buying nothing more",
}
STRATEGIES_BY_CANDIDATE: Mapping[str, tuple[Strategy, ...]] = {
    "distilled": DISTILLATION_STRATEGIES,
    "answers": ("llm",),
}


def next_purchase(pilot: Pilot, findings: PilotFindings, state: AllocationState, sources: LabelSources) -> Decision:
    """Measure, compare the strategies, and decide what to buy next.

    Args:
        pilot: measures with the labels in `state`.
        findings: results of earlier pilots, which are not measured again.
        state: labels, unlabelled texts and answers.
        sources: prices, options, and the run.
    """
    decision = _decide(pilot.measure(findings), state, sources)
    action: str = decision.to_json()["action"]
    sources.run.reporter.info(f"{ACTION_TITLES[action]}: {decision.reason}.")
    return decision


def _decide(pilot: PilotResult, state: AllocationState, sources: LabelSources) -> Decision:
    run, min_gain = sources.run, sources.options.min_gain
    n_labels, n_unlabelled = len(state.labelled), len(state.unlabelled)
    free_usd = micros_to_usd(max(0, run.ledger.free - training_reserve(run.spec)))
    comparison = compare_strategies(
        pilot.expected_scores, pilot.unit_costs, free_usd, n_labels_owned=n_labels, n_unlabelled=n_unlabelled
    )
    basis = _basis(comparison, pilot, free_usd)
    if not comparison.strategies:
        return Stop(reason="no strategy has a price and fits the money left", basis=basis)
    score = max(pilot.score, state.generation_score, _median(pilot.expected_scores.after_answers(len(state.asked))))
    is_measured = pilot.findings.large_teacher.accuracy is not None
    eligible = comparison.exclude_unmeasured(DISTILLATION_STRATEGIES, is_measured)
    best = next((each for each in eligible if not _is_exhausted(each, state)), None)
    gain = 0.0 if best is None else _points_per_usd(best, pilot, score, state)
    round_gain = _round_points_per_usd(pilot, score, free_usd)
    if round_gain is not None and round_gain >= min_gain and round_gain > max(gain, 0.0):
        reason = (
            f"a round is expected to gain {round_gain:.2f} points per dollar, the other strategies {max(gain, 0):.2f}"
        )
        return GenerateTexts(reason=reason, basis=basis, points_per_usd=round_gain)
    if best is None or gain < min_gain:
        reason = f"{max(gain, 0):.3f} points per dollar are expected and min_gain is {min_gain}"
        return Stop(reason=reason, basis=basis)
    reason = (
        f"{best.strategy!r} is expected to reach {best.score.value:.1%} for ${best.allocation.usd:,.2f}, "
        f"{gain:.2f} points per dollar"
    )
    affordable = min(best.allocation.labels - n_labels, n_unlabelled)
    if best.strategy in ("annotate", "mix") and affordable >= 1:
        n = _purchase_size(affordable, n_labels)
        rows = tuple(select_texts(sources, state, n))
        return BuyLabels(reason=reason, basis=basis, rows=rows, is_last=n == affordable)
    n_asked = len(state.asked)
    if best.strategy == "llm" and best.allocation.texts >= (1 + MIN_NEW_ANSWERS_SHARE) * n_asked:
        n = min(best.allocation.texts - n_asked, max(MIN_ANSWERS, n_labels, n_asked))
        return BuyAnswers(reason=reason, basis=basis, n_texts=n_asked + n)
    return Stop(reason=f"nothing more to buy for {best.strategy!r}; {reason}", basis=basis)


def _basis(comparison: BudgetComparison, pilot: PilotResult, free_usd: float) -> DecisionBasis:
    leads = {name: expected_lead(comparison, those) for name, those in STRATEGIES_BY_CANDIDATE.items()}
    return DecisionBasis(
        free_usd=free_usd,
        score=pilot.score,
        is_sure=comparison.sure,
        curve=pilot.curve_points,
        findings=pilot.findings,
        n_sampled=pilot.n_sampled,
        sources=CurveSources(
            distillation=pilot.expected_scores.distillation_curve.source,
            llm=pilot.expected_scores.llm_curve.source,
            generation=pilot.expected_scores.generation_basis,
        ),
        leads={name: lead for name, lead in leads.items() if np.isfinite(lead.spread)},
        strategies=tuple(
            StrategySummary(each.strategy, each.win_probability, each.score, each.allocation)
            for each in comparison.strategies
        ),
    )


def _purchase_size(affordable: int, n_labels: int) -> int:
    """How many labels to buy at once: at most as many as there are, since the curve holds no further."""
    n = min(affordable, max(n_labels, MIN_PURCHASE))
    return affordable if affordable - n < n_labels * SMALL_REMAINDER else n


def _is_exhausted(estimate: StrategyEstimate, state: AllocationState) -> bool:
    """Whether a strategy cannot be bought as a whole: its answers are there, or it is bought round by round."""
    return estimate.strategy == "pgkd" or (estimate.strategy == "llm" and estimate.allocation.texts <= len(state.asked))


def _points_per_usd(best: StrategyEstimate, pilot: PilotResult, score: float, state: AllocationState) -> float:
    """Accuracy points per dollar of a strategy, or of its next purchase if that is higher: gains diminish."""
    if best.strategy == "llm" and state.asked:  # a part of it is there
        before = _median(pilot.expected_scores.after_answers(len(state.asked)))
        return 100 * (best.score.value - before) / max(best.allocation.usd, 1e-9)
    rate = _relative_rate(best.score.value, best.allocation.usd, pilot, score)
    n_labels = len(state.labelled)
    n = _purchase_size(min(best.allocation.labels - n_labels, len(state.unlabelled)), n_labels)
    if best.strategy == "annotate" and n >= 1 and pilot.unit_costs.usd_per_label:
        after = _median(pilot.expected_scores.after_labels(n_labels + n))
        rate = max(rate, _relative_rate(after, n * pilot.unit_costs.usd_per_label, pilot, score))
    return rate


def _relative_rate(expected: float, usd: float, pilot: PilotResult, score: float) -> float:
    """Accuracy points per dollar.

    Gains of different strategies are combined as shares of the error: the share of the error that a strategy removes
    from a student trained on the labels only, it is expected to remove from the current student.
    """
    if usd <= 0:
        return 0.0
    return 100 * (expected - pilot.score) / max(1 - pilot.score, 1e-9) * (1 - score) / usd


def _median(draws: NDArray[np.float64] | None) -> float:
    return 0.0 if draws is None else float(np.median(draws))


def _round_points_per_usd(pilot: PilotResult, score: float, free_usd: float) -> float | None:
    """Accuracy points per dollar expected of the next PGKD round; None if no round can be paid."""
    costs, texts = pilot.unit_costs, pilot.texts_per_round
    if costs.usd_per_generated is None or not texts or costs.usd_per_generated * texts > free_usd:
        return None
    draws = [pilot.expected_scores.after_generation(n) for n in (0, texts)]
    before, after = (1.0 if each is None else float(np.mean(each)) for each in draws)
    removed = (after - before) / max(1 - before, 1e-9)
    return 100 * removed * (1 - score) / max(costs.usd_per_generated * texts, 1e-9)
