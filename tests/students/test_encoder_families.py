"""Encoders beyond BERT, tiny and random, made from a configuration: they learn, are exported, quantised and saved."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.tinyencoders import FAMILIES, write_tinyencoder

from potstill.bundle.bundle import Bundle, load
from potstill.bundle.export.export import export
from potstill.bundle.export.quantize import write_int8
from potstill.bundle.layout import FP32, INT8
from potstill.data.task import Task
from potstill.students.base import StudentConfig
from potstill.students.encoder import EncoderStudent
from potstill.testing import StudentContract

pytest.importorskip("torch")
pytest.importorskip("transformers")


DAILY = "mpnet"
PARAMS = [family if family == DAILY else pytest.param(family, marks=pytest.mark.nightly) for family in FAMILIES]


@pytest.fixture(scope="module", params=PARAMS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tinyencoder(request.param, tmp_path_factory.mktemp("tiny") / request.param)


@pytest.fixture(scope="module")
def trained(folder: Path) -> EncoderStudent:
    options = {"epochs": 24, "lr": 2e-3, "mode": "full"}
    student = EncoderStudent(StudentConfig(StudentContract.labels, weights=str(folder), options=options))
    return student.fit(StudentContract().training_data())


def test_all_weights_learn(trained: EncoderStudent) -> None:
    data = StudentContract().training_data()
    assert (trained.predict_logits(data.texts).argmax(1) == data.targets.argmax(1)).mean() > 0.9
    assert trained.fit_info.mode == "full"


@pytest.fixture(scope="module")
def bundle(trained: EncoderStudent, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """`export` compares it with the student: on texts of many lengths, of none, and of more tokens than positions."""
    texts = [*StudentContract().training_data().texts, "word " * 100, "", "the match"]
    return export(trained, tmp_path_factory.mktemp("export") / "bundle", task=Task(StudentContract.labels), texts=texts)


def test_the_bundle_predicts_what_the_student_predicts(trained: EncoderStudent, bundle: Bundle) -> None:
    texts = StudentContract().training_data().texts
    best = trained.predict_logits(texts).argmax(1)
    exact = load(bundle.folder, graph=FP32)  # whichever graph was measured to be faster here
    assert list(exact.predict(texts)) == [StudentContract.labels[column] for column in best]


def test_its_int8_graph_labels_nearly_all_texts_alike(trained: EncoderStudent, bundle: Bundle, tmp_path: Path) -> None:
    import onnxruntime

    texts = list(StudentContract().training_data().texts)
    int8 = bundle.folder / INT8
    if bundle.graph != INT8:
        int8 = tmp_path / "int8.onnx"
        write_int8(bundle, int8, texts)
    session = onnxruntime.InferenceSession(str(int8))
    logits = np.full((len(texts), 3), np.nan, dtype=np.float32)
    for rows, inputs in bundle.preprocessor.feeds(texts):
        logits[rows] = session.run(None, inputs)[0]
    assert (logits.argmax(1) == trained.predict_logits(texts).argmax(1)).mean() > 0.95


def test_it_is_saved_and_loaded_bit_for_bit(trained: EncoderStudent, tmp_path: Path) -> None:
    trained.save(tmp_path)
    texts = StudentContract().training_data().texts[:8]
    np.testing.assert_array_equal(EncoderStudent.load(tmp_path).predict_logits(texts), trained.predict_logits(texts))
