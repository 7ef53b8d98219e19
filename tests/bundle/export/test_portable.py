"""A bundle in other programs: plain onnxruntime and transformers give its calibrated probabilities; copies of it."""

from __future__ import annotations

import json
import runpy
import shutil
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.house import ROOT
from support.tinybert import write_tinybert

from potstill.bundle.bundle import Bundle, load
from potstill.bundle.export import export as exporting
from potstill.bundle.export.copy_bundle import copy_bundle
from potstill.bundle.export.export import export
from potstill.bundle.export.model_card import write_model_card
from potstill.bundle.layout import FP32, INT8
from potstill.data.task import Task
from potstill.errors import RunNotFound
from potstill.evaluation.guarantees import Scaling
from potstill.evaluation.metrics import Score
from potstill.evaluation.multilabel_thresholds import LabelScaling
from potstill.students.base import StudentConfig, TrainingData
from potstill.students.encoder import EncoderStudent
from potstill.testing import ODD_TEXTS, StudentContract

EXAMPLE = ROOT / "examples" / "bundle_elsewhere.py"
LABELS = StudentContract.labels
LESSON = StudentContract().training_data()
GOLD = LESSON.targets.argmax(axis=1)
FORMAT_2 = Path(__file__).parent.parent / "format2"
SCALE, SHIFT = (9.0, 3.0, 5.0), (0.3, -0.7, 0.4)


def scaled(fit: Any, scaling: Any) -> Any:
    return lambda *given, **options: replace(fit(*given, **options), scaling=scaling)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[EncoderStudent, Path]:
    """An encoder, and its graph."""
    torch_onnx = pytest.importorskip("potstill.students.torch_onnx")
    pytest.importorskip("onnx")
    folder = tmp_path_factory.mktemp("trained")
    config = StudentConfig(LABELS, str(write_tinybert(folder / "weights")), options={"mode": "frozen", "c": 10.0})
    student = EncoderStudent(config).fit(TrainingData(LESSON.texts, LESSON.targets))
    torch_onnx.write_torch_onnx(student._loaded()[1], folder / "model.onnx", embedding=True)
    return student, folder / "model.onnx"


@pytest.fixture(scope="module", params=["single", "multi"])
def bundle(
    request: pytest.FixtureRequest, trained: tuple[EncoderStudent, Path], tmp_path_factory: pytest.TempPathFactory
) -> Bundle:
    """An encoder's, with a scale and a shift for each label, and with both graphs."""
    (student, graph), kind = trained, request.param
    folder = tmp_path_factory.mktemp("portable")
    gold = GOLD if kind == "single" else (LESSON.targets > 0.5).astype(int)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(student, "kind", kind)
        copy = "potstill.students.torch_onnx.write_torch_onnx"
        patch.setattr(copy, lambda network, file, **options: shutil.copy(graph, file))
        fits = (("fit_guarantees", Scaling("vector", SCALE, SHIFT)),)
        fits += (("fit_multilabel_guarantees", LabelScaling("platt", SCALE, SHIFT)),)
        for name, scaling in fits:
            patch.setattr(exporting, name, scaled(getattr(exporting, name), scaling))
        patch.setattr("potstill.bundle.export.quantize.measure_speedup", lambda *given: 3.0)
        patch.setattr("potstill.bundle.export.quantize.MAX_ACCURACY_LOSS", 1.0)
        task = Task(LABELS, name="topics", kind=kind)
        return export(student, folder / "bundle", task=task, texts=LESSON.texts, gold=gold, calibrate=True)


def probabilities(logits: np.ndarray, multi: bool) -> np.ndarray:
    if multi:
        return 1 / (1 + np.exp(-logits))
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    return raised / raised.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("graph", [FP32, INT8])
def test_onnxruntime_and_tokenizers_alone_give_calibrated_probabilities(bundle: Bundle, graph: str) -> None:
    import onnxruntime
    from tokenizers import Tokenizer

    config = json.loads((bundle.folder / "config.json").read_text())
    tokenizer = Tokenizer.from_file(str(bundle.folder / "tokenizer.json"))
    session = onnxruntime.InferenceSession(str(bundle.folder / graph))
    logits = []
    for text in LESSON.texts[:12]:
        encoded = tokenizer.encode(text)
        feeds = {"input_ids": [encoded.ids], "attention_mask": [encoded.attention_mask]}
        logits.append(session.run(["logits"], {name: np.array(row) for name, row in feeds.items()})[0])
    multi = config["problem_type"] == "multi_label_classification"
    assert [config["id2label"][str(column)] for column in range(3)] == list(LABELS)
    # A batch of another shape rounds other values of the quantised graph.
    tolerance = 1e-5 if graph == FP32 else 1e-2
    wanted = load(bundle.folder, graph=graph).predict_proba(LESSON.texts[:12])
    np.testing.assert_allclose(probabilities(np.concatenate(logits), multi), wanted, atol=tolerance)


@pytest.mark.parametrize(("graph", "tolerance"), [("fp32", 1e-4), ("int8", 0.02)])
def test_both_graphs_give_the_embeddings_of_the_student(
    bundle: Bundle, trained: tuple[EncoderStudent, Path], graph: str, tolerance: float
) -> None:
    texts = [*LESSON.texts[:12], ""]
    found = load(bundle.folder, graph=graph).embed(texts)
    np.testing.assert_allclose(found, trained[0].embed(texts), atol=tolerance)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=0.02)


def test_transformers_gives_calibrated_probabilities(bundle: Bundle) -> None:
    from transformers import pipeline

    assert bundle.record.transformers_difference is not None
    classify = pipeline("text-classification", str(bundle.folder), top_k=None)
    wanted = load(bundle.folder, graph="fp32").predict_proba(LESSON.texts[:6])
    for answers, row in zip(classify(list(LESSON.texts[:6])), wanted, strict=True):
        found = {each["label"]: each["score"] for each in answers}
        np.testing.assert_allclose([found[label] for label in LABELS], row, atol=1e-3)


def test_calibration_lies_in_the_graph_and_is_not_done_twice(bundle: Bundle) -> None:
    texts = [*LESSON.texts, *ODD_TEXTS]
    logits = bundle.predict_logits(texts)
    assert bundle.record.calibration_in_graph
    np.testing.assert_allclose(bundle.predict_proba(texts), probabilities(logits, bundle.multilabel), atol=1e-5)
    measured = bundle.guarantees or bundle.multilabel_guarantees
    assert measured is not None
    assert measured.scaling.scale == SCALE
    np.testing.assert_allclose(measured.scaling.scaled(bundle.uncalibrated_logits(logits)), logits, atol=1e-4)
    assert bundle.summary()["calibration"] == measured.scaling.method


def test_every_user_may_read_every_file_and_no_path_of_this_machine_is_in_it(bundle: Bundle) -> None:
    source = str(Path(exporting.__file__).parents[2]).encode()
    for file in bundle.folder.rglob("*"):
        wanted = 0o755 if file.is_dir() else 0o644
        assert stat.S_IMODE(file.stat().st_mode) == wanted, file
        assert file.is_dir() or source not in file.read_bytes()


def test_a_slim_copy_has_what_is_served_and_predicts_the_same(bundle: Bundle, tmp_path: Path) -> None:
    copy = copy_bundle(bundle, tmp_path / "slim", slim=True)
    assert set(copy.record.files) == {"README.md", "config.json", "tokenizer.json", "tokenizer_config.json", INT8}
    assert copy.graph == INT8
    assert copy.record.transformers_difference is None
    np.testing.assert_array_equal(copy.predict_proba(LESSON.texts), bundle.predict_proba(LESSON.texts))
    assert copy.guarantees == bundle.guarantees
    assert "transformers import" not in (copy.folder / "README.md").read_text(encoding="utf-8")
    with pytest.raises(RunNotFound, match="no graph 'fp32'"):
        load(copy.folder, graph="fp32")
    whole = copy_bundle(bundle, tmp_path / "whole")
    assert whole.record == bundle.record


@pytest.mark.parametrize("name", ["linear", "multi"])
def test_a_copy_of_an_older_format_is_one_of_today_with_the_same_answers(name: str, tmp_path: Path) -> None:
    answers = json.loads((FORMAT_2 / f"{name}.answers.json").read_text(encoding="utf-8"))
    copy = copy_bundle(load(FORMAT_2 / name), tmp_path / "copy")
    assert (copy.graph, copy.record.calibration_in_graph) == (FP32, True)
    assert sorted(copy.record.files) == ["README.md", "ngrams.json", FP32]
    np.testing.assert_allclose(copy.predict_proba(answers["texts"]), answers["probs"], atol=1e-6)
    if name == "linear":
        assert [list(labels) for labels in copy.predict_sets(answers["texts"], 0.8)] == answers["sets"]
        typicality = [each.typicality for each in copy.iter_predictions(answers["texts"])]
        assert typicality == pytest.approx(answers["typicality"], abs=0.007)  # a rank of 150, in a tie


def test_a_copy_replaces_no_other_folder_and_needs_every_file(tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("years of work")
    original = load(shutil.copytree(FORMAT_2 / "linear", tmp_path / "bundle"))
    for folder, words in ((tmp_path / "thesis", "not a bundle"), (original.folder, "the bundle itself")):
        with pytest.raises(RunNotFound, match=words):
            copy_bundle(original, folder)
    (original.folder / "README.md").unlink()
    with pytest.raises(RunNotFound, match=r"README\.md is missing"):
        copy_bundle(original, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_the_card_has_what_hubs_read(bundle: Bundle, tmp_path: Path) -> None:
    card_data = pytest.importorskip("huggingface_hub").ModelCard
    facts = {**bundle.record.student, "licence": "Apache-2.0", "base_model": "owner/name", "language": "en"}
    metrics = {"accuracy": Score(0.9, 0.8, 1.0), "macro_f1": Score(0.85, 0.7, 0.95)}
    write_model_card(bundle.folder, replace(bundle.record, student=facts, metrics=metrics), "me/topics")
    data = card_data.load(bundle.folder / "README.md").data
    assert (data.license, data.library_name, data.pipeline_tag) == ("apache-2.0", "transformers", "text-classification")
    assert (data.base_model, data.language, data.metrics) == ("owner/name", "en", ["accuracy", "f1"])
    assert {"potstill", "onnx", "transformers.js"} <= set(data.tags)
    assert [(each.metric_type, each.metric_value) for each in data.eval_results] == [("accuracy", 0.9), ("f1", 0.85)]
    assert data.eval_results[0].metric_name == "Accuracy (95 % interval 0.800 to 1.000)"
    write_model_card(bundle.folder, replace(bundle.record, student={"licence": "Our own, see us"}))
    data = card_data.load(bundle.folder / "README.md").data
    assert (data.license, data.license_name) == ("other", "Our own, see us")
    write_model_card(bundle.folder, bundle.record)


def test_the_class_of_the_example_gives_its_probabilities(bundle: Bundle) -> None:
    if bundle.record.task.kind != "single":
        pytest.skip("the example is of single labels")
    classifier, wanted = runpy.run_path(str(EXAMPLE))["Classifier"](bundle.folder), bundle.predict_proba(LESSON.texts)
    np.testing.assert_allclose(classifier.predict_proba(LESSON.texts), wanted, atol=1e-5)
    assert classifier.predict(LESSON.texts) == [LABELS[column] for column in wanted.argmax(axis=1)]
