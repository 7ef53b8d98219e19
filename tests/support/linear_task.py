"""A small labelled set for linear and static students, and a check of their exported graphs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from potstill.models.features import load_vectorizer

LABELS = ("fruit", "beast", "tool")
WORDS = (
    ["apple", "ripe banana", "sweet pear", "a juicy plum", "cherry pie", "green grapes"],
    ["wild wolf", "brown bear", "a barking dog", "lion roars", "grey cat purrs", "running horse"],
    ["steel hammer", "rusty saw", "a sharp chisel", "cordless drill", "long screwdriver", "pair of pliers"],
)
TEXTS = [f"{word} {end}" for words in WORDS for word in words for end in ("today", "here", "in the yard")]
GOLD = np.repeat(np.arange(3), 18)
ONE_HOT = np.eye(3, dtype=np.float32)[GOLD]


def check_export(student: Any, folder: Path, texts: list[str]) -> None:
    """Export, and compare the graph's logits with the student's."""
    onnx = pytest.importorskip("onnx")
    import onnxruntime

    graph = student.export(folder)
    onnx.checker.check_model(str(folder / "model.onnx"), full_check=True)
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    features = load_vectorizer(folder, graph.preprocessor_config)(texts)
    (logits,) = session.run(["logits"], {"ids": features.ids, "values": features.values})
    assert graph.preprocessor == "features"
    assert np.abs(logits - student.predict_logits(texts)).max() < 1e-3
