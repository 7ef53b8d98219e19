"""Entities in a text, and their metrics: micro and macro F1, scores of each type, and the lenient score of Kang et al.

An entity is right if its span and its type are; both sides are compared as multisets, text by text. Without nested
entities the scores equal those of seqeval in its default mode on the tags of the same spans.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from potstill.evaluation.metrics import ClassScore, Confusion, EvaluationResult, Score
from potstill.evaluation.text2text.resampling import (
    bootstrap_counts,
    f1_of_sums,
    mean_counts,
    mean_of_sums,
    safe_divide,
)

Floats = NDArray[np.float64]
MAX_CONFUSIONS = 20
NO_ENTITY = "(none)"  # in confusions: the other side has no entity at this span
KIND = "entities"  # of an `EvaluationResult`


@dataclass(frozen=True, order=True, slots=True)
class Entity:
    """A span of a text: characters `start` up to, not including, `end`, and its type."""

    start: int
    end: int
    type: str


Entities = tuple[Entity, ...]  # of one text


@dataclass(frozen=True)
class TypeScore:
    """The scores of one type, with 95 % intervals of F1; `support` gold entities, `predicted` predicted ones."""

    type: str
    precision: float
    recall: float
    f1: Score
    support: int
    predicted: int


@dataclass(frozen=True)
class EntityScores:
    """What an evaluation of entities says beside its `EvaluationResult`.

    Attributes:
        per_type: in the order of the task's types.
        lenient_f1: the score of Kang et al. 2023: a gold entity is right if its words have its type among the predicted
            entities of the text, wherever they stand; entities predicted elsewhere cost nothing.
        span_f1: micro F1 of the spans, whatever their types.
        precision, recall: micro averages.
        n_gold, n_predicted: entities of all texts.
    """

    per_type: tuple[TypeScore, ...]
    lenient_f1: Score
    span_f1: Score
    precision: float
    recall: float
    n_gold: int
    n_predicted: int


def entity_counts(gold: Sequence[Entities], predicted: Sequence[Entities], types: Sequence[str]) -> Floats:
    """(N, K, 3) correct, gold and predicted entities of each text and type.

    Raises:
        ValueError: unequal numbers of texts, or an entity of a type that is not among `types`.
    """
    if len(gold) != len(predicted):
        raise ValueError(f"gold entities of {len(gold)} texts and predictions of {len(predicted)}")
    column = {name: k for k, name in enumerate(types)}
    counts = np.zeros((len(gold), len(types), 3))
    for row, (expected, found) in enumerate(zip(gold, predicted, strict=True)):
        for nth, entities in ((0, Counter(expected) & Counter(found)), (1, Counter(expected)), (2, Counter(found))):
            for entity, n in entities.items():
                if entity.type not in column:
                    raise ValueError(f"an entity of the type {entity.type!r}, which is not one of the task's")
                counts[row, column[entity.type], nth] += n
    return counts


def span_counts(gold: Sequence[Entities], predicted: Sequence[Entities]) -> Floats:
    """(N, 3) correct, gold and predicted spans of each text, whatever their types."""
    spans = [[Counter((each.start, each.end) for each in one) for one in side] for side in (gold, predicted)]
    return np.array(
        [[(g & p).total(), g.total(), p.total()] for g, p in zip(*spans, strict=True)], dtype=np.float64
    ).reshape(-1, 3)


def lenient_counts(texts: Sequence[str], gold: Sequence[Entities], predicted: Sequence[Entities]) -> Floats:
    """(N, 3) of each text: gold entities whose words are predicted with their type, all of them, and those predicted.

    Words that occur several times are matched in their order, so each predicted entity serves one gold entity.
    """
    rows = []
    for text, expected, found in zip(texts, gold, predicted, strict=True):
        given: dict[str, list[str]] = {}
        for each in sorted(found):
            given.setdefault(text[each.start : each.end], []).append(each.type)
        correct = n_found = 0
        for each in sorted(expected):
            types = given.get(text[each.start : each.end])
            if types:
                n_found += 1
                correct += types.pop(0) == each.type
        rows.append([correct, len(expected), n_found])
    return np.array(rows, dtype=np.float64).reshape(-1, 3)


def micro_f1(counts: Floats) -> float:
    """Micro F1 of (N, K, 3) counts."""
    return float(f1_of_sums(counts.sum(axis=(0, 1))[None])[0])


def _macro_f1(sums: Floats) -> Floats:
    """(R, 3 K) sums -> (R,) mean F1 over the types that occur on either side."""
    by_type = sums.reshape(len(sums), -1, 3)
    present = (by_type[..., 1] + by_type[..., 2]) > 0
    return safe_divide((f1_of_sums(by_type) * present).sum(axis=1), present.sum(axis=1).astype(np.float64))


def compute_entity_metrics(
    gold: Sequence[Entities],
    predicted: Sequence[Entities],
    types: Sequence[str],
    *,
    seed: int = 0,
    n_resamples: int = 1000,
) -> EvaluationResult:
    """The metrics of N texts' predicted entities, as the result that reports compare models by.

    `micro_f1` is the main score, `accuracy` the share of texts whose entities are all right and none too many,
    `per_class` has a row a type, and `confusions` are entities of the same span with another type, or without one.

    Raises:
        ValueError: no texts, or what `entity_counts` raises.
    """
    if not len(gold):
        raise ValueError("no texts to evaluate")
    counts = entity_counts(gold, predicted, types)
    classes = _class_scores(counts.sum(axis=0), types)
    support = [each.support for each in classes]
    exact = [Counter(g) == Counter(p) for g, p in zip(gold, predicted, strict=True)]
    options = {"seed": seed, "n_resamples": n_resamples}
    return EvaluationResult(
        n=len(gold),
        accuracy=bootstrap_counts(mean_counts(exact), mean_of_sums, **options),
        macro_f1=bootstrap_counts(counts.reshape(len(gold), -1), _macro_f1, **options),
        weighted_f1=float(np.average([each.f1 for each in classes], weights=support)) if any(support) else 0.0,
        ece=None,
        brier=None,
        log_loss=None,
        per_class=classes,
        confusions=_confusions(gold, predicted),
        n_resamples=n_resamples,
        kind=KIND,
        micro_f1=bootstrap_counts(counts.sum(axis=1), f1_of_sums, **options),
    )


def compute_entity_scores(
    texts: Sequence[str],
    gold: Sequence[Entities],
    predicted: Sequence[Entities],
    types: Sequence[str],
    *,
    seed: int = 0,
    n_resamples: int = 1000,
) -> EntityScores:
    """The scores of each type with intervals, of spans alone, and the lenient score.

    Raises:
        ValueError: no texts, or what `entity_counts` raises.
    """
    counts = entity_counts(gold, predicted, types)
    options = {"seed": seed, "n_resamples": n_resamples}
    total = counts.sum(axis=(0, 1))
    classes = _class_scores(counts.sum(axis=0), types)
    per_type = tuple(
        TypeScore(
            each.label,
            each.precision,
            each.recall,
            bootstrap_counts(counts[:, k], f1_of_sums, **options),
            each.support,
            each.predicted,
        )
        for k, each in enumerate(classes)
    )
    return EntityScores(
        per_type=per_type,
        lenient_f1=bootstrap_counts(lenient_counts(texts, gold, predicted), f1_of_sums, **options),
        span_f1=bootstrap_counts(span_counts(gold, predicted), f1_of_sums, **options),
        precision=float(safe_divide(total[0], total[2])),
        recall=float(safe_divide(total[0], total[1])),
        n_gold=int(total[1]),
        n_predicted=int(total[2]),
    )


def _class_scores(sums: Floats, types: Sequence[str]) -> tuple[ClassScore, ...]:
    """(K, 3) sums -> the scores of each type; undefined values are zero."""
    precision, recall = safe_divide(sums[:, 0], sums[:, 2]), safe_divide(sums[:, 0], sums[:, 1])
    f1 = f1_of_sums(sums)
    return tuple(
        ClassScore(name, float(precision[k]), float(recall[k]), float(f1[k]), int(sums[k, 1]), int(sums[k, 2]))
        for k, name in enumerate(types)
    )


def _confusions(gold: Sequence[Entities], predicted: Sequence[Entities]) -> tuple[Confusion, ...]:
    """The most frequent wrong types of a span; `NO_ENTITY` where the other side has no entity there."""
    pairs: Counter[tuple[str, str]] = Counter()
    for expected, found in zip(gold, predicted, strict=True):
        right = Counter(expected) & Counter(found)
        missed, wrong = Counter(expected) - right, Counter(found) - right
        at_span: dict[tuple[int, int], list[str]] = {}
        for entity in sorted(wrong.elements()):
            at_span.setdefault((entity.start, entity.end), []).append(entity.type)
        for entity in sorted(missed.elements()):
            types = at_span.get((entity.start, entity.end))
            pairs[entity.type, types.pop(0) if types else NO_ENTITY] += 1
        for types in at_span.values():
            pairs.update((NO_ENTITY, name) for name in types)
    return tuple(Confusion(*pair, n) for pair, n in pairs.most_common(MAX_CONFUSIONS))
