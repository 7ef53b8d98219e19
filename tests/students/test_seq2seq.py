"""The seq2seq student on a tiny T5: what it learns, its graphs and folder, token level, layers, and what it refuses."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.answered import answered_texts
from support.nightly import nightly
from support.tinylm import write_tinycausal, write_tinyt5

pytest.importorskip("torch")
pytest.importorskip("transformers")

import potstill
from potstill.api import export
from potstill.bundle.export.export_free_text import export_free_text
from potstill.bundle.free_text_bundle import FreeTextBundle
from potstill.bundle.layout import ENCODER
from potstill.data.task import Output, Task
from potstill.errors import BadInput, BadSpec, RunNotFound
from potstill.evaluation.text2text.answer_metrics import answer_score
from potstill.students.base import StudentConfig
from potstill.students.causal import CausalStudent
from potstill.students.free_text_student import AnsweredTexts, FreeTextTrainingData, TokenTargets
from potstill.students.seq2seq import Seq2SeqStudent
from potstill.testing import FreeTextStudentContract

OPTIONS = {"mode": "full", "epochs": 25, "lr": 1e-2, "max_length": 24}


def answered(n: int, seed: int = 0) -> AnsweredTexts:
    rows = answered_texts(n, seed)
    return AnsweredTexts([text for text, _ in rows], [(answer,) for _, answer in rows])


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tinyt5(tmp_path_factory.mktemp("tinyt5"))


def make(weights: Path, **options: object) -> Seq2SeqStudent:
    config = StudentConfig((), str(weights), {}, {**OPTIONS, **options}, "text2text", "one text", Output("free"))
    return Seq2SeqStudent(config)


class TestSeq2Seq(FreeTextStudentContract):
    """The contract, on tiny weights."""

    @pytest.fixture(autouse=True)
    def _weights(self, weights: Path) -> None:
        self.folder = weights

    def make_student(self, config: StudentConfig) -> Seq2SeqStudent:
        return Seq2SeqStudent(replace(config, weights=str(self.folder), options=OPTIONS))

    # What these test is not of the kind, and the causal student has them each day.
    test_the_order_of_the_texts_does_not_matter = nightly(
        FreeTextStudentContract.test_the_order_of_the_texts_does_not_matter
    )
    test_no_answer_is_longer_than_the_limit = nightly(FreeTextStudentContract.test_no_answer_is_longer_than_the_limit)
    test_progress_is_reported = nightly(FreeTextStudentContract.test_progress_is_reported)


@pytest.fixture(scope="module")
def trained(weights: Path) -> Seq2SeqStudent:
    return make(weights, epochs=16).fit(FreeTextTrainingData(answered(160), answered(30, seed=1)))


@pytest.fixture(scope="module")
def bundle(trained: Seq2SeqStudent, tmp_path_factory: pytest.TempPathFactory) -> FreeTextBundle:
    task = Task((), kind="text2text", instruction="one text", output=Output("free"))
    return export_free_text(trained, tmp_path_factory.mktemp("exported") / "b", task=task, check=answered(40, seed=2))


def test_it_learns_answers(trained: Seq2SeqStudent) -> None:
    test = answered(60, seed=3)
    assert answer_score("token_f1", [each.text for each in trained.generate(test.texts)], test.references) > 0.8
    assert (trained.fit_info.mode, trained.fit_info.validation_rows) == ("full", 30)


def test_its_losses_and_steps_are_those_of_transformers(trained: Seq2SeqStudent) -> None:
    import torch

    from potstill.students.answer_rows import answer_losses

    network: Any
    network, tokenizer = trained._loaded()
    texts = ["the soup bank please", "a goal tennis and one more"]
    prompts = tokenizer.encode(texts).ids
    answers = tokenizer.encode_answers(["food money", "sport sport food"])
    with torch.no_grad():
        found = answer_losses(network, prompts, answers, 0)
        for own, prompt, answer in zip(found, prompts, answers, strict=True):
            given = {"input_ids": torch.from_numpy(prompt)[None], "labels": torch.from_numpy(answer)[None]}
            assert own.item() == pytest.approx(network.model(**given).loss.item(), abs=1e-5)
        for prompt, own in zip(prompts, trained.generate(texts), strict=True):
            ids = network.model.generate(torch.from_numpy(prompt)[None], max_new_tokens=6, do_sample=False)
            assert tokenizer.decode(ids[0].tolist()) == own.text


def test_the_bundle_answers_without_torch_what_the_student_answers(
    trained: Seq2SeqStudent, bundle: FreeTextBundle
) -> None:
    assert bundle.record.parity is not None
    assert bundle.record.parity.max_abs_difference < 1e-3
    assert ENCODER in bundle.record.needed_files()
    texts = [*answered(30, seed=4).texts, "", "a much longer text " * 8]
    exact = FreeTextBundle.open(bundle.folder, graph="fp32", verify=True)
    assert exact.predict(texts) == [each.text for each in trained.generate(texts)]
    assert exact.predict(texts[:1]) == exact.predict(texts)[:1]
    assert exact.truncated > 0


def test_transformers_generates_the_same_from_the_folder(bundle: FreeTextBundle) -> None:
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    texts = list(answered(12, seed=5).texts)
    read: Any = AutoTokenizer.from_pretrained(bundle.folder)
    model: Any = AutoModelForSeq2SeqLM.from_pretrained(bundle.folder)
    written = model.generate(**read(texts, padding=True, return_tensors="pt"))
    exact = FreeTextBundle.open(bundle.folder, graph="fp32")
    assert [text.strip() for text in read.batch_decode(written, skip_special_tokens=True)] == exact.predict(texts)
    card = (bundle.folder / "README.md").read_text(encoding="utf-8")
    assert "AutoModelForSeq2SeqLM" in card
    assert 'pipeline("text-generation"' not in card


def test_a_copy_needs_its_encoder(bundle: FreeTextBundle, tmp_path: Path) -> None:
    copied = export(bundle.folder, tmp_path / "copy", slim=True)
    assert ENCODER in copied.files
    texts = answered(5, seed=8).texts
    assert copied.bundle.predict(texts) == bundle.predict(texts)
    record = json.loads((copied.folder / "potstill.json").read_text(encoding="utf-8"))
    record["preprocessor"]["files"].remove(ENCODER)
    (copied.folder / "potstill.json").write_text(json.dumps(record), encoding="utf-8")
    with pytest.raises(RunNotFound, match="does not list"):
        potstill.load(copied.folder)
    (copied.folder / ENCODER).unlink()
    record["preprocessor"]["files"].append(ENCODER)
    (copied.folder / "potstill.json").write_text(json.dumps(record), encoding="utf-8")
    with pytest.raises(RunNotFound, match="missing"):
        potstill.load(copied.folder)


def test_lora_and_fewer_layers_are_saved_and_loaded(weights: Path, tmp_path: Path) -> None:
    test = answered(20, seed=2)
    for nth, options in enumerate([{"mode": "auto"}, {"mode": "auto", "layers": 1}, {"trainable_layers": 1}]):
        student = make(weights, **{"epochs": 4, **options}).fit(FreeTextTrainingData(answered(60)))
        assert student.fit_info.mode == ("lora" if nth == 0 else "full")
        (tmp_path / str(nth)).mkdir()
        student.save(tmp_path / str(nth))
        assert Seq2SeqStudent.load(tmp_path / str(nth)).generate(test.texts) == student.generate(test.texts)
    with pytest.raises(BadSpec, match="The model has 2 layers, and 3 are to be kept"):
        make(weights, layers=3).fit(FreeTextTrainingData(answered(4)))


def test_it_learns_the_probabilities_of_a_teacher(trained: Seq2SeqStudent, weights: Path) -> None:
    pool = answered(120, seed=6)
    scored = trained.generate_scored(pool.texts, 16)
    train = AnsweredTexts(pool.texts, [(each.answer.text,) for each in scored])
    targets = TokenTargets([each.scores for each in scored], temperature=2.0)
    student = make(weights, epochs=16).fit(FreeTextTrainingData(train, token_targets=targets))
    texts = answered(40, seed=7).texts
    pairs = zip(student.generate(texts), trained.generate(texts), strict=True)
    assert np.mean([one.text == other.text for one, other in pairs]) > 0.6


def test_what_it_is_not_made_of_is_one_sentence(weights: Path, tmp_path: Path) -> None:
    refused = [
        ("", BadSpec, "none are named", "--student seq2seq:"),
        (str(write_tinycausal(tmp_path / "causal")), BadInput, "no encoder-decoder language model", "--student causal"),
    ]
    for name, error, what, mend in refused:
        with pytest.raises(error, match=what) as caught:
            Seq2SeqStudent(StudentConfig((), name, {}, {}, "text2text")).check_requirements()
        assert mend in caught.value.hint
    with pytest.raises(BadInput, match="the student 'causal' is made of") as caught:
        CausalStudent(StudentConfig((), str(weights), {}, {}, "text2text")).check_requirements()
    assert f"the student seq2seq:{weights}" in caught.value.hint
    with pytest.raises(BadSpec, match="has no room for a text"):
        make(weights, max_length=6).fit(FreeTextTrainingData(answered(4)))
