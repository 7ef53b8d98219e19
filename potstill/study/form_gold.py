"""The gold answers of a study's test texts, in a task of entities or of answers in words, and how they score others.

A prediction is a string: entities as `encode_entities` writes them, an answer in words as it is, and "" without one.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from potstill.data.entities.build import decode_entities
from potstill.data.free_text.pool import References
from potstill.data.task import AnswerMetric
from potstill.evaluation.text2text.answer_metrics import METRIC_NAMES, answer_counts, answer_score, summed_score
from potstill.evaluation.text2text.entities import Entities, compute_entity_metrics, entity_counts
from potstill.evaluation.text2text.resampling import SummedScore, f1_of_sums

Floats = NDArray[np.float64]


class FormGold(ABC):
    """The gold answers of N test texts."""

    @abstractmethod
    def __len__(self) -> int:
        """N."""

    @property
    @abstractmethod
    def score_names(self) -> tuple[str, ...]:
        """The names of all scores."""

    @property
    @abstractmethod
    def summed_score(self) -> SummedScore:
        """The metric that students are compared by, of sums of `counts`."""

    @abstractmethod
    def counts(self, predictions: Sequence[str]) -> Floats:
        """(N, C) counts of the predictions for N texts."""

    @abstractmethod
    def scores(self, predictions: Sequence[str]) -> dict[str, float]:
        """All scores of the predictions for N texts, in [0, 1]."""

    @abstractmethod
    def is_prediction(self, value: object) -> bool:
        """Whether a stored value is a prediction."""

    def metric(self, predictions: Sequence[str]) -> float:
        """The metric that students are compared by."""
        return float(self.summed_score(self.counts(predictions).sum(axis=0)[None])[0])


@dataclass(frozen=True)
class EntityGold(FormGold):
    """The gold entities of N texts.

    Attributes:
        entities: of each text.
        types: the K types of the task.
    """

    entities: tuple[Entities, ...]
    types: tuple[str, ...]

    def __len__(self) -> int:
        """N."""
        return len(self.entities)

    @property
    def score_names(self) -> tuple[str, ...]:
        """Entity F1, its mean over types, and the share of texts whose entities are all right."""
        return ("entity_f1", "macro_f1", "exact_texts")

    @property
    def summed_score(self) -> SummedScore:
        """Entity F1."""
        return f1_of_sums

    def counts(self, predictions: Sequence[str]) -> Floats:
        """(N, 3) correct, gold and predicted entities."""
        counts: Floats = entity_counts(self.entities, _decoded(predictions), self.types).sum(axis=1)
        return counts

    def scores(self, predictions: Sequence[str]) -> dict[str, float]:
        """See `score_names`."""
        result = compute_entity_metrics(self.entities, _decoded(predictions), self.types, n_resamples=1)
        values = (result.main_score.value, result.macro_f1.value, result.accuracy.value)
        return dict(zip(self.score_names, values, strict=True))

    def is_prediction(self, value: object) -> bool:
        """Whether a stored value is a list of entities of these types, as `encode_entities` writes it."""
        if not isinstance(value, str):
            return False
        try:
            found = json.loads(value) if value else []
        except ValueError:
            return False
        return isinstance(found, list) and all(map(self._is_entity, found))

    def _is_entity(self, found: Any) -> bool:
        if not (isinstance(found, list) and len(found) == 3 and found[2] in self.types):
            return False
        start, end = found[:2]
        return type(start) is int and type(end) is int and 0 <= start < end


def _decoded(predictions: Sequence[str]) -> list[Entities]:
    return [decode_entities(each) or () for each in predictions]


@dataclass(frozen=True)
class AnswerGold(FormGold):
    """The references of N texts.

    Attributes:
        references: the right answers to each text, one at least.
        name: the metric that students are compared by.
    """

    references: tuple[References, ...]
    name: AnswerMetric

    def __len__(self) -> int:
        """N."""
        return len(self.references)

    @property
    def score_names(self) -> tuple[str, ...]:
        """Every metric of answers in words."""
        return tuple(METRIC_NAMES)

    @property
    def summed_score(self) -> SummedScore:
        """The metric's own: a mean, or BLEU of all texts together."""
        return summed_score(self.name)

    def counts(self, predictions: Sequence[str]) -> Floats:
        """(N, C) counts of the metric."""
        return answer_counts(self.name, predictions, self.references)

    def scores(self, predictions: Sequence[str]) -> dict[str, float]:
        """See `score_names`."""
        return {name: answer_score(name, predictions, self.references) for name in METRIC_NAMES}

    def is_prediction(self, value: object) -> bool:
        """Whether a stored value is a text."""
        return isinstance(value, str)
