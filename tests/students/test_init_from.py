"""`Lesson.start`: a student goes on from what another learnt, where its kind learns a representation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from support.tinybert import WORDS, write_tinybert

from potstill.students.base import StudentConfig, TrainingData
from potstill.students.encoder import EncoderStudent
from potstill.students.linear import LinearStudent
from potstill.students.static import StaticStudent

torch = pytest.importorskip("torch")

LABELS = ("a", "b")
TEXTS = [f"{word} {WORDS[n]}" for n in range(4, 16) for word in WORDS[:2]]
TARGETS = np.eye(2, dtype=np.float32)[[0, 1] * 12]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_tinybert(tmp_path_factory.mktemp("tiny")))


def lesson() -> TrainingData:
    return TrainingData(TEXTS, TARGETS)


def test_an_encoder_goes_on_from_the_weights_of_another_with_a_head_of_its_own(weights: str) -> None:
    first = EncoderStudent(StudentConfig(LABELS, weights, options={"mode": "full", "epochs": 3, "lr": 1e-3})).fit(
        lesson()
    )
    frozen = StudentConfig(LABELS, weights, options={"mode": "frozen"})
    anew = EncoderStudent(frozen).fit(lesson())
    after = EncoderStudent(frozen).fit(replace(lesson(), init_from=first))
    np.testing.assert_allclose(after.embed(TEXTS), first.embed(TEXTS), atol=1e-6)
    assert np.abs(after.embed(TEXTS) - anew.embed(TEXTS)).max() > 1e-4
    assert np.abs(first.embed(TEXTS) - after.embed(TEXTS)).max() < 1e-6  # the first one was not changed


def test_a_static_student_goes_on_from_the_vectors_of_another(weights: str) -> None:
    make = StudentConfig(LABELS, weights, options={"hidden": 4, "epochs": 2, "dims": 8})
    first = StaticStudent(make).fit(lesson())
    still = replace(make, options={"epochs": 0, "dims": 8})
    after = StaticStudent(still).fit(replace(lesson(), init_from=first))
    np.testing.assert_allclose(after.embed(TEXTS), first.embed(TEXTS), atol=1e-5)
    assert np.abs(StaticStudent(still).fit(lesson()).embed(TEXTS) - after.embed(TEXTS)).max() > 1e-4


def test_a_student_of_another_kind_is_no_start(weights: str) -> None:
    other = LinearStudent(StudentConfig(LABELS)).fit(lesson())
    make = StudentConfig(LABELS, weights, options={"mode": "frozen"})
    np.testing.assert_array_equal(
        EncoderStudent(make).fit(replace(lesson(), init_from=other)).embed(TEXTS),
        EncoderStudent(make).fit(lesson()).embed(TEXTS),
    )
