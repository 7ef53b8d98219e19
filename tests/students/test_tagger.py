"""The tagger: what it learns, long texts, words and characters, saving, and what it refuses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.marked_texts import TYPES, marked_texts
from support.tinybert import write_tinybert

pytest.importorskip("torch")
pytest.importorskip("transformers")

from potstill.errors import BadData, BadSpec
from potstill.evaluation.text2text.entities import Entity, entity_counts, micro_f1
from potstill.students.base import StudentConfig
from potstill.students.entity_student import EntityTrainingData, MarkedTexts
from potstill.students.tagger import TaggerStudent
from potstill.testing import EntityStudentContract

OPTIONS = {"epochs": 8, "lr": 2e-2, "max_length": 32}


def marked(n: int, seed: int = 0) -> MarkedTexts:
    rows = marked_texts(n, seed)
    return MarkedTexts([text for text, _ in rows], [entities for _, entities in rows])


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tinybert(tmp_path_factory.mktemp("tinybert"))


def make(weights: Path, **options: object) -> TaggerStudent:
    return TaggerStudent(StudentConfig(TYPES, str(weights), options={**OPTIONS, **options}, kind="text2text"))


class TestTagger(EntityStudentContract):
    """The contract, on tiny weights."""

    @pytest.fixture(autouse=True)
    def _weights(self, weights: Path) -> None:
        self.folder = weights

    def make_student(self, config: StudentConfig) -> TaggerStudent:
        options = {"epochs": 12, "lr": 2e-2, "max_length": 32}
        return TaggerStudent(replace(config, weights=str(self.folder), options=options))


@pytest.fixture(scope="module")
def trained(weights: Path) -> TaggerStudent:
    return make(weights).fit(EntityTrainingData(marked(240), marked(60, seed=1)))


def f1(student: TaggerStudent, texts: MarkedTexts) -> float:
    found = [each.entities for each in student.find_entities(texts.texts)]
    return micro_f1(entity_counts(texts.entities, found, TYPES))


def test_it_learns_spans_of_one_and_of_two_words(trained: TaggerStudent) -> None:
    assert f1(trained, marked(80, seed=2)) > 0.9
    assert trained.fit_info.validation_rows == 60
    (found,) = trained.find_entities(["the  soup bread please bank"])
    assert found.entities == (Entity(5, 15, "dish"), Entity(23, 27, "finance"))
    assert all(0 < each <= 1 for each in found.confidences)


def test_a_text_of_any_length_is_read_as_a_whole(trained: TaggerStudent) -> None:
    text = "the " * 100 + "bank " + "the " * 100 + "soup bread"
    (found,) = trained.find_entities([text])
    assert [text[e.start : e.end] for e in found.entities] == ["bank", "soup bread"]
    assert len(trained.unit_scores([text])[0]) == 203
    short, both = trained.find_entities(["the bank"]), trained.find_entities(["the bank", text])
    np.testing.assert_allclose(short[0].confidences, both[0].confidences, atol=1e-4)


def test_texts_without_words_and_odd_characters_are_no_error(trained: TaggerStudent) -> None:
    texts = ["", " \n\t", "é 東京 🙂 bank", "\ud800 bank", "...", "word" * 500]
    found = trained.find_entities(texts)
    assert [each.entities for each in found[:2]] == [(), ()]
    for text, own in zip(texts[2:4], found[2:4], strict=True):
        assert "bank" in [text[e.start : e.end] for e in own.entities]
    assert trained.find_entities([]) == []


def test_entities_that_are_no_whole_words_are_counted_and_learnt_as_words(weights: Path) -> None:
    train = marked(30)
    inexact = MarkedTexts(["the cheese"], [(Entity(6, 10, "dish"),)])
    both = MarkedTexts([*train.texts, *inexact.texts], [*train.entities, *inexact.entities])
    student = make(weights, epochs=1).fit(EntityTrainingData(both))
    assert student.inexact == pytest.approx(1 / sum(map(len, both.entities)))
    assert student.metadata["inexact"] == student.inexact


def test_a_deadline_ends_training(weights: Path) -> None:
    student = make(weights, epochs=500).fit(EntityTrainingData(marked(60), time_limit_s=1.0))
    assert student.fit_info.stop_reason == "deadline"


def test_what_it_cannot_learn_is_one_sentence(weights: Path) -> None:
    with pytest.raises(BadSpec, match="finds entities, and cannot learn a task of the kind 'single'") as caught:
        TaggerStudent(StudentConfig(TYPES))
    assert "--form entities" in caught.value.hint
    with pytest.raises(BadSpec, match="no option 'head'"):
        make(weights, head="label")
    with pytest.raises(BadSpec, match="reads 8 to 64 tokens"):
        make(weights, max_length=65).fit(EntityTrainingData(marked(4)))
    with pytest.raises(BadData, match="no entity in any text"):
        make(weights).fit(EntityTrainingData(MarkedTexts(["the bank"], [()])))
    with pytest.raises(BadSpec, match="not trained"):
        make(weights).find_entities(["the bank"])
