"""Metrics of entities, held against seqeval (tests/support/text2text_oracles.py)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from potstill.data.entities.tags import read_tags
from potstill.evaluation.metrics import EvaluationResult
from potstill.evaluation.text2text.entities import (
    NO_ENTITY,
    Entity,
    compute_entity_metrics,
    compute_entity_scores,
    entity_counts,
)

ORACLES: dict[str, Any] = json.loads(
    (Path(__file__).parents[2] / "files" / "text2text_oracles.json").read_text("utf-8")
)
TEXT = "Add 5 ml water to 5 ml acid"
AMOUNT, WATER, OTHER_AMOUNT, ACID = (
    Entity(4, 8, "Amount"),
    Entity(9, 14, "Reagent"),
    Entity(18, 22, "Amount"),
    Entity(23, 27, "Reagent"),
)


def test_the_scores_equal_seqevals() -> None:
    for case in ORACLES["entities"]:
        gold, predicted = (
            [read_tags(["w"] * len(tags), tags)[1] for tags in case[side]] for side in ("gold", "predicted")
        )
        scores = case["scores"]
        types = sorted(set(scores) - {"micro avg", "macro avg", "weighted avg"})
        result = compute_entity_metrics(gold, predicted, types, n_resamples=2)
        assert result.main_score.value == pytest.approx(scores["micro avg"]["f1-score"])
        assert result.macro_f1.value == pytest.approx(scores["macro avg"]["f1-score"])
        assert result.weighted_f1 == pytest.approx(scores["weighted avg"]["f1-score"])
        for row in result.per_class:
            expected = scores[row.label]
            assert (row.precision, row.recall, row.f1, row.support) == pytest.approx(
                (expected["precision"], expected["recall"], expected["f1-score"], expected["support"])
            )
    assert len(ORACLES["entities"]) > 30


def test_the_lenient_score_counts_words_wherever_they_are_and_forgives_what_is_too_many() -> None:
    gold = [(AMOUNT, WATER, ACID)]
    predicted = [(OTHER_AMOUNT, WATER, Entity(23, 27, "Amount"), Entity(0, 3, "Reagent"))]
    scores = compute_entity_scores([TEXT], gold, predicted, ("Amount", "Reagent"), n_resamples=2)
    # "5 ml" has its type though it was found elsewhere, "water" is right, "acid" has another type.
    assert scores.lenient_f1.value == pytest.approx(2 * 2 / (3 + 3))
    assert (scores.n_gold, scores.n_predicted) == (3, 4)
    assert scores.precision == 1 / 4
    assert scores.recall == 1 / 3
    assert scores.span_f1.value == pytest.approx(2 * 2 / (3 + 4))
    assert [(each.type, each.support, each.predicted) for each in scores.per_type] == [
        ("Amount", 1, 2),
        ("Reagent", 2, 2),
    ]


def test_words_that_occur_twice_serve_one_gold_entity_each() -> None:
    scores = compute_entity_scores([TEXT], [(AMOUNT, OTHER_AMOUNT)], [(AMOUNT,)], ("Amount",), n_resamples=2)
    assert scores.lenient_f1.value == pytest.approx(2 * 1 / (2 + 1))


def test_a_text_without_entities_is_right_if_none_is_predicted() -> None:
    result = compute_entity_metrics([(), (), (WATER,)], [(), (WATER,), (WATER,)], ("Reagent",), n_resamples=50)
    assert result.accuracy.value == pytest.approx(2 / 3)
    assert result.main_score.value == pytest.approx(2 / 3)
    assert result.main_score.low <= result.main_score.value <= result.main_score.high
    empty = compute_entity_metrics([()], [()], ("Reagent",), n_resamples=2)
    assert empty.main_score.value == 0
    assert empty.accuracy.value == 1


def test_confusions_name_the_type_at_the_same_span() -> None:
    result = compute_entity_metrics(
        [(AMOUNT, WATER)], [(Entity(4, 8, "Reagent"), ACID)], ("Amount", "Reagent"), n_resamples=2
    )
    pairs = {(each.gold, each.predicted) for each in result.confusions}
    assert pairs == {("Amount", "Reagent"), ("Reagent", NO_ENTITY), (NO_ENTITY, "Reagent")}
    assert EvaluationResult.from_json(json.loads(json.dumps(result.to_json()))) == result


def test_a_repeated_entity_counts_as_often_as_it_occurs() -> None:
    counts = entity_counts([(AMOUNT, AMOUNT)], [(AMOUNT, AMOUNT, AMOUNT)], ("Amount",))
    assert counts.tolist() == [[[2, 2, 3]]]


def test_unknown_types_and_unequal_lengths_are_errors() -> None:
    with pytest.raises(ValueError, match="'Amount'"):
        entity_counts([(AMOUNT,)], [()], ("Reagent",))
    with pytest.raises(ValueError, match="1 texts and predictions of 0"):
        entity_counts([()], [], ("Reagent",))
    with pytest.raises(ValueError, match="no texts"):
        compute_entity_metrics([], [], ("Reagent",))
