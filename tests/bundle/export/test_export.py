"""Exporting: what is written predicts what the student predicts, or nothing is written."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from math import nan
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from support.tinybert import write_tinybert

from potstill.bundle.bundle import Bundle, load
from potstill.bundle.export import export as exporting
from potstill.bundle.export import quantize as quantise
from potstill.bundle.export.export import export
from potstill.bundle.export.parity import padding_difference
from potstill.bundle.layout import FP32, INT8, TRANSFORMERS_FILES
from potstill.bundle.record import BundleRecord, Lineage
from potstill.data.task import Task
from potstill.errors import BadData, RunNotFound
from potstill.evaluation.metrics import Score
from potstill.students.base import ExportedGraph, StudentConfig
from potstill.students.encoder import EncoderStudent
from potstill.students.linear import LinearStudent
from potstill.testing import ODD_TEXTS, StudentContract

TASK = Task(StudentContract.labels, name="topics | of <texts>", descriptions={"food": "what one\neats"})
LESSON = StudentContract().training_data()
GOLD = LESSON.targets.argmax(axis=1)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> EncoderStudent:
    pytest.importorskip("torch")
    pytest.importorskip("onnx")
    folder = write_tinybert(tmp_path_factory.mktemp("tinybert"))
    return EncoderStudent(StudentConfig(TASK.labels, weights=str(folder), options={"epochs": 4, "c": 100.0})).fit(
        LESSON
    )


@pytest.fixture(scope="module")
def bundle(encoder: EncoderStudent, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "bundle"

    def complete(made: Bundle) -> BundleRecord:
        return replace(made.record, lineage=Lineage(run="r1"), metrics={"accuracy": Score(0.9, 0.8, 1.0)})

    export(encoder, folder, task=TASK, texts=LESSON.texts, gold=GOLD, complete=complete)
    return folder


@pytest.fixture
def graph_is_there(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An encoder is exported as the graph of the bundle: another export would take seconds and write the same."""
    write = "potstill.students.torch_onnx.write_torch_onnx"
    monkeypatch.setattr(write, lambda network, file, **options: shutil.copy(bundle / FP32, file))


@pytest.fixture(scope="module")
def linear() -> LinearStudent:
    return LinearStudent(StudentConfig(TASK.labels)).fit(LESSON)


def test_an_encoders_bundle_predicts_what_the_encoder_predicts(encoder: EncoderStudent, bundle: Path) -> None:
    texts = [*LESSON.texts, *ODD_TEXTS]
    np.testing.assert_allclose(load(bundle, graph=FP32).predict_logits(texts), encoder.predict_logits(texts), atol=1e-3)


def test_a_linear_bundle_predicts_what_the_student_predicts(linear: LinearStudent, tmp_path: Path) -> None:
    done = export(linear, tmp_path / "b", task=TASK, texts=LESSON.texts)
    texts = [*LESSON.texts, *ODD_TEXTS]
    np.testing.assert_allclose(load(tmp_path / "b").predict_logits(texts), linear.predict_logits(texts), atol=1e-3)
    assert (done.graph, done.record.int8, done.record.transformers_difference) == (FP32, None, None)


def test_the_record_says_all_and_the_card_is_readable(bundle: Path) -> None:
    record = json.loads((bundle / "potstill.json").read_text("utf-8"))
    assert record["format"] == 3
    assert record["task"]["labels"] == list(TASK.labels)
    assert record["lineage"]["run"] == "r1"
    assert record["metrics"] == {"accuracy": {"value": 0.9, "low": 0.8, "high": 1.0}}
    assert BundleRecord.from_json(record) == load(bundle).record
    assert set(record["files"]) == {
        file.relative_to(bundle).as_posix() for file in bundle.rglob("*") if file.is_file()
    } - {"potstill.json"}
    assert record["parity"]["max_abs_difference"] <= 1e-3
    card = (bundle / "README.md").read_text("utf-8")
    assert "- food: what one eats" in card
    assert "# topics \\| of &lt;texts>" in card
    assert "0.9" in card


def test_the_folder_is_a_classifier_of_transformers_with_the_same_scores(encoder: EncoderStudent, bundle: Path) -> None:
    from transformers import pipeline

    classify = pipeline("text-classification", str(bundle), top_k=None)
    for text, wanted in zip(LESSON.texts[:6], encoder.predict_proba(LESSON.texts[:6]), strict=True):
        got = {each["label"]: each["score"] for each in classify([text])[0]}
        np.testing.assert_allclose([got[label] for label in TASK.labels], wanted, atol=1e-4)


@pytest.mark.usefixtures("graph_is_there")
def test_first_token_pooling_is_the_same_classifier_in_transformers(encoder: EncoderStudent, tmp_path: Path) -> None:
    from potstill.students.backbone import EncoderNetwork
    from potstill.students.transformers_export import transformers_logits

    network = encoder._network
    assert network is not None
    changed = EncoderStudent(StudentConfig(TASK.labels, weights=encoder.weights))
    changed._tokenizer, changed._network = encoder._tokenizer, EncoderNetwork(network.backbone, 3, "cls").eval()
    changed._network.load_state_dict(network.state_dict())
    changed.export(tmp_path)
    texts = list(LESSON.texts[:8])
    np.testing.assert_allclose(transformers_logits(tmp_path, texts), changed.predict_logits(texts), atol=1e-3)
    assert np.abs(changed.predict_logits(texts) - encoder.predict_logits(texts)).max() > 1e-2


class Liar(LinearStudent):
    """Exports another student than it is."""

    def export(self, folder: Path) -> ExportedGraph:
        self._bias = self._bias + np.array([0, 0, 0.01], dtype=np.float32)
        graph = super().export(folder)
        self._bias = self._bias - np.array([0, 0, 0.01], dtype=np.float32)
        return graph


def test_a_graph_that_differs_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    liar = Liar(StudentConfig(TASK.labels)).fit(LESSON)
    with pytest.raises(BadData, match="differs from the student"):
        export(liar, tmp_path / "b", task=TASK, texts=LESSON.texts)
    assert list(tmp_path.iterdir()) == []


def test_truncated_training_texts_are_noted(
    tmp_path: Path, linear: LinearStudent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LinearStudent, "metadata", {"truncated": 0.25})
    made = export(linear, tmp_path / "b", task=TASK, texts=LESSON.texts)
    assert "25.0% of the texts it was trained on were too long and lost their tail." in made.record.notes


def test_training_texts_that_the_vocabulary_lacks_are_noted_with_what_to_do(
    tmp_path: Path, linear: LinearStudent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LinearStudent, "metadata", {"unknown": 0.25})
    (note, *_) = export(linear, tmp_path / "b", task=TASK, texts=LESSON.texts).record.notes
    assert note.startswith("25.0% of the texts it was trained on are mostly characters that its vocabulary lacks")
    assert "--student linear" in note


def test_a_metric_that_is_not_a_number_is_left_out(linear: LinearStudent, tmp_path: Path) -> None:
    made = export(
        linear,
        tmp_path / "b",
        task=TASK,
        texts=LESSON.texts,
        complete=lambda made: replace(made.record, metrics={"f1": Score(nan, nan, nan)}),
    )
    assert made.record.metrics == {}


def test_a_failed_export_leaves_the_earlier_bundle(linear: LinearStudent, tmp_path: Path) -> None:
    export(linear, tmp_path / "b", task=TASK, texts=LESSON.texts)
    before = load(tmp_path / "b", verify=True).predict_proba(LESSON.texts)
    with pytest.raises(BadData):
        export(Liar(StudentConfig(TASK.labels)).fit(LESSON), tmp_path / "b", task=TASK, texts=LESSON.texts)
    np.testing.assert_array_equal(load(tmp_path / "b", verify=True).predict_proba(LESSON.texts), before)


def test_a_folder_with_other_files_is_never_replaced(linear: LinearStudent, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(RunNotFound, match="not a bundle"):
        export(linear, tmp_path, task=TASK, texts=LESSON.texts)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def _speedup(value: float) -> Any:
    return lambda *bundles_and_texts: value


@pytest.mark.usefixtures("graph_is_there")
@pytest.mark.parametrize(("speedup", "kept"), [(3.0, True), (1.01, False)])
def test_int8_is_served_only_when_it_is_faster_here(
    encoder: EncoderStudent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, speedup: float, kept: bool
) -> None:
    monkeypatch.setattr(quantise, "measure_speedup", _speedup(speedup))
    done = export(encoder, tmp_path / "b", task=TASK, texts=LESSON.texts, gold=GOLD)
    result = done.record.int8
    assert result is not None
    assert result.accepted is kept
    assert done.graph == (INT8 if kept else FP32)
    assert (tmp_path / "b" / INT8).exists() is kept
    assert result.reason in load(tmp_path / "b").record.notes


@pytest.mark.usefixtures("graph_is_there")
def test_int8_that_predicts_other_labels_is_dropped_with_the_reason(
    encoder: EncoderStudent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantise, "measure_speedup", _speedup(3.0))
    wrong = np.where(np.arange(len(GOLD)) % 6 == 0, (GOLD + 1) % 3, GOLD)

    def open_a_bad_int8(*given: Any, graph: str = "", **options: Any) -> Bundle:
        opened = Bundle(*given, graph=graph, **options)
        if graph == INT8:
            opened.predict_logits = lambda texts: np.eye(3, dtype=np.float32)[wrong]  # type: ignore[method-assign]
        return opened

    monkeypatch.setattr(exporting, "Bundle", open_a_bad_int8)
    done = export(encoder, tmp_path / "b", task=TASK, texts=LESSON.texts, gold=GOLD)
    assert done.graph == FP32
    assert not (tmp_path / "b" / INT8).exists()
    assert any("loses 16.7 points in accuracy" in note for note in load(tmp_path / "b").record.notes)


@pytest.mark.usefixtures("graph_is_there")
def test_without_texts_to_judge_it_on_int8_is_not_served(encoder: EncoderStudent, tmp_path: Path) -> None:
    done = export(encoder, tmp_path / "b", task=TASK, texts=[])
    assert (done.graph, done.record.int8) == (FP32, None)


@pytest.mark.usefixtures("graph_is_there")
def test_a_hub_folder_that_differs_is_left_out(
    encoder: EncoderStudent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from potstill.students import transformers_export as hub

    monkeypatch.setattr(hub, "MEAN_SCALE", 1.0)
    done = export(encoder, tmp_path / "b", task=replace(TASK, name="x"), texts=LESSON.texts, gold=GOLD)
    assert done.record.transformers_difference is None
    assert not any((tmp_path / "b" / name).exists() for name in TRANSFORMERS_FILES)
    load(tmp_path / "b", verify=True)


def test_what_padding_changes_is_seen(bundle: Path) -> None:
    opened = load(bundle, graph=FP32)
    texts = [*LESSON.texts[:4], "soup", " and".join(LESSON.texts[:3])]
    assert padding_difference(opened, texts) < 1e-4
    real = opened.session

    def forgets_the_mask(outputs: list[str], feeds: dict[str, Any]) -> Any:
        return real.run(outputs, feeds | {"attention_mask": np.ones_like(feeds["attention_mask"])})

    opened.session = SimpleNamespace(run=forgets_the_mask)
    assert padding_difference(opened, texts) > 1e-2
