"""Scores of predictions that are strings, and what of a stored result is read back."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import pytest

from potstill.evaluation.text2text.entities import Entity
from potstill.ledger.store import decoded
from potstill.study.analysis import GridPoint, point_scores
from potstill.study.form_gold import AnswerGold, EntityGold
from potstill.study.records import Cell, CellResult, DatasetSummary, FormCellScores, StudyResult

ENTITIES = EntityGold(((Entity(0, 4, "dish"),), (), (Entity(2, 3, "place"), Entity(5, 9, "dish"))), ("dish", "place"))
ANSWERS = AnswerGold((("Goethe", "J. W. Goethe"), ("Paris",)), "exact_match")
FOUND = ['[[0, 4, "dish"]]', "", '[[2, 3, "dish"], [5, 9, "dish"]]']


def test_entities_are_scored_over_all_texts_and_an_unanswered_one_has_none() -> None:
    assert ENTITIES.metric(FOUND) == pytest.approx(2 * 2 / (3 + 3))
    assert ENTITIES.scores(FOUND)["exact_texts"] == pytest.approx(2 / 3)
    assert ENTITIES.scores(FOUND)["entity_f1"] == ENTITIES.metric(FOUND)
    assert ENTITIES.metric(["", "", ""]) == 0


def test_answers_are_scored_by_the_metric_of_the_task_and_its_best_reference() -> None:
    assert ANSWERS.metric(["j w goethe", "London"]) == 0.5
    assert ANSWERS.scores(["Goethe", ""])["exact_match"] == 0.5
    assert AnswerGold(ANSWERS.references, "token_f1").metric(["goethe schiller", "Paris"]) == pytest.approx(5 / 6)


def test_a_mean_lies_in_an_interval_over_texts_and_seeds() -> None:
    results = {
        Cell("d", 8, seed, "ft", "b"): CellResult("done", predictions=tuple(found))
        for seed, found in enumerate((FOUND, ["", "", FOUND[2]]))
    }
    summary = DatasetSummary("d", ENTITIES.types, "entity_f1", ENTITIES, (8,), 0, 9, form="entities")
    study = StudyResult("s", {"d": summary}, results, {}, 0.0, 0.1, (0, 1), "total")
    found = point_scores(study, "d")[GridPoint("ft", "b", 8)]
    assert found.score.value == pytest.approx((2 / 3 + 2 / 5) / 2)
    assert found.score.low < found.score.value < found.score.high
    assert study.form == "entities"


@pytest.mark.parametrize(
    "changes",
    [
        {"predictions": FOUND[:2]},
        {"predictions": [*FOUND[:2], 3]},
        {"predictions": [*FOUND[:2], "[[1, 2]]"]},
        {"predictions": [*FOUND[:2], '[[3, 2, "dish"]]']},
        {"predictions": [*FOUND[:2], '[[1, 2, "city"]]']},
        {"predictions": [*FOUND[:2], "soup"]},
        {"scores": None},
        {"scores": {"values": 3}},
        {"scores": {"values": {"entity_f1": 1.0}}},
        {"scores": {"accuracy": 1.0, "macro_f1": 1.0, "mcc": 1.0}},
        {"state": "failed"},
        {"usage": {"seconds": -1.0}},
    ],
    ids=str,
)
def test_a_stored_cell_with_a_value_that_cannot_be_is_not_read(changes: dict[str, Any]) -> None:
    whole = CellResult("done", scores=FormCellScores(ENTITIES.scores(FOUND)), predictions=tuple(FOUND), n_train=8)
    record = json.loads(json.dumps(whole.to_json()))
    assert CellResult.read_form(record, ENTITIES) == whole
    assert decoded(partial(CellResult.read_form, gold=ENTITIES), record | changes) is None
