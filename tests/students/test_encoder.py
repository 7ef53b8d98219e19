"""The encoder student: its contract on a tiny random BERT, and what the contract does not cover."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.nightly import nightly
from support.tinybert import write_tinybert

from potstill.errors import BadSpec, MissingWeights, PotstillError, RunNotFound
from potstill.students.base import Student, StudentConfig, TrainingData
from potstill.students.encoder import EncoderStudent
from potstill.testing import MultiLabelStudentContract, PairStudentContract, StudentContract

pytest.importorskip("torch")
pytest.importorskip("transformers")


class TestEncoder(StudentContract):
    """The contract, on a network that is fine-tuned in milliseconds."""

    tolerance = 1e-4
    # tests/bundle/export/test_export.py compares the graph of such a student with it
    test_the_exported_graph_runs = nightly(StudentContract.test_the_exported_graph_runs)

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _weights(cls, tmp_path_factory: pytest.TempPathFactory) -> None:
        cls.folder = write_tinybert(tmp_path_factory.mktemp("tinybert"))

    def make_student(self, config: StudentConfig) -> Student:
        return EncoderStudent(
            replace(config, weights=str(self.folder), options={"c": 100.0, "epochs": 4, **config.options})
        )


class TestEncoderOfPairs(PairStudentContract, TestEncoder):
    """Two texts, joined as the tokenizer joins them."""

    min_accuracy = 0.8
    test_the_exported_graph_runs = None  # the graph is that of single texts

    def make_student(self, config: StudentConfig) -> Student:
        return EncoderStudent(
            replace(config, weights=str(self.folder), options={"epochs": 6, "lr": 4e-3, **config.options})
        )


class TestMultiLabelEncoder(MultiLabelStudentContract, TestEncoder):
    """K sigmoids on one vector."""

    test_the_exported_graph_runs = None  # the graph is that of single labels

    def make_student(self, config: StudentConfig) -> Student:
        options = {"c": 100.0, "epochs": 6, "lr": 4e-3, **config.options}
        return EncoderStudent(replace(config, weights=str(self.folder), options=options))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tinybert(tmp_path_factory.mktemp("tinybert"))


def training_data(times: int = 1) -> TrainingData:
    own = StudentContract().training_data()
    return TrainingData(list(own.texts) * times, np.tile(own.targets, (times, 1)), seed=1)


def encoder(tiny: Path, **options: object) -> EncoderStudent:
    return EncoderStudent(StudentConfig(StudentContract.labels, weights=str(tiny), options=options))


def test_frozen_does_not_change_the_backbone(tiny: Path) -> None:
    frozen = encoder(tiny, mode="frozen").fit(training_data())
    tuned = encoder(tiny, mode="full", epochs=2).fit(training_data())
    assert frozen.fit_info.mode == "frozen"
    assert frozen.fit_info.steps is None
    texts = training_data().texts[:4]
    again = encoder(tiny, mode="frozen", c=0.1).fit(training_data())
    np.testing.assert_array_equal(frozen.embed(texts), again.embed(texts))
    assert np.abs(frozen.embed(texts) - tuned.embed(texts)).max() > 1e-4


def test_vectors_have_length_one(tiny: Path) -> None:
    vectors = encoder(tiny, mode="frozen").fit(training_data()).embed(training_data().texts)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)


def test_with_enough_rows_some_are_held_out_and_the_better_network_is_kept(tiny: Path) -> None:
    student = encoder(tiny, epochs=1).fit(training_data(times=20))
    facts = student.fit_info
    assert facts.validation_rows == 72
    better = facts.tuned_loss < facts.frozen_loss
    assert facts.mode == ("full" if better else "frozen")


def test_few_shot_training_on_many_rows_holds_none_out(tiny: Path) -> None:
    many = training_data(times=20)
    student = encoder(tiny, epochs=1, few_shot=True).fit(many)
    assert student.fit_info.validation_rows == 0
    assert student.fit_info.mode == "full"
    assert encoder(tiny, epochs=1).fit(many).fit_info.validation_rows > 0


def test_harmful_fine_tuning_is_undone(tiny: Path) -> None:
    harmed = encoder(tiny, epochs=1, lr=10.0).fit(training_data(times=20))
    frozen = encoder(tiny, mode="frozen").fit(training_data(times=20))
    texts = training_data().texts
    assert harmed.fit_info.mode == "frozen"
    np.testing.assert_allclose(harmed.embed(texts), frozen.embed(texts), atol=1e-6)


def test_a_row_of_weight_zero_has_no_effect(tiny: Path) -> None:
    good = training_data()
    wrong = np.roll(good.targets, 1, axis=1)
    both = TrainingData(
        [*good.texts, *good.texts],
        np.concatenate([good.targets, wrong]),
        np.repeat(np.array([1, 0], dtype=np.float32), len(good.texts)),
    )
    with_zero = encoder(tiny, mode="frozen", c=10.0).fit(both).predict_proba(good.texts)
    alone = encoder(tiny, mode="frozen", c=10.0).fit(good).predict_proba(good.texts)
    np.testing.assert_allclose(with_zero, alone, atol=2e-2)


def test_truncated_texts_are_counted(tiny: Path) -> None:
    own = training_data()
    texts = [*own.texts[:-9], *["soup bread " * 50] * 9]
    student = encoder(tiny, mode="frozen").fit(replace(own, texts=texts))
    assert student.truncated == pytest.approx(9 / 36)
    assert student.metadata["truncated"] == pytest.approx(9 / 36)


def test_in_head_mode_a_tail_beyond_the_limit_changes_nothing(tiny: Path) -> None:
    student = encoder(tiny, mode="frozen", max_length=8, long_texts="head").fit(training_data())
    short = "soup bread cheese dinner apple kitchen"
    np.testing.assert_allclose(
        student.predict_logits([f"{short} match goal"]), student.predict_logits([f"{short} loan"]), atol=1e-5
    )


def test_the_mean_of_several_fine_tunings_is_one_network_that_differs_from_each(tiny: Path) -> None:
    own, predictions = training_data(), []
    for runs in (1, 3, 3):
        student = encoder(tiny, epochs=3, n_averaged=runs).fit(own)
        predictions.append(student.predict_logits(own.texts))
    assert student.fit_info.averaged == 3
    assert not np.allclose(predictions[0], predictions[1])
    assert (predictions[1] == predictions[2]).all()
    assert (predictions[1].argmax(axis=1) == own.targets.argmax(axis=1)).mean() > 0.8


def test_progress_increases_from_zero_to_one(tiny: Path) -> None:
    shares: list[float] = []
    encoder(tiny, epochs=3).fit(replace(training_data(), progress=lambda share, words: shares.append(share)))
    assert shares == sorted(shares)
    assert 0 <= shares[0] <= shares[-1] <= 1


def test_a_deadline_during_fine_tuning_keeps_the_trained_weights(tiny: Path) -> None:
    began = time.monotonic()
    student = encoder(tiny, mode="full", epochs=100_000, c=10.0).fit(replace(training_data(), time_limit_s=1.5))
    assert time.monotonic() - began < 60  # a hundred thousand epochs take hours
    assert student.fit_info.stop_reason == "deadline"
    assert (student.predict_proba(training_data().texts).argmax(1) == training_data().targets.argmax(1)).mean() > 0.9


def test_after_a_passed_deadline_there_is_a_head_on_the_embedded_rows(tiny: Path) -> None:
    student = encoder(tiny, c=100.0).fit(replace(training_data(times=30), time_limit_s=1e-6))
    assert student.fit_info.mode == "frozen"
    assert student.fit_info.stop_reason == "deadline, after 256 rows"
    assert (student.predict_proba(training_data().texts).argmax(1) == training_data().targets.argmax(1)).mean() > 0.9


def test_training_uses_its_own_seed_only(tiny: Path) -> None:
    import torch

    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    encoder(tiny, epochs=2).fit(training_data())
    assert torch.equal(before, torch.random.get_rng_state())
    one = encoder(tiny, epochs=2).fit(training_data()).predict_logits(training_data().texts)
    other = encoder(tiny, epochs=2).fit(replace(training_data(), seed=2)).predict_logits(training_data().texts)
    assert np.abs(one - other).max() > 1e-6


def test_a_second_fit_starts_from_scratch(tiny: Path) -> None:
    student = encoder(tiny, epochs=2).fit(replace(training_data(), targets=np.roll(training_data().targets, 1, axis=1)))
    again = student.fit(training_data()).predict_logits(training_data().texts)
    np.testing.assert_allclose(
        again, encoder(tiny, epochs=2).fit(training_data()).predict_logits(training_data().texts), atol=1e-5
    )


@pytest.mark.parametrize(
    "options",
    [{"epoch": 3}, {"mode": "half"}, {"lr": -1.0}, {"batch_size": "many"}, {"max_length": True}, {"few_shot": 1}],
)
def test_a_bad_option_is_refused_before_weights_are_searched(options: dict[str, object]) -> None:
    with pytest.raises(BadSpec):
        EncoderStudent(StudentConfig(("a", "b"), weights="no such weights", options=options))


def test_a_max_length_beyond_the_weights_is_refused(tiny: Path) -> None:
    with pytest.raises(BadSpec, match="at most 64"):
        encoder(tiny, max_length=65).fit(training_data())


def test_a_damaged_folder_of_weights_is_a_one_sentence_error(tiny: Path, tmp_path: Path) -> None:
    config = json.loads((tiny / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.safetensors").write_bytes(b"not a tensor")
    (tmp_path / "tokenizer.json").write_text((tiny / "tokenizer.json").read_text())
    with pytest.raises(PotstillError):
        encoder(tmp_path).fit(training_data())
    with pytest.raises(MissingWeights):
        encoder(tmp_path / "nowhere").fit(training_data())


def test_minilm_classifies_words_it_was_not_trained_on(minilm: Path) -> None:
    student = encoder(minilm, epochs=2).fit(training_data())
    predictions = student.predict_proba(["pasta with tomatoes", "the striker scored twice", "interest rates rose"])
    assert predictions.argmax(axis=1).tolist() == [0, 1, 2]


def test_a_student_saved_in_another_format_is_refused(tiny: Path, tmp_path: Path) -> None:
    encoder(tiny, mode="frozen").fit(training_data()).save(tmp_path)
    record = json.loads((tmp_path / "encoder.json").read_text())
    (tmp_path / "encoder.json").write_text(json.dumps({**record, "format": 1}))
    with pytest.raises(RunNotFound, match="this version of potstill"):
        EncoderStudent.load(tmp_path)


def test_the_fit_info_survives_saving(tiny: Path, tmp_path: Path) -> None:
    student = encoder(tiny, epochs=1).fit(training_data())
    student.save(tmp_path)
    assert EncoderStudent.load(tmp_path).fit_info == student.fit_info
    assert student.metadata["mode"] == "full"
    assert "averaged" not in student.metadata
