"""LoRA starts at zero, is trained beside frozen weights, and disappears when it is merged."""

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


def test_lora_starts_as_the_base_layer() -> None:
    from potstill.students.lora import add_lora

    model, given = stack(), torch.randn(7, 6)
    before = model(given)
    parameters = add_lora(model, rank=2)
    assert torch.equal(model(given), before)
    assert [tuple(each.shape) for each in parameters] == [(2, 6), (5, 2), (2, 5), (4, 2)]
    assert {id(each) for each in model.parameters() if each.requires_grad} == {id(each) for each in parameters}


def test_merging_keeps_the_function_and_removes_lora() -> None:
    from potstill.students.lora import add_lora, merge_lora

    model, given = stack(), torch.randn(7, 6)
    names, start = list(model.state_dict()), model(given)
    for each in add_lora(model, rank=2, alpha=8.0):
        torch.nn.init.normal_(each)
    trained = model(given)
    merge_lora(model)
    assert list(model.state_dict()) == names
    torch.testing.assert_close(model(given), trained)
    assert not torch.allclose(trained, start)


def test_an_encoder_trained_by_lora_has_the_same_parameters_as_others(tiny: Path) -> None:
    rows = StudentContract().training_data()
    data = TrainingData(list(rows.texts) * 2, np.tile(rows.targets, (2, 1)), seed=1)

    def fitted(mode: str) -> EncoderStudent:
        options = {"mode": mode, "c": 1.0, "epochs": 6, "lr": 1e-3}
        return EncoderStudent(StudentConfig(StudentContract.labels, str(tiny), options=options)).fit(data)

    lora, full, frozen = (fitted(mode)._loaded()[1].state_dict() for mode in ("lora", "full", "frozen"))
    assert list(lora) == list(full)
    changed = {name for name in lora if not torch.equal(lora[name], frozen[name])}
    assert {"head.weight", "backbone.encoder.layer.0.attention.self.query.weight"} <= changed
    assert not any("embeddings" in name or "LayerNorm" in name for name in changed)


def test_saving_and_loading_keeps_the_predictions(tiny: Path, tmp_path: Path) -> None:
    rows = StudentContract().training_data()
    student = EncoderStudent(
        StudentConfig(StudentContract.labels, str(tiny), options={"mode": "lora", "epochs": 2})
    ).fit(rows)
    assert student.fit_info.mode == "lora"
    student.save(tmp_path)
    again = EncoderStudent.load(tmp_path)
    assert np.array_equal(again.predict_logits(rows.texts), student.predict_logits(rows.texts))
