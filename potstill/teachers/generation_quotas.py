"""Splits a generation request into requests per label, for teachers that take one label at a time.

A label's quota follows its errors in the report; without a report the errors that are shown; without those all labels
get equal quotas. The replay teacher uses these quotas, too: there they are an assumption on what an LLM would do, and
figures made with it are a simulation.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from potstill.data.task import Feedback, GenerationRequest, LabelledText
from potstill.teachers.base import TeacherCapabilities

UNIFORM_SHARE = 0.25  # of the errors that are shown, spread over all labels: what is not shown may be wrong as well
EXAMPLES = 4  # of its own label that a one-label request shows, and as many to avoid


def label_quotas(
    labels: Sequence[str], feedback: Feedback, n: int, draw: np.random.Generator, block: int = 1
) -> dict[str, int]:
    """Label -> how many of n texts: as requested; else by the report; else by the errors shown; else equally.

    Unless they are requested, they are multiples of `block`, but for one that gets the rest: fewer labels get more
    texts each, and over many draws every label gets as many as with a block of 1.
    """
    if feedback.label_counts:
        return {label: count for label, count in feedback.label_counts.items() if count}
    column = {label: k for k, label in enumerate(labels)}
    about = np.array([not feedback.labels or label in feedback.labels for label in labels])
    f1, weight = np.zeros(len(labels)), np.zeros(len(labels))
    for each in feedback.report:
        # One more than its support, so that a label without validation texts gets some, too.
        f1[column[each.label]], weight[column[each.label]] = each.f1, each.support + 1
    if feedback.report and feedback.untrained_labels:
        # Whatever the report has of them: a label that the student never saw needs as much as one that it never gets.
        untrained = [column[label] for label in feedback.untrained_labels]
        f1[untrained], weight[untrained] = 0.0, np.maximum(weight[untrained], weight.mean())
    if not feedback.report:
        errors = [column[each.label] for each in (*feedback.incorrect, *feedback.hard_negatives)]
        shown = np.bincount(np.array(errors, dtype=np.int64), minlength=len(labels))
        weight += shown + UNIFORM_SHARE * max(len(errors), 1) / len(labels)
    counts = block * allocate_by_error(f1, weight * about, -(-n // block), draw)
    excess = int(counts.sum()) - n
    if excess:
        counts[int(draw.choice(np.flatnonzero(counts)))] -= excess
    return {label: int(count) for label, count in zip(labels, counts, strict=True) if count}


def allocate_by_error(f1: ArrayLike, prior: ArrayLike, n: int, draw: np.random.Generator) -> NDArray[np.int64]:
    """How many of `n` new texts each label gets: (K,) counts that sum to n, in proportion to (1 - F1) x prior.

    Whole shares are given out first and what is left is drawn by the remainders (systematic sampling), so that a rare
    label gets a text now and then rather than never. If all F1 are 1, the prior decides.

    Args:
        f1: (K,) in [0, 1].
        prior: (K,) how often each label occurs, in any unit; not all zero.
        n: texts to be shared out.
        draw: draws the remainders.
    """
    weights = np.asarray(prior, dtype=np.float64)
    error = (1 - np.asarray(f1, dtype=np.float64)) * weights
    error = error if error.sum() > 0 else weights
    # Systematic sampling: label k gets as many texts as points u, u + 1, u + 2, ... fall into its interval.
    ends = np.cumsum(error / error.sum()) * n
    ends[-1] = n
    return np.diff(np.floor(ends + draw.random()), prepend=0.0).astype(np.int64)


def requests_for(
    capabilities: TeacherCapabilities,
    request: GenerationRequest,
    labels: Sequence[str],
    gold: Sequence[LabelledText],
) -> list[GenerationRequest]:
    """The calls of `generate` that a request with feedback becomes: one if the teacher reads feedback, else several.

    Args:
        capabilities: of the teacher.
        request: one with feedback; its seed draws what the others show.
        labels: the K labels.
        gold: labelled texts to draw examples from.
    """
    if capabilities.reads_feedback:
        return [request]
    draw = np.random.default_rng(request.seed)
    parts = split_by_label(request, labels, gold, draw, capabilities.texts_per_label)
    size = capabilities.labels_per_call
    if size == 1:
        return parts
    chunks = [parts[start : start + size] for start in range(0, len(parts), size)]
    return [GenerationRequest("", sum(part.n for part in each), seed=request.seed, parts=each) for each in chunks]


def split_by_label(
    request: GenerationRequest,
    labels: Sequence[str],
    gold: Sequence[LabelledText],
    draw: np.random.Generator,
    block: int = 1,
) -> list[GenerationRequest]:
    """A request for each label with a quota, for teachers that take one label at a time; their n add up to its n.

    Each shows gold texts of the label, its texts that the student misclassified, and as counterexamples texts of other
    labels that the student predicted it for. If a label has fewer than `EXAMPLES`, gold texts of other labels show how
    the texts of the task read.

    Args:
        request: one with feedback.
        labels: the K labels.
        gold: labelled texts to draw examples from.
        draw: draws them.
        block: see `label_quotas`.
    """
    feedback = request.feedback or Feedback()
    errors = tuple({each.text: each for each in (*feedback.hard_negatives, *feedback.incorrect)}.values())
    requests = []
    for label, n in label_quotas(labels, feedback, request.n, draw, block).items():
        missed = [LabelledText(each.text, label) for each in errors if each.label == label][: EXAMPLES // 2]
        missed_texts = {each.text for each in missed}
        own = [each for each in gold if each.label == label and each.text not in missed_texts]
        sampled = [own[i] for i in draw.permutation(len(own))[:EXAMPLES]]
        confused = [LabelledText(each.text, each.label) for each in errors if each.predicted == label][:EXAMPLES]
        style = Feedback(style=feedback.style) if feedback.style else None
        shown = (*missed, *sampled)[:EXAMPLES]
        if len(shown) < EXAMPLES:
            others = [each for each in gold if each.label != label]
            shown += tuple(others[i] for i in draw.permutation(len(others))[: EXAMPLES - len(shown)])
        requests.append(GenerationRequest(label, n, shown, confused, request.seed, style))
    return requests


def error_texts(feedback: Feedback, label: str) -> list[str]:
    """The student's errors about the label, the most confident first: new texts of it should be near them."""
    errors = (*feedback.hard_negatives, *feedback.incorrect)
    return list(dict.fromkeys(each.text for each in errors if label in (each.label, each.predicted)))


def prompt_texts(request: GenerationRequest) -> list[str]:
    """All texts a request shows, those of its parts included."""
    feedback = request.feedback or Feedback()
    shown = (request.examples, request.counterexamples, feedback.correct, feedback.incorrect, feedback.hard_negatives)
    own = [each.text for some in shown for each in some]
    return own + [text for part in request.parts for text in prompt_texts(part)]
