"""The contract of every student of entities, as tests on short marked texts. Does not test quality or speed."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np

from potstill.errors import BadData
from potstill.evaluation.text2text.entities import Entity, entity_counts, micro_f1
from potstill.models.bio import ScoredEntities, bio_labels
from potstill.students.base import StudentConfig
from potstill.students.entity_student import EntityStudent, EntityTrainingData, MarkedTexts
from potstill.testing.checks import ODD_TEXTS, check


class EntityStudentContract:
    """The contract of every student of entities. Override `make_student`, and what is different below.

    Attributes:
        min_f1: entity F1 it reaches on its training texts, in which each word has one type.
        tolerance: how much two confidences in one entity may differ between batches.
        labels: the types.
        words: for each type the words that have it.
        others: words that have none.
    """

    min_f1: ClassVar[float] = 0.9
    tolerance: ClassVar[float] = 1e-3
    labels: ClassVar[tuple[str, ...]] = ("food", "money")
    words: ClassVar[tuple[tuple[str, ...], ...]] = (("soup", "bread", "cheese", "apple"), ("bank", "loan", "market"))
    others: ClassVar[tuple[str, ...]] = ("the", "and", "please", "a")
    _fitted: EntityStudent | None = None

    def make_student(self, config: StudentConfig) -> EntityStudent:
        """A new, untrained student of this kind."""
        raise NotImplementedError

    def training_data(self) -> EntityTrainingData:
        """96 short texts of two types."""
        texts, marks = [], []
        for nth in range(96):
            parts, entities, at = [], [], 0
            for place in range(3):
                column = (nth // 3 + place + nth * place) % 3
                pool = self.words[column] if column < len(self.words) else self.others
                word = pool[(nth + place * 7) % len(pool)]
                if column < len(self.words):
                    entities.append(Entity(at, at + len(word), self.labels[column]))
                filler = self.others[(nth * 5 + place) % len(self.others)]
                parts += [word, filler]
                at += len(word) + len(filler) + 2
            texts.append(" ".join([*parts, str(nth)]))
            marks.append(tuple(entities))
        return EntityTrainingData(MarkedTexts(texts, marks), seed=1)

    def _fit(self, data: EntityTrainingData) -> EntityStudent:
        return self.make_student(StudentConfig(self.labels, kind="text2text")).fit(data)

    def _fitted_student(self) -> EntityStudent:
        fitted: EntityStudent | None = vars(type(self)).get("_fitted")
        if fitted is None:
            fitted = type(self)._fitted = self._fit(self.training_data())
        return fitted

    def test_it_learns_words_of_two_types(self) -> None:
        """The entities of its training texts are found."""
        train, student = self.training_data().train, self._fitted_student()
        found = [each.entities for each in student.find_entities(train.texts)]
        f1 = micro_f1(entity_counts(train.entities, found, self.labels))
        check(f1 >= self.min_f1, f"it finds the entities of its own training texts with F1 {f1:.2f}")

    def test_entities_lie_in_their_text_in_order(self) -> None:
        """Odd texts are no error, and entities are spans of them with a known type, sorted, without overlaps."""
        texts = [*ODD_TEXTS, "a bank and a bank", "soup " * 400]
        found = self._fitted_student().find_entities(texts)
        check(len(found) == len(texts), f"{len(found)} answers for {len(texts)} texts")
        for text, own in zip(texts, found, strict=True):
            at = 0
            for entity, confidence in zip(own.entities, own.confidences, strict=True):
                check(at <= entity.start < entity.end <= len(text), f"{entity} in a text of {len(text)} characters")
                check(entity.type in self.labels, f"{entity.type!r} is no type")
                check(0 <= confidence <= 1, f"a confidence of {confidence}")
                at = entity.end

    def test_a_text_has_the_same_entities_alone_and_among_others(self) -> None:
        """Batches change nothing."""
        texts, student = self.training_data().train.texts[:20], self._fitted_student()
        self._equal(student.find_entities(texts), [student.find_entities([text])[0] for text in texts], "alone")
        check(student.find_entities([]) == [], "no texts have entities")

    def test_scores_are_a_row_a_word(self) -> None:
        """Each array of scores has a column for each label of BIO."""
        texts = self.training_data().train.texts[:5]
        for text, scores in zip(texts, self._fitted_student().unit_scores(texts), strict=True):
            check(
                scores.shape == (len(text.split()), len(bio_labels(self.labels))), f"scores {scores.shape} of {text!r}"
            )
            check(bool(np.isfinite(scores).all()), "scores that are not finite")

    def test_it_is_the_same_after_saving(self) -> None:
        """What `load` returns finds exactly the same."""
        texts, student = self.training_data().train.texts[:20], self._fitted_student()
        with tempfile.TemporaryDirectory() as folder:
            student.save(Path(folder))
            again = type(student).load(Path(folder))
        self._equal(student.find_entities(texts), again.find_entities(texts), "after saving", within=0.0)
        check(tuple(again.labels) == self.labels, "other types after saving")
        json.dumps(dict(again.metadata))

    def test_the_order_of_the_texts_does_not_matter(self) -> None:
        """Equal data give equal students."""
        data = self.training_data()
        texts, marks = list(data.train.texts)[:24], list(data.train.entities)[:24]
        one = self._fit(EntityTrainingData(MarkedTexts(texts, marks), seed=3))
        other = self._fit(EntityTrainingData(MarkedTexts(texts[::-1], marks[::-1]), seed=3))
        self._equal(one.find_entities(texts), other.find_entities(texts), "in another order")

    def test_texts_without_any_entity_are_refused(self) -> None:
        """There is nothing to learn."""
        for train in (MarkedTexts(), MarkedTexts(["the bank"], [()])):
            try:
                self._fit(EntityTrainingData(train))
            except BadData:
                continue
            check(False, "it was trained on no entity")

    def test_progress_is_reported(self) -> None:
        """Shares between 0 and 1."""
        shares: list[float] = []
        data = self.training_data()
        self._fit(
            EntityTrainingData(data.train, seed=1, time_limit_s=2.0, progress=lambda share, _: shares.append(share))
        )
        check(bool(shares), "no progress was reported")
        check(all(0 <= share <= 1 for share in shares), "a share outside of 0 to 1")

    def _equal(
        self, one: Sequence[ScoredEntities], other: Sequence[ScoredEntities], what: str, within: float | None = None
    ) -> None:
        limit = self.tolerance if within is None else within
        for mine, theirs in zip(one, other, strict=True):
            check(mine.entities == theirs.entities, f"other entities {what}: {mine.entities} and {theirs.entities}")
            gaps = np.abs(np.array(mine.confidences) - np.array(theirs.confidences))
            check(float(gaps.max(initial=0.0)) <= limit, f"other confidences {what}")
