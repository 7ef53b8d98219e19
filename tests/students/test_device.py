"""The same code trains on CPU and GPU: no tensor stays on the CPU, and a seed gives the same student on both.

The GPU is a stand-in: see `pretend_gpu.py` for what it can and cannot show.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.pretend_gpu import Away, pretended_gpu
from support.tinybert import write_tinybert
from support.tinylm import LABELS, write_tinycausal, write_tinymlm

from potstill.bundle.preprocessors import PREPROCESSORS
from potstill.bundle.sessions import open_session
from potstill.data.task import Task
from potstill.errors import BadSpec
from potstill.models.device import device_of, resolve_device
from potstill.students import backbone
from potstill.students.base import FeatureHint, Student, StudentConfig, TrainingData
from potstill.students.cloze import ClozeStudent
from potstill.students.encoder import EncoderStudent
from potstill.students.static import StaticStudent
from potstill.teachers.base import TeacherSetup
from potstill.teachers.local import LocalTeacher, open_teacher

TEXTS = ["the soup and the bread", "a match", "a loan or bank", "goal, referee", "market profit"] * 3
TARGETS = np.eye(len(LABELS), dtype=np.float32)[[0, 1, 2, 1, 2] * 3]


@pytest.fixture(autouse=True)
def _float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backbone, "cpu_has_bfloat16", lambda: False)  # both devices compute alike


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("weights")
    writers = {"encoder": write_tinybert, "masked": write_tinymlm, "causal": write_tinycausal}
    return {name: str(write(folder / name)) for name, write in writers.items()}


def fitted(kind: Any, weights: str, options: dict[str, Any], device: str, **how: Any) -> Student:
    config = StudentConfig(LABELS, weights, options={**options, "device": device}, kind=how.pop("task", "single"))
    student: Student = kind(config).fit(TrainingData(TEXTS, TARGETS, seed=3, **how))
    return student


CASES: list[tuple[str, Any, str, dict[str, Any], dict[str, Any]]] = [
    ("all weights", EncoderStudent, "encoder", {"epochs": 2}, {}),
    ("LoRA", EncoderStudent, "encoder", {"mode": "lora", "epochs": 2}, {}),
    ("mean of two, several labels", EncoderStudent, "encoder", {"n_averaged": 2, "epochs": 2}, {"task": "multi"}),
    ("label head", EncoderStudent, "encoder", {"head": "label", "mode": "frozen"}, {}),
    ("masked, all weights", ClozeStudent, "masked", {"epochs": 2}, {}),
    ("masked, soft prompt", ClozeStudent, "masked", {"soft_prompt_tokens": 2, "epochs": 2}, {}),
    ("causal, LoRA on cached states", ClozeStudent, "causal", {"epochs": 2, "trainable_layers": 1}, {}),
    ("causal, soft prompt", ClozeStudent, "causal", {"soft_prompt_tokens": 2, "epochs": 2}, {}),
    ("causal, words from rows", ClozeStudent, "causal", {"verbalizer": "data", "epochs": 2}, {}),
    ("causal, label trie", ClozeStudent, "causal", {"label_words": {LABELS[0]: "food order"}, "epochs": 2}, {}),
    ("causal, zero-shot", ClozeStudent, "causal", {"mode": "zero-shot"}, {}),
]


@pytest.mark.parametrize(
    ("kind", "of", "options", "how"), [each[1:] for each in CASES], ids=[each[0] for each in CASES]
)
def test_a_student_trained_on_a_gpu_equals_one_trained_on_a_cpu(
    weights: dict[str, str], kind: Any, of: str, options: dict[str, Any], how: dict[str, Any]
) -> None:
    on_cpu = fitted(kind, weights[of], options, "cpu", **how).predict_logits(TEXTS)
    with pretended_gpu():
        student: Any = fitted(kind, weights[of], options, "auto", **how)
        assert all(isinstance(each, Away) for each in student._network.parameters())
        on_gpu = student.predict_logits(TEXTS)
    # Encoders take a batch in blocks on a CPU, whose dropout is drawn block by block.
    np.testing.assert_allclose(on_gpu, on_cpu, atol=0.05 if kind is EncoderStudent else 1e-4)
    assert np.ptp(on_cpu) > 0.2


def test_a_feature_hint_works_on_a_gpu(weights: dict[str, str]) -> None:
    hint = FeatureHint(fitted(EncoderStudent, weights["encoder"], {"mode": "frozen"}, "cpu"), 0.5)
    with pretended_gpu():
        student = fitted(EncoderStudent, weights["encoder"], {"mode": "full", "epochs": 2}, "cuda", hint=hint)
        assert np.isfinite(student.predict_logits(TEXTS)).all()


def test_a_static_student_trained_on_a_gpu_equals_one_trained_on_a_cpu(
    weights: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("POTSTILL_CACHE", str(tmp_path))
    on_cpu = fitted(StaticStudent, weights["encoder"], {"epochs": 2, "dropout": 0.0}, "cpu").predict_logits(TEXTS)
    moved: list[bool] = []
    original = torch.optim.Adam.step

    def step(self: Any, *args: Any) -> Any:
        moved.extend(isinstance(each, Away) for group in self.param_groups for each in group["params"])
        return original(self, *args)

    with pretended_gpu():
        monkeypatch.setattr(torch.optim.Adam, "step", step)
        on_gpu = fitted(StaticStudent, weights["encoder"], {"epochs": 2, "dropout": 0.0}, "cuda").predict_logits(TEXTS)
    assert moved
    assert all(moved)
    np.testing.assert_allclose(on_gpu, on_cpu, atol=1e-4)


@pytest.mark.parametrize("words", [{}, {LABELS[0]: "food order"}], ids=["single words", "label trie"])
def test_a_local_teacher_scores_on_a_gpu_as_on_a_cpu(weights: dict[str, str], words: dict[str, str]) -> None:
    def open_on(device: str) -> LocalTeacher:
        options = {"dtype": "float32", "threads": 1, "max_text_tokens": 20, "template": "{text} is", "device": device}
        task = Task(LABELS, instruction="Say.")
        return open_teacher(TeacherSetup(task=task, model=weights["causal"], options={**options, "label_words": words}))

    def scores(teacher: LocalTeacher) -> Any:
        return np.array([answer.scores for answer in teacher.answer(TEXTS).answers])

    on_cpu = open_on("cpu")
    expected = scores(on_cpu)
    with pretended_gpu():
        on_gpu = open_on("cuda")
        found = scores(on_gpu)
        assert isinstance(next(on_gpu.model.lm.model.parameters()), Away)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert on_gpu.key == on_cpu.key
    assert "GPU" in on_gpu.price.source


@pytest.mark.parametrize(
    ("kind", "of"), [pytest.param(EncoderStudent, "encoder", marks=pytest.mark.nightly), (ClozeStudent, "causal")]
)
def test_a_student_trained_on_a_gpu_is_saved_and_exported_for_any_machine(
    weights: dict[str, str], kind: Any, of: str, tmp_path: Path
) -> None:
    with pretended_gpu():
        student: Any = fitted(kind, weights[of], {"epochs": 2}, "cuda")
        expected = student.predict_logits(TEXTS)
        student.save(tmp_path)
    loaded = kind.load(tmp_path)  # without a GPU
    assert device_of(loaded._network).type == "cpu"
    np.testing.assert_allclose(loaded.predict_logits(TEXTS), expected, atol=1e-4)
    if kind is ClozeStudent:
        return  # the exporter is slow, and takes both from the same place
    graph = student.export(tmp_path)
    assert device_of(student._network).type == "cuda"
    feeds = next(iter(PREPROCESSORS[graph.preprocessor](tmp_path, graph.preprocessor_config.to_json()).feeds(TEXTS)))
    logits = open_session(tmp_path / "model.onnx").run(["logits"], feeds[1])[0]
    np.testing.assert_allclose(logits, expected[feeds[0]], atol=1e-4)


@pytest.mark.parametrize("kind", [EncoderStudent, ClozeStudent, StaticStudent])
def test_a_missing_gpu_is_a_one_sentence_error(kind: Any) -> None:
    with pytest.raises(BadSpec, match="sees no CUDA device here"):
        kind(StudentConfig(LABELS, options={"device": "cuda"}))
    with pytest.raises(BadSpec, match="cannot take device"):
        kind(StudentConfig(LABELS, options={"device": "tpu"}))


def test_the_device_is_a_gpu_only_if_one_is_available() -> None:
    assert resolve_device("auto").type == "cpu"
    with pretended_gpu():
        assert resolve_device("auto").type == "cuda"
        assert resolve_device("cpu").type == "cpu"


def test_the_stand_in_refuses_what_a_gpu_refuses() -> None:
    with pretended_gpu():
        on_gpu = torch.ones(3).to("cuda:0")
        with pytest.raises(RuntimeError, match="same device"):
            on_gpu + torch.ones(3)
        with pytest.raises(TypeError, match="numpy"):
            on_gpu.numpy()
        assert (on_gpu + 1).cpu().numpy().tolist() == [2, 2, 2]
