"""The decoder student: its contract on a tiny causal model, how its head starts, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from support.tinybert import write_tinybert
from support.tinylm import write_tinycausal

from potstill.data.pairs import join_pair
from potstill.data.task import TaskKind
from potstill.errors import BadInput, BadSpec, RunNotFound
from potstill.students.base import Student, StudentConfig
from potstill.students.decoder import DecoderStudent
from potstill.testing import StudentContract


class OnTinyModel:
    """A decoder on a tiny causal language model."""

    options: ClassVar[dict[str, Any]] = {"lr": 5e-3, "epochs": 12, "trainable_layers": 2}

    @pytest.fixture(autouse=True)
    def _weights(self, tmp_path_factory: pytest.TempPathFactory) -> None:
        self.folder = write_tinycausal(tmp_path_factory.getbasetemp() / "write_tinycausal")

    def make_student(self, config: StudentConfig) -> Student:
        return DecoderStudent(replace(config, weights=str(self.folder), options=self.options))


class TestLora(OnTinyModel, StudentContract):
    """The default."""


@pytest.fixture(scope="module")
def causal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tinycausal(tmp_path_factory.mktemp("causal"))


def decoder(folder: Path, **options: Any) -> DecoderStudent:
    return DecoderStudent(StudentConfig(StudentContract.labels, str(folder), options=options))


def accuracy(student: Student) -> float:
    data = StudentContract().training_data()
    return float((student.predict_logits(data.texts).argmax(axis=1) == data.targets.argmax(axis=1)).mean())


def test_a_frozen_decoder_is_the_regression_that_the_others_start_from(causal: Path) -> None:
    data = StudentContract().training_data()
    frozen = decoder(causal, mode="frozen").fit(data)
    barely = decoder(causal, epochs=0.1, lr=1e-9).fit(data)
    assert frozen.fit_info.mode == "frozen"
    assert accuracy(frozen) > 0.9
    assert np.corrcoef(frozen.predict_logits(data.texts).ravel(), barely.predict_logits(data.texts).ravel())[0, 1] > 0.9


def test_fine_tuning_changes_the_states_and_the_head_alone_does_not(causal: Path) -> None:
    data = StudentContract().training_data()
    frozen, tuned, again = (decoder(causal, mode=mode).fit(data) for mode in ("frozen", "lora", "lora"))
    assert not np.allclose(frozen.embed(data.texts[:4]), tuned.embed(data.texts[:4]), atol=1e-3)
    assert (tuned.predict_logits(data.texts) == again.predict_logits(data.texts)).all()


def test_all_weights_learn_from_a_head_of_zeros(causal: Path) -> None:
    student = decoder(causal, mode="full", head_init="zero", lr=5e-3, epochs=12, trainable_layers=3)
    assert accuracy(student.fit(StudentContract().training_data())) > 0.9


@pytest.mark.parametrize("kind", ["pair", "multi"])
def test_pairs_and_several_labels_are_learnt_saved_and_loaded(causal: Path, tmp_path: Path, kind: TaskKind) -> None:
    data = StudentContract().training_data()
    if kind == "pair":
        data = replace(data, texts=[join_pair(text, text) for text in data.texts])
    config = StudentConfig(StudentContract.labels, str(causal), options={"lr": 5e-3, "epochs": 12}, kind=kind)
    student = DecoderStudent(config).fit(data)
    student.save(tmp_path)
    probabilities = DecoderStudent.load(tmp_path).predict_proba(data.texts)
    assert (probabilities == student.predict_proba(data.texts)).all()
    assert (probabilities.argmax(axis=1) == data.targets.argmax(axis=1)).mean() > 0.9
    assert np.allclose(probabilities.sum(axis=1), 1, atol=1e-5) == (kind == "pair")


@pytest.mark.parametrize(
    ("write", "refused", "hint"),
    [
        (write_tinybert, "no causal language model", "encoder:"),
        (None, "is no causal language model", "static:potion-8m"),
    ],
)
def test_other_weights_are_refused_with_what_they_can_be(
    tmp_path: Path, weights_of: Callable[[str], Path], write: Callable[[Path], Path] | None, refused: str, hint: str
) -> None:
    if write is None:
        weights_of("potion-8m")
    folder = "potion-8m" if write is None else write(tmp_path / "bert")
    with pytest.raises(BadInput, match=refused) as error:
        DecoderStudent(StudentConfig(("a", "b"), str(folder))).check_requirements()
    assert hint in error.value.hint


def test_a_row_without_room_and_a_graph_in_bfloat16_are_refused(causal: Path, tmp_path: Path) -> None:
    data = StudentContract().training_data()
    with pytest.raises(BadSpec, match="no room for a text"):
        decoder(causal, max_length=5).fit(data)
    with pytest.raises(BadSpec, match="bfloat16 has no exact graph"):
        decoder(causal, mode="frozen", dtype="bfloat16").fit(data).export(tmp_path)


def test_a_student_on_other_weights_than_it_was_trained_on_is_refused(causal: Path, tmp_path: Path) -> None:
    folder = write_tinycausal(tmp_path / "lm")
    student = decoder(folder, mode="frozen").fit(StudentContract().training_data())
    (tmp_path / "student").mkdir()
    student.save(tmp_path / "student")
    write_tinycausal(folder, hidden=32)
    with pytest.raises(RunNotFound, match="other weights"):
        DecoderStudent.load(tmp_path / "student")
