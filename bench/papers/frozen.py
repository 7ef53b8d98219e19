"""A student for benchmarks with many fits: regression on the frozen vectors of a sentence encoder, each computed once.

It is `encoder` with `mode = "frozen"` at one fixed penalty, with the vectors cached in a file, so that a round of a
loop takes less than a second. It exports nothing. Reads 128 tokens of a text.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from potstill.evaluation.calibration import softmax
from potstill.models.tokens.tokenizer import TextTokenizer
from potstill.models.weights import find_weights
from potstill.students import REGISTRY
from potstill.students.base import ExportedGraph, Student, StudentCapabilities, StudentConfig, TrainingData
from potstill.students.logistic_regression import SolverOptions, fit_regression
from potstill.students.training_data import check_training_data

Floats = NDArray[np.float32]
LENGTH = 128


class Vectors:
    """Vectors by text, of one encoder; computed on first use."""

    def __init__(self, weights: str, file: Path | None) -> None:
        self.weights, self.file = weights, file
        self._known: dict[str, Floats] = {}
        self._network: Any = None
        if file is not None and file.exists():
            cached = np.load(file)
            self._known = dict(zip(cached["keys"].tolist(), cached["rows"].astype(np.float32), strict=True))

    def of(self, texts: Sequence[str]) -> Floats:
        """(N, D) float32 rows of length one."""
        keys = [hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).hexdigest() for text in texts]
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in self._known}
        if missing:
            self._known |= zip(missing, self._embed(list(missing.values())), strict=True)
        return np.stack([self._known[key] for key in keys])

    def save(self) -> None:
        """Write them to the file."""
        if self.file is not None and self._known:
            np.savez(self.file, keys=list(self._known), rows=np.stack(list(self._known.values())).astype(np.float16))

    def _embed(self, texts: list[str]) -> Floats:
        from potstill.students.backbone import init_network, predict_batches

        if self._network is None:
            found = find_weights(self.weights, kind="encoder")
            self._network = init_network(found.folder, 2, found.pooling)
            self._tokens = TextTokenizer(found.folder / "tokenizer.json", LENGTH)
        ids = self._tokens.encode(texts).ids
        # Rounded as in the file, so that computed and cached vectors give the same student.
        rows = predict_batches(self._network.embed, ids, self._tokens.pad_id, low_precision=True)
        return rows.astype(np.float16).astype(np.float32)


VECTORS = Vectors("minilm", None)


def use(weights: str, file: Path | None) -> Vectors:
    """Register the student `frozen` with the vectors of these weights, cached in `file`."""
    global VECTORS
    VECTORS = Vectors(weights, file)
    REGISTRY._shipped["frozen"] = f"{__name__}:FrozenStudent"
    REGISTRY.__dict__.pop("_all", None)
    return VECTORS


class FrozenStudent(Student):
    """Regression on frozen vectors. Option `c`: inverse penalty (10)."""

    capabilities = StudentCapabilities(vectors=True, exports=())

    def __init__(self, config: StudentConfig) -> None:
        self.labels = tuple(config.labels)
        self.options = dict(config.options)
        self._w: Floats = np.zeros((0, len(self.labels)), dtype=np.float32)
        self._b: Floats = np.zeros(len(self.labels), dtype=np.float32)

    def fit(self, data: TrainingData) -> Self:
        """Train from scratch."""
        data = check_training_data(data, len(self.labels))
        assert data.sample_weight is not None
        solver = SolverOptions(c=float(self.options.get("c", 10.0)), tolerance=1e-5)
        fitted = fit_regression(VECTORS.of(data.texts), data.targets, data.sample_weight, solver)
        self._w, self._b = fitted.weights, fitted.bias
        return self

    def predict_logits(self, texts: Sequence[str]) -> Floats:
        """(N, K) natural-log scores."""
        return np.asarray(self.embed(texts) @ self._w + self._b, dtype=np.float32)

    def predict_proba(self, texts: Sequence[str]) -> Floats:
        """(N, K) probabilities."""
        return softmax(self.predict_logits(texts)).astype(np.float32)

    def embed(self, texts: Sequence[str]) -> Floats:
        """(N, D) vectors of length one."""
        return VECTORS.of(texts)

    def save(self, folder: Path) -> None:
        """Write the head."""
        (folder / "student.json").write_text(json.dumps({"labels": self.labels, "options": self.options}))
        np.savez(folder / "head.npz", w=self._w, b=self._b)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The student that `save` wrote."""
        record = json.loads((folder / "student.json").read_text())
        student = cls(StudentConfig(tuple(record["labels"]), options=record["options"]))
        head = np.load(folder / "head.npz")
        student._w, student._b = head["w"], head["b"]
        return student

    def export(self, folder: Path) -> ExportedGraph:
        """Not supported."""
        raise NotImplementedError
