"""The causal student: what it learns, layers that are cut, limits, its graph, saving, and what it refuses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.answered import answered_texts
from support.tinylm import write_tinycausal, write_tinymlm

pytest.importorskip("torch")
pytest.importorskip("transformers")

from potstill.data.task import Output
from potstill.errors import BadData, BadInput, BadSpec
from potstill.evaluation.text2text.answer_metrics import answer_score
from potstill.models.tokens.tokenizer import Ids
from potstill.students.base import StudentConfig
from potstill.students.causal import CausalStudent
from potstill.students.free_text_student import AnsweredTexts, FreeTextTrainingData
from potstill.testing import FreeTextStudentContract

OPTIONS = {"mode": "full", "epochs": 25, "lr": 1e-2, "max_length": 24}


def answered(n: int, seed: int = 0) -> AnsweredTexts:
    rows = answered_texts(n, seed)
    return AnsweredTexts([text for text, _ in rows], [(answer,) for _, answer in rows])


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tinycausal(tmp_path_factory.mktemp("tinycausal"))


def make(weights: Path, output: Output = Output("free"), instruction: str = "", **options: object) -> CausalStudent:  # noqa: B008 - frozen
    given = {**OPTIONS, **options}
    return CausalStudent(StudentConfig((), str(weights), {}, given, "text2text", instruction, output))


class TestCausal(FreeTextStudentContract):
    """The contract, on tiny weights."""

    @pytest.fixture(autouse=True)
    def _weights(self, weights: Path) -> None:
        self.folder = weights

    def make_student(self, config: StudentConfig) -> CausalStudent:
        return CausalStudent(replace(config, weights=str(self.folder), options=OPTIONS))


@pytest.fixture(scope="module")
def trained(weights: Path) -> CausalStudent:
    return make(weights, instruction="one text", epochs=16).fit(
        FreeTextTrainingData(answered(160), answered(30, seed=1))
    )


def test_it_learns_answers_and_keeps_the_best_weights(trained: CausalStudent) -> None:
    test = answered(60, seed=2)
    answers = [each.text for each in trained.generate(test.texts)]
    assert answer_score("exact_match", answers, test.references) > 0.8
    assert trained.fit_info.validation_rows == 30
    assert trained.fit_info.mode == "full"


def test_its_steps_are_those_of_transformers(trained: CausalStudent) -> None:
    import torch

    texts = ["the soup bank please", "a goal tennis and"]
    network, tokenizer = trained._loaded()
    for text, own in zip(texts, trained.generate(texts), strict=True):
        ids: Ids = tokenizer.encode([text]).ids[0]
        written = network.model.generate(
            torch.from_numpy(ids)[None], max_new_tokens=6, do_sample=False, eos_token_id=2, pad_token_id=0
        )
        assert tokenizer.decode(written[0, len(ids) :].tolist()) == own.text


def test_fewer_layers_are_a_smaller_student_whose_weights_are_all_trained(weights: Path, tmp_path: Path) -> None:
    student = make(weights, mode="auto", layers=2, epochs=16).fit(FreeTextTrainingData(answered(120)))
    assert (student.fit_info.mode, student.fit_info.trainable_layers) == ("full", 2)
    test = answered(40, seed=2)
    answers = student.generate(test.texts)
    assert answer_score("token_f1", [each.text for each in answers], test.references) > 0.6
    student.save(tmp_path)
    assert CausalStudent.load(tmp_path).generate(test.texts) == answers
    with pytest.raises(BadSpec, match="The model has 3 layers, and 4 are to be kept"):
        make(weights, layers=4).fit(FreeTextTrainingData(answered(4)))


def test_lora_trains_small_matrices_beside_the_weights(weights: Path, tmp_path: Path) -> None:
    student = make(weights, mode="auto", epochs=2).fit(FreeTextTrainingData(answered(20), seed=4))
    assert student.fit_info.mode == "lora"
    student.save(tmp_path)
    texts = answered(5).texts
    assert CausalStudent.load(tmp_path).generate(texts) == student.generate(texts)


def test_the_longest_answer_is_the_limit_and_longer_ones_are_counted(weights: Path) -> None:
    texts = AnsweredTexts(["the soup", "the bank", "a goal"], [("food",), ("money " * 6,), ("sport", "sport sport")])
    student = make(weights, epochs=1).fit(FreeTextTrainingData(texts))
    assert student._loaded()[1].prompt.max_tokens == 6
    assert student.too_long == 0
    assert student.fit_info.steps == 1
    limited = make(weights, Output("free", max_tokens=2), epochs=1).fit(FreeTextTrainingData(texts))
    assert limited._loaded()[1].prompt.max_tokens == 2
    assert limited.too_long == limited.metadata["too_long"] == 0.25
    with pytest.raises(BadData, match="Every answer has more than 1 tokens") as caught:
        only = AnsweredTexts(["the bank"], [("money " * 6,)])
        make(weights, Output("free", max_tokens=1)).fit(FreeTextTrainingData(only))
    assert "--max-tokens" in caught.value.hint


def test_texts_that_are_too_long_are_counted(weights: Path) -> None:
    texts = AnsweredTexts(["the soup " * 20, "the bank"], [("food",), ("money",)])
    student = make(weights, epochs=1).fit(FreeTextTrainingData(texts))
    assert student.metadata["truncated"] == 0.5


def test_a_deadline_ends_training(weights: Path) -> None:
    student = make(weights, epochs=2000).fit(FreeTextTrainingData(answered(40), time_limit_s=0.5))
    assert student.fit_info.stop_reason == "deadline"


def test_what_it_cannot_learn_is_one_sentence(weights: Path, tmp_path: Path) -> None:
    with pytest.raises(BadSpec, match="answers in words, and cannot learn a task of the kind 'single'") as caught:
        CausalStudent(StudentConfig(("a", "b")))
    assert "--form free" in caught.value.hint
    with pytest.raises(BadSpec, match="no option 'head'"):
        make(weights, head="label")
    with pytest.raises(BadSpec, match="has no room for a text"):
        make(weights, max_length=6).fit(FreeTextTrainingData(answered(4)))
    with pytest.raises(BadSpec, match="not trained"):
        make(weights).generate(["the bank"])
    with pytest.raises(BadInput, match="the student 'causal' is made of") as caught:
        make(write_tinymlm(tmp_path / "masked")).check_requirements()
    assert "causal:smollm2" in caught.value.hint


def test_loss_counts_the_answer_alone(weights: Path) -> None:
    import torch

    from potstill.students.answer_rows import answer_losses
    from potstill.students.causal_network import CausalNetwork
    from potstill.students.cloze_network import load_pretrained_lm
    from potstill.students.decoder import find_causal_model

    network = CausalNetwork(load_pretrained_lm(find_causal_model(str(weights))).model).eval()
    rows = [np.array([5, 6, 7, 8, 2]), np.array([9, 10, 2])]
    with torch.no_grad():
        losses = answer_losses(network, [rows[0][:3], rows[1][:2]], [rows[0][3:], rows[1][2:]], 0)
        logits = network.model(torch.from_numpy(rows[0])[None]).logits[0].log_softmax(-1)
    assert losses[0].item() == pytest.approx(-(logits[2, 8] + logits[3, 2]).item() / 2, abs=1e-5)
    assert losses.shape == (2,)
