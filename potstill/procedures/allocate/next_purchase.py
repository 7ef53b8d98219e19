"""What `allocate` buys next: every way is weighed for all the money there is, and a slice of the best one is bought.

Decides, and says why; buys nothing but what the pilot measures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from potstill.ledger.prices import to_usd
from potstill.procedures.allocate.label_sources import Held, Market
from potstill.procedures.allocate.pilot import DISTILLING, FEWEST_ANSWERS, Known, Pilot, Survey, chosen
from potstill.procedures.allocate.strategies import Verdict, Way, Weighed, ahead, weigh

FEWEST_BOUGHT = 10
WORTH_TRYING = 0.1  # share of the draws in which a way has to win to be tried at the end
SMALL_REST = 0.25  # of the labels there are: too few to plan anew for
WORTH_ASKING = 0.125  # share of the answers there are, below which more of them change nothing
WORDS = {
    "annotate": "Next, people label",
    "ask": "Next, the language model is asked",
    "write": "Next, the language model writes",
    "stop": "Nothing more is bought",
}
TAUGHT_BY: Mapping[str, tuple[Way, ...]] = {"distilled": DISTILLING, "answers": ("llm",)}


def decide_next(pilot: Pilot, known: Known, held: Held, market: Market) -> dict[str, Any]:
    """Measure, weigh, and say what to buy next, as plain facts.

    `do` is "annotate" (with `rows` of what is left, and whether it is the `last` time), "ask" (with `texts` in all),
    "write", or "stop"; `why` says it in words; `known` is what the pilot found out, for the next time.
    """
    decided = _decide(pilot, known, held, market)
    market.run.tell.say(f"{WORDS[decided['do']]}: {decided['why']}.")
    return decided


def _decide(pilot: Pilot, known: Known, held: Held, market: Market) -> dict[str, Any]:
    run, owned, left = market.run, held.owned, held.left
    found = pilot.survey(known)
    money = to_usd(max(0, run.ledger.free - run.training_reserve))
    verdict = weigh(found.outlook, found.costs, money, owned=len(owned), pool=len(left))
    said = _told(verdict, found, money)
    if not verdict.ways:
        return {"do": "stop", "why": "nothing that has a price here can be bought", **said}
    now = max(found.now, held.score, _median(found.outlook.answers(len(held.asked))))
    proven = verdict.without_unproven(DISTILLING, found.known.large.accuracy is not None)
    best = next((each for each in proven if not _had(each, held)), None)
    gain = 0.0 if best is None else _gain(best, found, now, held)
    writing = _round_gain(found, now, money)
    least = market.options.least_gain
    if writing is not None and writing >= least and writing > max(gain, 0.0):
        why = f"a round of writing is expected to bring {writing:.2f} points a dollar, all else {max(gain, 0):.2f}"
        return {"do": "write", "why": why, "round_gain": writing, **said}
    if best is None or gain < least:
        return {"do": "stop", "why": f"{max(gain, 0):.3f} points a dollar are expected, {least} wanted", **said}
    reach = f"{best.way} is expected to reach {best.score.value:.1%} for ${best.split.usd:,.2f}"
    why = f"{reach}, {gain:.2f} points a dollar"
    more = min(best.split.labels - len(owned), len(left))
    if best.way in ("annotate", "mix") and more >= 1:
        n = _slice(more, len(owned))
        return {"do": "annotate", "why": why, "rows": chosen(market, owned, left, n), "last": n == more, **said}
    if best.way == "llm" and best.split.texts >= (1 + WORTH_ASKING) * len(held.asked):
        n = best.split.texts - len(held.asked)
        texts = len(held.asked) + min(n, max(FEWEST_ANSWERS, len(owned), len(held.asked)))
        return {"do": "ask", "why": why, "texts": texts, **said}
    return {"do": "stop", "why": f"what there is can be taught; {why}", **said}


def may_distil(decided: Mapping[str, Any]) -> bool:
    """Whether a large teacher won in enough of the draws of a plan to be worth its price."""
    wins = sum(each["best"] for each in decided.get("ways", ()) if each["way"] in DISTILLING)
    return float(wins) >= WORTH_TRYING


def _slice(more: int, owned: int) -> int:
    """As many labels again as there are, no further than the curve can be trusted; a small rest goes with them."""
    n = min(more, max(owned, FEWEST_BOUGHT))
    return more if more - n < owned * SMALL_REST else n


def _had(each: Weighed, held: Held) -> bool:
    """Whether this way is no longer to be bought as a whole: its answers are there, or it is bought round by round."""
    return each.way == "pgkd" or (each.way == "llm" and each.split.texts <= len(held.asked))


def _gain(best: Weighed, found: Survey, now: float, held: Held) -> float:
    """Points a dollar of a way, or of its next slice if that brings more: the first labels bring the most."""
    if best.way == "llm" and held.asked:  # part of it is there
        had = _median(found.outlook.answers(len(held.asked)))
        return 100 * (best.score.value - had) / max(best.split.usd, 1e-9)
    rate = _rate(best.score.value, best.split.usd, found, now)
    n = _slice(min(best.split.labels - len(held.owned), len(held.left)), len(held.owned))
    if best.way == "annotate" and n >= 1 and found.costs.label:
        score = _median(found.outlook.annotate(len(held.owned) + n))
        rate = max(rate, _rate(score, n * found.costs.label, found, now))
    return rate


def _rate(score: float, usd: float, found: Survey, now: float) -> float:
    """Points a dollar. Ways add up as shares of the errors: what one removes of a student's that learnt labels only, it
    is expected to remove of the student's there is now."""
    if usd <= 0:
        return 0.0
    return 100 * (score - found.now) / max(1 - found.now, 1e-9) * (1 - now) / usd


def _median(draws: NDArray[np.float64] | None) -> float:
    return 0.0 if draws is None else float(np.median(draws))


def _round_gain(found: Survey, now: float, money: float) -> float | None:
    """Points a dollar that the next round of writing is expected to gain; None where none can be paid."""
    costs, texts = found.costs, found.texts_a_round
    if costs.written is None or not texts or costs.written * texts > money:
        return None
    drawn = [found.outlook.written(n) for n in (0, texts)]
    before, after = (1.0 if each is None else float(np.mean(each)) for each in drawn)
    share = (after - before) / max(1 - before, 1e-9)
    return 100 * share * (1 - now) / max(costs.written * texts, 1e-9)


def _apart(verdict: Verdict, ways: Sequence[Way]) -> list[float]:
    """Mean and deviation of a way's lead over labels only; empty where nothing is known."""
    found = ahead(verdict, ways)
    return [found.mean, found.spread] if np.isfinite(found.spread) else []


def _told(verdict: Verdict, found: Survey, money: float) -> dict[str, Any]:
    """The reasons, as plain facts."""
    return {
        "free_usd": money,
        "score": found.now,
        "sure": verdict.sure,
        "curve": [asdict(point) for point in found.points],
        "known": found.known.to_json(),
        "sampled": found.sampled,
        "sources": {
            "distilling": found.outlook.distilling.source,
            "asking": found.outlook.asking.source,
            "writing": found.outlook.writing_source,
        },
        "ahead": {name: _apart(verdict, ways) for name, ways in TAUGHT_BY.items() if _apart(verdict, ways)},
        "ways": [
            {"way": each.way, "best": each.best, **asdict(each.score), **asdict(each.split)} for each in verdict.ways
        ],
    }
