"""Which unlabelled texts annotators are asked about next, by the option `query_strategy`."""

from __future__ import annotations

import numpy as np

from potstill.procedures import coverage_sampling, query_strategies
from potstill.procedures.allocate.label_sources import AllocationState, LabelSources
from potstill.procedures.cold_start import select_first_texts

MAX_CANDIDATE_TEXTS = 5000  # unlabelled texts that a strategy selects from


def select_texts(sources: LabelSources, state: AllocationState, n: int) -> list[int]:
    """The rows of `n` of the unlabelled texts; by the option `cold_start` if fewer than two labels have a text."""
    run, strategy, labelled = sources.run, sources.options.query_strategy, state.labelled
    draw = np.random.default_rng((run.spec.seed, len(labelled)))
    rows = draw.permutation(len(state.unlabelled))[:MAX_CANDIDATE_TEXTS]
    texts = [state.unlabelled[row] for row in rows]
    if strategy == "random" or not len(texts):
        return list(rows[:n].tolist())
    if len(set(labelled.gold.tolist())) < 2:
        return select_first_texts(run, state.unlabelled, n, sources.options.cold_start)
    student = run.learn(labelled.texts, labelled.targets, student=sources.proxy_student, purpose="plan")
    probs = student.predict_proba(texts)
    if strategy == "margin":
        selected = query_strategies.margin_sampling(probs, n)
    elif strategy == "entropy":
        selected = query_strategies.entropy_sampling(probs, n)
    elif strategy == "diverse":
        vectors = student.embed([*texts, *labelled.texts])
        selected = coverage_sampling.coreset_sampling(vectors, n, selected=np.arange(len(texts), len(vectors)))
    elif strategy == "uncertainty_herding":
        vectors, known = student.embed(texts), student.embed(labelled.texts)
        weights = query_strategies.margin_uncertainty(probs)
        selected = coverage_sampling.max_herding(vectors, n, weights=weights, covered_by=known)
    else:
        selected = coverage_sampling.badge_sampling(probs, student.embed(texts), n, draw)
    return list(rows[selected].tolist())
