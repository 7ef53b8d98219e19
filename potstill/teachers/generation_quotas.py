"""Feedback, followed label by label: for teachers that cannot read it themselves, and for a simulated one that can.

Which labels: most where the report says the student fails; without a report those of the errors that are shown; without
those evenly. For `replay` that is an assumption on what an LLM would do, and figures made with it are a simulation.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from potstill.data.task import Feedback, GenerationRequest, LabelledText

UNIFORM_SHARE = 0.25  # of the errors that are shown, spread over all labels: what is not shown may be wrong as well
EXAMPLES = 4  # of its own label that a one-label request shows, and as many to avoid


def label_quotas(labels: Sequence[str], feedback: Feedback, n: int, draw: np.random.Generator) -> dict[str, int]:
    """Label -> how many of n texts: as wanted; else by need after the report; else by the errors shown; else evenly."""
    if feedback.label_counts:
        return {label: count for label, count in feedback.label_counts.items() if count}
    column = {label: k for k, label in enumerate(labels)}
    about = np.array([not feedback.labels or label in feedback.labels for label in labels])
    f1, weight = np.zeros(len(labels)), np.zeros(len(labels))
    for each in feedback.report:
        # One more than were there, as a label without validation texts is not a label without need.
        f1[column[each.label]], weight[column[each.label]] = each.f1, each.support + 1
    if not feedback.report:
        errors = [column[each.label] for each in (*feedback.incorrect, *feedback.hard_negatives)]
        shown = np.bincount(np.array(errors, dtype=np.int64), minlength=len(labels))
        weight += shown + UNIFORM_SHARE * max(len(errors), 1) / len(labels)
    counts = by_need(f1, weight * about, n, draw)
    return {label: int(count) for label, count in zip(labels, counts, strict=True) if count}


def by_need(f1: ArrayLike, prior: ArrayLike, n: int, draw: np.random.Generator) -> NDArray[np.int64]:
    """How many of `n` new texts each label gets: (K,) counts that sum to n, in proportion to (1 - F1) x prior.

    Whole shares are given out first and what is left is drawn by the remainders (systematic sampling), so that a rare
    label gets a text now and then rather than never. Where nothing is needed, the prior decides.

    Args:
        f1: (K,) in [0, 1].
        prior: (K,) how often each label occurs, in any unit; not all zero.
        n: texts to be shared out.
        draw: draws the remainders.
    """
    prior_ = np.asarray(prior, dtype=np.float64)
    need = (1 - np.asarray(f1, dtype=np.float64)) * prior_
    need = need if need.sum() > 0 else prior_
    # Ticks one apart, begun at random, along a line on which each label has its share: label k gets those within.
    ends = np.cumsum(need / need.sum()) * n
    ends[-1] = n
    return np.diff(np.floor(ends + draw.random()), prepend=0.0).astype(np.int64)


def split_by_label(
    request: GenerationRequest, labels: Sequence[str], gold: Sequence[LabelledText], draw: np.random.Generator
) -> list[GenerationRequest]:
    """A request for each label with a quota, for teachers that take one label at a time; their n add up to its n.

    Each shows gold texts of the label and what the student missed of it, and those of others it took for the label.

    Args:
        request: one with feedback.
        labels: the K labels.
        gold: labelled texts to draw examples from.
        draw: draws them.
    """
    feedback = request.feedback or Feedback()
    errors = tuple({each.text: each for each in (*feedback.hard_negatives, *feedback.incorrect)}.values())
    requests = []
    for label, n in label_quotas(labels, feedback, request.n, draw).items():
        missed = [LabelledText(each.text, label) for each in errors if each.label == label][: EXAMPLES // 2]
        known = {each.text for each in missed}
        own = [each for each in gold if each.label == label and each.text not in known]
        drawn = [own[i] for i in draw.permutation(len(own))[:EXAMPLES]]
        taken = [LabelledText(each.text, each.label) for each in errors if each.predicted == label][:EXAMPLES]
        style = Feedback(style=feedback.style) if feedback.style else None
        requests.append(GenerationRequest(label, n, (*missed, *drawn)[:EXAMPLES], taken, request.seed, style))
    return requests


def error_texts(feedback: Feedback, label: str) -> list[str]:
    """The texts that a new one of this label should be near: the student's errors about it, the surest first."""
    errors = (*feedback.hard_negatives, *feedback.incorrect)
    return list(dict.fromkeys(each.text for each in errors if label in (each.label, each.predicted)))


def prompt_texts(request: GenerationRequest) -> list[str]:
    """All texts a request shows."""
    feedback = request.feedback or Feedback()
    parts = (request.examples, request.counterexamples, feedback.correct, feedback.incorrect, feedback.hard_negatives)
    return [each.text for part in parts for each in part]
