"""Groups of texts by their question word or their length, and the score of each group: where a model is weak.

Question words are English; texts of other languages are grouped by length. Functions of strings.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from potstill.evaluation.text2text.answer_metrics import AnswerMetric, answer_score

# "who" begins its other cases, too.
_QUESTION_WORD = re.compile(r"\b(how\s+(?:many|much)|who(?:m|se)?|what|when|where|which|why|how)\b", re.IGNORECASE)
_FIRST_WORDS = 3  # of a text without a question mark that may hold its question word: "in which year did ..."
MIN_QUESTIONS = 0.5  # share of the texts with a question word from which on they are grouped by it
OTHER_TEXTS = "other texts"


@dataclass(frozen=True)
class GroupScore:
    """The score of `n` texts of one group, in [0, 1]."""

    group: str
    score: float
    n: int


def question_word(text: str) -> str:
    """The question word of a text in lower case ("how many", "who"); empty if it asks nothing."""
    found = _QUESTION_WORD.search(text)
    if found is None:
        return ""
    asks = text.rstrip().endswith("?") or len(text[: found.start()].split()) < _FIRST_WORDS
    word = " ".join(found[1].lower().split()) if asks else ""
    return "who" if word.startswith("who") else "how many" if word == "how much" else word


def group_texts(texts: Sequence[str]) -> list[str]:
    """The group of each of N texts: its question word if most texts have one, else the quartile of its length."""
    words = [question_word(text) for text in texts]
    if not words or sum(map(bool, words)) >= MIN_QUESTIONS * len(texts):
        return [word or OTHER_TEXTS for word in words]
    lengths = np.array([len(text.split()) for text in texts])
    edges = np.unique(np.quantile(lengths, [0.25, 0.5, 0.75], method="lower"))
    spans = [f"up to {edges[0]} words"]
    spans += [f"{low + 1} to {high} words" for low, high in pairwise(edges)]
    spans += [f"more than {edges[-1]} words"]
    return [spans[i] for i in np.searchsorted(edges, lengths, side="left")]


def group_scores(
    metric: AnswerMetric, texts: Sequence[str], predictions: Sequence[str], references: Sequence[Sequence[str]]
) -> tuple[GroupScore, ...]:
    """The score of each group of N texts, the lowest first; none if all texts are of one group."""
    rows: dict[str, list[int]] = {}
    for i, group in enumerate(group_texts(texts)):
        rows.setdefault(group, []).append(i)
    found = [
        GroupScore(group, answer_score(metric, [predictions[i] for i in own], [references[i] for i in own]), len(own))
        for group, own in rows.items()
    ]
    return () if len(found) == 1 else tuple(sorted(found, key=lambda each: (each.score, each.group)))
