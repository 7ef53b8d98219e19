"""Which labels a language model on this machine scores for a text, where there are many: those most similar to it.

Each label adds its tokens to every text, so 77 labels cost several times what the text does. The labels of a text are
ranked as for chat models (`shortlist`): by their names and descriptions, and by gold examples. The labels that are not
scored get the lowest score of those that are, less `UNLISTED`, so that a label prior can still be matched.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from potstill.data.task import LabelledText, Task
from potstill.errors import BadSpec
from potstill.teachers.base import Fact
from potstill.teachers.shortlist import ShortlistIndex, Similarities

AUTO_SIZE = 20  # `auto` offers so many of more than `MANY_LABELS`
MANY_LABELS = 40
UNLISTED = 6.0  # natural logarithm


class LocalShortlist:
    """The labels that are scored for each text.

    Args:
        task: the K labels.
        examples: gold examples that the labels are ranked by, too.
        asked: labels for a text; 0 for all, "auto" for `AUTO_SIZE` of more than `MANY_LABELS`.
        embedding: see `ShortlistIndex`.

    Attributes:
        size: labels that are scored for a text; 0 for all.

    Raises:
        BadSpec: a shortlist in a task with several labels a text, or weights that are no static vectors.
        MissingWeights: the weights are not on this machine.
    """

    def __init__(
        self, task: Task, examples: Sequence[LabelledText], asked: int | Literal["auto"], embedding: str
    ) -> None:
        if task.kind == "multi":
            if asked not in (0, "auto"):
                raise BadSpec("A shortlist is for tasks with one label a text.", "Leave `shortlist` out.")
            asked = 0
        size = (AUTO_SIZE if task.n_labels > MANY_LABELS else 0) if asked == "auto" else asked
        self.size = size if size < task.n_labels else 0
        known = [each for each in examples if each.label in task.labels]
        self._index = ShortlistIndex(task, known, embedding) if self.size else None
        self._ranked_by = [(each.text, each.label) for each in known]

    @property
    def key_parts(self) -> tuple[object, ...]:
        """What changes scores; empty if all labels are scored."""
        return (self.size, self._index.identity, UNLISTED, self._ranked_by) if self._index else ()

    @property
    def facts(self) -> dict[str, Fact]:
        """For the report: how many labels are scored, and how often the right one is among them."""
        if self._index is None:
            return {}
        recall = self._index.recall(self.size)
        unknown = "not measured: no gold examples were given"
        return {"labels_offered": self.size, "shortlist_recall": str(recall or unknown)}

    def columns(self, texts: Sequence[str]) -> list[tuple[int, ...]] | None:
        """The columns to score for each text; None for all. All of them for a text that is similar to none."""
        return None if self._index is None else [_columns(self._index.similarities(text), self.size) for text in texts]

    def fill(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """(N, K) scores, -inf where a label was not scored -> finite ones."""
        if self._index is None:
            return scores
        is_scored = np.isfinite(scores)
        lowest = np.where(is_scored, scores, np.inf).min(axis=1, keepdims=True)
        return np.where(is_scored, scores, lowest - UNLISTED)


def name_labels(task: Task, label_words: Mapping[str, str]) -> Task:
    """The task with the words that stand for its labels in their descriptions, so that labels are ranked by them."""
    named = {
        label: f"{label_words[label]} {task.descriptions.get(label, '')}"
        for label in task.labels
        if label in label_words
    }
    return replace(task, descriptions={**task.descriptions, **named})


def _columns(similarities: Similarities, size: int) -> tuple[int, ...]:
    """The `size` most similar labels; all if there is nothing to rank them by, where the first ones would be taken."""
    if similarities.label_similarities.any() or (similarities.example_similarities > 0).any():
        return similarities.ranked_labels()[:size]
    return tuple(range(len(similarities.label_similarities)))
