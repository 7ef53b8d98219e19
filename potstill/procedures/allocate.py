"""Distill or annotate: spend the budget where it is expected to gain most, a slice at a time (Kang et al. 2023).

Pilot, plan, spend, measure, plan again: with the labels there are, learning curves are measured (`pilot.py`) and every
way to spend what is left is weighed against the prices (`strategies.py`): labels of people, answers of a language
model, a large model that teaches, or a mix. What gains most is bought, at most as much again as there is, and all is
measured anew. It ends when nothing is expected to gain enough, or nothing can be afforded; what it then holds is taught
to the student in the ways that can be paid, and the one that does best on validation texts is returned.

Every decision is remembered with its reasons (`potstill show RUN`), so that a run that waits for people goes on as it
began. Does not write texts (`pgkd.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np

from potstill.asking import Answers
from potstill.calibrate import Calibration
from potstill.cover import typical
from potstill.errors import BadData, OverBudget
from potstill.money import to_usd
from potstill.pool import Part
from potstill.procedures.kd import read_scores
from potstill.procedures.market import AllocateOptions, Market, Owned, beside, gold_of
from potstill.procedures.pilot import Survey, chosen, looks, survey
from potstill.run import Run, Taught
from potstill.strategies import Verdict, weigh
from potstill.students.base import Student
from potstill.task import content_key
from potstill.teachers.options import read_options

# Of all labels that the money could buy, this part is kept to measure on; at least and at most so many.
CHECK_SHARE, FEWEST_TO_CHECK, MOST_TO_CHECK = 0.15, 30, 300
FEWEST_BOUGHT = 10


def allocate(run: Run) -> Student:
    """The student of the way that did best on validation texts.

    Raises:
        BadData: nothing is labelled and nobody can be asked, or there are no texts to ask about.
        Waiting: people are labelling.
    """
    options = read_options(AllocateOptions, "allocate", run.spec.procedure.options)
    market = Market(run, options)
    owned, check, left = _begin(run, market, options)
    answers = 0
    for step in range(options.steps):
        plan = partial(_plan, run, owned, check, left, market, options)
        decided = run.decide("planned", plan, step, content_key(owned.texts), answers)
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
    return _best(run, owned, check, left, market, answers)


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


def _plan(
    run: Run, owned: Owned, check: Part, left: Sequence[str], market: Market, options: AllocateOptions
) -> dict[str, Any]:
    """Measure, weigh, and say what to buy next."""
    found = survey(market, owned, check, left)
    money = to_usd(max(0, run.ledger.free - run.training_reserve))
    verdict = weigh(found.outlook, found.costs, money, owned=len(owned), pool=len(left))
    said = _told(verdict, found, money)
    if not verdict.ways:
        return {"do": "stop", "why": "nothing that has a price here can be bought", **said}
    best = verdict.best
    spent = best.split.labels_usd + best.split.llm_usd + best.split.compute_usd
    gain = 100 * (best.score.value - found.now) / max(spent, 1e-9)
    more = min(best.split.labels - len(owned), len(left))
    if gain < options.least_gain:
        return {"do": "stop", "why": f"{gain:.3f} points a dollar are expected, {options.least_gain} wanted", **said}
    if best.way in ("annotate", "mix") and more >= 1:
        n = min(more, max(len(owned), FEWEST_BOUGHT))  # no further than the curve can be trusted: as much again
        rows = chosen(market, owned, left, n)
        return {"do": "annotate", "rows": rows, "last": more - n < len(owned) / 4, **said}
    if best.way == "llm":
        return {"do": "ask", "texts": best.split.texts, **said}
    return {"do": "stop", "why": "what there is can be taught", **said}


def _told(verdict: Verdict, found: Survey, money: float) -> dict[str, Any]:
    """The reasons, as plain facts."""
    return {
        "free_usd": money,
        "score": found.now,
        "sure": verdict.sure,
        "curve": [asdict(point) for point in found.points],
        "distilled": [asdict(point) for point in found.distilled],
        "ways": [
            {"way": each.way, "best": each.best, **asdict(each.score), **asdict(each.split)} for each in verdict.ways
        ],
    }


def _best(run: Run, owned: Owned, check: Part, left: Sequence[str], market: Market, answers: int) -> Student:
    """Teach the student in every way that can be paid; the one that does best on the validation texts."""
    tried: list[tuple[float, str, Student]] = []
    taught: dict[str, Taught | None] = {}
    alone = run.learn(owned.texts, owned.targets)
    tried.append((run.judge(alone, check, "labels only").accuracy.value, "labels only", alone))
    try:
        if market.large is not None and left:
            large = market.teach_large(owned)
            teacher = market.large_teacher(large)
            said = run.ask(teacher, list(left), leave_micros=run.training_reserve // 2)
            on_gold = run.ask(teacher, check.texts, leave_micros=run.training_reserve // 2)
            reading = read_scores(teacher, said, on_gold, check.gold, run)
            student = _learn(run, owned, said, reading)
            tried.append((run.judge(student, check, "distilled").accuracy.value, "distilled", student))
            run.taught_by(teacher, reading, said)
            taught["distilled"] = run.taught
        if answers and market.llm is not None:
            said, reading = market.answered(list(left[:answers]), owned)
            student = _learn(run, owned, said, reading)
            tried.append((run.judge(student, check, "answers").accuracy.value, "answers", student))
            run.taught_by(market.llm, reading, said)
            taught["answers"] = run.taught
    except OverBudget as error:
        run.tell.say(f"One way less was tried: {error.happened}")
    # Of those within the noise of the validation texts the last one: it has seen the most text.
    best = max(score for score, _, _ in tried)
    noise = float(np.sqrt(max(best * (1 - best), 0.01) / len(check)))
    score, name, student = next(each for each in reversed(tried) if each[0] >= best - noise)
    run.taught = taught.get(name)
    ways = {way: value for value, way, _ in tried}
    scores = ", ".join(f"{way} {value:.1%}" for way, value in ways.items())
    sentence = f"Of what could be paid, {name!r} was taken: on {len(check)} texts kept to measure on, {scores}"
    run.note("allocated", way=name, score=score, labels=len(owned), tried=ways, sentence=f"{sentence}.")
    return student


def _learn(run: Run, owned: Owned, said: Answers, reading: Calibration) -> Student:
    there = np.flatnonzero(said.answered)
    lesson = beside(owned, [said.texts[row] for row in there], reading.probs(said.scores[there]))
    return run.learn(lesson.texts, lesson.targets, weights=lesson.weights, doubtful=lesson.doubtful)
