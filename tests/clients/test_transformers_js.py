"""transformers.js on Node.js and onnxruntime for browsers read a bundle as it is, and give its probabilities."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.tinybert import write_tinybert

from potstill.bundle.bundle import Bundle, load
from potstill.bundle.export import export as exporting
from potstill.bundle.layout import INT8
from potstill.data.task import Task
from potstill.evaluation.guarantees import Scaling
from potstill.evaluation.multilabel_thresholds import LabelScaling
from potstill.students.base import StudentConfig, TrainingData
from potstill.students.encoder import EncoderStudent
from potstill.testing import StudentContract

LABELS = StudentContract.labels
LESSON = StudentContract().training_data()
TEXTS = [*LESSON.texts[:8], "", "naïve soup 東京", "x"]
SCALE, SHIFT = (9.0, 3.0, 5.0), (0.3, -0.7, 0.4)


@pytest.fixture(scope="module")
def bundles(node_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Bundle]:
    """An encoder of one label a text, and one of several, each with both graphs and a scale and a shift a label."""
    pytest.importorskip("torch")
    folder = tmp_path_factory.mktemp("bundles")
    made = {}
    for kind in ("single", "multi"):
        weights = str(write_tinybert(folder / "weights"))
        student = EncoderStudent(StudentConfig(LABELS, weights, options={"mode": "frozen", "c": 10.0}))
        student.fit(TrainingData(LESSON.texts, LESSON.targets))
        student.kind = kind  # type: ignore[assignment]
        gold = LESSON.targets.argmax(axis=1) if kind == "single" else (LESSON.targets > 0.5).astype(int)
        with pytest.MonkeyPatch.context() as patch:
            _with_scaling(patch, "fit_guarantees", Scaling("vector", SCALE, SHIFT))
            _with_scaling(patch, "fit_multilabel_guarantees", LabelScaling("platt", SCALE, SHIFT))
            patch.setattr("potstill.bundle.export.quantize.measure_speedup", lambda *given: 3.0)
            patch.setattr("potstill.bundle.export.quantize.MAX_ACCURACY_LOSS", 1.0)
            task = Task(LABELS, kind=kind)  # type: ignore[arg-type]
            made[kind] = exporting.export(
                student, folder / kind, task=task, texts=LESSON.texts, gold=gold, calibrate=True
            )
    return made


def _with_scaling(patch: pytest.MonkeyPatch, name: str, scaling: Any) -> None:
    fit = getattr(exporting, name)
    patch.setattr(exporting, name, lambda *given, **options: replace(fit(*given, **options), scaling=scaling))


def test_both_graphs_give_the_probabilities_of_predict_proba(node_folder: Path, bundles: dict[str, Bundle]) -> None:
    single = load(bundles["single"].folder, graph="int8")
    ids = [next(single.preprocessor.feeds([text]))[1]["input_ids"][0].tolist() for text in TEXTS]
    job = {
        "models": [str(bundle.folder) for bundle in bundles.values()],
        "dtypes": ["fp32", "q8"],
        "texts": TEXTS,
        "ids": ids,
        "graph": str(single.folder / INT8),
    }
    node = shutil.which("node")
    assert node is not None
    command = [node, str(Path(__file__).parent / "classify.mjs"), str(node_folder)]
    done = subprocess.run(command, input=json.dumps(job), capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    for bundle in bundles.values():
        for dtype, graph in (("fp32", "fp32"), ("q8", "int8")):
            opened = load(bundle.folder, graph=graph)
            for text, answers in zip(TEXTS, found[str(bundle.folder)][dtype], strict=True):
                scores = {each["label"]: each["score"] for each in answers}
                wanted = opened.predict_proba([text])[0]
                np.testing.assert_allclose([scores[label] for label in LABELS], wanted, atol=1e-3, err_msg=dtype)
    logits = np.concatenate([single.predict_logits([text]) for text in TEXTS])
    np.testing.assert_allclose(found["web"], logits, atol=1e-2)
