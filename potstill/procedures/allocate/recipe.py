"""Distill or annotate: spend the budget where it is expected to gain most, one purchase at a time (Kang et al. 2023).

Pilot, plan, buy, measure, repeat. A pilot measures learning curves with the labels so far (`pilot.py`). `next_purchase`
compares every strategy for the money left (`strategies.py`): human labels, a language model's answers, a large model
that teaches, a mix, or a PGKD round in which the language model generates texts (`generation_rounds.py`). Of the best
strategy a part is bought, at most as many labels as there are already, and the next pilot measures again. Buying ends
if no strategy is expected to gain enough, or none is affordable. Then a student is trained in every way that may win,
and the best on validation data is returned (`model_selection.py`).
"""

from __future__ import annotations

from functools import partial

from potstill.data.task import content_key
from potstill.procedures.allocate.decisions import BuyAnswers, BuyLabels, Decision, GenerateTexts, Stop
from potstill.procedures.allocate.form_recipe import allocate_form
from potstill.procedures.allocate.generation_rounds import GenerationRounds
from potstill.procedures.allocate.label_sources import AllocateOptions, LabelSources
from potstill.procedures.allocate.model_selection import ModelSelection
from potstill.procedures.allocate.next_purchase import next_purchase
from potstill.procedures.allocate.pilot import Pilot, PilotFindings
from potstill.procedures.allocate.pilot_labels import buy_pilot_labels
from potstill.procedures.base import FormRecipe, Recipe, quote_answers
from potstill.procedures.pgkd.form_tasks import EntityTask, FreeTextTask
from potstill.run.entity_verbs import entity_pool
from potstill.run.free_text_verbs import free_text_pool
from potstill.run.run import Run
from potstill.students.base import Student
from potstill.students.entity_student import EntityStudent
from potstill.students.free_text_student import FreeTextStudent


def allocate(run: Run) -> Student:
    """The student that is best on validation data.

    Raises:
        BadData: nothing is labelled and there is no annotator, or there are no texts to label.
        Waiting: annotators are labelling.
    """
    options = RECIPE.read_options(run.spec)
    sources = LabelSources(run, options)
    state, validation = buy_pilot_labels(sources)
    rounds, findings, n_purchases = GenerationRounds(sources, validation), PilotFindings(), 0

    while n_purchases < options.max_steps:
        state = state.with_generation_score(rounds.score)
        pilot = Pilot(sources, validation, state, rounds)
        compute_decision = partial(next_purchase, pilot, findings, state, sources)
        # PGKD rounds do not count in `n_purchases`, so the key has the texts that remain to be generated.
        key_parts = content_key(state.labelled.texts), len(state.asked), rounds.remaining_texts(state.labelled)
        decision = run.compute_once(Decision, compute_decision, n_purchases, *key_parts)
        findings = decision.basis.findings
        # The pilot may have asked the teacher about a sample; a stored decision replays that.
        state = state.with_asked(max(len(state.asked), decision.basis.n_sampled))
        match decision:
            case GenerateTexts():
                rounds.run_round(state.labelled)
                continue  # PGKD rounds are limited by their own option
            case BuyLabels():
                texts = [state.unlabelled[row] for row in decision.rows]
                bought = sources.buy_labels(texts)
                state = state.with_labels(bought, requested=texts)
                if decision.is_last or not len(bought):
                    break
            case BuyAnswers():
                state = state.with_asked(decision.n_texts)
                sources.ask_llm(state.asked, state.labelled)
            case Stop():
                break
        n_purchases += 1

    rounds.close()
    return ModelSelection(sources, state, validation, rounds).select(decision.basis)


def allocate_entities(run: Run) -> EntityStudent:
    """See `form_recipe.allocate_form`."""
    return allocate_form(run, EntityTask(run.task, entity_pool(run)), RECIPE.read_options(run.spec))


def allocate_free_text(run: Run) -> FreeTextStudent:
    """See `form_recipe.allocate_form`."""
    return allocate_form(run, FreeTextTask(run.task, free_text_pool(run)), RECIPE.read_options(run.spec))


RECIPE = Recipe(
    "allocate",
    allocate,
    AllocateOptions,
    quote=quote_answers,
    compares_strategies=True,
    validates=True,
    forms={
        "entities": FormRecipe(allocate_entities, quote_answers),
        "free": FormRecipe(allocate_free_text, quote_answers),
    },
)
