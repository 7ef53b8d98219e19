"""Distill or annotate: spend the budget where it is expected to gain most, a slice at a time (Kang et al. 2023).

Pilot, plan, spend, measure, plan again: with the labels there are, learning curves are measured (`pilot.py`) and every
way to spend what is left is weighed against the prices (`strategies.py`): labels of people, answers of a language
model, a large model that teaches, a mix, or a round in which the language model writes what the student needs
(`written.py`). What gains most is bought, at most as much again as there is, and all is measured anew. A round of
writing is small beside all else, so it is taken whenever a dollar gains more in it. It ends when nothing is expected
to gain enough, or nothing can be afforded; what it then holds is taught to the student in the ways that can be paid,
and the one that does best on validation texts is returned.

Every decision is remembered with its reasons (`potstill show RUN`), so that a run that waits for people goes on as it
began.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from potstill.cover import typical
from potstill.errors import BadData
from potstill.money import to_usd
from potstill.pool import Part
from potstill.procedures.harvest import Harvest
from potstill.procedures.market import AllocateOptions, Market, Owned, gold_of
from potstill.procedures.pilot import DISTILLING, Known, Pilot, Survey, chosen, looks
from potstill.procedures.written import Written
from potstill.run import Run
from potstill.strategies import Ahead, Verdict, Way, Weighed, ahead, weigh
from potstill.students.base import Student
from potstill.task import content_key
from potstill.teachers.options import read_options

# Of all labels that the money could buy, this part is kept to measure on; at least and at most so many.
CHECK_SHARE, FEWEST_TO_CHECK, MOST_TO_CHECK = 0.15, 30, 300
FEWEST_BOUGHT = 10
TAUGHT_BY: dict[str, tuple[Way, ...]] = {"distilled": DISTILLING, "answers": ("llm",)}
WORTH_TRYING = 0.1  # share of the draws in which a way has to win to be tried at the end


def allocate(run: Run) -> Student:
    """The student of the way that did best on validation texts.

    Raises:
        BadData: nothing is labelled and nobody can be asked, or there are no texts to ask about.
        Waiting: people are labelling.
    """
    options = read_options(AllocateOptions, "allocate", run.spec.procedure.options)
    market = Market(run, options)
    owned, check, left = _begin(run, market, options)
    written, known, answers, step = Written(market, check), Known(), 0, 0
    while step < options.steps:
        plan = partial(
            _plan, Pilot(market, owned, check, left, written), known, Held(owned, left, answers, written.score), market
        )
        decided = run.decide("planned", plan, step, content_key(owned.texts), answers, written.left(owned))
        known = Known.from_json(decided["known"])
        if decided["do"] == "write":
            written.take(owned)
            continue
        step += 1
        if decided["do"] == "annotate":
            asked = [left[row] for row in decided["rows"]]
            bought = market.label(asked)
            gone = set(asked)
            owned, left = owned.plus(bought.texts, bought.targets), [text for text in left if text not in gone]
            if not len(bought) or decided["last"]:
                break
        elif decided["do"] == "ask" and decided["texts"] > answers:
            answers = decided["texts"]
        else:
            break
    written.close()
    expected = {way: Ahead(*figures) for way, figures in decided.get("ahead", {}).items()}
    return Harvest(market, owned, check, left, written).best(answers, distil=_may_distil(decided), ahead=expected)


def _begin(run: Run, market: Market, options: AllocateOptions) -> tuple[Owned, Part, list[str]]:
    """The labels there are or are bought first, the texts to measure on, and the unlabelled rest."""
    owned = gold_of(run.pool.part("train"), run.task.n_labels)
    check, left = run.pool.part("validation"), list(run.pool.part("pool").texts)
    spare = max(0, _worth_checking(run, market, left) - len(check))
    wanted = max(0, options.pilot - len(owned)) + spare
    if wanted and market.annotator is None and (not len(owned) or not len(check)):
        raise BadData(
            "There are too few labels to plan with, and nobody said what a label costs.",
            "Set [prices] usd_per_label, or label some texts first.",
        )
    if wanted and market.annotator is not None and left:
        # Typical ones to learn first; those to measure on are drawn at random, or the average would not be of all.
        order = np.random.default_rng(run.spec.seed).permutation(len(left)).tolist()
        to_check, others = order[:spare], order[spare:]
        if not len(owned):
            others = [others[row] for row in typical(looks([left[i] for i in others[:5000]]), wanted - spare, 0)]
        to_learn = others[: wanted - spare]
        first = market.label([left[row] for row in [*to_check, *to_learn]])  # one order; below it is only looked up
        if to_check:
            more = market.label([left[row] for row in to_check])
            check = gold_of(check, run.task.n_labels).plus(more.texts, more.targets).part()
        learnt = market.label([left[row] for row in to_learn])
        owned = owned.plus(learnt.texts, learnt.targets)
        gone = set(first.texts)
        left = [text for text in left if text not in gone]
    if len(owned) < options.pilot // 2 or not len(check):
        raise BadData(
            f"There are {len(owned)} labels to learn and {len(check)} to measure on; a plan needs {options.pilot // 2} "
            "and some.",
            "Label more texts, raise the budget, or lower `pilot` under [procedure].",
        )
    return owned, check, left


def _worth_checking(run: Run, market: Market, left: Sequence[str]) -> int:
    """How many labelled texts to measure on: every choice rests on them, and each is one less to learn."""
    if market.annotator is None or not left:
        return 0
    price = market.annotator.price.cost_micros(market.annotator.bound(left[:1]))
    affordable = len(left) if not price else min(len(left), run.spec.limit_micros // price)
    return int(np.clip(affordable * CHECK_SHARE, FEWEST_TO_CHECK, MOST_TO_CHECK))


def _may_distil(decided: Mapping[str, Any]) -> bool:
    """Whether a large teacher won in enough of the draws of the last plan to be worth its price."""
    wins = sum(each["best"] for each in decided.get("ways", ()) if each["way"] in DISTILLING)
    return float(wins) >= WORTH_TRYING


@dataclass(frozen=True)
class Held:
    """What there is.

    Attributes:
        owned: the labels. left: the unlabelled texts. answers: so many of those the language model was asked about.
        score: of the student that learnt what was written, too; 0 if nothing was.
    """

    owned: Owned
    left: Sequence[str]
    answers: int
    score: float


def _plan(pilot: Pilot, known: Known, held: Held, market: Market) -> dict[str, Any]:
    """Measure, weigh, and say what to buy next."""
    run, options, owned, left = market.run, market.options, held.owned, held.left
    found = pilot.survey(known)
    money = to_usd(max(0, run.ledger.free - run.training_reserve))
    verdict = weigh(found.outlook, found.costs, money, owned=len(owned), pool=len(left))
    said = _told(verdict, found, money)
    if not verdict.ways:
        return {"do": "stop", "why": "nothing that has a price here can be bought", **said}
    now = max(found.now, held.score, _median(found.outlook.answers(held.answers)))
    best = next((each for each in verdict.ways if not _had(each, held)), verdict.best)
    split = best.split
    gain = (
        0.0
        if _had(best, held)
        else _rate(best.score.value, split.labels_usd + split.llm_usd + split.compute_usd, found, now)
    )
    more = min(best.split.labels - len(owned), len(left))
    n = min(more, max(len(owned), FEWEST_BOUGHT))  # no further than the curve can be trusted: as much again
    if best.way == "annotate" and n >= 1 and found.costs.label:
        gain = max(gain, _rate(_median(found.outlook.annotate(len(owned) + n)), n * found.costs.label, found, now))
    round_gain = _round_gain(found, now)
    if round_gain is not None:
        said["round_gain"] = round_gain
        if round_gain > max(gain, 0.0) and round_gain >= options.least_gain:
            return {"do": "write", "why": f"{round_gain:.3f} points a dollar against {gain:.3f}", **said}
    if gain < options.least_gain or _had(best, held):
        return {"do": "stop", "why": f"{gain:.3f} points a dollar are expected, {options.least_gain} wanted", **said}
    if best.way in ("annotate", "mix") and more >= 1:
        rows = chosen(market, owned, left, n)
        return {"do": "annotate", "rows": rows, "last": more - n < len(owned) / 4, **said}
    if best.way == "llm":
        return {"do": "ask", "texts": best.split.texts, **said}
    return {"do": "stop", "why": "what there is can be taught", **said}


def _had(each: Weighed, held: Held) -> bool:
    """Whether this way is no longer to be bought as a whole: its answers are there, or it is bought round by round."""
    return each.way == "pgkd" or (each.way == "llm" and each.split.texts <= held.answers)


def _rate(score: float, usd: float, found: Survey, now: float) -> float:
    """Points a dollar. Ways add up as shares of the errors: what one removes of a student's that learnt labels only, it
    is expected to remove of the student's there is now."""
    if usd <= 0:
        return 0.0
    return 100 * (score - found.now) / max(1 - found.now, 1e-9) * (1 - now) / usd


def _median(draws: NDArray[np.float64] | None) -> float:
    return 0.0 if draws is None else float(np.median(draws))


def _round_gain(found: Survey, now: float) -> float | None:
    """Points a dollar that the next round of writing is expected to gain; None where there is none to take."""
    costs, texts = found.costs, found.texts_a_round
    if costs.written is None or not texts:
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
