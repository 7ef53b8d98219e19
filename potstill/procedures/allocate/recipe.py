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

from collections.abc import Sequence
from functools import partial

import numpy as np

from potstill.data.pool import Subset
from potstill.data.task import content_key
from potstill.errors import BadData
from potstill.procedures.allocate.label_sources import (
    AllocateOptions,
    AllocationState,
    LabelledSet,
    LabelSources,
    gold_set,
)
from potstill.procedures.allocate.model_selection import ModelSelection
from potstill.procedures.allocate.next_purchase import choose_purchase, distillation_may_win
from potstill.procedures.allocate.pilot import Pilot, PilotFindings, lsa_features
from potstill.procedures.allocate.strategies import ExpectedLead
from potstill.procedures.allocate.writing_rounds import GenerationRounds
from potstill.procedures.base import Recipe, quote_answers
from potstill.procedures.coverage_sampling import typiclust_sampling
from potstill.registry import read_options
from potstill.run.run import Run
from potstill.students.base import Student

# Of all labels that the money could buy, this part is kept to measure on; at least and at most so many.
VALIDATION_SHARE, MIN_VALIDATION, MAX_VALIDATION = 0.15, 30, 300


def allocate(run: Run) -> Student:
    """The student of the way that did best on validation texts.

    Raises:
        BadData: nothing is labelled and nobody can be asked, or there are no texts to ask about.
        Waiting: people are labelling.
    """
    options = read_options(AllocateOptions, "procedure 'allocate'", run.spec.procedure.options)
    market = LabelSources(run, options)
    owned, check, left = _begin(run, market, options)
    written, known, asked, step = GenerationRounds(market, check), PilotFindings(), list[str](), 0
    while step < options.max_steps:
        held = AllocationState(owned, left, asked, written.score)
        plan = partial(choose_purchase, Pilot(market, check, held, written), known, held, market)
        decided = run.remember_decision(
            "planned", plan, step, content_key(owned.texts), len(asked), written.remaining_texts(owned)
        )
        known = PilotFindings.from_json(decided["known"])
        asked = asked or left[: decided["sampled"]]
        if decided["do"] == "write":
            written.run_round(owned)
            continue
        step += 1
        if decided["do"] == "annotate":
            wanted = [left[row] for row in decided["rows"]]
            bought = market.buy_labels(wanted)
            gone = set(wanted)
            owned, left = owned.concatenate(bought.texts, bought.targets), [text for text in left if text not in gone]
            if not len(bought) or decided["last"]:
                break
        elif decided["do"] == "ask":
            there = set(asked)
            asked = [*asked, *(text for text in left if text not in there)][: decided["texts"]]
            market.ask_llm(asked, owned)
        else:
            break
    written.close()
    expected = {way: ExpectedLead(*figures) for way, figures in decided.get("ahead", {}).items()}
    return ModelSelection(market, owned, check, left, written).select(
        asked, include_distillation=distillation_may_win(decided), expected_leads=expected
    )


def _begin(run: Run, market: LabelSources, options: AllocateOptions) -> tuple[LabelledSet, Subset, list[str]]:
    """The labels there are or are bought first, the texts to measure on, and the unlabelled rest."""
    owned = gold_set(run.pool.subset("train"), run.task.n_labels)
    check, left = run.pool.subset("validation"), list(run.pool.subset("pool").texts)
    spare = max(0, _worth_checking(run, market, left) - len(check))
    wanted = max(0, options.pilot_labels - len(owned)) + spare
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
            others = [
                others[row]
                for row in typiclust_sampling(lsa_features([left[i] for i in others[:5000]]), wanted - spare, 0)
            ]
        to_learn = others[: wanted - spare]
        first = market.buy_labels(
            [left[row] for row in [*to_check, *to_learn]]
        )  # one order; below it is only looked up
        if to_check:
            more = market.buy_labels([left[row] for row in to_check])
            check = gold_set(check, run.task.n_labels).concatenate(more.texts, more.targets).to_subset()
        learnt = market.buy_labels([left[row] for row in to_learn])
        owned = owned.concatenate(learnt.texts, learnt.targets)
        gone = set(first.texts)
        left = [text for text in left if text not in gone]
    if len(owned) < options.pilot_labels // 2 or not len(check):
        raise BadData(
            f"There are {len(owned)} labels to learn and {len(check)} to measure on; a plan needs {options.pilot_labels // 2} "
            "and some.",
            "Label more texts, raise the budget, or lower `pilot` under [procedure].",
        )
    return owned, check, left


def _worth_checking(run: Run, market: LabelSources, left: Sequence[str]) -> int:
    """How many labelled texts to measure on: every choice rests on them, and each is one less to learn."""
    if market.annotator is None or not left:
        return 0
    price = market.annotator.price.cost_micros(market.annotator.max_usage(left[:1]))
    affordable = len(left) if not price else min(len(left), run.spec.limit_micros // price)
    return int(np.clip(affordable * VALIDATION_SHARE, MIN_VALIDATION, MAX_VALIDATION))


RECIPE = Recipe("allocate", allocate, AllocateOptions, quote=quote_answers)
