"""The first labels of `allocate`: enough to fit a learning curve, and a validation set that every decision rests on."""

from __future__ import annotations

import numpy as np

from potstill.data.pool import Subset
from potstill.errors import BadData
from potstill.procedures.allocate.label_sources import AllocationState, LabelSources, gold_set
from potstill.procedures.cold_start import select_first_texts

# This share of all labels that the budget can buy is kept for validation, within these bounds.
VALIDATION_SHARE, MIN_VALIDATION, MAX_VALIDATION = 0.15, 30, 300


def buy_pilot_labels(sources: LabelSources) -> tuple[AllocationState, Subset]:
    """The labels to start from, bought if there are too few, and the validation set.

    Training texts are chosen by `cold_start` if nothing is labelled yet; validation texts are drawn at random, so
    that their accuracy is that of all texts.

    Raises:
        BadData: too few labels and no annotator, or too few after buying.
        Waiting: annotators are labelling.
    """
    run, options = sources.run, sources.options
    labelled, validation = gold_set(run.pool.subset("train"), run.task.n_labels), run.pool.subset("validation")
    unlabelled = run.pool.subset("pool").texts
    n_validation = max(0, _validation_size(sources, len(unlabelled)) - len(validation))
    n_train = max(0, options.pilot_labels - len(labelled))
    n = n_train + n_validation
    if n and sources.annotator is None and (not len(labelled) or not len(validation)):
        raise BadData(
            "There are too few labels to plan with, and a human label has no price.",
            "Give it with --usd-per-label PRICE, or label some texts first.",
        )
    if n and sources.annotator is not None and unlabelled:
        order = np.random.default_rng(run.spec.seed).permutation(len(unlabelled)).tolist()
        for_validation, others = order[:n_validation], order[n_validation:]
        if not len(labelled):
            texts = [unlabelled[row] for row in others]
            others = [others[row] for row in select_first_texts(run, texts, n_train, options.cold_start)]
        for_train = others[:n_train]
        # One purchase for both parts, so that annotators get one queue; the lines below read it from the store.
        bought = sources.buy_labels([unlabelled[row] for row in [*for_validation, *for_train]])
        if for_validation:
            more = sources.buy_labels([unlabelled[row] for row in for_validation])
            validation = gold_set(validation, run.task.n_labels).concatenate(more.texts, more.targets).to_subset()
        train = sources.buy_labels([unlabelled[row] for row in for_train])
        labelled = labelled.concatenate(train.texts, train.targets)
        excluded = set(bought.texts)
        unlabelled = tuple(text for text in unlabelled if text not in excluded)
    if len(labelled) < options.pilot_labels // 2 or not len(validation):
        raise BadData(
            f"There are {len(labelled)} training and {len(validation)} validation labels; planning needs at least "
            f"{options.pilot_labels // 2} and 1.",
            "Label more texts, raise the budget, or lower `pilot_labels` under [procedure].",
        )
    return AllocationState(labelled, tuple(unlabelled)), validation


def _validation_size(sources: LabelSources, n_unlabelled: int) -> int:
    """How many labels to validate on: every decision rests on them, and each is one less to train on."""
    if sources.annotator is None or not n_unlabelled:
        return 0
    texts = sources.run.pool.subset("pool").texts[:1]
    price = sources.annotator.price.cost_micros(sources.annotator.max_usage(texts))
    affordable = n_unlabelled if not price else min(n_unlabelled, sources.run.spec.limit_micros // price)
    return int(np.clip(affordable * VALIDATION_SHARE, MIN_VALIDATION, MAX_VALIDATION))
