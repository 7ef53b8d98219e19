"""What `allocate` buys next: every way is weighed for all the money there is, and a slice of the best one is bought.

Decides, and says why; buys nothing but what the pilot measures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from potstill.ledger.prices import micros_to_usd
from potstill.procedures.allocate.label_sources import AllocationState, LabelSources
from potstill.procedures.allocate.pilot import (
    DISTILLATION_STRATEGIES,
    MIN_ANSWERS,
    Pilot,
    PilotFindings,
    PilotResult,
    select_texts,
)
from potstill.procedures.allocate.strategies import (
    BudgetComparison,
    Strategy,
    StrategyEstimate,
    compare_strategies,
    expected_lead,
)

MIN_PURCHASE = 10
MIN_WIN_PROBABILITY = 0.1  # share of the draws in which a way has to win to be tried at the end
SMALL_REMAINDER = 0.25  # of the labels there are: too few to plan anew for
MIN_NEW_ANSWERS_SHARE = 0.125  # share of the answers there are, below which more of them change nothing
ACTION_TITLES = {
    "annotate": "Next, people label",
    "ask": "Next, the language model is asked",
    "write": "Next, the language model writes",
    "stop": "Nothing more is bought",
}
STRATEGIES_BY_CANDIDATE: Mapping[str, tuple[Strategy, ...]] = {
    "distilled": DISTILLATION_STRATEGIES,
    "answers": ("llm",),
}


def choose_purchase(pilot: Pilot, known: PilotFindings, held: AllocationState, market: LabelSources) -> dict[str, Any]:
    """Measure, weigh, and say what to buy next, as plain facts.

    `do` is "annotate" (with `rows` of what is left, and whether it is the `last` time), "ask" (with `texts` in all),
    "write", or "stop"; `why` says it in words; `known` is what the pilot found out, for the next time.
    """
    decided = _decide(pilot, known, held, market)
    market.run.reporter.info(f"{ACTION_TITLES[decided['do']]}: {decided['why']}.")
    return decided


def _decide(pilot: Pilot, known: PilotFindings, held: AllocationState, market: LabelSources) -> dict[str, Any]:
    run, owned, left = market.run, held.labelled, held.unlabelled
    found = pilot.measure(known)
    money = micros_to_usd(max(0, run.ledger.free - run.training_reserve))
    verdict = compare_strategies(
        found.expected_scores, found.unit_costs, money, n_labels_owned=len(owned), n_unlabelled=len(left)
    )
    said = _told(verdict, found, money)
    if not verdict.strategies:
        return {"do": "stop", "why": "nothing that has a price here can be bought", **said}
    now = max(found.score, held.generation_score, _median(found.expected_scores.after_answers(len(held.asked))))
    proven = verdict.exclude_unmeasured(DISTILLATION_STRATEGIES, found.findings.large_teacher.accuracy is not None)
    best = next((each for each in proven if not _had(each, held)), None)
    gain = 0.0 if best is None else _gain(best, found, now, held)
    writing = _round_gain(found, now, money)
    least = market.options.min_gain
    if writing is not None and writing >= least and writing > max(gain, 0.0):
        why = f"a round of writing is expected to bring {writing:.2f} points a dollar, all else {max(gain, 0):.2f}"
        return {"do": "write", "why": why, "round_gain": writing, **said}
    if best is None or gain < least:
        return {"do": "stop", "why": f"{max(gain, 0):.3f} points a dollar are expected, {least} wanted", **said}
    reach = f"{best.strategy} is expected to reach {best.score.value:.1%} for ${best.allocation.usd:,.2f}"
    why = f"{reach}, {gain:.2f} points a dollar"
    more = min(best.allocation.labels - len(owned), len(left))
    if best.strategy in ("annotate", "mix") and more >= 1:
        n = _slice(more, len(owned))
        return {"do": "annotate", "why": why, "rows": select_texts(market, owned, left, n), "last": n == more, **said}
    if best.strategy == "llm" and best.allocation.texts >= (1 + MIN_NEW_ANSWERS_SHARE) * len(held.asked):
        n = best.allocation.texts - len(held.asked)
        texts = len(held.asked) + min(n, max(MIN_ANSWERS, len(owned), len(held.asked)))
        return {"do": "ask", "why": why, "texts": texts, **said}
    return {"do": "stop", "why": f"what there is can be taught; {why}", **said}


def distillation_may_win(decided: Mapping[str, Any]) -> bool:
    """Whether a large teacher won in enough of the draws of a plan to be worth its price."""
    wins = sum(each["best"] for each in decided.get("ways", ()) if each["way"] in DISTILLATION_STRATEGIES)
    return float(wins) >= MIN_WIN_PROBABILITY


def _slice(more: int, owned: int) -> int:
    """As many labels again as there are, no further than the curve can be trusted; a small rest goes with them."""
    n = min(more, max(owned, MIN_PURCHASE))
    return more if more - n < owned * SMALL_REMAINDER else n


def _had(each: StrategyEstimate, held: AllocationState) -> bool:
    """Whether this way is no longer to be bought as a whole: its answers are there, or it is bought round by round."""
    return each.strategy == "pgkd" or (each.strategy == "llm" and each.allocation.texts <= len(held.asked))


def _gain(best: StrategyEstimate, found: PilotResult, now: float, held: AllocationState) -> float:
    """Points a dollar of a way, or of its next slice if that brings more: the first labels bring the most."""
    if best.strategy == "llm" and held.asked:  # part of it is there
        had = _median(found.expected_scores.after_answers(len(held.asked)))
        return 100 * (best.score.value - had) / max(best.allocation.usd, 1e-9)
    rate = _rate(best.score.value, best.allocation.usd, found, now)
    n = _slice(min(best.allocation.labels - len(held.labelled), len(held.unlabelled)), len(held.labelled))
    if best.strategy == "annotate" and n >= 1 and found.unit_costs.usd_per_label:
        score = _median(found.expected_scores.after_labels(len(held.labelled) + n))
        rate = max(rate, _rate(score, n * found.unit_costs.usd_per_label, found, now))
    return rate


def _rate(score: float, usd: float, found: PilotResult, now: float) -> float:
    """Points a dollar. Ways add up as shares of the errors: what one removes of a student's that learnt labels only, it
    is expected to remove of the student's there is now."""
    if usd <= 0:
        return 0.0
    return 100 * (score - found.score) / max(1 - found.score, 1e-9) * (1 - now) / usd


def _median(draws: NDArray[np.float64] | None) -> float:
    return 0.0 if draws is None else float(np.median(draws))


def _round_gain(found: PilotResult, now: float, money: float) -> float | None:
    """Points a dollar that the next round of writing is expected to gain; None where none can be paid."""
    costs, texts = found.unit_costs, found.texts_per_round
    if costs.usd_per_generated is None or not texts or costs.usd_per_generated * texts > money:
        return None
    drawn = [found.expected_scores.after_generation(n) for n in (0, texts)]
    before, after = (1.0 if each is None else float(np.mean(each)) for each in drawn)
    share = (after - before) / max(1 - before, 1e-9)
    return 100 * share * (1 - now) / max(costs.usd_per_generated * texts, 1e-9)


def _apart(verdict: BudgetComparison, ways: Sequence[Strategy]) -> list[float]:
    """Mean and deviation of a way's lead over labels only; empty where nothing is known."""
    found = expected_lead(verdict, ways)
    return [found.mean, found.spread] if np.isfinite(found.spread) else []


def _told(verdict: BudgetComparison, found: PilotResult, money: float) -> dict[str, Any]:
    """The reasons, as plain facts."""
    return {
        "free_usd": money,
        "score": found.score,
        "sure": verdict.sure,
        "curve": [asdict(point) for point in found.curve_points],
        "known": found.findings.to_json(),
        "sampled": found.n_sampled,
        "sources": {
            "distilling": found.expected_scores.distillation_curve.source,
            "asking": found.expected_scores.llm_curve.source,
            "writing": found.expected_scores.generation_basis,
        },
        "ahead": {
            name: _apart(verdict, ways) for name, ways in STRATEGIES_BY_CANDIDATE.items() if _apart(verdict, ways)
        },
        "ways": [
            {"way": each.strategy, "best": each.win_probability, **asdict(each.score), **asdict(each.allocation)}
            for each in verdict.strategies
        ],
    }
