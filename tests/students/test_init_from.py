"""`TrainingData.init_from`: training starts from another student's weights, for kinds that train any."""

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


def training_data() -> TrainingData:
    return TrainingData(TEXTS, TARGETS)


def test_an_encoder_starts_from_the_weights_of_another_with_its_own_head(weights: str) -> None:
    first = EncoderStudent(StudentConfig(LABELS, weights, options={"mode": "full", "epochs": 3, "lr": 1e-3})).fit(
        training_data()
    )
    frozen = StudentConfig(LABELS, weights, options={"mode": "frozen"})
    anew = EncoderStudent(frozen).fit(training_data())
    after = EncoderStudent(frozen).fit(replace(training_data(), init_from=first))
    np.testing.assert_allclose(after.embed(TEXTS), first.embed(TEXTS), atol=1e-6)
    assert np.abs(after.embed(TEXTS) - anew.embed(TEXTS)).max() > 1e-4
    assert np.abs(first.embed(TEXTS) - after.embed(TEXTS)).max() < 1e-6  # the first one was not changed


def test_a_static_student_starts_from_the_embeddings_of_another(weights: str) -> None:
    config = StudentConfig(LABELS, weights, options={"hidden_units": 4, "epochs": 2, "pca_dims": 8})
    first = StaticStudent(config).fit(training_data())
    still = replace(config, options={"epochs": 0, "pca_dims": 8})
    after = StaticStudent(still).fit(replace(training_data(), init_from=first))
    np.testing.assert_allclose(after.embed(TEXTS), first.embed(TEXTS), atol=1e-5)
    assert np.abs(StaticStudent(still).fit(training_data()).embed(TEXTS) - after.embed(TEXTS)).max() > 1e-4


def test_init_from_a_student_of_another_kind_is_ignored(weights: str) -> None:
    other = LinearStudent(StudentConfig(LABELS)).fit(training_data())
    config = StudentConfig(LABELS, weights, options={"mode": "frozen"})
    np.testing.assert_array_equal(
        EncoderStudent(config).fit(replace(training_data(), init_from=other)).embed(TEXTS),
        EncoderStudent(config).fit(training_data()).embed(TEXTS),
    )
