"""LoRA begins as nothing, learns beside frozen weights, and is gone once it is merged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.tinybert import write_tinybert

from potstill.students.base import StudentConfig, TrainingData
from potstill.students.encoder import EncoderStudent
from potstill.testing import StudentContract

torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tinybert(tmp_path_factory.mktemp("tinybert"))


def stack() -> torch.nn.Sequential:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.Tanh(), torch.nn.Linear(5, 4))


def test_lora_begins_as_the_layer_it_stands_beside() -> None:
    from potstill.students.lora import add_lora

    model, given = stack(), torch.randn(7, 6)
    before = model(given)
    learnt = add_lora(model, rank=2)
    assert torch.equal(model(given), before)
    assert [tuple(each.shape) for each in learnt] == [(2, 6), (5, 2), (2, 5), (4, 2)]
    assert {id(each) for each in model.parameters() if each.requires_grad} == {id(each) for each in learnt}


def test_merged_it_is_the_same_function_without_a_trace() -> None:
    from potstill.students.lora import add_lora, merge_lora

    model, given = stack(), torch.randn(7, 6)
    names, start = list(model.state_dict()), model(given)
    for each in add_lora(model, rank=2, alpha=8.0):
        torch.nn.init.normal_(each)
    learnt = model(given)
    merge_lora(model)
    assert list(model.state_dict()) == names
    torch.testing.assert_close(model(given), learnt)
    assert not torch.allclose(learnt, start)


def test_an_encoder_learns_by_lora_and_is_an_encoder_like_any_other(tiny: Path) -> None:
    rows = StudentContract().training_data()
    lesson = TrainingData(list(rows.texts) * 2, np.tile(rows.targets, (2, 1)), seed=1)

    def taught(mode: str) -> EncoderStudent:
        options = {"mode": mode, "c": 1.0, "epochs": 6, "lr": 1e-3}
        return EncoderStudent(StudentConfig(StudentContract.labels, str(tiny), options=options)).fit(lesson)

    lora, full, frozen = (taught(mode)._loaded()[1].state_dict() for mode in ("lora", "full", "frozen"))
    assert list(lora) == list(full)
    changed = {name for name in lora if not torch.equal(lora[name], frozen[name])}
    assert {"head.weight", "backbone.encoder.layer.0.attention.self.query.weight"} <= changed
    assert not any("embeddings" in name or "LayerNorm" in name for name in changed)


def test_it_keeps_what_the_student_said_through_save_and_load(tiny: Path, tmp_path: Path) -> None:
    rows = StudentContract().training_data()
    student = EncoderStudent(
        StudentConfig(StudentContract.labels, str(tiny), options={"mode": "lora", "epochs": 2})
    ).fit(rows)
    assert student.fit_info.mode == "lora"
    student.save(tmp_path)
    again = EncoderStudent.load(tmp_path)
    assert np.array_equal(again.predict_logits(rows.texts), student.predict_logits(rows.texts))
