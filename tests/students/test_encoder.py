"""The encoder student: its contract on a tiny random BERT, and what the contract does not ask."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.tinybert import write_tinybert

from potstill.errors import BadSpec, MissingWeights, PotstillError
from potstill.students.base import Student, StudentConfig, TrainingData
from potstill.students.encoder import EncoderStudent
from potstill.testing import MultiLabelStudentContract, PairStudentContract, StudentContract

pytest.importorskip("torch")
pytest.importorskip("transformers")


class TestEncoder(StudentContract):
    """The contract, on a network small enough to fine-tune in a blink."""

    close = 1e-4

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _weights(cls, tmp_path_factory: pytest.TempPathFactory) -> None:
        cls.folder = write_tinybert(tmp_path_factory.mktemp("tinybert"))

    def make_student(self, make: StudentConfig) -> Student:
        return EncoderStudent(
            replace(make, weights=str(self.folder), options={"c": 100.0, "epochs": 4, **make.options})
        )


class TestEncoderOfPairs(PairStudentContract, TestEncoder):
    """Two texts, joined as the tokenizer joins them."""

    learns = 0.8

    def make_student(self, make: StudentConfig) -> Student:
        return EncoderStudent(
            replace(make, weights=str(self.folder), options={"epochs": 12, "lr": 2e-3, **make.options})
        )


class TestEncoderOfSeveral(MultiLabelStudentContract, TestEncoder):
    """K sigmoids on one vector."""

    test_the_exported_graph_runs = None  # the graph is that of single labels

    def make_student(self, make: StudentConfig) -> Student:
        options = {"c": 100.0, "epochs": 12, "lr": 2e-3, **make.options}
        return EncoderStudent(replace(make, weights=str(self.folder), options=options))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tinybert(tmp_path_factory.mktemp("tinybert"))


def lesson(times: int = 1) -> TrainingData:
    own = StudentContract().training_data()
    return TrainingData(list(own.texts) * times, np.tile(own.targets, (times, 1)), seed=1)


def encoder(tiny: Path, **options: object) -> EncoderStudent:
    return EncoderStudent(StudentConfig(StudentContract.labels, weights=str(tiny), options=options))


def test_frozen_leaves_the_backbone_as_it_was(tiny: Path) -> None:
    frozen = encoder(tiny, mode="frozen").fit(lesson())
    tuned = encoder(tiny, mode="full", epochs=2).fit(lesson())
    assert frozen.fit_info.mode == "frozen"
    assert frozen.fit_info.steps is None
    texts = lesson().texts[:4]
    again = encoder(tiny, mode="frozen", c=0.1).fit(lesson())
    np.testing.assert_array_equal(frozen.embed(texts), again.embed(texts))
    assert np.abs(frozen.embed(texts) - tuned.embed(texts)).max() > 1e-4


def test_vectors_have_length_one(tiny: Path) -> None:
    vectors = encoder(tiny, mode="frozen").fit(lesson()).embed(lesson().texts)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)


def test_enough_rows_spare_some_for_validation_and_the_better_of_both_is_kept(tiny: Path) -> None:
    student = encoder(tiny, epochs=1).fit(lesson(times=20))
    facts = student.fit_info
    assert facts.validation_rows == 72
    better = facts.tuned_loss < facts.frozen_loss
    assert facts.mode == ("full" if better else "frozen")


def test_many_rows_can_be_learnt_as_few_are_with_none_spared(tiny: Path) -> None:
    many = lesson(times=20)
    student = encoder(tiny, epochs=1, few_shot=True).fit(many)
    assert student.fit_info.validation_rows == 0
    assert student.fit_info.mode == "full"
    assert encoder(tiny, epochs=1).fit(many).fit_info.validation_rows > 0


def test_fine_tuning_that_does_harm_is_taken_back(tiny: Path) -> None:
    harmed = encoder(tiny, epochs=1, lr=10.0).fit(lesson(times=20))
    frozen = encoder(tiny, mode="frozen").fit(lesson(times=20))
    texts = lesson().texts
    assert harmed.fit_info.mode == "frozen"
    np.testing.assert_allclose(harmed.embed(texts), frozen.embed(texts), atol=1e-6)


def test_a_row_of_no_weight_teaches_nothing(tiny: Path) -> None:
    good = lesson()
    lie = np.roll(good.targets, 1, axis=1)
    both = TrainingData(
        [*good.texts, *good.texts],
        np.concatenate([good.targets, lie]),
        np.repeat(np.array([1, 0], dtype=np.float32), len(good.texts)),
    )
    learnt = encoder(tiny, mode="frozen", c=10.0).fit(both).predict_proba(good.texts)
    alone = encoder(tiny, mode="frozen", c=10.0).fit(good).predict_proba(good.texts)
    np.testing.assert_allclose(learnt, alone, atol=2e-2)


def test_texts_that_lose_their_tail_are_counted(tiny: Path) -> None:
    own = lesson()
    texts = [*own.texts[:-9], *["soup bread " * 50] * 9]
    student = encoder(tiny, mode="frozen").fit(replace(own, texts=texts))
    assert student.truncated == pytest.approx(9 / 36)
    assert student.metadata["truncated"] == pytest.approx(9 / 36)


def test_a_tail_beyond_the_limit_changes_nothing_where_heads_are_read(tiny: Path) -> None:
    student = encoder(tiny, mode="frozen", max_length=8, long="head").fit(lesson())
    short = "soup bread cheese dinner apple kitchen"
    np.testing.assert_allclose(
        student.predict_logits([f"{short} match goal"]), student.predict_logits([f"{short} loan"]), atol=1e-5
    )


def test_the_mean_of_several_fine_tunings_is_one_network_that_differs_from_each(tiny: Path) -> None:
    own, said = lesson(), []
    for runs in (1, 3, 3):
        student = encoder(tiny, epochs=3, n_averaged=runs).fit(own)
        said.append(student.predict_logits(own.texts))
    assert student.fit_info.averaged == 3
    assert not np.allclose(said[0], said[1])
    assert (said[1] == said[2]).all()
    assert (said[1].argmax(axis=1) == own.targets.argmax(axis=1)).mean() > 0.8


def test_progress_never_goes_back_and_never_passes_one(tiny: Path) -> None:
    told: list[float] = []
    encoder(tiny, epochs=3).fit(replace(lesson(), progress=lambda share, words: told.append(share)))
    assert told == sorted(told)
    assert 0 <= told[0] <= told[-1] <= 1


def test_a_deadline_in_the_midst_of_fine_tuning_keeps_what_is_learnt(tiny: Path) -> None:
    began = time.monotonic()
    student = encoder(tiny, mode="full", epochs=100_000, c=10.0).fit(replace(lesson(), time_limit_s=1.5))
    assert time.monotonic() - began < 60  # a hundred thousand epochs take hours
    assert student.fit_info.stop_reason == "deadline"
    assert (student.predict_proba(lesson().texts).argmax(1) == lesson().targets.argmax(1)).mean() > 0.9


def test_a_deadline_that_has_passed_still_leaves_a_head_on_what_was_read(tiny: Path) -> None:
    student = encoder(tiny, c=100.0).fit(replace(lesson(times=30), time_limit_s=1e-6))
    assert student.fit_info.mode == "frozen"
    assert student.fit_info.stop_reason == "deadline, after 256 rows"
    assert (student.predict_proba(lesson().texts).argmax(1) == lesson().targets.argmax(1)).mean() > 0.9


def test_learning_draws_from_the_lessons_seed_only(tiny: Path) -> None:
    import torch

    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    encoder(tiny, epochs=2).fit(lesson())
    assert torch.equal(before, torch.random.get_rng_state())
    one = encoder(tiny, epochs=2).fit(lesson()).predict_logits(lesson().texts)
    other = encoder(tiny, epochs=2).fit(replace(lesson(), seed=2)).predict_logits(lesson().texts)
    assert np.abs(one - other).max() > 1e-6


def test_a_second_lesson_starts_from_scratch(tiny: Path) -> None:
    student = encoder(tiny, epochs=2).fit(replace(lesson(), targets=np.roll(lesson().targets, 1, axis=1)))
    again = student.fit(lesson()).predict_logits(lesson().texts)
    np.testing.assert_allclose(again, encoder(tiny, epochs=2).fit(lesson()).predict_logits(lesson().texts), atol=1e-5)


@pytest.mark.parametrize(
    "options",
    [{"epoch": 3}, {"mode": "half"}, {"lr": -1.0}, {"batch_size": "many"}, {"max_length": True}, {"few_shot": 1}],
)
def test_a_bad_option_is_refused_before_anything_is_read(options: dict[str, object]) -> None:
    with pytest.raises(BadSpec):
        EncoderStudent(StudentConfig(("a", "b"), weights="no such weights", options=options))


def test_a_max_length_beyond_the_weights_is_refused(tiny: Path) -> None:
    with pytest.raises(BadSpec, match="at most 64"):
        encoder(tiny, max_length=65).fit(lesson())


def test_a_damaged_folder_of_weights_is_one_sentence(tiny: Path, tmp_path: Path) -> None:
    config = json.loads((tiny / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.safetensors").write_bytes(b"not a tensor")
    (tmp_path / "tokenizer.json").write_text((tiny / "tokenizer.json").read_text())
    with pytest.raises(PotstillError):
        encoder(tmp_path).fit(lesson())
    with pytest.raises(MissingWeights):
        encoder(tmp_path / "nowhere").fit(lesson())


def test_minilm_tells_topics_apart_by_words_it_never_learnt_from(minilm: Path) -> None:
    student = EncoderStudent(StudentConfig(StudentContract.labels, weights=str(minilm))).fit(lesson())
    said = student.predict_proba(["pasta with tomatoes", "the striker scored twice", "interest rates rose"])
    assert said.argmax(axis=1).tolist() == [0, 1, 2]
